"""A Django project on disk for tests of the command, and the command itself."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from unhang.cli import main
from unhang.lab import Server

PASSWORD = "50%/of:all@café"  # everything that a DSN or a settings file can stumble over
RESTARTED = ("--restart-command", "true")
"""Where no application runs, this restarts it."""
_MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "conf.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """# Settings of the test shop.
SECRET_KEY = "x"
INSTALLED_APPS = ["unhang"]
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.mysql",
        "NAME": "app",
        "USER": "app",
        "PASSWORD": {password!r},
        "HOST": {host!r},
        "PORT": {port},{extra}
    }},
}}
"""


@dataclass(frozen=True)
class Ran:
    """What a run of the command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything it printed, as one line for searching: terminals break lines anywhere."""
        return " ".join(f"{self.out}\n{self.err}".split())

    def json(self) -> dict[str, Any]:
        """The document it printed."""
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass(frozen=True)
class Project:
    """A project whose only database is on a server of the lab.

    Attributes:
        login: A DSN of the server's administrator.
    """

    directory: Path
    login: str

    @property
    def settings_file(self) -> Path:
        return self.directory / "conf" / "settings.py"

    def unhang(self, *arguments: str, program: tuple[str, ...] = ()) -> Ran:
        """Run the command in the project's folder, without a terminal: in this process, since one
        of its own costs a second each time, unless a program is named."""
        if program:
            return run_unhang(*arguments, cwd=self.directory, program=program)
        return call_unhang(*arguments, cwd=self.directory)

    def plan(self, *arguments: str) -> str:
        """Make a plan as the administrator and return its file."""
        file = self.directory / "plan.json"
        ran = self.unhang("plan", "--login", self.login, "-o", str(file), *arguments)
        assert ran.code == 1, ran
        return str(file)

    def apply(self, plan: str, *arguments: str, restarted: bool = True) -> Ran:
        """Apply it as the administrator, without asking; the application counts as restarted."""
        word = [*RESTARTED] if restarted else []
        return self.unhang("apply", plan, "--yes", "--login", self.login, *word, *arguments)

    def rollback(self, *arguments: str, restarted: bool = True) -> Ran:
        """Roll back the last one."""
        word = [*RESTARTED] if restarted else []
        return self.unhang("rollback", "--yes", "--login", self.login, *word, *arguments)


def run_unhang(
    *arguments: str, cwd: Path, program: tuple[str, ...] = ("-m", "unhang"), **environment: str
) -> Ran:
    """Run the command in a clean environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("UNHANG_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=cwd,
        env=kept | {"COLUMNS": "200", "PYTHONWARNINGS": "error"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def call_unhang(*arguments: str, cwd: Path) -> Ran:
    """Run the command in this process, with a clean environment and nobody at the terminal."""
    printed, complained = io.StringIO(), io.StringIO()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("UNHANG_", "DJANGO_"))}
    code: object = None
    with (
        mock.patch.dict(os.environ, kept | {"COLUMNS": "200"}, clear=True),
        mock.patch.object(sys, "stdin", io.StringIO()),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(complained),
    ):
        try:
            main.run(list(arguments))
        except SystemExit as ended:
            code = ended.code
    assert code is None or isinstance(code, int), code
    return Ran(code or 0, printed.getvalue(), complained.getvalue())


def make_project(directory: Path, server: Server, extra: str = "", account: bool = True) -> Project:
    """A project with an ordinary account `app` on the server.

    Args:
        extra: More lines of the default alias's dict.
    """
    if account:
        server.create_account("app", PASSWORD, database="app")
    (directory / "conf").mkdir()
    (directory / "conf" / "__init__.py").touch()
    (directory / "manage.py").write_text(_MANAGE)
    lines = "".join(f"\n        {line}" for line in extra.splitlines())
    text = SETTINGS.format(password=PASSWORD, host=server.host, port=server.port, extra=lines)
    (directory / "conf" / "settings.py").write_text(text)
    return Project(directory, server.dsn())
