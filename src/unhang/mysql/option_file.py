"""Reading the text of an option file (`my.cnf`) as the MySQL and MariaDB clients do. No I/O.

Where they differ, the reading that keeps a password whole wins: MariaDB's programs cut an unquoted
value at any `#`, the client library behind mysqlclient at none (MariaDB 10.11, Connector/C 3.3).
Here `#` begins a comment outside quotes after a space. `!include` and `!includedir` are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_ESCAPES: Final[Mapping[str, str]] = {
    "b": "\b",
    "t": "\t",
    "n": "\n",
    "r": "\r",
    "s": " ",
    "\\": "\\",
    '"': '"',
    "'": "'",
}


def parse(text: str) -> dict[str, dict[str, str]]:
    """The options of each group; of repeated groups and options the later ones count.

    Returns:
        By group, then by option with `_` for `-`. An option without a value is `""`.

    Raises:
        ValueError: An option stands before the first group, or a group's name is not closed.
    """
    groups: dict[str, dict[str, str]] = {}
    options: dict[str, str] | None = None
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;!":
            continue
        if stripped[0] == "[":
            name, closed, _rest = stripped[1:].partition("]")
            if not closed:
                raise ValueError(f"line {number} has no ]")
            options = groups.setdefault(name.strip(), {})
        elif options is None:
            raise ValueError(f"line {number} stands before the first group")
        else:
            name, _equals, value = _without_comment(stripped).partition("=")
            options[name.strip().replace("-", "_")] = _value(value.strip())
    return groups


def _without_comment(line: str) -> str:
    quote, escaped = "", False
    for position, char in enumerate(line):
        if char in "'\"" and not escaped and quote in ("", char):
            quote = "" if quote else char
        elif char == "#" and not quote and line[position - 1].isspace():
            return line[:position]
        escaped = bool(quote) and char == "\\" and not escaped
    return line


def _value(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    # A backslash before any other character stays.
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), text)
