"""Settings are edited so that their owners accept it: nothing else in the file changes."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unhang.change.patch import Patch
from unhang.change.settings_edit import CannotEditError, Values, edits
from unhang.change.steps import AliasChange, DjangoValues, EditSettings

VALUES = {"CONN_MAX_AGE": 280, "CONN_HEALTH_CHECKS": True}


def edited(source: str, alias: str, values: Values) -> str:
    hunks = [edit.hunk for edit in edits(source, alias, values)]
    return Patch.of(source, hunks).applied_to(source)


STYLES = {
    "one key a line": (
        'DATABASES = {\n    "default": {\n        "ENGINE": "x",  # the engine\n'
        '        "PORT": "3306",  # last\n    },\n}\n',
        'DATABASES = {\n    "default": {\n        "ENGINE": "x",  # the engine\n'
        '        "PORT": "3306",  # last\n        "CONN_MAX_AGE": 280,\n'
        '        "CONN_HEALTH_CHECKS": True,\n    },\n}\n',
    ),
    "no trailing comma, single quotes": (
        "DATABASES = {\n  'default': {\n    'ENGINE': 'x',\n    'NAME': 'y'  # end\n  }\n}\n",
        "DATABASES = {\n  'default': {\n    'ENGINE': 'x',\n    'NAME': 'y',  # end\n"
        "    'CONN_MAX_AGE': 280,\n    'CONN_HEALTH_CHECKS': True\n  }\n}\n",
    ),
    "a value is there already": (
        'DATABASES = {"default": {"CONN_MAX_AGE": 60 * 60, "NAME": "y"}}\n',
        'DATABASES = {"default": {"CONN_MAX_AGE": 280, "NAME": "y", "CONN_HEALTH_CHECKS": True}}\n',
    ),
    "all on one line with a trailing comma": (
        'DATABASES = {"default": {"NAME": "y",},}\n',
        'DATABASES = {"default": {"NAME": "y", "CONN_MAX_AGE": 280, '
        '"CONN_HEALTH_CHECKS": True,},}\n',
    ),
    "dict calls": (
        'DATABASES = dict(\n    default=dict(\n        ENGINE="x",\n        NAME="y",\n    )\n)\n',
        'DATABASES = dict(\n    default=dict(\n        ENGINE="x",\n        NAME="y",\n'
        "        CONN_MAX_AGE=280,\n        CONN_HEALTH_CHECKS=True,\n    )\n)\n",
    ),
    "built up by assignment": (
        'DATABASES = {}\nDATABASES["default"] = {\n\t"NAME": "y",\n}\n'
        'DATABASES["default"]["CONN_MAX_AGE"] = None  # for ever\n',
        'DATABASES = {}\nDATABASES["default"] = {\n\t"NAME": "y",\n'
        '\t"CONN_HEALTH_CHECKS": True,\n}\n'
        'DATABASES["default"]["CONN_MAX_AGE"] = 280  # for ever\n',
    ),
    "the brace closes on the last line": (
        'DATABASES = {"default": {\n    "ENGINE": "x",\n    "NAME": "y"}}\n',
        'DATABASES = {"default": {\n    "ENGINE": "x",\n    "NAME": "y",\n'
        '    "CONN_MAX_AGE": 280,\n    "CONN_HEALTH_CHECKS": True}}\n',
    ),
    "with a type": (
        'DATABASES: dict[str, dict[str, object]] = {"default": {"NAME": "y"}}\n',
        "DATABASES: dict[str, dict[str, object]] = "
        '{"default": {"NAME": "y", "CONN_MAX_AGE": 280, "CONN_HEALTH_CHECKS": True}}\n',
    ),
    "nested options stay": (
        'DATABASES = {\n    "default": {\n        "NAME": "y",\n'
        '        "OPTIONS": {"init_command": "SET x=1"},\n    }\n}\n',
        'DATABASES = {\n    "default": {\n        "NAME": "y",\n'
        '        "OPTIONS": {"init_command": "SET x=1"},\n        "CONN_MAX_AGE": 280,\n'
        '        "CONN_HEALTH_CHECKS": True,\n    }\n}\n',
    ),
    "windows line ends": (
        'DATABASES = {\r\n    "default": {\r\n        "NAME": "y",\r\n    }\r\n}\r\n',
        'DATABASES = {\r\n    "default": {\r\n        "NAME": "y",\r\n'
        '        "CONN_MAX_AGE": 280,\r\n        "CONN_HEALTH_CHECKS": True,\r\n    }\r\n}\r\n',
    ),
    "values from the environment beside it": (
        'import os\nDATABASES = {"default": {"PASSWORD": os.environ["PW"], "NAME": "y"}}\n',
        'import os\nDATABASES = {"default": {"PASSWORD": os.environ["PW"], "NAME": "y", '
        '"CONN_MAX_AGE": 280, "CONN_HEALTH_CHECKS": True}}\n',
    ),
    "another alias with the same keys": (
        'DATABASES = {"other": {"CONN_MAX_AGE": 1}, "default": {"CONN_MAX_AGE": 2, "X": 1}}\n',
        'DATABASES = {"other": {"CONN_MAX_AGE": 1}, '
        '"default": {"CONN_MAX_AGE": 280, "X": 1, "CONN_HEALTH_CHECKS": True}}\n',
    ),
}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.replace(" ", "-"))
def test_the_edit_is_the_one_a_person_would_make(style: str) -> None:
    before, after = STYLES[style]
    assert edited(before, "default", VALUES) == after


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("DATABASES = settings.databases\n", "computed"),
        ("DATABASES = {**BASE}\n", "computed"),
        ("from .base import *\n", "no literal dict"),
        ("DATABASES = {'default': {'CONN_MAX_AGE': int(x), 'N': 1}}\n", "CONN_MAX_AGE is computed"),
        ("if PROD:\n    DATABASES = {'default': {'N': 1}}\n", "a block that may or may not run"),
        ("def f():\n    DATABASES = {'default': {'N': 1}}\n", "a function of the file"),
        ("DATABASES = {'default': {'N': 1}}\nDATABASES = conf.get['x']\n", "computed"),
        ("DATABASES = {'default': {\n", "does not parse"),
    ],
)
def test_what_is_not_certain_is_left_alone(source: str, reason: str) -> None:
    with pytest.raises(CannotEditError, match=reason):
        edited(source, "default", VALUES)


@pytest.mark.parametrize(
    "source",
    [
        "DATABASES = {'default': {'CONN_MAX_AGE': 60, 'PASSWORD': r'hunter2', 'NAME': 'n'}}\n",
        "DATABASES = {'default': {'PASSWORD': 'a\\'hunter2', 'CONN_MAX_AGE': 60}}\n",
        "DATABASES = {'default': {'CONN_MAX_AGE': 1, 'X': 'my://u:hunter2@h', 'Y': ('hunter2')}}\n",
        "DATABASES = {'default': {\n  'CONN_MAX_AGE': 1,\n  'PASSWORD': 'x' 'hunter2',\n}}\n",
    ],
)
def test_no_secret_beside_the_edit_gets_into_it(source: str) -> None:
    try:
        made = edits(source, "default", VALUES)
    except CannotEditError:
        return
    assert made
    assert "hunter2" not in repr(made)


def test_bytes_that_are_not_utf8_survive() -> None:
    source = b"# caf\xe9\nDATABASES = {'default': {'N': 1}}\n".decode("utf-8", "surrogateescape")
    after = edited(source, "default", VALUES).encode("utf-8", "surrogateescape")
    assert after.startswith(b"# caf\xe9\n")


def test_the_lines_to_paste_have_the_effect() -> None:
    names: dict[str, dict[str, dict[str, object]]] = {"DATABASES": {"default": {}}}
    change = AliasChange("default", DjangoValues(0, False), DjangoValues(280, True))
    exec(EditSettings((change,), None, None).lines, names)  # noqa: S102 - our own two lines
    assert names["DATABASES"]["default"] == VALUES


keys = st.sampled_from(["ENGINE", "NAME", "USER", "CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "TEST"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(0, 10**6), st.text("ab#'\"{},:é\n\\ ", max_size=8)
)
aliases = st.dictionaries(keys, scalars, min_size=1)


@st.composite
def settings_files(draw: st.DrawFn) -> str:
    databases = {"default": draw(aliases), "other": draw(aliases)}
    comma = draw(st.sampled_from(["", ","]))
    comment = draw(st.sampled_from(["", "  # , } a comment"]))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    lines = ["import os", "", "DATABASES = {"]
    for alias, values in databases.items():
        lines.append(f"    {alias!r}: {{")
        items = [f"        {key!r}: {value!r}" for key, value in values.items()]
        lines += [f"{item},{comment}" for item in items[:-1]]
        lines += [f"{items[-1]}{comma}{comment}", "    },"]
    return newline.join([*lines, "}", "AFTER = 1", ""])


@given(settings_files(), st.integers(0, 1000), st.booleans())
def test_any_file_still_parses_and_nothing_else_in_it_changes(
    source: str, age: int, checks: bool
) -> None:
    wanted = {"CONN_MAX_AGE": age, "CONN_HEALTH_CHECKS": checks}
    try:
        after = edited(source, "default", wanted)
    except CannotEditError:
        # Text where a number belongs is not for us to judge.
        databases = evaluated(source)
        assert any(isinstance(databases["default"].get(name), str) for name in wanted)
        return
    was, now = evaluated(source), evaluated(after)
    assert now == was | {"default": was["default"] | wanted}
    kept = [line for line in source.splitlines() if "CONN_" not in line]
    left = after.splitlines()
    for line in kept:
        # A comma may come between a value and its comment.
        head = line.split(",")[0].split("  #")[0]
        assert any(candidate.startswith(head) for candidate in left)


def evaluated(source: str) -> dict[str, dict[str, object]]:
    module = ast.parse(source)
    for statement in module.body:
        if isinstance(statement, ast.Assign) and statement.targets[0].id == "DATABASES":  # type: ignore[attr-defined]
            return ast.literal_eval(statement.value)  # type: ignore[no-any-return]
    raise AssertionError("no DATABASES")
