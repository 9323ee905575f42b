"""A Django project whose code offends on purpose, and the diagnosis of it, in process."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from unhang.lab import Server
from unhang.mysql.engine import STOCK_ENGINE
from unhang.rules import catalogue
from unhang.rules.model import Finding
from unhang.survey.collect import Target, take_survey, targets_of
from unhang.survey.login import from_dsn
from unhang.survey.model import Survey, Workers
from unhang.survey.project import Project, Settings, load_settings

PASSWORD = "slow%please"
PATIENCE = 12.0

T = TypeVar("T")

_numbers = itertools.count(1)
_SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["unhang", "shop"]
ROOT_URLCONF = "shop.urls"
ALLOWED_HOSTS = ["*"]
UNHANG = {{"RUN_DIR": {run_dir!r}}}
DATABASES = {databases!r}
"""
_MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "conf.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
_PRELUDE = """
import os, sys, time
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "conf.settings")
import django
django.setup()
from django.db import connection, connections, transaction
def query(sql="SELECT 1"):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None
def ready():
    print("ready", flush=True)
"""


@dataclass
class Shop:
    """One application on one server, with an account and a database of its own."""

    server: Server
    directory: Path
    user: str
    databases: dict[str, dict[str, Any]]
    workers: Workers | None = None
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        """What the settings file says, without an interpreter that loads it."""
        return Settings(
            project=Project(self.directory, "conf.settings"),
            databases=self.databases,
            django_version="",
            settings_file=self.directory / "conf/settings.py",
            loaded_files=(),
            middleware=(),
            unhang={"RUN_DIR": str(self.directory / "run")},
            mysql_driver="mysqlclient",
        )

    def target(self) -> Target:
        """What `unhang diagnose --login ADMIN` looks at."""
        login = from_dsn(self.server.dsn())
        (target,) = targets_of(self.settings, login=login, workers=self.workers)
        return target

    def survey(self) -> Survey:
        """One look as the administrator."""
        return take_survey(self.target())

    def diagnose(self) -> tuple[Finding, ...]:
        """What `unhang diagnose` says of it."""
        return catalogue.judge(self.survey())

    def until(self, *rules: str) -> tuple[Finding, ...]:
        """The diagnosis, as soon as these rules are in it."""
        return until(self.diagnose, lambda found: set(rules) <= {f.rule for f in found})

    def until_first(self, rule: str, words: str = "") -> Finding:
        """The first finding, as soon as this rule has found something and says so."""
        found = until(
            self.diagnose,
            lambda found: any(f.rule == rule and words in f.sentence for f in found),
        )
        assert found[0].rule == rule, rules_of(found)
        return found[0]

    def connect(self, **more: Any) -> Any:
        """A connection of the application's account, in this process."""
        return self.server.connect(self.user, PASSWORD, self.user, **more)

    def file(self, name: str, text: str) -> Path:
        """A file of the project."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def start(self, *command: str, wait: bool = True, **environment: str) -> subprocess.Popen[str]:
        """Start a Python program of the project; returns when it has printed `ready`."""
        errors = self.directory / "errors.log"
        with errors.open("w") as stderr:
            process = self._popen(command, stderr, environment)
        self.running.append(process)
        if wait:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == "ready":
                    return process
            raise AssertionError(errors.read_text())
        return process

    def _popen(
        self, command: Sequence[str], stderr: IO[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=self.directory,
            env=os.environ
            | {"DJANGO_SETTINGS_MODULE": "conf.settings", "PYTHONPATH": str(self.directory)}
            | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def script(self, name: str, code: str) -> subprocess.Popen[str]:
        """Run a script with Django set up: `query()` asks the server, `ready()` says so."""
        return self.start(str(self.file(name, _PRELUDE + textwrap.dedent(code))))

    def end(self) -> None:
        """Kill what still runs, children too."""
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
            if process.stdout:
                process.stdout.close()


@contextlib.contextmanager
def shop(
    server: Server,
    directory: Path,
    *,
    workers: Workers | None = None,
    address: tuple[str, int] | None = None,
    **changes: Any,
) -> Iterator[Shop]:
    """A project on `server`; its processes are gone at the end, and its account's sessions too.

    Args:
        workers: What `--workers` says.
        address: Host and port that it connects to instead, for a proxy.
        changes: Of the entry in DATABASES.
    """
    user = f"shop{next(_numbers)}_{os.getpid()}"
    server.create_account(user, PASSWORD, database=user)
    server.execute(f"CREATE TABLE {user}.item (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB")
    server.execute(f"INSERT INTO {user}.item VALUES (1, 1), (2, 2), (3, 3)")
    host, port = address or (server.host, server.port)
    database = {
        "ENGINE": STOCK_ENGINE,
        "NAME": user,
        "USER": user,
        "PASSWORD": PASSWORD,
        "HOST": host,
        "PORT": str(port),
        "OPTIONS": {},
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
        "ATOMIC_REQUESTS": False,
        "AUTOCOMMIT": True,
        **changes,
    }
    made = Shop(server, directory, user, {"default": database}, workers)
    made.file("conf/__init__.py", "")
    made.file("shop/__init__.py", "")
    made.file("shop/urls.py", "urlpatterns = []\n")
    made.file("manage.py", _MANAGE)
    text = _SETTINGS.format(run_dir=str(directory / "run"), databases=made.databases)
    made.file("conf/settings.py", text)
    (directory / "run").mkdir(mode=0o700)
    try:
        yield made
    finally:
        made.end()
        end_sessions(server, user)


def end_sessions(server: Server, user: str) -> None:
    """The next test must not find them."""
    for row in server.execute(
        "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE USER = %s", user
    ):
        with contextlib.suppress(Exception):
            server.execute(f"KILL {row['id']}")
    until(
        lambda: server.execute(
            "SELECT ID AS id FROM information_schema.PROCESSLIST WHERE USER = %s", user
        ),
        lambda rows: not rows,
    )


def site_target(site: Any, workers: Workers | None) -> Target:
    """What `unhang diagnose` looks at in the folder of a demo site."""
    settings = load_settings(Project(site.project_dir, site.settings_module))
    return targets_of(settings, workers=workers)[0]


def until(look: Callable[[], T], good: Callable[[T], bool], seconds: float = PATIENCE) -> T:
    """Look again and again until it is as it should be; fails with what it was last."""
    deadline = time.monotonic() + seconds
    while not good(seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"it never happened; last seen: {seen}")
        time.sleep(0.1)
    return seen


def rules_of(findings: Sequence[Finding]) -> list[str]:
    """Their ids, in the order of telling."""
    return [finding.rule for finding in findings]
