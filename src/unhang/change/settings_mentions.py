"""Every place where a settings module names DATABASES, and what it does with it there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import libcst as cst

from unhang.change.settings_values import dotted, text_of

Use = Literal["store", "update", "setdefault", "import", "keys", "read", "other"]
Where = Literal["module", "block", "function", "class"]
Path = tuple[str | None, ...]
Parents = Mapping[cst.CSTNode, cst.CSTNode]

_SETTING: Final = "DATABASES"
_SCOPES: Final[Mapping[type[cst.CSTNode], Where]] = {
    cst.FunctionDef: "function",
    cst.Lambda: "function",
    cst.ClassDef: "class",
}
_BLOCKS: Final = (cst.If, cst.For, cst.While, cst.With, cst.Try, cst.TryStar, cst.Match)
_KEYS_ONLY: Final = ("len", "list", "set", "sorted", "tuple", "bool")


@dataclass(frozen=True, slots=True)
class Mention:
    """One occurrence of the name.

    Attributes:
        path: The keys behind it; `None` is a key that is not written out.
        value: What is assigned, or updated with.
        within: The statement of the module that it is part of.
        line: The line of that statement, unless it is a block.
    """

    path: Path
    use: Use
    where: Where
    within: cst.CSTNode
    value: cst.BaseExpression | None = None
    line: cst.SimpleStatementLine | None = None


class Names(cst.CSTVisitor):
    """What names mean in one module.

    Attributes:
        mentions: Of DATABASES, in the order in which Python comes by.
        uses: How often each name occurs.
        values: What plain names are assigned at module level, the last time.
        origins: Imported names and where they come from; empty when there are two meanings.
        calls: How often each call is written.
    """

    def __init__(self, module: cst.Module, parents: Parents) -> None:
        super().__init__()
        self.mentions: list[Mention] = []
        self.uses: Counter[str] = Counter()
        self.values: dict[str, cst.BaseExpression] = {}
        self.origins: dict[str, str] = {}
        self.calls: Counter[str] = Counter()
        self._module = module
        self._next: dict[cst.CSTNode, cst.CSTNode] = dict(pairwise(module.body))
        self._parents = parents
        module.visit(self)
        # A value is worked out before it is assigned.
        order = {node: n for n, node in enumerate(dict.fromkeys(m.within for m in self.mentions))}
        self.mentions.sort(key=lambda m: (order[m.within], m.use == "store"))

    def written(self, node: cst.CSTNode) -> str:
        """The node as source."""
        return self._module.code_for_node(node)

    def is_next(self, above: cst.CSTNode, line: cst.CSTNode) -> bool:
        """Whether a line of the module follows another without a gap."""
        following = self._next.get(above)
        return following is line and not getattr(line, "leading_lines", ())

    def meaning(self, node: cst.BaseExpression) -> cst.BaseExpression:
        """What stands behind a plain name."""
        return self.values.get(node.value, node) if isinstance(node, cst.Name) else node

    def visit_Call(self, node: cst.Call) -> None:  # noqa: N802 - LibCST's name
        self.calls[self.written(node)] += 1

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:  # noqa: N802 - LibCST's name
        self._means(node.name.value, "")

    def visit_Import(self, node: cst.Import) -> None:  # noqa: N802 - LibCST's name
        for alias in node.names:
            name = dotted(alias.name)
            self._means(_bound(alias) or name.split(".")[0], name)

    def visit_ImportFrom(self, node: cst.ImportFrom) -> None:  # noqa: N802 - LibCST's name
        source = dotted(node.module) if node.module and not node.relative else "."
        for alias in node.names if not isinstance(node.names, cst.ImportStar) else ():
            name = dotted(alias.name)
            self._means(_bound(alias) or name, f"{source}.{name}")

    def _means(self, name: str, origin: str) -> None:
        self.origins[name] = origin if self.origins.get(name, origin) == origin else ""

    def visit_Name(self, node: cst.Name) -> None:  # noqa: N802 - LibCST's name
        parent = self._parents[node]
        if isinstance(parent, cst.Attribute) and parent.attr is node:
            return
        if isinstance(parent, cst.Arg) and parent.keyword is node:
            return
        self.uses[node.value] += 1
        value = self._assigned_to(node)
        if value is not None and self._where(node)[0] == "module":
            self.values[node.value] = value
        if node.value == _SETTING and not isinstance(parent, cst.ImportFrom | cst.Param):
            self.mentions += self._mention(node)

    def _mention(self, name: cst.Name) -> Iterator[Mention]:
        parent = self._parents[name]
        where, within, line = self._where(name)
        if isinstance(parent, cst.ImportAlias | cst.AsName):
            if isinstance(parent, cst.AsName) or parent.asname is None:
                yield Mention((), "import", where, within)
        elif not isinstance(parent, cst.AnnAssign) or parent.value is not None:
            node, path = self._chain(name)
            use, value, more = self._use(node, path)
            yield Mention((*path, *more), use, where, within, value, line)

    def _chain(self, node: cst.CSTNode) -> tuple[cst.CSTNode, Path]:
        """The longest `DATABASES["a"].get("b")` around a node, and its keys."""
        path: list[str | None] = []
        while True:
            parent = self._parents[node]
            if isinstance(parent, cst.Subscript) and parent.value is node:
                index = parent.slice[0].slice
                one = isinstance(index, cst.Index) and len(parent.slice) == 1
                path.append(text_of(index.value) if one and isinstance(index, cst.Index) else None)
                node = parent
                continue
            call = self._method(node, "get")
            if call is None or not call.args or call.args[0].star:
                return node, tuple(path)
            path.append(text_of(call.args[0].value))
            node = call

    def _method(self, node: cst.CSTNode, *names: str) -> cst.Call | None:
        """The call of a method of the node."""
        attribute = self._parents[node]
        if not isinstance(attribute, cst.Attribute) or attribute.attr.value not in names:
            return None
        call = self._parents[attribute]
        return call if isinstance(call, cst.Call) and call.func is attribute else None

    def _use(self, node: cst.CSTNode, path: Path) -> tuple[Use, cst.BaseExpression | None, Path]:
        """What is done with the node, the value given to it, and a key of the value."""
        parent = self._parents[node]
        value = self._assigned_to(node)
        if value is not None:
            return "store", value, ()
        if isinstance(parent, cst.AugAssign) and parent.target is node:
            union = isinstance(parent.operator, cst.BitOrAssign)
            return ("update" if union else "other"), parent.value, ()
        if call := self._method(node, "update"):
            alone = isinstance(self._parents[call], cst.Expr)
            return ("update" if alone else "other"), _updating(call), ()
        if (call := self._method(node, "setdefault", "pop")) and call.args:
            key = text_of(call.args[0].value)
            given = call.args[1].value if len(call.args) == 2 else None
            setting = self._method(node, "setdefault") and given is not None
            return ("setdefault" if setting else "other"), given, (key,)
        if isinstance(parent, cst.ComparisonTarget) and len(path) == 1:
            return "read", None, (self._compared(parent),)
        if not path and self._only_keys(node):
            return "keys", None, ()
        if isinstance(parent, cst.AssignTarget | cst.Element | cst.Del | cst.NamedExpr):
            return "other", None, ()
        return "read", None, ()

    def _compared(self, target: cst.ComparisonTarget) -> str | None:
        """The text on the left of `"CONN_MAX_AGE" in DATABASES["default"]`."""
        comparison = self._parents[target]
        return text_of(comparison.left) if isinstance(comparison, cst.Comparison) else None

    def _only_keys(self, node: cst.CSTNode) -> bool:
        """Whether DATABASES is only asked for its aliases."""
        parent = self._parents[node]
        if isinstance(parent, cst.ComparisonTarget):
            return isinstance(parent.operator, cst.In | cst.NotIn)
        if isinstance(parent, cst.For | cst.CompFor):
            return parent.iter is node
        call = self._parents[parent]
        if isinstance(parent, cst.Arg) and isinstance(call, cst.Call):
            return dotted(call.func) in _KEYS_ONLY
        return self._method(node, "keys") is not None

    def _assigned_to(self, node: cst.CSTNode) -> cst.BaseExpression | None:
        """The value, where the node is the only target of an assignment."""
        parent = self._parents[node]
        if isinstance(parent, cst.AnnAssign) and parent.target is node:
            return parent.value
        assign = self._parents.get(parent)
        if isinstance(parent, cst.AssignTarget) and isinstance(assign, cst.Assign):
            return assign.value if len(assign.targets) == 1 else None
        return None

    def _where(
        self, node: cst.CSTNode
    ) -> tuple[Where, cst.CSTNode, cst.SimpleStatementLine | None]:
        """The outermost thing that may keep the node from running; its statement and line."""
        where: Where = "module"
        within = node
        while not isinstance(node, cst.Module):
            if type(node) in _SCOPES:
                where = _SCOPES[type(node)]
            elif isinstance(node, _BLOCKS) and where == "module":
                where = "block"
            if not isinstance(node, cst.SimpleStatementLine):
                within = node
            line = node
            node = self._parents[node]
        return where, within, line if isinstance(line, cst.SimpleStatementLine) else None


def _bound(alias: cst.ImportAlias) -> str | None:
    return dotted(alias.asname.name) if alias.asname else None


def _updating(call: cst.Call) -> cst.BaseExpression | None:
    """The mapping that `update(…)` takes; its keywords read as `dict(…)` does."""
    if len(call.args) == 1 and not call.args[0].keyword and not call.args[0].star:
        return call.args[0].value
    if call.args and all(argument.keyword for argument in call.args):
        return call.with_changes(func=cst.Name("dict"))
    return None
