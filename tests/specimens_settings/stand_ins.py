"""Runs the text of a settings file, with small stand-ins for what such files import."""

from __future__ import annotations

import ast
import builtins
import copy
import io
import os
import tokenize
from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

from unhang.change.patch import Patch
from unhang.change.settings_edit import Values, edits

URL = "mysql://u:hunter2@db/shop"


def edited(source: str, alias: str, values: Values) -> str:
    """The source after the edit."""
    hunks = [edit.hunk for edit in edits(source, alias, values)]
    return Patch.of(source, hunks).applied_to(source)


def parse(
    url: str,
    engine: str | None = None,
    conn_max_age: int | None = 0,
    conn_health_checks: bool = False,
    disable_server_side_cursors: bool = False,
) -> dict[str, Any]:
    """As `dj_database_url.parse`."""
    return {
        "ENGINE": engine or "django.db.backends.mysql",
        "NAME": url.rpartition("/")[2],
        "CONN_MAX_AGE": conn_max_age,
        "CONN_HEALTH_CHECKS": conn_health_checks,
        "DISABLE_SERVER_SIDE_CURSORS": disable_server_side_cursors,
    }


def config(env: str = "DATABASE_URL", default: str | None = None, *rest: Any, **named: Any) -> Any:
    """As `dj_database_url.config` where the variable is set."""
    return parse(URL, *rest, **named)


class Env:
    """As `environ.Env`, of django-environ."""

    def __call__(self, var: str, cast: type = str, default: Any = None) -> Any:
        return cast(os.environ.get(f"SPECIMEN_{var}", default))

    def int(self, var: str, default: Any = 0) -> Any:
        return self(var, int, default)

    def db(self, var: str = "DATABASE_URL", default: Any = None, engine: Any = None) -> Any:
        return {"ENGINE": engine or "django.db.backends.mysql", "NAME": f"of {var}"}

    db_url = db


def decouple_config(option: str, default: Any = None, cast: Any = None) -> Any:
    """As `decouple.config` without a file."""
    return cast(default) if cast else default


def _modules() -> dict[str, Any]:
    databases = {a: {"ENGINE": "x", "NAME": a} for a in ("default", "replica")}
    base = SimpleNamespace(DATABASES=databases, env=Env(), get=lambda: copy.deepcopy(databases))
    return {
        "dj_database_url": SimpleNamespace(config=config, parse=parse),
        "environ": SimpleNamespace(Env=Env),
        "decouple": SimpleNamespace(config=decouple_config),
        "base": base,
        "local_settings": SimpleNamespace(LOCAL=1),
    }


def run(source: str) -> dict[str, Any]:
    """The settings that a file defines: its names in upper case, with copies of their values."""
    modules = _modules()

    def load(name: str, *rest: Any) -> Any:
        return modules[name] if name in modules else builtins.__import__(name, *rest)

    names: dict[str, Any] = {"__builtins__": {**vars(builtins), "__import__": load}}
    exec(compile(source.removeprefix("\ufeff"), "settings", "exec"), names)  # noqa: S102 - ours
    return copy.deepcopy({name: value for name, value in names.items() if name.isupper()})


def comments(source: str) -> list[str]:
    """The comments of a file, in their order."""
    lines = io.StringIO(source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    tokens = tokenize.generate_tokens(lines.readline)
    return [token.string.rstrip() for token in tokens if token.type == tokenize.COMMENT]


def check_edit(
    before: str, after: str, alias: str, values: Values, same: Collection[str] = ()
) -> None:
    """The edit has its effect on the alias and on nothing else.

    Args:
        same: Names of variables that are the alias's own dict.
    """
    ast.parse(after.removeprefix("\ufeff"))
    was, now = run(before), run(after)
    assert {name: now["DATABASES"][alias].get(name) for name in values} == dict(values)
    was["DATABASES"][alias] |= values
    for name in same:
        was.pop(name, None)
        now.pop(name, None)
    assert now == was
    assert comments(after) == comments(before)
