"""A demo Django site under gunicorn or uvicorn, for as long as a `with` block lasts.

The project is a copy of `shop/` in a temporary directory, so that the change engine can edit its
settings file for real.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.lab.process import HOST, Guarded, Workspace, free_port, last_lines, wait_until
from unhang.lab.project import (
    SETTINGS_MODULE,
    SHOP,
    Database,
    Driver,
    Serving,
    Worker,
    write_project,
)
from unhang.lab.server import Server
from unhang.mysql.engine import STOCK_ENGINE

_PASSWORD: Final = "two-espressos%please"  # noqa: S105  # of a server that lives for minutes
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 15.0
_ANSWER_SECONDS: Final = 5.0


@contextmanager
def site(
    server: Server,
    worker: Worker = "gthread",
    processes: int = 2,
    threads: int = 8,
    conn_max_age: int | None = 0,
    conn_health_checks: bool = False,
    settings: Mapping[str, Any] | None = None,
    app: Path = SHOP,
    address: tuple[str, int] | None = None,
    *,
    engine: str = STOCK_ENGINE,
    pool: Mapping[str, Any] | None = None,
    driver: Driver | None = None,
    preload: bool = False,
) -> Iterator[Site]:
    """A running demo site with its database on `server`; it is gone at the end of the block.

    A second site on the same server shares the first one's database and account, like a second
    host of the same service.

    Args:
        server: Where the database is made.
        worker: gunicorn's `sync`, `gthread` or `gevent` workers, or `asgi` for uvicorn.
        processes: Worker processes.
        threads: Threads of each `gthread` worker, greenlets of each `gevent` worker.
        conn_max_age: `CONN_MAX_AGE` in seconds; `None` keeps connections for ever.
        conn_health_checks: `CONN_HEALTH_CHECKS`.
        settings: More Django settings by name; their values are written with `repr`.
        app: The project to serve, laid out like `shop/`.
        address: Host and port that the site connects to instead of the server's own, for a proxy.
        engine: The database's `ENGINE`.
        pool: Its `OPTIONS["pool"]`; `None` leaves it out.
        driver: What the site talks to the server with (`UNHANG_DRIVER` in its environment); `None`
            is mysqlclient where it is installed.
        preload: gunicorn's master loads the application before it forks its workers.

    Raises:
        UsageProblem: The site does not start; the cure holds the end of its log.
    """
    host, port = address or (server.host, server.port)
    database = Database(
        "shop",
        "shop",
        _PASSWORD,
        host,
        port,
        max_age=conn_max_age,
        health_checks=conn_health_checks,
        engine=engine,
        pool=pool,
    )
    # A sync worker has one thread; gunicorn would turn it into gthread if told otherwise.
    own_threads = threads if worker in ("gthread", "gevent") else 1
    serving = Serving(worker, processes, own_threads, HOST, free_port(), preload)
    server.create_account(database.user, database.password, database=database.name)
    demo = Site(database, serving, driver)
    try:
        write_project(demo.project_dir, app, database, serving, settings or {})
        demo.start(load=True)
        yield demo
    finally:
        demo.close()


class Site:
    """A demo site; `site()` makes it.

    Attributes:
        database: Name, account and address of its database, as in its settings.
        url: Its address, without a slash at the end.
        project_dir, settings_file, settings_module: The project and its settings.
        run_dir: Where the middleware leaves its measurements.
        log_file: What gunicorn or uvicorn and the application say.
    """

    settings_module: Final = SETTINGS_MODULE

    def __init__(self, database: Database, serving: Serving, driver: Driver | None = None) -> None:
        self.database = database
        self._driver = driver
        self.url = f"http://{serving.host}:{serving.port}"
        self._serving = serving
        self._workspace = Workspace()
        self._process: Guarded | None = None
        self.project_dir = self._workspace.path / "shop"
        self.settings_file = self.project_dir / "shopsite/settings.py"
        self.run_dir = self.project_dir / "run"
        self.log_file = self._workspace.path / "site.log"

    # -- life and death ---------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The master's process id; when the site is stopped, the one it had."""
        return self._started.pid

    @property
    def guardian_pid(self) -> int:
        """The process that ends the site when this process dies."""
        return self._started.guardian_pid

    @property
    def _started(self) -> Guarded:
        if self._process is None:
            raise UsageProblem(_("This site was never started."), cure=_("Call start() first."))
        return self._process

    def start(self, *, load: bool = False) -> None:
        """Serve (again) on the same port; returns when all workers are up and one answers.

        Args:
            load: Make and fill the tables first.
        """
        if self.running:
            return
        self._process = Guarded(
            self._serving.command(sys.executable),
            log=self.log_file,
            remove=self._workspace.path,
            directory=self.project_dir,
            environment=self._environment(),
        )
        if load:  # beside the workers' own start, which does not need the tables
            self._load()
        self._wait_for_workers(frozenset())

    def _environment(self) -> dict[str, str]:
        chosen = {"UNHANG_DRIVER": self._driver} if self._driver else {}
        return os.environ | {
            **chosen,
            "DJANGO_SETTINGS_MODULE": self.settings_module,
            # A site is a host of its own, and leaves nothing behind.
            "UNHANG_LANES_DIR": str(self._workspace.path),
            # Python takes cached bytecode for fresh when the source has the same size and the same
            # second, as settings edited twice in a row may have.
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _load(self) -> None:
        done = subprocess.run(
            [sys.executable, "manage.py", "load_shop"],
            cwd=self.project_dir,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise UsageProblem(_("The shop's tables could not be made."), cure=done.stderr)

    def _wait_for_workers(self, old: frozenset[int]) -> None:
        """Until the workers are complete, none of them is in `old`, and one answers."""

        def renewed() -> bool:
            workers = frozenset(self.worker_pids())
            complete = len(workers) == self._serving.processes and not workers & old
            return not self.running or (complete and self._answers())

        if not wait_until(renewed, _START_SECONDS, interval=0.02) or not self.running:
            raise UsageProblem(
                _("The site does not answer at {url}.").format(url=self.url),
                cure=last_lines(self.log_file),
            )

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(
            self._serving.host, self._serving.port, timeout=_ANSWER_SECONDS
        )
        try:
            connection.request("GET", "/health/")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def reload(self) -> None:
        """Have all workers replaced, so that edited settings count; returns when they answer.

        gunicorn does it without a gap (SIGHUP); uvicorn, and a gunicorn that loaded the application
        before it forked, is stopped and started.

        Raises:
            UsageProblem: The new workers do not start, for instance because of broken settings.
        """
        if self._serving.worker == "asgi" or self._serving.preload:
            self.stop()
            self.start()
            return
        old = frozenset(self.worker_pids())
        self._started.signal(signal.SIGHUP)
        self._wait_for_workers(old)

    def stop(self) -> None:
        """Let requests in progress finish, then end; the project stays."""
        if self.running:
            self._started.end(grace=_STOP_SECONDS)

    def close(self) -> None:
        """End the site and delete its project; its database stays on the server."""
        if not self._workspace.mine:
            return
        if self.running:
            self._started.end(grace=0)
        self._workspace.close()

    # -- facts ------------------------------------------------------------------------------------

    def worker_pids(self) -> list[int]:
        """The processes that answer requests."""
        workers = [process.pid for process in self._children() if _is_worker(process)]
        # A single uvicorn process has no supervisor above it.
        alone = self._serving.worker == "asgi" and self._serving.processes == 1
        return [self.pid] if alone and self.running else workers

    def rss_bytes(self) -> int:
        """Resident memory of master and workers together; shared pages count in each."""
        total = 0
        for process in [*self._children(), psutil.Process(self.pid)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:  # a worker that was replaced while we looked
                continue
        return total

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _is_worker(process: psutil.Process) -> bool:
    """uvicorn's supervisor also has a helper of Python's multiprocessing below it."""
    try:
        return not any("resource_tracker" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False
