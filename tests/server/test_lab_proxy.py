"""The proxy's faults, as a client of the database sees them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from unhang import lab
from unhang.lab import Proxy, Server
from unhang.lab.process import free_port, wait_until

LOST = 2013
REFUSED = 2003


@pytest.fixture
def proxy(any_server: Server) -> Iterator[Proxy]:
    with lab.proxy(any_server) as proxy:
        yield proxy


@contextlib.contextmanager
def client(server: Server, proxy: Proxy, seconds: float = 10) -> Iterator[Connection[Cursor]]:
    with contextlib.closing(server.connect(port=proxy.port, read_timeout=seconds)) as connection:
        yield connection


def ask(connection: Connection[Cursor], sql: str = "SELECT 1") -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def error_code(connection: Connection[Cursor]) -> int:
    with pytest.raises(pymysql.OperationalError) as lost:
        ask(connection)
    return int(lost.value.args[0])


def test_it_forwards_more_than_its_buffers_hold(any_server: Server, proxy: Proxy) -> None:
    with client(any_server, proxy) as connection:
        ((text,),) = ask(connection, "SELECT REPEAT('x', 15000000)")  # type: ignore[misc]  # object
        assert len(text) == 15_000_000
        assert proxy.connections == 1
    assert wait_until(lambda: proxy.connections == 0, 5)


def test_a_delay_counts_once_in_each_direction(any_server: Server, proxy: Proxy) -> None:
    with client(any_server, proxy) as connection:
        proxy.delay = 0.2
        began = time.monotonic()
        ask(connection)
        assert time.monotonic() - began >= 0.4
        proxy.delay = 0.0
        assert ask(connection) == ((1,),)


def test_a_black_hole_answers_nothing_and_closes_nothing(any_server: Server, proxy: Proxy) -> None:
    with client(any_server, proxy, seconds=1) as connection:
        session = connection.thread_id()
        proxy.drop_silently()
        assert error_code(connection) == LOST
    # The client has given up; its session stays, as behind a firewall that forgot the connection.
    assert proxy.connections == 1
    assert session in {row["Id"] for row in any_server.execute("SHOW PROCESSLIST")}


def test_a_black_hole_accepts_new_clients_and_greets_none(any_server: Server, proxy: Proxy) -> None:
    proxy.drop_silently()
    with pytest.raises(pymysql.OperationalError) as silent:
        any_server.connect(port=proxy.port, read_timeout=1)
    assert silent.value.args[0] == LOST


def test_after_a_black_hole_only_damaged_connections_are_reset(
    any_server: Server, proxy: Proxy
) -> None:
    with client(any_server, proxy, seconds=1) as used, client(any_server, proxy) as idle:
        proxy.drop_silently()
        error_code(used)
        proxy.restore()
        assert wait_until(lambda: proxy.connections == 1, 5)
        assert ask(idle) == ((1,),)
    with client(any_server, proxy) as fresh:
        assert ask(fresh) == ((1,),)


def test_cut_resets_every_connection_and_takes_new_ones(any_server: Server, proxy: Proxy) -> None:
    with client(any_server, proxy) as one, client(any_server, proxy) as two:
        assert proxy.connections == 2
        proxy.cut()
        assert proxy.connections == 0
        assert {error_code(one), error_code(two)} <= {2006, LOST}
    with client(any_server, proxy) as fresh:
        assert ask(fresh) == ((1,),)


def test_refuse_turns_away_new_clients_and_keeps_the_old(any_server: Server, proxy: Proxy) -> None:
    with client(any_server, proxy) as old:
        proxy.refuse()
        with pytest.raises(pymysql.OperationalError) as refused:
            any_server.connect(port=proxy.port)
        assert ask(old) == ((1,),)
    proxy.accept()
    with client(any_server, proxy) as fresh:
        assert ask(fresh) == ((1,),)
    assert refused.value.args[0] == REFUSED


def test_a_session_ended_by_the_server_is_ended_for_the_client(
    any_server: Server, proxy: Proxy
) -> None:
    with client(any_server, proxy) as connection:
        any_server.execute(f"KILL {connection.thread_id()}")
        assert wait_until(lambda: proxy.connections == 0, 5)
        assert error_code(connection) in {2006, LOST}


def test_a_target_that_is_down_resets_the_client() -> None:
    nobody = ("127.0.0.1", free_port())
    with lab.proxy(nobody) as proxy, pytest.raises(pymysql.OperationalError) as lost:
        pymysql.connect(host=proxy.host, port=proxy.port, user="root", read_timeout=5)
    assert lost.value.args[0] in {REFUSED, LOST}
