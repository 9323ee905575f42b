"""A settings module's text: where its nodes stand, and where new lines and entries go."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import libcst as cst
from libcst.metadata import CodePosition, CodeRange

from unhang.change.patch import Hunk

BOM: Final = "\ufeff"
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_REST_IS_COMMENT: Final = re.compile(r"[ \t\f]*;?[ \t\f]*(#[^\r\n]*)?(?=\r|\n|\Z)")

Value = int | bool | str | None
Entry = Callable[[str, str], str]
"""Name and value as the entry that stands at a place."""


class Text:
    """The source and where its nodes stand in it, as offsets."""

    def __init__(self, source: str, ranges: Mapping[cst.CSTNode, CodeRange]) -> None:
        self.source = source
        self._ranges = ranges
        # A byte order mark is not part of LibCST's first line.
        first = len(source) - len(source.removeprefix(BOM))
        # LibCST's lines end with \n, \r\n or \r; `str.splitlines` would also split at form feeds.
        self._starts = [first, *(found.end() for found in _NEWLINE.finditer(source))]

    def offset(self, position: CodePosition) -> int:
        """Where a line and column are."""
        return self._starts[position.line - 1] + position.column

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Start and end; parentheses around an expression are not part of it."""
        found = self._ranges[node]
        return self.offset(found.start), self.offset(found.end)

    def of(self, node: cst.CSTNode) -> str:
        """The node's own text."""
        start, end = self.span(node)
        return self.source[start:end]

    def indent_before(self, offset: int) -> str | None:
        """The white space that stands alone between the line's start and `offset`."""
        head = self.source[self._starts[bisect_right(self._starts, offset) - 1] : offset]
        return head if not head.strip() else None

    def newline_near(self, offset: int) -> str:
        """How the line that holds `offset` ends, or else the file's first line."""
        found = _NEWLINE.search(self.source, offset) or _NEWLINE.search(self.source)
        return found.group() if found else "\n"

    def line_end(self, offset: int) -> int | None:
        """The line's end when nothing but a comment follows `offset`."""
        found = _REST_IS_COMMENT.match(self.source, offset)
        return found.end() if found else None


def lines_after(text: Text, statement: cst.SimpleStatementLine, lines: Sequence[str]) -> Hunk:
    """The lines on their own below the statement's."""
    end = text.span(statement.body[-1])[1]
    found = text.line_end(end)
    at = end if found is None else found
    newline = text.newline_near(at)
    return Hunk(at, "", "".join(newline + line for line in lines))


def entries_into(text: Text, container: cst.Dict | cst.Call, entries: Sequence[str]) -> list[Hunk]:
    """The entries after the last element, on lines of their own where it has one.

    Two hunks when the last element lacks a comma and a comment follows it.
    """
    elements = container.elements if isinstance(container, cst.Dict) else container.args
    if not elements:
        # Before the closing bracket; a comment inside ends above it.
        return [Hunk(text.span(container)[1] - 1, "", ", ".join(entries))]
    last = elements[-1]
    comma = last.comma if isinstance(last.comma, cst.Comma) else None
    start, end = text.span(last)
    end = text.span(comma)[1] if comma else end
    indent = text.indent_before(start)
    if indent is None:
        joined = ", ".join(entries)
        return [Hunk(end, "", f" {joined}," if comma else f", {joined}")]
    head = text.newline_near(end) + indent
    block = head + f",{head}".join(entries) + ("," if comma else "")
    at = text.line_end(end)
    if comma:
        return [Hunk(end if at is None else at, "", block)]
    if at is None or at == end:
        return [Hunk(end, "", "," + block)]
    return [Hunk(end, "", ","), Hunk(at, "", block)]


def entry_in(container: cst.Dict | cst.Call, quote: str) -> Entry:
    """How entries of this dict are written."""
    if isinstance(container, cst.Call):
        return lambda name, value: f"{name}={value}"
    keys = [e.key for e in container.elements if isinstance(e, cst.DictElement)]
    quotes = [k.quote for k in keys if isinstance(k, cst.SimpleString) and len(k.quote) == 1]
    usual = quotes[0] if quotes else quote
    return lambda name, value: f"{quoted(name, usual)}: {value}"


def quoted(text: str, quote: str) -> str:
    """A string literal with the quotes that are usual in its file."""
    plain = text.isprintable() and not set(text) & {"'", '"', "\\"}
    return f"{quote}{text}{quote}" if plain else repr(text)


def literal(value: Value, quote: str) -> str:
    """A value as source."""
    return quoted(value, quote) if isinstance(value, str) else repr(value)


def usual_quote(module: cst.Module) -> str:
    """The quote of most strings in the file."""
    counter = _Quotes()
    module.visit(counter)
    return "'" if counter.found["'"] > counter.found['"'] else '"'


class _Quotes(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def visit_SimpleString(self, node: cst.SimpleString) -> None:  # noqa: N802 - LibCST's name
        self.found[node.quote] += 1
