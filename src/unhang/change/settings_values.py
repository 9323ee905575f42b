"""Expressions in a settings module: strings, dicts, constants, values from the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import libcst as cst

from unhang.change.settings_text import Value

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def text_of(node: cst.BaseExpression | None) -> str | None:
    """The text of a string literal."""
    if isinstance(node, cst.SimpleString | cst.ConcatenatedString):
        value = node.evaluated_value
        return value if isinstance(value, str) else None
    return None


def dotted(node: cst.BaseExpression) -> str:
    """`os.environ.get` as text; empty for anything but names and dots."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr.value}" if head else ""
    return ""


def is_constant(node: cst.BaseExpression, wanted: Value) -> bool:
    """Whether it is a plain value that the wanted one may replace."""
    if isinstance(wanted, str):
        return text_of(node) is not None
    return _is_number(node)


def _is_number(node: cst.BaseExpression) -> bool:
    if isinstance(node, cst.BinaryOperation):  # 60 * 60
        return _is_number(node.left) and _is_number(node.right)
    if isinstance(node, cst.UnaryOperation):  # -1
        return isinstance(node.operator, cst.Minus) and _is_number(node.expression)
    if isinstance(node, cst.Name):
        return node.value in ("None", "True", "False")
    return isinstance(node, cst.Integer | cst.Float)


def as_container(value: cst.BaseExpression) -> cst.Dict | cst.Call | None:
    """The dict display or `dict(…)` whose keys win; for `BASE | {…}` the right one."""
    if isinstance(value, cst.BinaryOperation) and isinstance(value.operator, cst.BitOr):
        return as_container(value.right)
    if isinstance(value, cst.Dict):
        return value
    if isinstance(value, cst.Call) and dotted(value.func) == "dict":
        return value if all(argument.star != "*" for argument in value.args) else None
    return None


def entries_of(value: cst.BaseExpression) -> Iterator[tuple[str | None, cst.BaseExpression]]:
    """Keys and values of a dict in their order; the key is `None` where it is not known."""
    if isinstance(value, cst.BinaryOperation):
        yield None, value.left
        yield from entries_of(value.right)
    elif isinstance(value, cst.Dict):
        for element in value.elements:
            key = element.key if isinstance(element, cst.DictElement) else None
            yield text_of(key), element.value
    elif isinstance(value, cst.Call):
        for argument in value.args:
            yield argument.keyword.value if argument.keyword else None, argument.value


def is_sqlite(value: cst.BaseExpression, alias: str | None = None) -> bool:
    """Whether a dict display says that the database is SQLite."""
    found = dict(entries_of(value)) if as_container(value) is not None else {}
    if alias is not None:
        return alias in found and is_sqlite(found[alias])
    return (text_of(found.get("ENGINE")) or "").endswith(".sqlite3")


_READERS: Final = ("os.environ.get", "os.getenv", "environ.get", "getenv")
_CASTING: Final = {"env.int": int, "env.bool": bool, "env.str": str, "env.float": int}


def environment_for(node: cst.BaseExpression, wanted: Value) -> dict[str, str]:
    """The environment variable that gives this expression the wanted value; else nothing.

    os.environ gives text, django-environ's and decouple's readers cast it:
    https://django-environ.readthedocs.io/en/latest/types.html,
    https://github.com/HBNetwork/python-decouple#usage.
    """
    if wanted is None:
        return {}
    if isinstance(node, cst.Comparison) and isinstance(wanted, bool):
        return _compared(node, wanted)
    if isinstance(node, cst.BooleanOperation) and isinstance(node.operator, cst.Or):
        return environment_for(node.left, wanted) if wanted else {}
    if isinstance(node, cst.Call) and dotted(node.func) == "int" and len(node.args) == 1:
        inner = node.args[0].value
        return environment_for(inner, str(wanted)) if type(wanted) is int else {}
    name = _variable(node, wanted)
    return {name: str(wanted)} if name else {}


def _compared(node: cst.Comparison, wanted: bool) -> dict[str, str]:
    """`os.environ.get("X") == "True"`, with whatever text it is compared to."""
    text = text_of(node.comparisons[0].comparator)
    equal = isinstance(node.comparisons[0].operator, cst.Equal)
    name = _variable(node.left, "")
    if name is None or text is None or not equal or len(node.comparisons) != 1:
        return {}
    value = text if wanted else "False"
    return {name: value} if wanted or text != "False" else {}


def _variable(node: cst.BaseExpression, wanted: Value) -> str | None:
    """The variable's name, if its reader gives the wanted type."""
    if isinstance(node, cst.Subscript) and len(node.slice) == 1:
        index = node.slice[0].slice
        plain = dotted(node.value) in ("os.environ", "environ") and isinstance(wanted, str)
        return _name(index.value) if plain and isinstance(index, cst.Index) else None
    if not isinstance(node, cst.Call) or not node.args or node.args[0].star:
        return None
    first = node.args[0]
    if first.keyword and first.keyword.value not in ("var", "key", "option"):
        return None
    reader = dotted(node.func)
    casts = {a.keyword.value: dotted(a.value) for a in node.args if a.keyword}
    if reader in _READERS:
        fits = isinstance(wanted, str)
    elif reader in ("env", "config"):
        fits = casts.get("cast", type(wanted).__name__) == type(wanted).__name__
        fits = fits and (reader == "env" or "cast" in casts or isinstance(wanted, str))
    else:
        fits = _CASTING.get(reader) is type(wanted)
    return _name(first.value) if fits else None


def _name(node: cst.BaseExpression) -> str | None:
    text = text_of(node)
    return text if text is not None and _VARIABLE.fullmatch(text) else None
