"""Applying under watch, with an application that records its response times beside it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.projects import Project, make_project
from unhang import lab
from unhang.change import journal as journals
from unhang.cli import apply
from unhang.cli.watched import Watched
from unhang.lab import Server
from unhang.latency import Recorder
from unhang.monitor.vigil import HarmSeen, Vigil

pytestmark = pytest.mark.slow


@pytest.fixture
def server(any_engine: str) -> Iterator[Server]:
    with lab.server(any_engine) as server:
        yield server


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    project = make_project(tmp_path, server)
    with project.settings_file.open("a") as file:
        file.write(
            'MIDDLEWARE = ["unhang.middleware.ResponseTimes"]\n'
            f'UNHANG = {{"RUN_DIR": {str(tmp_path / "run")!r}}}\n'
        )
    (tmp_path / "run").mkdir(mode=0o700)
    return project


class Application:
    """Answers 50 requests a second; after the change some fail, if it is told to."""

    def __init__(self, server: Server, run_dir: Path, failing: float) -> None:
        self.server = server
        self.failing = failing
        self.recorder = Recorder(run_dir)
        self.over = threading.Event()

    def run(self) -> None:
        chance = random.Random(7)
        changed = False
        for number in range(50 * 300):
            if self.over.wait(0.02):
                return
            if number % 25 == 0:
                value = self.server.execute("SELECT @@global.wait_timeout AS v")[0]["v"]
                changed = value != 28_800
            fails = changed and chance.random() < self.failing
            self.recorder.begin()
            self.recorder.finish(
                chance.lognormvariate(-4.6, 0.4),
                server_error=fails,
                database_error="gone_away" if fails else None,
            )


@contextmanager
def application(server: Server, project: Project, failing: float) -> Iterator[None]:
    app = Application(server, project.directory / "run", failing)
    thread = threading.Thread(target=app.run)
    thread.start()
    try:
        yield
    finally:
        app.over.set()
        thread.join()
        app.recorder.close()


def timeout_of(server: Server) -> int:
    return int(server.execute("SELECT @@global.wait_timeout AS v")[0]["v"])


def test_harm_is_seen_and_rolled_back_with_its_reason(server: Server, project: Project) -> None:
    before = project.settings_file.read_bytes()
    plan = project.plan()
    with application(server, project, failing=0.03):
        applied = project.apply(plan, "--watch", "2m", "--baseline", "30s")
    assert applied.code == 6, applied
    assert "Worse than before" in applied.text
    assert "lost connections per 1,000 requests" in applied.text
    assert "Rolled back: everything is as it was before" in applied.text
    assert timeout_of(server) == 28_800
    assert project.settings_file.read_bytes() == before
    status = project.unhang("status", "--login", project.login)
    assert "rolled back" in status.text
    journal = journals.newest(project.directory / ".unhang")
    (watched,) = [e for e in journal.entries if e["event"] == "watched"]
    assert watched["verdict"].startswith("worse: ")
    assert watched["seen"]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Periods that would prove little; what is looked at here needs no proof."""
    monkeypatch.setattr(apply, "SHORTEST_WATCH", 5.0)
    monkeypatch.setattr(Watched, "SHORTEST_BASELINE", 5.0)


@pytest.mark.usefixtures("short")
def test_a_change_that_does_no_harm_stays(server: Server, project: Project) -> None:
    with application(server, project, failing=0.0):
        applied = project.apply(project.plan(), "--watch", "10s", "--baseline", "5s")
    assert applied.code == 0, applied
    assert "nothing is worse than before" in applied.text
    assert timeout_of(server) == 300
    journal = journals.newest(project.directory / ".unhang")
    assert [e["verdict"] for e in journal.entries if e["event"] == "watched"] == ["nothing worse"]


@pytest.mark.usefixtures("short")
def test_a_server_that_is_gone_during_the_watch_is_harm_and_the_rollback_can_be_finished(
    server: Server, project: Project
) -> None:
    stopper = threading.Thread(target=_stop_after_the_change, args=(server,))
    stopper.start()
    applied = project.apply(project.plan(), "--watch", "2m", "--baseline", "5s")
    stopper.join()
    assert applied.code == 7, applied
    assert "Worse than before" in applied.text
    server.start()
    assert project.rollback().code == 6
    assert timeout_of(server) == 28_800


def test_the_way_back_waits_for_a_restart_of_its_own(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers run with the longer limit by then, and nobody is there to restart them."""

    def harm(*_arguments: object) -> None:
        raise HarmSeen("made up")

    monkeypatch.setattr(Vigil, "baseline", lambda *_arguments: None)
    monkeypatch.setattr(Vigil, "watch", harm)
    server.execute("SET GLOBAL wait_timeout = 60")
    project = make_project(tmp_path, server, '"CONN_MAX_AGE": 48,')
    applied = project.apply(project.plan(), "--watch", "1m", restarted=False)
    assert applied.code == 7, applied
    assert "must be restarted first" in applied.text
    assert "unhang rollback --restarted" in applied.text
    status = project.unhang("status", "--login", project.login)
    assert status.code == 1
    assert timeout_of(server) == 300, "the longer of the two, until the application is restarted"
    assert '"CONN_MAX_AGE": 48,' in project.settings_file.read_text()
    assert project.rollback().code == 6
    assert timeout_of(server) == 60


def _stop_after_the_change(server: Server) -> None:
    for _ in range(600):
        if list(server.option_dir.iterdir()):  # the last step
            break
        threading.Event().wait(0.2)
    threading.Event().wait(1)
    server.stop()


@pytest.mark.parametrize("how", [("--watch", "10s"), ("--watch", "5m", "--baseline", "5s")])
def test_a_watch_that_proves_nothing_is_refused(
    server: Server, project: Project, how: tuple[str, ...]
) -> None:
    refused = project.apply(project.plan(), *how)
    assert refused.code == 2
    assert "proves nothing" in refused.text
    assert timeout_of(server) == 28_800
