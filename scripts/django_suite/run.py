"""Run the suite once, in a process of its own, on a private server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django_suite import outcomes
from unhang.lab.server import Server

_SCRIPTS: Final = Path(__file__).parents[1]
_SETTINGS: Final = """\
# Made by scripts/django_suite.py.
DATABASES = {databases!r}
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = False
TEST_RUNNER = "django_suite.recorder.Runner"
"""
# Django 6 has another default, and its tests count on it.
_OLD_AUTO_FIELD: Final = 'DEFAULT_AUTO_FIELD = "django.db.models.AutoField"\n'
_NOT_LOADED: Final = "unittest.loader._FailedTest."
_LOG_LINES: Final = 15
_DUMP: Final = "from django_suite import dump\n\ndump.main()\n"
_PYMYSQL: Final = "import pymysql\n\npymysql.install_as_MySQLdb()\n"


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend under test: what stands in DATABASES."""

    name: str
    engine: str
    options: Mapping[str, Any] = field(default_factory=dict)


BACKENDS: Final = {
    backend.name: backend
    for backend in (
        Backend("stock", "django.db.backends.mysql"),
        Backend("transaction", "unhang.backends.mysql"),
        Backend("request", "unhang.backends.mysql", {"pool": {"lease": "request"}}),
    )
}


@dataclass(frozen=True, slots=True)
class Suite:
    """What is run, and with what.

    Attributes:
        tests: Django's folder of tests.
        version: Of Django.
        driver: `mysqlclient` or `pymysql`.
        logs: A folder for settings, outcomes and output of each run.
        limit: Seconds until a run is ended that does not end.
    """

    tests: Path
    version: str
    labels: Sequence[str]
    driver: str
    parallel: int
    logs: Path
    limit: float

    def run(self, backend: Backend, server: Server) -> outcomes.Run:
        """Run it for one backend."""
        home = self.logs / backend.name
        home.mkdir(parents=True, exist_ok=True)
        record = home / "outcomes.jsonl"
        record.unlink(missing_ok=True)
        self._prepare(home, backend, server)
        began, connections = time.monotonic(), _connections(server)
        code = self._execute(home, record)
        seconds = time.monotonic() - began
        # The look at the counter is a connection, too.
        connections = _connections(server) - connections - 1
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        found, ran = outcomes.read(lines)
        trouble = _trouble(code, found, home / "output.log")
        return outcomes.Run(backend.name, found, ran, seconds, connections, trouble)

    def _prepare(self, home: Path, backend: Backend, server: Server) -> None:
        entry = {
            "ENGINE": backend.engine,
            "HOST": server.host,
            "PORT": server.port,
            "USER": server.root_user,
            "PASSWORD": server.root_password,
            "OPTIONS": dict(backend.options),
            "TEST": {"CHARSET": "utf8mb4", "COLLATION": "utf8mb4_general_ci"},
        }
        databases = {alias: {**entry, "NAME": f"django_{alias}"} for alias in ("default", "other")}
        text = _SETTINGS.format(databases=databases)
        if int(self.version.partition(".")[0]) < 6:
            text += _OLD_AUTO_FIELD
        (home / "suite_settings.py").write_text(text, encoding="utf-8")
        if self.driver == "pymysql" and backend.name == "stock":
            # runtests.py imports MySQLdb before any settings; ours chooses its driver itself.
            (home / "sitecustomize.py").write_text(_PYMYSQL, encoding="utf-8")
        dump = home / "mysqldump"
        dump.write_text(f"#!{sys.executable}\n{_DUMP}", encoding="utf-8")
        dump.chmod(0o755)

    def _execute(self, home: Path, record: Path) -> int | None:
        """The suite's exit code; `None` if it did not end in time."""
        command = [sys.executable, "runtests.py", "--settings=suite_settings", "--noinput"]
        command += [f"--parallel={self.parallel}", *self.labels]
        with (home / "output.log").open("wb") as log:
            # A session of its own, so that what tests start can be ended with it.
            process = subprocess.Popen(
                command,
                cwd=self.tests,
                env=self._environment(home, record),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                return process.wait(self.limit)
            except subprocess.TimeoutExpired:
                return None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _environment(self, home: Path, record: Path) -> dict[str, str]:
        python_path = [str(home), str(_SCRIPTS), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            # Last: a real mysqldump comes first.
            "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), str(home)]),
            "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
            "UNHANG_DRIVER": self.driver,
            outcomes.FILE_VARIABLE: str(record),
        }


def _connections(server: Server) -> int:
    (row,) = server.execute("SHOW GLOBAL STATUS LIKE 'Connections'")
    return int(row["Value"])


def _trouble(code: int | None, found: Mapping[str, outcomes.Outcome], log: Path) -> str:
    missing = [test.rpartition(".")[2] for test in found if test.startswith(_NOT_LOADED)]
    if missing:
        return f"these labels cannot be loaded: {', '.join(missing)}"
    if code in (0, 1) and found:
        return ""
    end = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    if code is None:
        hanging = [test for test, outcome in found.items() if outcome.name == "started"]
        return f"it did not end in time; running: {', '.join(hanging) or 'no test'}\n{end}"
    return f"it ended with code {code} after {len(found)} tests\n{end}"
