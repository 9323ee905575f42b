"""Refused clients are counted on each engine, and other mishaps are not taken for them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest

from unhang import lab
from unhang.lab import Server
from unhang.monitor.refused import refused_between
from unhang.monitor.sample import Sample, take_sample

LIMIT = 10  # the least that MariaDB allows


@pytest.fixture
def server(engine: str) -> Iterator[Server]:
    with lab.server(engine, max_connections=LIMIT) as private:
        private.create_account("app", "secret", ("SELECT ON *.*",))
        yield private


@pytest.fixture
def watcher(server: Server) -> Iterator[Any]:
    """A connection that was there before the crowd; it may see and do everything."""
    with contextlib.closing(server.connect()) as connection:
        yield connection


@contextlib.contextmanager
def no_room(server: Server) -> Iterator[None]:
    """All connections that an ordinary account can have are taken."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(pymysql.OperationalError):
            for _ in range(LIMIT + 1):
                stack.enter_context(contextlib.closing(server.connect("app", "secret")))
            pytest.fail("the limit does not hold")
        yield


def attempts(server: Server, code: int, count: int, *login: str) -> None:
    """Try to log in so many times; each must fail with this code."""
    for _ in range(count):
        with pytest.raises(pymysql.OperationalError) as caught:
            server.connect(*login)
        assert caught.value.args[0] == code


def probes(server: Server, count: int) -> None:
    """What a load balancer's health check does: connect, read the greeting, hang up."""
    for _ in range(count):
        with socket.create_connection((server.host, server.port)) as client:
            client.recv(100)


def settled(connection: Any) -> Sample:
    """A sample after the server is done with everybody who left (counters lag a little)."""
    sample = take_sample(connection)
    for _ in range(100):
        time.sleep(0.05)
        again = take_sample(connection)
        if _counters(again) == _counters(sample):
            return again
        sample = again
    raise AssertionError("the counters never settled")


def _counters(sample: Sample) -> tuple[object, ...]:
    seen = sample.server
    assert seen is not None
    return (
        seen.aborted_connects,
        seen.access_denied_errors,
        seen.aborted_connects_preauth,
        seen.connection_errors_max_connections,
        seen.threads_connected,
    )


def counted(watcher: Any, event: Callable[[], None]) -> int:
    before = settled(watcher)
    event()
    found = refused_between(before, settled(watcher))
    assert found is not None
    return found.count


def test_each_refused_client_is_counted(server: Server, watcher: Any) -> None:
    with no_room(server):
        assert counted(watcher, lambda: attempts(server, 1040, 7, "app", "secret")) == 7


def test_refusals_beyond_the_reserved_slot_are_counted(server: Server, watcher: Any) -> None:
    with no_room(server), contextlib.closing(server.connect()):
        assert counted(watcher, lambda: attempts(server, 1040, 7, "app", "secret")) == 7


def test_wrong_passwords_are_no_refusals_though_the_limit_was_reached(
    server: Server, watcher: Any
) -> None:
    with no_room(server):
        pass
    assert counted(watcher, lambda: attempts(server, 1045, 5, "app", "wrong")) == 0


def test_probes_are_no_refusals_though_the_limit_was_reached(server: Server, watcher: Any) -> None:
    with no_room(server):
        pass
    assert counted(watcher, lambda: probes(server, 5)) == 0


def test_an_unknown_database_is_no_refusal_while_there_is_room(
    server: Server, watcher: Any
) -> None:
    attempt = lambda: attempts(server, 1049, 5, "root", "", "nowhere")  # noqa: E731 - one call
    assert counted(watcher, attempt) == 0
