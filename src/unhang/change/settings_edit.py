"""Editing `DATABASES` in a settings file, formatting and comments kept.

LibCST finds the places; the edit itself replaces and inserts at those places only, so everything
else stays byte for byte. Only what can be edited with certainty is edited: an alias written as a
literal dict. Whether the edit had the wanted effect is not decided here but by loading the
settings afterwards.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import libcst as cst
from libcst.metadata import CodePosition, CodeRange, MetadataWrapper, PositionProvider

from unhang.change.patch import Hunk
from unhang.i18n import _

Values = Mapping[str, int | bool | None]

_REST_IS_COMMENT: Final = re.compile(r"[ \t]*(#[^\r\n]*)?(?=\r?\n|\Z)")

_BOM: Final = "\ufeff"
_SURROGATE: Final = re.compile("[\udc80-\udcff]")


class CannotEditError(Exception):
    """Why the file is left alone; a person has to set the lines."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One place of a source that changes, and how a person reads it.

    Attributes:
        hunk: What becomes what, and where. Never holds more of the file than is replaced.
        shown_before, shown_after: Entries such as `"CONN_MAX_AGE": 280`; the first may be empty.
    """

    hunk: Hunk
    shown_before: tuple[str, ...]
    shown_after: tuple[str, ...]


def edits(source: str, alias: str, values: Values) -> list[Edit]:
    """Where the source changes so that the alias's dict has the values.

    Args:
        source: Text of the settings module.
        values: Setting name to value, in the order in which new ones are added.

    Raises:
        CannotEditError: The alias is not a literal dict here, or a value in it is computed.
    """
    try:
        # The parser takes no bytes that are not UTF-8; one sign for another keeps the positions.
        module = cst.parse_module(_SURROGATE.sub("?", source.removeprefix(_BOM)))
    except cst.ParserSyntaxError:
        raise CannotEditError(_("the file does not parse")) from None
    wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
    finder = _Finder(alias)
    wrapper.visit(finder)
    if finder.container is None:
        raise CannotEditError(finder.why_not or _("no literal dict for the alias is in the file"))
    text = _Text(source, wrapper.resolve(PositionProvider))
    places = _items(finder.container) | finder.assigned
    found: list[Edit] = []
    missing: list[str] = []
    for name, value in values.items():
        entry = _spelled(finder.container, name, repr(value))
        if name not in places:
            missing.append(entry)
        elif not _is_constant(places[name]):
            raise CannotEditError(_("{name} is computed there").format(name=name))
        else:
            start, end = text.span(places[name])
            old = source[start:end]
            was = _spelled(finder.container, name, old)
            found.append(Edit(Hunk(start, old, repr(value)), (was,), (entry,)))
    if missing:
        comma, block = _insertions(text, finder.container, missing)
        if comma is not None:
            found.append(Edit(comma, (), ()))
        found.append(Edit(block, (), tuple(missing)))
    return found


class _Text:
    """The source and where its nodes stand in it, as offsets."""

    def __init__(self, source: str, ranges: Mapping[cst.CSTNode, CodeRange]) -> None:
        self.source = source
        self._ranges = ranges
        # A byte order mark is not part of LibCST's first line.
        first = len(source) - len(source.removeprefix(_BOM))
        # LibCST's lines end with \n, \r\n or \r; `str.splitlines` would also split at form feeds.
        self._starts = [first, *(found.end() for found in re.finditer(r"\r\n|\r|\n", source))]

    def offset(self, position: CodePosition) -> int:
        return self._starts[position.line - 1] + position.column

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        found = self._ranges[node]
        return self.offset(found.start), self.offset(found.end)

    def indent_before(self, offset: int) -> str | None:
        """The white space that stands alone between the line's start and `offset`."""
        head = self.source[self._starts[bisect_right(self._starts, offset) - 1] : offset]
        return head if not head.strip() else None

    @property
    def newline(self) -> str:
        return "\r\n" if "\r\n" in self.source else "\n"


_Container = cst.Dict | cst.Call
_BLOCKS: Final = (
    *(cst.FunctionDef, cst.ClassDef, cst.Lambda),
    *(cst.If, cst.For, cst.While, cst.With, cst.Try, cst.TryStar, cst.Match),
)


class _Finder(cst.CSTVisitor):
    """Finds the alias's container at module level, and later assignments into it.

    `DATABASES = {"default": {…}}`, `DATABASES: dict = …`, `DATABASES["default"] = {…}`, with
    `dict(…)` for either dict; `DATABASES["default"]["CONN_MAX_AGE"] = 60`.
    """

    def __init__(self, alias: str) -> None:
        super().__init__()
        self.alias = alias
        self.container: _Container | None = None
        self.assigned: dict[str, cst.BaseExpression] = {}
        self.why_not = ""

    def on_visit(self, node: cst.CSTNode) -> bool:
        # Whether such a block runs, and when, is not known from the text alone.
        return not isinstance(node, _BLOCKS) and super().on_visit(node)

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:  # noqa: N802 - LibCST's name
        if node.value is not None:
            self._assigned(node.target, node.value)

    def visit_Assign(self, node: cst.Assign) -> None:  # noqa: N802 - LibCST's name
        if len(node.targets) == 1:
            self._assigned(node.targets[0].target, node.value)

    def _assigned(self, target: cst.BaseExpression, value: cst.BaseExpression) -> None:
        path = _path(target)
        if path == ("DATABASES",):
            inner = _items(value).get(self.alias) if _is_container(value) else None
            self._take(inner)
        elif path == ("DATABASES", self.alias):
            self._take(value)
        elif path[:2] == ("DATABASES", self.alias) and len(path) == 3:
            self.assigned[path[2]] = value

    def _take(self, value: cst.BaseExpression | None) -> None:
        self.assigned.clear()
        if value is not None and _is_container(value) and isinstance(value, cst.Dict | cst.Call):
            self.container = value
        else:
            self.container = None
            self.why_not = _("the alias is computed there, not a literal dict")


def _path(target: cst.BaseExpression) -> tuple[str, ...]:
    """`DATABASES["a"]["b"]` as its names; empty when an index is not a plain string."""
    if isinstance(target, cst.Name):
        return (target.value,)
    if isinstance(target, cst.Subscript) and len(target.slice) == 1:
        index = target.slice[0].slice
        name = _text_of(index.value) if isinstance(index, cst.Index) else None
        head = _path(target.value)
        return (*head, name) if head and name is not None else ()
    return ()


def _is_container(value: cst.BaseExpression) -> bool:
    return isinstance(value, cst.Dict) or (
        isinstance(value, cst.Call)
        and isinstance(value.func, cst.Name)
        and value.func.value == "dict"
        and all(argument.keyword for argument in value.args)
    )


def _items(container: cst.BaseExpression) -> dict[str, cst.BaseExpression]:
    """Keys that are plain strings, and their values; the last one wins, as in Python."""
    items: dict[str, cst.BaseExpression] = {}
    if isinstance(container, cst.Dict):
        for element in container.elements:
            name = _text_of(element.key) if isinstance(element, cst.DictElement) else None
            if name is not None:
                items[name] = element.value
    elif isinstance(container, cst.Call):
        items = {a.keyword.value: a.value for a in container.args if a.keyword}
    return items


def _text_of(node: cst.BaseExpression) -> str | None:
    value = node.evaluated_value if isinstance(node, cst.SimpleString) else None
    return value if isinstance(value, str) else None


def _is_constant(node: cst.BaseExpression) -> bool:
    if isinstance(node, cst.BinaryOperation):  # 60 * 60
        return _is_constant(node.left) and _is_constant(node.right)
    if isinstance(node, cst.Name):
        return node.value in ("None", "True", "False")
    return isinstance(node, cst.Integer) and not node.lpar


def _spelled(container: _Container, name: str, value: str) -> str:
    """An entry as it stands in this dict, or would."""
    if isinstance(container, cst.Call):
        return f"{name}={value}"
    quotes = [
        element.key.quote
        for element in container.elements
        if isinstance(element, cst.DictElement) and isinstance(element.key, cst.SimpleString)
    ]
    quote = quotes[0] if quotes and len(quotes[0]) == 1 else '"'
    return f"{quote}{name}{quote}: {value}"


def _insertions(
    text: _Text, container: _Container, entries: Sequence[str]
) -> tuple[Hunk | None, Hunk]:
    """The entries after the last element, on lines of their own where it has one.

    Returns:
        The comma that the last element lacks, if it does, and the entries.
    """
    elements = container.elements if isinstance(container, cst.Dict) else container.args
    if not elements:
        raise CannotEditError(_("the alias's dict is empty there"))
    last = elements[-1]
    if getattr(last.value, "lpar", ()):
        raise CannotEditError(_("the alias's dict ends in an expression in parentheses"))
    has_comma = isinstance(last.comma, cst.Comma)
    end = text.span(last.comma if isinstance(last.comma, cst.Comma) else last.value)[1]
    indent = text.indent_before(text.span(last)[0])
    if indent is None:
        joined = ", ".join(entries)
        return None, Hunk(end, "", f" {joined}," if has_comma else f", {joined}")
    head = text.newline + indent
    block = head + f",{head}".join(entries) + ("," if has_comma else "")
    rest = _REST_IS_COMMENT.match(text.source, end)
    at = rest.end() if rest else end
    if not has_comma and at == end:
        return None, Hunk(end, "", "," + block)
    return (None if has_comma else Hunk(end, "", ",")), Hunk(at, "", block)
