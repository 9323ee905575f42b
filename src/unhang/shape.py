"""What makes two SQL texts the same statement."""

from __future__ import annotations

import re
from typing import Any, Final

# Django writes the length of an IN list and of a page into the text, and people write values there.
_VARIES: Final = re.compile(
    r"""
    (?P<kept> `[^`]*` )
    | '(?:[^'\\]|\\.|'')*(?:'|\\?\Z) | "(?:[^"\\]|\\.|"")*(?:"|\\?\Z)
    | (?P<comment> /\*.*?(?:\*/|\Z) | --(?=\s|\Z)[^\n]* | \#[^\n]* )
    | (?<![\w`$.])0(?:x[0-9a-f]+|b[01]+)\b
    | (?<![\w`$.])(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?(?!\w)
    | (?<![\w`$.])\d{4,}
    | (?<![\w$])\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)
    | (?P<list> %s(?:\s*,\s*%s)+ )
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_LISTS: Final = re.compile(r"\(\s*\?(?:\s*,\s*\?)+\s*\)")
_GROUPS: Final = re.compile(r"(\([^()]*\))(?:\s*,\s*\([^()]*\))+")
_WHENS: Final = re.compile(
    r"(WHEN (?:(?!WHEN|THEN|END).)* THEN (?:(?!WHEN|ELSE|END).)*)(?:WHEN (?:(?!WHEN|THEN|END).)* "
    r"THEN (?:(?!WHEN|ELSE|END).)*)+",
    re.IGNORECASE,
)
_TERMS: Final = re.compile(r"(\([^()]*\)) (OR|AND) \([^()]*\)(?: \2 \([^()]*\))*")
_HALF_A_ROW: Final = re.compile(r"(, …)\s*,[^)]*\Z")
_SPACE: Final = re.compile(r"\s+")

LONGEST: Final = 20_000
"""Of a longer text only so much is looked at: an INSERT of thousands of rows is one statement."""


def shape_of(query: Any) -> str:
    """The statement without what varies from run to run: values, comments, the length of a list.

    It holds no value, so that it may be shown and shared.
    """
    text = query.decode(errors="replace") if isinstance(query, bytes) else str(query)
    text = text[:LONGEST]
    is_cut = len(text) >= LONGEST
    text = _GROUPS.sub(r"\1, …", _LISTS.sub("(…)", _VARIES.sub(_without_value, text)))
    if is_cut:
        text = _HALF_A_ROW.sub(r"\1", text)
    text = _SPACE.sub(" ", text).strip()
    return _TERMS.sub(r"\1 \2 …", _WHENS.sub(r"\1… ", text))  # of bulk_update; of Q objects


_ESCAPED_QUOTE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\['\"]")


def certain_shape_of(text: str) -> str:
    """The same of a statement with its values in it, by whatever rules a session writes strings.

    Under NO_BACKSLASH_ESCAPES a string may end where elsewhere it goes on; from the first such one
    on nothing is told.
    """
    doubtful = _ESCAPED_QUOTE.search(text)
    if doubtful is None:
        return shape_of(text)
    begins = (found.start() for found in _VARIES.finditer(text) if found.end() > doubtful.start())
    return shape_of(text[: min(next(begins, doubtful.start()), doubtful.start())]) + " ? …"


def _without_value(found: re.Match[str]) -> str:
    if found["kept"]:
        return found["kept"]
    if found["list"]:
        return "%s, …"
    return " " if found["comment"] else "?"
