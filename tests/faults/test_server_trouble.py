"""A server that restarts, fills up, freezes, vanishes or becomes a replica."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError

from support.databases import (
    Database,
    atomic,
    in_thread,
    one,
    pool_of,
    run,
    until,
)
from unhang import lab
from unhang.lab import Server


@pytest.fixture
def own_server() -> Iterator[Server]:
    with lab.server("mariadb", max_connections=20) as server:
        yield server


@pytest.fixture
def own(own_server: Server) -> Iterator[Database]:
    made = Database(own_server)
    made.tables()
    yield made
    made.close()


def fill(wrapper: object, count: int) -> None:
    """So many idle connections."""
    pool = pool_of(wrapper)
    for connection in [pool.lend() for _ in range(count)]:
        pool.give_back(connection)


def take_every_place(own: Database) -> list[Any]:
    """Connect until the server refuses."""
    others: list[Any] = []
    with pytest.raises(Exception, match="Too many connections"):
        others.extend(own.server.connect("app", "p%w#1") for _ in range(40))
    return others


@pytest.mark.parametrize("stale", [1, 6, 10])
def test_after_a_restart_the_first_borrower_is_served_at_once(own: Database, stale: int) -> None:
    wrapper = own.wrapper()
    fill(wrapper, stale)
    own.server.restart()
    pool = pool_of(wrapper)
    errors_before = pool.stats().connect_errors
    assert run(wrapper, "INSERT INTO entry (note) VALUES ('first')") == 1
    stats = pool.stats()
    assert stats.connect_errors == errors_before, "it needed no second attempt"
    assert stats.timeouts == 0
    assert stats.size - stats.idle <= 1


def test_a_restart_is_waited_out_by_reads_writes_and_transactions(own: Database) -> None:
    fill(own.wrapper(), 3)
    own.server.stop()
    results: list[object] = []

    def read() -> None:
        results.append(one(own.wrapper(), "SELECT COUNT(*) FROM account"))

    def write() -> None:
        results.append(run(own.wrapper(), "INSERT INTO entry (note) VALUES ('write')"))

    def transact() -> None:
        wrapper = own.wrapper()
        with atomic(wrapper):
            results.append(run(wrapper, "INSERT INTO entry (note) VALUES ('transaction')"))

    threads = [threading.Thread(target=work) for work in (read, write, transact, read)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    assert not results
    own.server.start()
    for thread in threads:
        thread.join(20)
    assert sorted(map(str, results)) == ["1", "1", "10", "10"]


def test_a_server_that_stays_away_is_one_clear_error_within_the_deadline(own: Database) -> None:
    wrapper = own.wrapper(timeout=1.0)
    fill(wrapper, 2)
    own.server.stop()
    began = time.monotonic()
    with pytest.raises(OperationalError) as caught:
        one(wrapper, "SELECT 1")
    assert 0.9 < time.monotonic() - began < 4
    code, text = caught.value.args
    assert code in (2002, 2003)
    assert "no connection within 1.0 s" in text
    assert "last connect error" in text
    own.server.start()
    assert one(wrapper, "SELECT 1") == 1


def test_a_full_server_is_waited_for(own: Database) -> None:
    others = take_every_place(own)
    leaving = threading.Timer(1.0, lambda: [other.close() for other in others[:3]])
    leaving.start()
    wrapper = own.wrapper()
    assert one(wrapper, "SELECT 1") == 1
    assert pool_of(wrapper).stats().connect_errors >= 1
    for other in others:
        if other.open:
            other.close()


def test_a_full_server_is_named_when_the_deadline_is_over(own: Database) -> None:
    others = take_every_place(own)
    with pytest.raises(OperationalError) as caught:
        one(own.wrapper(timeout=0.5), "SELECT 1")
    assert caught.value.args[0] == 1040
    for other in others:
        other.close()


def test_one_connection_serves_many_while_the_server_has_no_room_for_more(own: Database) -> None:
    wrapper = own.wrapper()
    fill(wrapper, 1)
    others = take_every_place(own)
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(one(own.wrapper(), "SELECT SLEEP(0.05)")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [0] * 8
    for other in others:
        other.close()


def test_a_wrong_password_is_told_at_once(own: Database) -> None:
    wrapper = own.wrapper_with(PASSWORD="wrong")
    began = time.monotonic()
    with pytest.raises(OperationalError) as caught:
        one(wrapper, "SELECT 1")
    assert caught.value.args[0] == 1045
    assert time.monotonic() - began < 5


def test_the_deadline_holds_when_the_server_freezes(own: Database) -> None:
    wrapper = own.wrapper(timeout=1.0)
    with own.server.frozen():
        began = time.monotonic()
        with pytest.raises(OperationalError):
            one(wrapper, "SELECT 1")
        assert time.monotonic() - began < 4
    until(lambda: in_thread(lambda: one(own.wrapper(), "SELECT 1")) == 1)


def test_the_deadline_holds_when_packets_vanish(own: Database) -> None:
    with lab.proxy(own.server) as proxy:
        wrapper = own.wrapper_with(
            PORT=str(proxy.port), HOST=proxy.host, OPTIONS={"pool": {"timeout": 1.5}}
        )
        assert one(wrapper, "SELECT 1") == 1
        pool = pool_of(wrapper)
        proxy.drop_silently()
        # Idle for so long that the pool asks the server before it lends.
        for connection in pool.connections():
            connection.idle_since -= 31
        began = time.monotonic()
        with pytest.raises(OperationalError):
            one(wrapper, "SELECT 1")
        assert time.monotonic() - began < 6
        proxy.restore()
        proxy.cut()
        assert one(wrapper, "SELECT 1") == 1


def test_a_connection_cut_by_the_network_is_replaced(own: Database) -> None:
    with lab.proxy(own.server) as proxy:
        wrapper = own.wrapper_with(PORT=str(proxy.port), HOST=proxy.host)
        assert one(wrapper, "SELECT 1") == 1
        proxy.cut()
        assert run(wrapper, "INSERT INTO entry (note) VALUES ('x')") == 1
        proxy.cut()
        with atomic(wrapper):
            run(wrapper, "INSERT INTO entry (note) VALUES ('y')")
        assert own.value("SELECT COUNT(*) FROM shop.entry") == 2


def test_a_primary_that_became_a_replica_costs_one_error_and_every_connection(
    own: Database,
) -> None:
    wrapper = own.wrapper()
    fill(wrapper, 3)
    before = set(own.sessions())
    own.server.execute("REVOKE ALL PRIVILEGES, GRANT OPTION FROM app@'%'")
    own.server.execute("GRANT SELECT, INSERT ON shop.* TO app@'%'")
    own.server.execute("SET GLOBAL read_only = 1")
    fresh = own.wrapper_with(OPTIONS={"pool": {"max_size": 4}})
    fill(fresh, 3)
    with pytest.raises(OperationalError) as caught:
        run(fresh, "INSERT INTO entry (note) VALUES ('x')")
    assert caught.value.args[0] == 1290
    pool = pool_of(fresh)
    assert pool.stats().idle == 0, "the name may lead to the new primary by now"
    own.server.execute("SET GLOBAL read_only = 0")
    assert run(fresh, "INSERT INTO entry (note) VALUES ('x')") == 1
    assert before
