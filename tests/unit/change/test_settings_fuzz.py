"""Any settings file: it is refused, or it parses, has the effect, and nothing else changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import event, given, settings
from hypothesis import strategies as st

from specimens_settings.stand_ins import check_edit
from unhang.change.patch import Patch
from unhang.change.settings_edit import CannotEditError, Values, edits

HEAD = """\
import os, sys
import dj_database_url
import dj_database_url as dj
from dj_database_url import parse as db_url
from environ import Env
env = Env()
COMMON = {"USER": "app", "CONN_MAX_AGE": 5}
def get_db(): return {"NAME": "got"}
"""

NUMBERS = ("0", "60", "60 * 60", "(60 * 2)", "None", "-1", "600.0", "1_000")
COMPUTED = (
    *("int(os.environ.get('NOT_THERE', 60))", "env.int('NOT_THERE', default=60)"),
    *("60 if len(sys.argv) else 6", "len('ab')", "COMMON['CONN_MAX_AGE']"),
)
FLAGS = ("True", "False")
OTHER_ENTRIES = {
    "NAME": "'shop'",
    "PASSWORD": "'p#,}x' 'y'",
    "HOST": "(os.environ.get('DB_HOST', 'db'))",
    "PORT": "3306",
    "OPTIONS": "{'charset': 'utf8mb4', 'CONN_MAX_AGE': 1}",
    "TEST": "{\n 'NAME': 'x'  # a test, }\n}",
}

# Statements that leave no doubt, wherever they follow the alias's definition.
PLAIN = (
    *("DEBUG = False", "", "# CONN_MAX_AGE = 1", "DATABASES['default']['ATOMIC_REQUESTS'] = True"),
    *("DATABASES['default']['OPTIONS'] = {'a': 1}", "DATABASES['other']['CONN_MAX_AGE'] = 7"),
    *("X = DATABASES['default'].get('HOST')", "HAS_OTHER = 'other' in DATABASES  # or not"),
    *("DATABASES['default'].update({'HOST': 'h'})", "DATABASES['third'] = {'CONN_MAX_AGE': 1}"),
    "if 'test' in sys.argv:\n    DATABASES['default'] = {'ENGINE': 'django.db.backends.sqlite3'}",
    "try:\n    from .local_settings import *\nexcept ImportError:\n    pass",
    "if X_ := DATABASES['default'].get('HOST'):\n    DATABASES['default']['HOST'] = X_",
    *("DATABASES['default']['CONN_MAX_AGE'] = 33;  # now", "A = 1; B = 2"),
    *("DATABASES['default'] |= {'CONN_MAX_AGE': 44}", "\f", "DATABASES['default']['x y'] = 1"),
    "DATABASES['default'].update(\n  CONN_MAX_AGE=6  # six\n)",
    "DATABASES['default'] = {**DATABASES['default'], 'HOST': 'new'}",
)
HARD = (
    *("COPY = DATABASES['default']", "DATABASES['third'] = DATABASES['default']"),
    *("DATABASES['default'].pop('CONN_MAX_AGE', None)", "AGES = [d for d in DATABASES.values()]"),
    *("if env('HOME', default=1):\n    DATABASES['default']['CONN_MAX_AGE'] = 1", "del COMMON"),
    "for n in list(DATABASES):\n    DATABASES[n]['CONN_MAX_AGE'] = 3",
    "for n in DATABASES:\n    DATABASES[n].setdefault('CONN_HEALTH_CHECKS', False)",
    "DATABASES['default'].setdefault('CONN_MAX_AGE', 99)",
    "DATABASES['default']['CONN_MAX_AGE'] = DATABASES['other']['CONN_MAX_AGE'] = 4",
    *("AGE = DATABASES['default'].get('CONN_MAX_AGE')", "DATABASES.update(default={'NAME': 'u'})"),
    "DATABASES['default'].update({'CONN_MAX_AGE': 1, **COMMON})",
    "def change():\n    DATABASES['default']['CONN_MAX_AGE'] = 2\nchange()",
    "(lambda d: d.update(CONN_MAX_AGE=9))(DATABASES['default'])",
    *("DATABASES = {**DATABASES, 'third': {}}", "DATABASES['default'].update([('HOST', 'h')])"),
    *("DATABASES |= {'third': {}} | {}", "DATABASES['default'] |= COMMON | {'HOST': 'u'}"),
    *("THERE = 'CONN_MAX_AGE' in DATABASES['default']", "X, DATABASES['default'] = 1, {'NAME': 1}"),
    "with open('/dev/null') as f:\n    DATABASES['default'].update(dj.config(conn_max_age=1))",
    "KEY = 'CONN_MAX_AGE'\nDATABASES['default'][KEY] = 12",
    "[DATABASES['default'].update(CONN_MAX_AGE=n) for n in (1, 2)]",
    "True and DATABASES['default'].update(CONN_MAX_AGE=15)",
    "DATABASES['default']['CONN_MAX_AGE'], Y = 1, 2",
)


@dataclass(frozen=True)
class Specimen:
    """A settings file, and whether its text tells all that an edit needs."""

    source: str
    certain: bool


@dataclass(frozen=True)
class Look:
    """How its author formats."""

    quote: str
    indent: str
    comma: str
    comment: str
    spread: bool


looks = st.builds(
    Look,
    st.sampled_from(["'", '"']),
    st.sampled_from(["  ", "    ", "\t"]),
    st.sampled_from(["", ","]),
    st.sampled_from(["", "  # , } 'a comment"]),
    st.booleans(),
)


def display(look: Look, entries: list[str], brackets: str, depth: int) -> str:
    """Entries between brackets, on one line or spread over several."""
    opening, closing = brackets
    if not look.spread:
        return f"{opening}{', '.join(entries)}{look.comma if entries else ''}{closing}"
    pad = look.indent * (depth + 1)
    lines = [f"{pad}{entry},{look.comment}" for entry in entries[:-1]]
    lines += [f"{pad}{entry}{look.comma}{look.comment}" for entry in entries[-1:]]
    return "\n".join([opening, *lines, look.indent * depth + closing])


Draw = st.DrawFn


def entries_of(draw: Draw, allow_computed: bool) -> tuple[dict[str, str], bool]:
    """Keys and expressions of an alias, shuffled; whether none of ours is computed."""
    entries = dict(draw(st.lists(st.sampled_from(sorted(OTHER_ENTRIES.items())), max_size=4)))
    computed = allow_computed and draw(st.booleans())
    if draw(st.booleans()):
        entries["CONN_MAX_AGE"] = draw(st.sampled_from(COMPUTED if computed else NUMBERS))
    if draw(st.booleans()):
        entries["CONN_HEALTH_CHECKS"] = draw(st.sampled_from(FLAGS))
    order = draw(st.permutations(list(entries)))
    return {key: entries[key] for key in order}, not (computed and "CONN_MAX_AGE" in entries)


def literal(draw: Draw, look: Look, depth: int) -> tuple[str, bool, str]:
    entries, certain = entries_of(draw, True)
    texts = [f"{look.quote}{key}{look.quote}: {value}" for key, value in entries.items()]
    star = draw(st.sampled_from(["", "", "first", "last"]))
    ours = any(key.startswith("CONN_") for key in entries)
    if star == "first":
        texts.insert(0, "**COMMON")
    elif star == "last":
        texts.append("**COMMON")
        certain = certain and not ours
    return display(look, texts, "{}", depth), certain, ""


def dict_call(draw: Draw, look: Look, depth: int) -> tuple[str, bool, str]:
    entries, certain = entries_of(draw, True)
    texts = [f"{key}={value}" for key, value in entries.items()]
    if draw(st.booleans()):
        texts.insert(0, "COMMON")
    return "dict" + display(look, texts, "()", depth), certain, ""


def url_call(draw: Draw, look: Look, depth: int) -> tuple[str, bool, str]:
    entries, certain = entries_of(draw, True)
    function = draw(st.sampled_from(["dj_database_url.config", "dj.config", "db_url"]))
    texts = [f"{k.lower()}={v}" for k, v in entries.items() if k.startswith("CONN_")]
    if draw(st.booleans()):
        texts.append("engine='x'")
    if function == "db_url":
        texts.insert(0, "'mysql://u:hunter2@db/shop'")
    call = function + display(look, texts, "()", depth)
    if draw(st.booleans()):
        return "{**" + call + ", 'HOST': 'h'}", certain, ""
    return call, certain, ""


def other_call(draw: Draw, look: Look, depth: int) -> tuple[str, bool, str]:
    calls = ["env.db()", "env.db('X', default='mysql://')", "get_db()", "COMMON.copy()"]
    return draw(st.sampled_from(calls)), True, ""


def variable(draw: Draw, look: Look, depth: int) -> tuple[str, bool, str]:
    value, certain, _none = draw(st.sampled_from([literal, dict_call, url_call]))(draw, look, 0)
    return "MYSQL", certain, f"MYSQL = {value}{look.comment}"


def union(draw: Draw, look: Look, depth: int) -> tuple[str, bool, str]:
    value, certain, _none = literal(draw, look, depth)
    return f"COMMON | {value}", certain, ""


Style = Callable[[Draw, Look, int], tuple[str, bool, str]]
STYLES: list[Style] = [literal, literal, dict_call, url_call, other_call, variable, union]


@st.composite
def specimens(draw: Draw) -> Specimen:
    look = draw(looks)
    value, certain, before = draw(st.sampled_from(STYLES))(draw, look, 1)
    q, lines = look.quote, [HEAD, before]
    other = draw(st.sampled_from(["{}", "{'CONN_MAX_AGE': 1}", "dict(NAME='o')", "env.db('Y')"]))
    pairs = draw(st.permutations([f"{q}default{q}: {value}", f"{q}other{q}: {other}"]))
    if draw(st.booleans()):
        name = draw(st.sampled_from(["DATABASES", "DATABASES: dict"]))
        lines.append(f"{name} = {display(look, pairs, '{}', 0)}{look.comment}")
    else:
        lines.append("DATABASES = {'default': {}, 'other': {'CONN_MAX_AGE': 1}}")
        lines.append(f"DATABASES[{q}default{q}] = {value}{look.comment}")
    rest = draw(st.lists(st.sampled_from(PLAIN), max_size=4))
    hard = draw(st.lists(st.sampled_from(HARD), max_size=1))
    lines += draw(st.permutations([*rest, *hard]))
    source = "\n".join([*lines, *draw(st.sampled_from([[], ["", "# the end"], [""]]))])
    bom = draw(st.sampled_from(["", "\ufeff"]))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return Specimen(bom + source.replace("\n", newline), certain and not hard)


@settings(max_examples=60, deadline=None)
@given(specimens(), st.sampled_from([None, 0, 280]), st.booleans(), st.booleans())
def test_any_file_is_refused_or_has_the_values_and_nothing_else_changed(
    specimen: Specimen, age: int | None, checks: bool, engine: bool
) -> None:
    values: Values = {"CONN_MAX_AGE": age, "CONN_HEALTH_CHECKS": checks}
    if engine:
        values = {**values, "ENGINE": "unhang.backends.mysql"}
    try:
        made = edits(specimen.source, "default", values)
    except CannotEditError:
        event("refused")
        assert not specimen.certain
        return
    event("edited")
    patch = Patch.of(specimen.source, [edit.hunk for edit in made])
    after = patch.applied_to(specimen.source)
    assert patch.inverse().applied_to(after) == specimen.source
    check_edit(specimen.source, after, "default", values, {"MYSQL"})
    assert "hunter2" not in repr(made)


@settings(max_examples=30, deadline=None)
@given(specimens(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_edits_of_any_two_aliases_fit_together(specimen: Specimen, age: int, own: int) -> None:
    try:
        first = edits(specimen.source, "default", {"CONN_MAX_AGE": age})
        second = edits(specimen.source, "other", {"CONN_MAX_AGE": own})
    except CannotEditError:
        return
    hunks = [edit.hunk for edit in (*first, *second)]
    one = Patch.of(specimen.source, hunks[: len(first)]).applied_to(specimen.source)
    both = Patch.of(specimen.source, hunks).applied_to(specimen.source)
    check_edit(one, both, "other", {"CONN_MAX_AGE": own})
