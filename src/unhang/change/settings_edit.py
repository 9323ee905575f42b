"""Editing `DATABASES` in a settings file, formatting and comments kept.

LibCST finds the places; the edit itself replaces and inserts at those places only, so everything
else stays byte for byte. Only what can be edited with certainty is edited, see
`unhang.change.settings_places`. Whether the edit had the wanted effect is not decided here but by
loading the settings afterwards.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

from unhang.change.patch import Hunk, Patch
from unhang.change.settings_mentions import Names
from unhang.change.settings_places import AliasPlaces, Home, Obstacle, Place
from unhang.change.settings_text import (
    BOM,
    Text,
    Value,
    entries_into,
    lines_after,
    literal,
    usual_quote,
)
from unhang.change.settings_values import environment_for, is_constant
from unhang.i18n import _

Values = Mapping[str, Value]

_SURROGATE: Final = re.compile("[\udc80-\udcff]")


class CannotEditError(Exception):
    """Why the file is left alone; a person has to set the lines.

    Attributes:
        environment: Variables that give the values where they come from the environment.
        absent: The file does not say what the alias is; another file may.
    """

    def __init__(
        self, reason: str, environment: Mapping[str, str] | None = None, *, absent: bool = False
    ) -> None:
        super().__init__(reason)
        self.environment: dict[str, str] = dict(environment or {})
        self.absent = absent


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
        CannotEditError: It is not certain from the text what gives the alias these values.
    """
    try:
        # The parser takes no bytes that are not UTF-8; one sign for another keeps the positions.
        module = cst.parse_module(_readable(source))
    except (cst.ParserSyntaxError, RecursionError):
        raise CannotEditError(_("the file does not parse")) from None
    wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
    text = Text(source, wrapper.resolve(PositionProvider))
    quote = usual_quote(module)
    names = Names(module, wrapper.resolve(ParentNodeProvider))
    found = AliasPlaces(names, alias, tuple(values), quote)
    _refuse_uncertain(found, names, values)
    made = [
        _replaced(text, place, name, value, quote)
        for name, value in values.items()
        if isinstance(place := found.places.get(name), Place)
    ]
    missing = {name: value for name, value in values.items() if name not in found.places}
    if missing and found.home:
        made += _added(text, found.home, missing, quote)
    _refuse_broken(source, made)
    return made


def _readable(source: str) -> str:
    return _SURROGATE.sub("?", source.removeprefix(BOM))


def _refuse_uncertain(found: AliasPlaces, names: Names, values: Values) -> None:
    if found.shared:
        raise CannotEditError(found.shared.reason)
    if found.home is None and not found.places:
        raise CannotEditError(_("no literal dict for the alias is in the file"), absent=True)
    environment: dict[str, str] = {}
    reasons = []
    for name, value in values.items():
        place = found.places.get(name)
        if isinstance(place, Obstacle):
            reasons.append(place.reason)
        elif place is not None and not is_constant(place.value, value):
            wanted = environment_for(names.meaning(place.value), value)
            environment |= wanted
            reasons.append(_from_environment(name, wanted) if wanted else _computed(name))
    if reasons:
        raise CannotEditError("; ".join(dict.fromkeys(reasons)), environment)


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    wanted = " ".join(f"{variable}={value}" for variable, value in environment.items())
    text = _("{name} comes from the environment: set {wanted} there")
    return text.format(name=name, wanted=wanted)


def _computed(name: str) -> str:
    return _("{name} is computed there").format(name=name)


def _replaced(text: Text, place: Place, name: str, value: Value, quote: str) -> Edit:
    start, end = text.span(place.value)
    old = text.source[start:end]
    if "#" in old:
        raise CannotEditError(_("a comment stands inside of {name}").format(name=name))
    if isinstance(place.value, cst.SimpleString) and len(place.value.quote) == 1:
        quote = place.value.quote
    new = literal(value, quote)
    was = place.entry(name, " ".join(old.split()))
    return Edit(Hunk(start, old, new), (was,), (place.entry(name, new),))


def _added(text: Text, home: Home, missing: Values, quote: str) -> Iterator[Edit]:
    entries = [home.entry(name, literal(value, quote)) for name, value in missing.items()]
    if isinstance(home.node, cst.SimpleStatementLine):
        hunks = [lines_after(text, home.node, entries)]
    else:
        hunks = entries_into(text, home.node, entries)
    # The comma that the last element lacks is nothing that a person reads.
    yield from (Edit(comma, (), ()) for comma in hunks[:-1])
    yield Edit(hunks[-1], (), tuple(entries))


def _refuse_broken(source: str, made: Sequence[Edit]) -> None:
    """The last line of defence: nothing is written that Python would not read."""
    patch = Patch.of(source, (edit.hunk for edit in made))
    try:
        ast.parse(_readable(patch.applied_to(source)))
    except (SyntaxError, ValueError, RecursionError):
        raise CannotEditError(_("the edited file would not parse")) from None
