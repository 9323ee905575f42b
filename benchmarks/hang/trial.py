"""One trial: a server and a site of its own, the load, and a look at the server meanwhile."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hang.load import Phases, Request, send
from hang.scenarios import PROCESSES, Contender, Scenario
from unhang import lab
from unhang.lab import Server
from unhang.lab.process import free_port
from unhang.lab.project import SHOP

ENGINE: Final = "mariadb"
SEED: Final = 40

_OVERLAY: Final = Path(__file__).with_name("app")
_SAMPLE_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Trial:
    """What one contender did in one round of one scenario.

    Attributes:
        peak_sessions: The most at a time at the server, as sampled.
        refused_logins: Logins that the server turned away because it was full.
    """

    scenario: Scenario
    contender: Contender
    round: int
    phases: Phases
    requests: tuple[Request, ...]
    peak_sessions: int
    refused_logins: int


def run(scenario: Scenario, contender: Contender, number: int, phases: Phases) -> Trial:
    """Start everything, send the load of this round, end everything."""
    # A door of its own for the look at the server: it must not take one of the connections.
    extra_port = free_port()
    with (
        _project() as project,
        lab.server(
            ENGINE,
            max_connections=contender.max_connections,
            extra_port=extra_port,
            extra_max_connections=2,
        ) as server,
        lab.site(
            server,
            worker=scenario.worker,
            processes=PROCESSES,
            threads=scenario.threads,
            settings=_settings(contender),
            app=project,
        ) as site,
        _Watch(server, extra_port) as watch,
    ):
        requests = send(site.url, scenario, phases, SEED + number)
    return Trial(
        scenario, contender, number, phases, tuple(requests), watch.peak, watch.refused_logins
    )


def _settings(contender: Contender) -> dict[str, Any]:
    return {
        "MIDDLEWARE": contender.middleware,
        "ROOT_URLCONF": "visitors.urls",
        "DATABASE": dict(contender.database),
    }


@contextmanager
def _project() -> Iterator[Path]:
    """The lab's shop with two more pages, and settings that can change all of a database's."""
    with tempfile.TemporaryDirectory(prefix="unhang-hang-") as home:
        project = Path(home) / "shop"
        shutil.copytree(SHOP, project, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(_OVERLAY, project, dirs_exist_ok=True)
        with (project / "shopsite/settings.py-tpl").open("a") as settings:
            settings.write('\nDATABASES["default"].update(DATABASE)\n')
        yield project


class _Watch:
    """Counts the server's sessions in a thread while its block runs."""

    def __init__(self, server: Server, port: int) -> None:
        self._connection = server.connect(port=port)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="sessions")
        self.peak = 0
        self.refused_logins = 0

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.closing(self._connection):
            self.refused_logins = self._status("Connection_errors_max_connections")

    def _look(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            # Less our own.
            self.peak = max(self.peak, self._status("Threads_connected") - 1)

    def _status(self, name: str) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS WHERE variable_name = %s", [name])
            row = cursor.fetchone()
        return int(row[1]) if row else 0
