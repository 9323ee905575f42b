"""Lay out the demo project: copy it, and write its settings as a person would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Final, Literal

from unhang.mysql.engine import STOCK_ENGINE

Worker = Literal["sync", "gthread", "gevent", "asgi"]
Driver = Literal["mysqlclient", "pymysql"]

SHOP: Final = Path(__file__).with_name("shop")
SETTINGS_MODULE: Final = "shopsite.settings"

_SUFFIX: Final = "-tpl"


@dataclass(frozen=True)
class Database:
    """What the settings say about the database.

    Attributes:
        max_age: `CONN_MAX_AGE` in seconds; `None` keeps connections for ever.
        health_checks: `CONN_HEALTH_CHECKS`.
        engine: `ENGINE`.
        pool: `OPTIONS["pool"]`; `None` leaves it out.
    """

    name: str
    user: str
    password: str
    host: str
    port: int
    max_age: int | None = 0
    health_checks: bool = False
    engine: str = STOCK_ENGINE
    pool: Mapping[str, Any] | None = None

    def settings(self) -> dict[str, str]:
        """The blanks of the settings template."""
        lines = []
        # A person writes down only what differs from Django's defaults.
        if self.max_age != 0:
            lines.append(f'        "CONN_MAX_AGE": {self.max_age},\n')
        if self.health_checks:
            lines.append('        "CONN_HEALTH_CHECKS": True,\n')
        if self.pool is not None:
            lines.append(f'        "OPTIONS": {{"pool": {_dict(self.pool)}}},\n')
        return {
            "engine": _literal(self.engine),
            "name": _literal(self.name),
            "user": _literal(self.user),
            "password": _literal(self.password),
            "host": _literal(self.host),
            "port": _literal(str(self.port)),
            "more": "".join(lines),
        }


@dataclass(frozen=True)
class Serving:
    """How the project is served: `asgi` by uvicorn, the others by gunicorn.

    Attributes:
        threads: Of each process; of a `gevent` worker the greenlets.
        preload: gunicorn's master loads the application before it forks.
    """

    worker: Worker
    processes: int
    threads: int
    host: str
    port: int
    preload: bool = False

    def command(self, python: str) -> list[str]:
        """The command line, to run in the project's directory."""
        if self.worker != "asgi":
            return [python, "-m", "gunicorn", "shopsite.wsgi:application"]
        command = [python, "-m", "uvicorn", "shopsite.tied_asgi:application", "--no-access-log"]
        command += ["--host", self.host, "--port", str(self.port), "--log-level", "warning"]
        # One process serves by itself; more of them get a supervisor.
        return [*command, "--workers", str(self.processes)] if self.processes > 1 else command


def write_project(
    target: Path, app: Path, database: Database, serving: Serving, settings: Mapping[str, Any]
) -> None:
    """Copy the project folder `app` to `target` and fill in its templates (`*-tpl`).

    Args:
        target: The directory to make.
        app: A project laid out like `shop/`.
        database: For `DATABASES`.
        serving: For gunicorn's configuration.
        settings: More settings by name, written at the end of the settings file.
    """
    shutil.copytree(app, target, ignore=shutil.ignore_patterns("__pycache__", "run"))
    (target / "run").mkdir()
    more = "".join(f"{name} = {value!r}\n" for name, value in settings.items())
    blanks = database.settings() | {"settings": more}
    _fill(target / f"shopsite/settings.py{_SUFFIX}", blanks)
    _fill(target / f"gunicorn.conf.py{_SUFFIX}", {k: str(v) for k, v in vars(serving).items()})


def _fill(template: Path, blanks: Mapping[str, str]) -> None:
    text = Template(template.read_text()).substitute(blanks).rstrip() + "\n"
    template.with_name(template.name.removesuffix(_SUFFIX)).write_text(text)
    template.unlink()


def _dict(options: Mapping[str, Any]) -> str:
    """A flat dict, written the same way."""
    values = {k: _literal(v) if isinstance(v, str) else repr(v) for k, v in options.items()}
    return "{" + ", ".join(f"{_literal(name)}: {value}" for name, value in values.items()) + "}"


def _literal(text: str) -> str:
    """A Python string in double quotes, as formatters write it; JSON's strings are such."""
    return json.dumps(text, ensure_ascii=False)
