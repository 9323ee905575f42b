"""Who gets which connection, and what a borrower without one is told."""

from __future__ import annotations

import sqlite3
import threading
import time

import pytest

from support.fake_driver import Clock, FakeDriver, FakeError, make_pool, until
from unhang.pool import Pool, PoolClosed, PoolOptions, PoolOverloaded, PoolTimeout


def test_a_connection_given_back_is_lent_again() -> None:
    pool, driver = make_pool()
    first = pool.lend()
    pool.give_back(first)
    assert pool.lend() is first
    assert len(driver.opened) == 1


def test_the_one_used_last_is_lent_first_so_that_the_others_age() -> None:
    pool, _ = make_pool()
    a, b = pool.lend(), pool.lend()
    pool.give_back(a)
    pool.give_back(b)
    assert pool.lend() is b


def test_max_size_holds_when_many_ask_at_once() -> None:
    pool, driver = make_pool(max_size=3)
    most, lock, leased = 0, threading.Lock(), 0

    def borrow() -> None:
        nonlocal most, leased
        for _ in range(20):
            connection = pool.lend()
            with lock:
                leased += 1
                most = max(most, leased)
            time.sleep(0.0005)
            with lock:
                leased -= 1
            pool.give_back(connection)

    threads = [threading.Thread(target=borrow) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3
    assert len(driver.opened) <= 3
    assert pool.stats().lends == 240


def test_who_waits_longest_is_served_first() -> None:
    pool, _ = make_pool(max_size=1)
    held = pool.lend()
    served: list[int] = []

    def borrow(number: int) -> None:
        connection = pool.lend()
        served.append(number)
        pool.give_back(connection)

    threads = []
    for number in range(6):
        threads.append(threading.Thread(target=borrow, args=(number,)))
        threads[-1].start()
        until(lambda n=number: pool.waiting == n + 1)  # type: ignore[misc]
    pool.give_back(held)
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2, 3, 4, 5]


def test_a_returned_connection_serves_a_borrower_while_a_connect_hangs() -> None:
    pool, driver = make_pool(max_size=2)
    held = pool.lend()
    driver.gate.clear()
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(pool.lend()))
    waiting.start()
    until(lambda: pool.stats().connecting == 1)
    pool.give_back(held)
    waiting.join(2)
    driver.gate.set()
    assert got == [held]


def test_the_deadline_holds_while_a_connect_hangs() -> None:
    pool, driver = make_pool()
    driver.gate.clear()
    began = time.monotonic()
    with pytest.raises(PoolTimeout):
        pool.lend(timeout=0.2)
    assert time.monotonic() - began >= 0.2
    driver.gate.set()
    assert pool.lend(timeout=5) is not None


def test_a_timeout_names_the_pool_its_numbers_and_who_holds_the_connections() -> None:
    pool, _ = make_pool(max_size=1)
    pool.lend()
    with pytest.raises(PoolTimeout) as caught:
        pool.lend(timeout=0.05)
    text = str(caught.value)
    assert "pool 'default': no connection within 0." in text
    assert "max_size 1: 1 leased, 0 idle" in text
    assert "by MainThread at" in text
    assert "test_lend.py" in text


def test_its_errors_are_the_drivers_too() -> None:
    pool, _ = make_pool(max_size=1)
    pool.lend()
    with pytest.raises(FakeError):
        pool.lend(timeout=0.01)


def test_a_borrower_waits_while_the_server_refuses_and_is_served_when_it_is_back() -> None:
    pool, driver = make_pool()
    driver.connect_problem = FakeError(1040, "Too many connections")
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(pool.lend()))
    waiting.start()
    until(lambda: pool.stats().connect_errors >= 2)
    assert not got
    driver.connect_problem = None
    waiting.join(5)
    assert len(got) == 1


def test_a_timeout_while_the_server_refuses_has_the_servers_code_in_front() -> None:
    pool, driver = make_pool()
    driver.connect_problem = FakeError(1040, "Too many connections")
    with pytest.raises(PoolTimeout) as caught:
        pool.lend(timeout=0.1)
    assert caught.value.args[0] == 1040
    assert "Too many connections" in caught.value.args[1]
    assert caught.value.__cause__ is driver.connect_problem


def test_a_wrong_password_is_told_at_once() -> None:
    pool, driver = make_pool()
    driver.transient = False
    driver.connect_problem = FakeError(1045, "Access denied")
    with pytest.raises(FakeError) as caught:
        pool.lend(timeout=30)
    assert caught.value.args == (1045, "Access denied")
    driver.connect_problem = None
    assert pool.lend() is not None


def test_the_queue_can_be_capped() -> None:
    pool, _ = make_pool(max_size=1, max_waiting=1)
    held = pool.lend()
    waiting = threading.Thread(target=lambda: pool.give_back(pool.lend()))
    waiting.start()
    until(lambda: pool.waiting == 1)
    with pytest.raises(PoolOverloaded, match="1 wait already"):
        pool.lend()
    pool.give_back(held)
    waiting.join()
    assert pool.stats().overloads == 1


def test_an_idle_connection_that_died_is_replaced_without_a_word() -> None:
    pool, driver = make_pool()
    connections = [pool.lend() for _ in range(4)]
    for connection in connections:
        pool.give_back(connection)
        connection.raw.is_alive = False
    fresh = pool.lend()
    assert fresh not in connections
    assert all(c.raw.is_closed for c in connections)
    assert pool.stats().found_dead == 4
    assert len(driver.opened) == 5


def test_a_connection_used_a_moment_ago_is_not_looked_at_unless_asked() -> None:
    clock = Clock()
    pool, driver = make_pool(clock=clock)
    pool.give_back(pool.lend())
    driver.looks = 0
    pool.give_back(pool.lend(careful=False))
    assert driver.looks == 0
    pool.give_back(pool.lend())
    assert driver.looks == 1
    clock.now += 0.2
    pool.give_back(pool.lend(careful=False))
    assert driver.looks == 2


def test_after_long_idling_the_server_is_asked_and_silence_retires_all() -> None:
    clock = Clock()
    pool, driver = make_pool(clock=clock, min_size=4)
    connections = [pool.lend() for _ in range(4)]
    for connection in connections:
        connection.raw.answers = False
        pool.give_back(connection)
    clock.now += 31
    fresh = pool.lend()
    assert fresh not in connections
    assert driver.pings == 1, "each dead path in turn would cost its own timeout"


def test_a_connection_past_the_servers_limit_is_not_lent() -> None:
    clock, driver = Clock(), FakeDriver()
    driver.idle_seconds = 2.0
    pool, _ = make_pool(driver, clock)
    first = pool.lend()
    pool.give_back(first)
    clock.now += 2.0
    assert pool.lend() is not first
    assert first.raw.is_closed


def test_a_connection_past_its_lifetime_is_closed_when_given_back() -> None:
    clock = Clock()
    pool, _ = make_pool(clock=clock, max_lifetime=60)
    first = pool.lend()
    clock.now += 61
    pool.give_back(first)
    assert first.raw.is_closed
    assert pool.lend() is not first


def test_a_clock_that_leaps_ahead_costs_connections_but_no_borrower() -> None:
    clock = Clock()
    pool, _ = make_pool(clock=clock)
    old = pool.lend()
    pool.give_back(old)
    clock.now += 1e6
    assert pool.lend() is not old


def test_giving_back_twice_is_refused() -> None:
    pool, _ = make_pool()
    connection = pool.lend()
    pool.give_back(connection)
    with pytest.raises(ValueError, match="not on lease"):
        pool.give_back(connection)
    assert pool.stats().idle == 1


def test_giving_back_to_another_pool_is_refused() -> None:
    pool, _ = make_pool()
    other, _ = make_pool()
    with pytest.raises(ValueError, match="not on lease"):
        other.give_back(pool.lend())


def test_a_closed_pool_says_so_and_closes_what_comes_back() -> None:
    pool, _ = make_pool(max_size=1)
    held = pool.lend()
    errors: list[BaseException] = []

    def borrow() -> None:
        try:
            pool.lend()
        except PoolClosed as error:
            errors.append(error)

    waiting = threading.Thread(target=borrow)
    waiting.start()
    until(lambda: pool.waiting == 1)
    pool.close()
    waiting.join(2)
    assert len(errors) == 1
    pool.give_back(held)
    assert held.raw.is_closed
    with pytest.raises(PoolClosed):
        pool.lend()


def test_drain_retires_idle_ones_now_and_leased_ones_later() -> None:
    pool, _ = make_pool()
    idle, leased = pool.lend(), pool.lend()
    pool.give_back(idle)
    pool.drain()
    assert idle.raw.is_closed
    assert not leased.raw.is_closed
    pool.give_back(leased)
    assert leased.raw.is_closed
    assert not pool.lend().raw.is_closed


def test_resize_takes_effect_while_connections_are_out() -> None:
    pool, _ = make_pool(max_size=4)
    connections = [pool.lend() for _ in range(4)]
    pool.resize(max_size=2)
    for connection in connections:
        pool.give_back(connection)
    assert pool.stats().size == 2
    pool.resize(max_size=3)
    for _ in range(3):
        pool.lend(timeout=1)
    with pytest.raises(PoolTimeout):
        pool.lend(timeout=0.05)


def test_a_dirty_connection_is_reset_before_anybody_gets_it() -> None:
    pool, _ = make_pool(max_size=1)
    connection = pool.lend()
    pool.give_back(connection, dirty=True)
    assert pool.lend(timeout=2) is connection
    assert connection.raw.resets == 1


def test_a_connection_that_cannot_be_reset_is_closed_and_its_place_is_free() -> None:
    pool, driver = make_pool(max_size=1)
    driver.reset_problem = FakeError("no")
    connection = pool.lend()
    pool.give_back(connection, dirty=True)
    assert pool.lend(timeout=2) is not connection
    assert connection.raw.is_closed


def test_the_same_connection_can_be_had_again_only_if_nobody_used_it_since() -> None:
    pool, _ = make_pool()
    connection = pool.lend()
    uses = connection.uses
    pool.give_back(connection)
    assert pool.lend_again(connection, uses)
    pool.give_back(connection)
    assert not pool.lend_again(connection, uses)
    assert pool.stats().idle == 1
    assert not pool.lend_again(pool.lend(), connection.uses)


class _Sqlite:
    """A driver for another database: the pool knows neither MySQL nor Django."""

    operational_error = sqlite3.OperationalError

    def __init__(self, path: str) -> None:
        self._path = path

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)

    def is_alive(self, raw: sqlite3.Connection) -> bool:
        return True

    def ping(self, raw: sqlite3.Connection, timeout: float) -> bool:
        return bool(raw.execute("SELECT 1").fetchone())

    def reset(self, raw: sqlite3.Connection) -> None:
        raw.rollback()

    def close(self, raw: sqlite3.Connection) -> None:
        raw.close()

    def abandon(self, raw: sqlite3.Connection) -> None:
        pass

    def idle_limit(self, raw: sqlite3.Connection) -> float:
        return 3600.0

    def look(self, raw: sqlite3.Connection) -> None:
        return None

    def is_refusal(self, error: BaseException) -> bool:
        return False

    def is_transient(self, error: BaseException) -> bool:
        return False


def test_it_pools_connections_of_another_driver(tmp_path: object) -> None:
    pool = Pool(_Sqlite(f"{tmp_path}/shop.db"), PoolOptions(max_size=2), name="sqlite")
    setup = pool.lend()
    setup.raw.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)")
    setup.raw.execute("INSERT INTO account VALUES (1, 0)")
    pool.give_back(setup)

    def add() -> None:
        for _ in range(25):
            connection = pool.lend()
            connection.raw.execute("UPDATE account SET balance = balance + 1")
            pool.give_back(connection)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = pool.lend()
    assert reader.raw.execute("SELECT balance FROM account").fetchone() == (100,)
    reader.raw.execute("BEGIN")
    reader.raw.execute("UPDATE account SET balance = 0")
    pool.give_back(reader, dirty=True)
    again = pool.lend(timeout=2)
    assert again.raw.execute("SELECT balance FROM account").fetchone() == (100,)
    with pytest.raises(sqlite3.OperationalError, match="no connection within"):
        pool.lend(timeout=0.01)
        pool.lend(timeout=0.01)
    pool.give_back(again)
    pool.close()
