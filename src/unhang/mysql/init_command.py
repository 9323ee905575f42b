"""What a client's `init_command` does to the session it opens. Pure text, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
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
_OFF: Final = frozenset({"0", "off", "false"})
_HOLDING: Final = re.compile(
    r"BEGIN|START\s+TRANSACTION|XA\s+(?:BEGIN|START)|LOCK\s+TABLES?|FLUSH\s+TABLES\s+WITH\b",
    re.IGNORECASE,
)


def session_wait_timeout(init_command: str) -> int | None:
    """The `wait_timeout` that a session has after this command.

    Args:
        init_command: One or more statements, such as `SET SESSION wait_timeout=30, sql_mode=''`.

    Returns:
        Seconds, cut to the range of servers; `None` when the command does not set it to a number.
    """
    seconds = None
    for statement in _statements(init_command):
        for name, value in _assignments(statement):
            if name == "wait_timeout" and value.isdigit():
                seconds = int(value)
    return None if seconds is None else min(max(seconds, MIN_WAIT_TIMEOUT), MAX_WAIT_TIMEOUT)


def transaction_conflicts(init_command: str) -> tuple[str, ...]:
    """The parts after which a session's transactions do not begin and end where its client says.

    They switch autocommit off, change what COMMIT does, or hold a transaction or a lock open.

    Returns:
        Each part in short, such as `autocommit = 0` or `START TRANSACTION`, in their order.
    """
    found: list[str] = []
    for statement in _statements(init_command):
        holding = _HOLDING.match(statement)
        if holding:
            found.append(" ".join(holding[0].upper().split()))
        for name, value in _assignments(statement):
            off = name == "autocommit" and value.lower() in _OFF
            # With CHAIN or RELEASE a COMMIT begins the next transaction, or ends the session.
            if off or (name == "completion_type" and value.lower() not in {"0", "no_chain"}):
                found.append(f"{name} = {value}")
    return tuple(found)


def _statements(init_command: str) -> Iterator[str]:
    # A text may hold any sign, also one that looks like the next assignment; a word is kept.
    plain = _TEXT.sub(
        lambda text: text[0][1:-1] if text[0][1:-1].isidentifier() else "''", init_command
    )
    for statement in plain.split(";"):
        if statement.strip():
            yield statement.strip()


def _assignments(statement: str) -> Iterator[tuple[str, str]]:
    """Name in lower case and value of each variable of the session that a `SET` sets."""
    verb, _space, assignments = statement.partition(" ")
    if verb.upper() != "SET":
        return
    # GLOBAL or SESSION holds for the assignments after it, too, until the next such word.
    scope = "SESSION"
    for part in assignments.split(","):
        found = _ASSIGNMENT.fullmatch(part.strip())
        if found is None:
            continue
        scope = (found["word"] or scope).upper()
        if (found["prefix"] or scope).upper() in _OWN:
            yield found["name"].lower(), found["value"].strip()
