"""Where a settings module sets the values of one alias, as far as its text tells for certain."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import libcst as cst

from unhang.change.settings_calls import (
    gives_a_new_dict,
    has_stars,
    is_url_call,
    takes_engine,
    url_arguments,
)
from unhang.change.settings_mentions import Mention, Names
from unhang.change.settings_text import Entry, entry_in, quoted
from unhang.change.settings_values import as_container, entries_of, is_sqlite
from unhang.i18n import _


def _as_argument(name: str, value: str) -> str:
    return f"{name.lower()}={value}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands."""

    value: cst.BaseExpression
    entry: Entry


@dataclass(frozen=True, slots=True)
class Home:
    """Where a missing value goes: into a dict or call, or on a line below a statement.

    Attributes:
        closed: Whether all keys of the dict are written out.
    """

    node: cst.Dict | cst.Call | cst.SimpleStatementLine
    entry: Entry
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the text does not tell."""

    reason: str


class AliasPlaces:
    """What the module does with one alias, statement by statement.

    Attributes:
        home: `None` when the file does not define the alias.
        places: Of the wanted names; one that is missing is not set in the file.
        shared: Why the alias's dict must not be changed at all.
    """

    def __init__(self, names: Names, alias: str, wanted: Collection[str], quote: str) -> None:
        self.alias = alias
        self.wanted = wanted
        self.home: Home | None = None
        self.places: dict[str, Place | Obstacle] = {}
        self.shared: Obstacle | None = None
        self._names = names
        self._quote = quote
        self._fallback: Home | None = None
        self._lasting: Obstacle | None = None
        for mention in names.mentions:
            self._take(mention)
        if self.home is None and any(isinstance(p, Place) for p in self.places.values()):
            self.home = self._fallback
        self.shared = self._lasting or self.shared

    def _take(self, mention: Mention) -> None:
        path = mention.path
        if mention.use == "keys" or (path and path[0] not in (self.alias, None)):
            return
        known = len(path) > 1 and path[1] is not None
        touched = [n for n in self.wanted if not known or n == path[1]]
        if mention.where == "block":
            self._in_block(mention, touched)
        elif mention.where != "module":
            if touched and mention.where == "class":
                self._lasting = Obstacle(_("DATABASES belongs to a class there"))
            elif touched:
                self._lasting = Obstacle(_("a function of the file uses DATABASES"))
        elif None in path[:2]:
            self._hinder(touched, _("DATABASES is used there with a key that is not written out"))
        else:
            self._follow(mention, touched)

    def _follow(self, mention: Mention, touched: list[str]) -> None:
        path, value = mention.path, mention.value
        match mention.use, len(path):
            case "import", _:
                self._reset()
            case "store", 0 if value is not None:
                self._define_all(value, mention)
            case "update", 0:
                self._update_all(value, mention)
            case "store", 1 if value is not None:
                self._define(value, mention)
            case "update", 1:
                self._update(value)
            case "store", 2 if value is not None:
                self._store(path[1] or "", value, mention)
            case "setdefault", 2 if touched and value is not None:
                self._default(touched[0], value)
            case "read", 0 | 1:
                self.shared = Obstacle(_("the alias's dict is used for something else as well"))
            case _:
                self._hinder(touched, _("the alias is changed there in a way that is not certain"))

    def _in_block(self, mention: Mention, touched: list[str]) -> None:
        if self.home and mention.use == "store" and self._means_sqlite(mention):
            return  # For tests or for a desk: it is not the server that the edit is for.
        if mention.use == "read" and len(mention.path) < 2:
            self.shared = Obstacle(_("the alias's dict is used for something else as well"))
        self._hinder(touched, _("the alias is set in a block that may or may not run"))

    def _means_sqlite(self, mention: Mention) -> bool:
        value, all_of_them = mention.value, mention.path == ()
        known = all_of_them or mention.path == (self.alias,)
        return known and value is not None and is_sqlite(value, self.alias if all_of_them else None)

    def _reset(self) -> None:
        self.home = self._fallback = self.shared = None
        self.places.clear()

    def _hinder(self, names: Collection[str], reason: str) -> None:
        self.places |= dict.fromkeys(names, Obstacle(reason))

    def _define_all(self, value: cst.BaseExpression, mention: Mention) -> None:
        self._reset()
        value = self._looked_up(value)
        if as_container(value) is not None:
            self._from_all(value, mention)
        elif isinstance(value, cst.Call):
            self._from_call(value, mention)
        else:
            self._hinder(self.wanted, _("the alias is computed there, not a literal dict"))

    def _from_all(self, databases: cst.BaseExpression, mention: Mention) -> None:
        found, unknown = None, False
        for name, value in entries_of(databases):
            if name == self.alias:
                found, unknown = value, False
            elif name is None:
                unknown = True
        if unknown:
            self._reset()
            self._hinder(self.wanted, _("the alias is computed there, not a literal dict"))
        elif found is not None:
            self._define(found, mention)

    def _update_all(self, value: cst.BaseExpression | None, mention: Mention) -> None:
        if value is None or as_container(value) is None:
            self._hinder(self.wanted, _("DATABASES is updated with something computed"))
        else:
            self._from_all(value, mention)

    def _define(self, value: cst.BaseExpression, mention: Mention) -> None:
        self._reset()
        value = self._looked_up(value)
        container = as_container(value)
        if container is not None:
            self._put(value, container)
            self._settle(list(entries_of(value)), container, mention)
        elif call := self._url_call(value):
            self._from_url(call)
        elif isinstance(value, cst.Call):
            self._from_call(value, mention)
        elif isinstance(value, cst.Name):
            self._hinder(
                self.wanted, _("the alias's dict is a variable that other code uses as well")
            )
        else:
            self._hinder(self.wanted, _("the alias is computed there, not a literal dict"))

    def _settle(
        self,
        entries: Sequence[tuple[str | None, cst.BaseExpression]],
        container: cst.Dict | cst.Call,
        mention: Mention,
    ) -> None:
        """Where values that the alias's own dict lacks are put."""
        unseen = [value for name, value in entries if name is None]
        filled = bool(container.elements if isinstance(container, cst.Dict) else container.args)
        home = Home(container, entry_in(container, self._quote), closed=not unseen)
        self.home = home if filled else self._line(mention)
        if len(unseen) == 1 and (call := self._url_call(unseen[0])):
            if not has_stars(call):
                self.home = Home(call, _as_argument)
        elif isinstance(container, cst.Call) and has_stars(container):
            # The same name twice would be an error.
            missing = [name for name in self.wanted if name not in self.places]
            self._hinder(missing, _("arguments are passed on with ** there"))

    def _put(self, value: cst.BaseExpression, container: cst.Dict | cst.Call) -> None:
        """The values that the container sets; whatever follows in it wins."""
        entry = entry_in(container, self._quote)
        for name, inner in entries_of(value):
            if name in self.wanted and name is not None:
                self.places[name] = Place(inner, entry)
            elif name is None:
                if isinstance(container, cst.Dict):
                    before = [name for name in self.wanted if name in self.places]
                    self._hinder(before, _("what follows with ** in the dict may set it again"))
                if call := self._url_call(inner):
                    self.places = self._arguments(call) | self.places

    def _from_url(self, call: cst.Call) -> None:
        """`dj_database_url` sets all of the values, to defaults when they are not given."""
        self.places = dict(self._arguments(call))
        self.home = Home(call, _as_argument)

    def _arguments(self, call: cst.Call) -> dict[str, Place | Obstacle]:
        if has_stars(call):
            reason = _("arguments are passed on to dj_database_url with * there")
            return dict.fromkeys(self.wanted, Obstacle(reason))
        given = url_arguments(call, self._names)
        return {n: Place(v, _as_argument) for n, v in given.items() if n in self.wanted}

    def _url_call(self, value: cst.BaseExpression) -> cst.Call | None:
        known = isinstance(value, cst.Call) and is_url_call(value, self._names)
        return value if known and isinstance(value, cst.Call) else None

    def _from_call(self, call: cst.Call, mention: Mention) -> None:
        """A line below may change the dict that a call gave, if nothing else is the same dict."""
        if not gives_a_new_dict(call, self._names):
            self._hinder(self.wanted, _("the same call gives another dict of the file"))
            return
        self.home = self._line(mention)
        for argument in call.args:
            told = argument.keyword.value.upper() if argument.keyword else ""
            if told == "ENGINE" and told in self.wanted and takes_engine(call):
                self.places[told] = Place(argument.value, _as_argument)
            elif told in self.wanted:
                self._hinder([told], _("an argument of the call may set it"))

    def _update(self, value: cst.BaseExpression | None) -> None:
        value = self._looked_up(value) if value is not None else None
        container = as_container(value) if value is not None else None
        if value is not None and (call := self._url_call(value)):
            self._from_url(call)
        elif (
            value is None
            or container is None
            or not all(name for name, _value in entries_of(value))
        ):
            self._hinder(self.wanted, _("the alias is updated with something computed"))
        else:
            self._put(value, container)
            if self.home is None and any(True for _entry in entries_of(value)):
                self._fallback = Home(container, entry_in(container, self._quote))

    def _store(self, name: str, value: cst.BaseExpression, mention: Mention) -> None:
        line = self._line(mention)
        if name in self.wanted:
            self.places[name] = Place(value, line.entry)
            self._fallback = line
        if self.home and self._names.is_next(self.home.node, line.node):
            self.home = line

    def _default(self, name: str, value: cst.BaseExpression) -> None:
        if name in self.places:
            return
        if self.home and self.home.closed:
            self.places[name] = Place(value, self._line_entry)
        else:
            self._hinder([name], _("a default that may or may not count is set there"))

    def _looked_up(self, value: cst.BaseExpression) -> cst.BaseExpression:
        """A variable's value, where it is assigned once and used here only."""
        if isinstance(value, cst.Name) and self._names.uses[value.value] == 2:
            return self._names.values.get(value.value, value)
        return value

    def _line(self, mention: Mention) -> Home:
        assert mention.line is not None  # noqa: S101 - it stands at module level
        return Home(mention.line, self._line_entry)

    def _line_entry(self, name: str, value: str) -> str:
        keys = f"[{quoted(self.alias, self._quote)}][{quoted(name, self._quote)}]"
        return f"DATABASES{keys} = {value}"
