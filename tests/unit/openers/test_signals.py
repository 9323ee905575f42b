"""The receiver of `connection_created`: what it writes, and that it never breaks a connection."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import AppConfig
from django.conf import settings
from django.db.backends.signals import connection_created

import unhang
from unhang.apps import UnhangConfig
from unhang.openers import note_pooled, read_all, recorder, signals

if not settings.configured:
    settings.configure()


class Driver:
    """A driver's connection."""

    open = True

    def __init__(self, session_id: int, end: socket.socket) -> None:
        self._id, self._end = session_id, end

    def thread_id(self) -> int:
        return self._id

    def fileno(self) -> int:
        return self._end.fileno()


class Wrapper:
    """Django's, with a driver's connection inside."""

    alias = "default"

    def __init__(self, connection: object, vendor: str = "mysql") -> None:
        self.connection = connection
        self.vendor = vendor


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    signals.connect(tmp_path / "run", Path(__file__).parent)
    yield tmp_path / "run"
    signals.disconnect()


@pytest.fixture
def end() -> Iterator[socket.socket]:
    """A client's end of a TCP connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        yield client


def opened(wrapper: Any) -> None:
    connection_created.send(sender=type(wrapper), connection=wrapper)


def test_a_connection_is_written_down_with_port_line_and_thread(
    run_dir: Path, end: socket.socket
) -> None:
    wrapper = Wrapper(Driver(12, end))
    opened(wrapper)
    line = sys._getframe().f_lineno - 1
    (opening,) = read_all(run_dir)[0]
    assert (opening.id, opening.alias, opening.port) == (12, "default", end.getsockname()[1])
    # Called from opened(), the innermost line of this application.
    assert opening.code.startswith("test_signals.py:")
    assert int(opening.code.rpartition(":")[2]) < line
    assert opening.thread == "MainThread"


def test_the_socket_stays_open(run_dir: Path, end: socket.socket) -> None:
    opened(Wrapper(Driver(12, end)))
    assert end.getpeername()


def test_other_databases_and_virtual_connections_are_left_alone(
    run_dir: Path, end: socket.socket
) -> None:
    virtual = type("Virtual", (Driver,), {"__module__": "unhang.backends.mysql.virtual"})
    opened(Wrapper(virtual(12, end)))
    opened(Wrapper(Driver(13, end), vendor="postgresql"))
    assert read_all(run_dir)[0] == ()


def test_a_driver_that_is_not_known_goes_on_working(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        opened(Wrapper(object()))
        opened(Wrapper(object()))
    assert [record.name for record in caplog.records] == ["unhang.openers"]


def test_the_pool_tells_its_own_connections(run_dir: Path, end: socket.socket) -> None:
    raw = Driver(12, end)
    note_pooled(raw, session_id=12, alias="replica", port=5)
    (opening,) = read_all(run_dir)[0]
    assert (opening.id, opening.alias, opening.pool, opening.code) == (12, "replica", "replica", "")


@pytest.mark.parametrize(
    ("given", "is_on"),
    [({}, True), ({"OWNERS": True}, True), ({"OWNERS": False}, False), ({"OWNERS": "x"}, False)],
)
def test_the_setting_switches_it_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, Any], is_on: bool
) -> None:
    monkeypatch.setattr(settings, "UNHANG", {"RUN_DIR": str(tmp_path), **given}, raising=False)
    app: AppConfig = UnhangConfig("unhang", unhang)
    try:
        app._write_down_owners()  # type: ignore[attr-defined]  # ready() registers metrics, too
        assert (recorder.active() is not None) == is_on
    finally:
        signals.disconnect()
