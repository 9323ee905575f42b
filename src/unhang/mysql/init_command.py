"""What a client's `init_command` does to the session it opens. Pure text, no I/O."""

from __future__ import annotations

import re
from typing import Final

from unhang.timeouts import MAX_WAIT_TIMEOUT, MIN_WAIT_TIMEOUT

_TEXT: Final = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"", re.DOTALL)
_ASSIGNMENT: Final = re.compile(
    r"(?:(?P<word>GLOBAL|SESSION|LOCAL|PERSIST|PERSIST_ONLY)\s+"
    r"|@@(?:(?P<prefix>GLOBAL|SESSION|LOCAL|PERSIST|PERSIST_ONLY)\.)?)?"
    r"(?P<name>[a-z_]\w*)\s*:?=\s*(?P<value>.*)",
    re.IGNORECASE | re.DOTALL,
)
_OWN: Final = frozenset({"SESSION", "LOCAL"})


def session_wait_timeout(init_command: str) -> int | None:
    """The `wait_timeout` that a session has after this command.

    Args:
        init_command: One or more statements, such as `SET SESSION wait_timeout=30, sql_mode=''`.

    Returns:
        Seconds, cut to the range of servers; `None` when the command does not set it to a number.
    """
    seconds = None
    for statement in _TEXT.sub("''", init_command).split(";"):
        verb, _space, assignments = statement.strip().partition(" ")
        if verb.upper() != "SET":
            continue
        # GLOBAL or SESSION holds for the assignments after it, too, until the next such word.
        scope = "SESSION"
        for part in assignments.split(","):
            found = _ASSIGNMENT.fullmatch(part.strip())
            if found is None:
                continue
            scope = (found["word"] or scope).upper()
            own = (found["prefix"] or scope).upper() in _OWN
            if own and found["name"].lower() == "wait_timeout" and found["value"].strip().isdigit():
                seconds = int(found["value"])
    return None if seconds is None else min(max(seconds, MIN_WAIT_TIMEOUT), MAX_WAIT_TIMEOUT)
