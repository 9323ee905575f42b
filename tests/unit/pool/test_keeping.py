"""What the keeper does: idle connections go, a few stay warm; and what a fork leaves behind."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref

import pytest

from support.fake_driver import Clock, FakeDriver, make_pool, until
from unhang.pool import Pool, process

# Python 3.12 and later warn of any fork in a process with threads; these are about just that.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def filled(pool: Pool, count: int) -> None:
    """Have so many connections idle."""
    for connection in [pool.lend() for _ in range(count)]:
        pool.give_back(connection)


def test_idle_connections_beyond_the_minimum_go_after_max_idle() -> None:
    clock = Clock()
    pool, driver = make_pool(clock=clock, max_idle=5.0, min_size=1)
    filled(pool, 4)
    clock.now += 4.9
    pool.keep()
    assert pool.size == 4
    clock.now += 0.2
    pool.keep()
    assert pool.size == 1
    assert sum(c.is_closed for c in driver.opened) == 3


def test_the_warm_minimum_goes_when_nobody_has_used_it_for_280_seconds() -> None:
    clock = Clock()
    pool, _ = make_pool(clock=clock)
    filled(pool, 1)
    clock.now += 279
    pool.keep()
    assert pool.size == 1
    clock.now += 2
    pool.keep()
    assert pool.size == 0


def test_the_servers_limit_comes_before_the_options() -> None:
    clock, driver = Clock(), FakeDriver()
    driver.idle_seconds = 2.0
    pool, _ = make_pool(driver, clock, min_size=1)
    filled(pool, 1)
    clock.now += 2.1
    pool.keep()
    assert driver.opened[0].is_closed


def test_a_pool_in_use_is_refilled_to_its_minimum() -> None:
    pool, driver = make_pool(min_size=3)
    filled(pool, 1)
    pool.keep()
    until(lambda: pool.stats().idle == 3)
    assert len(driver.opened) == 3


def test_it_does_not_go_on_connecting_to_a_server_that_refuses() -> None:
    pool, driver = make_pool(min_size=2)
    filled(pool, 2)
    driver.connect_problem = driver.operational_error(1045, "denied")
    pool.drain()
    pool.keep()
    until(lambda: pool.stats().connect_errors > 0 and not pool._opening._openers)
    before = pool.stats().connect_errors
    for _ in range(5):
        pool.keep()
    time.sleep(0.05)
    assert pool.stats().connect_errors == before


def test_idle_connections_that_the_server_ended_are_closed_without_being_asked_for() -> None:
    pool, driver = make_pool(min_size=3, max_size=3)
    filled(pool, 3)
    for connection in driver.opened:
        connection.is_alive = False
    pool.keep()
    assert all(c.is_closed for c in driver.opened[:3])


def test_the_keeper_runs_by_itself_and_stops_when_there_is_nothing_left() -> None:
    pool, driver = make_pool(max_idle=0.1, min_size=0)
    filled(pool, 2)
    until(lambda: pool.size == 0)
    assert all(c.is_closed for c in driver.opened)
    until(
        lambda: not any(t.name == "unhang-pool-keeper" for t in threading.enumerate()) or others()
    )
    filled(pool, 1)
    until(lambda: pool.size == 0)


def others() -> bool:
    """Whether pools of other tests still keep the keeper busy."""
    return any(pool.needs_keeper for pool in process.pools())


def test_closing_soon_lets_go_only_of_a_pool_that_is_not_used() -> None:
    clock = Clock()
    pool, _ = make_pool(clock=clock)
    filled(pool, 1)
    clock.now += 1
    pool.close_soon()
    clock.now += 10
    filled(pool, 1)  # the next task
    clock.now += 25
    pool.keep()
    assert pool.size == 1
    pool.close_soon()
    clock.now += 31
    pool.keep()
    assert pool.size == 0
    filled(pool, 1)
    assert pool.size == 1


# The collection may find what other tests dropped; PyMySQL complains about some of it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pool_nobody_refers_to_is_forgotten() -> None:
    pool, _ = make_pool()
    known = weakref.ref(pool)
    assert known() in process.pools()
    del pool
    gc.collect()
    assert known() is None
    assert None not in process.pools()


def test_in_a_forked_child_connections_are_abandoned_and_the_pool_starts_over() -> None:
    pool, driver = make_pool(max_size=2)
    idle, leased = pool.lend(), pool.lend()
    pool.give_back(idle)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"failed"
        try:
            pool.give_back(leased)  # what the child still believes to hold
            assert all(c.is_abandoned and not c.is_closed for c in driver.opened)
            mine = [pool.lend(timeout=5), pool.lend(timeout=5)]
            assert not {id(c) for c in mine} & {id(idle), id(leased)}
            assert len(driver.opened) == 4
            for connection in mine:
                pool.give_back(connection)
            assert pool.stats().idle == 2
            answer = b"fine"
        finally:
            os.write(write, answer)
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        assert told.read() == b"fine"
    os.waitpid(child, 0)
    assert not any(c.is_abandoned for c in driver.opened)
    pool.give_back(leased)
    assert pool.stats().idle == 2


def test_a_fork_while_another_thread_holds_the_lock_leaves_a_pool_that_works() -> None:
    pool, _ = make_pool()
    filled(pool, 1)
    with pool.lock:
        child = os.fork()
        if child == 0:
            ok = 1
            try:
                pool.give_back(pool.lend(timeout=5))
                ok = 0
            finally:
                os._exit(ok)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_fork_waits_at_the_gate_until_a_connect_is_over() -> None:
    """A C library may hold a lock of its own meanwhile, which the child would inherit for ever."""
    pool, driver = make_pool()
    driver.gate.clear()
    borrower = threading.Thread(target=lambda: pool.give_back(pool.lend()))
    borrower.start()
    until(lambda: pool.stats().connecting == 1)
    threading.Timer(0.2, driver.gate.set).start()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert driver.gate.is_set(), "the fork came in the middle of the connect"
    borrower.join(5)
