"""Borrowers that die, give up or are interrupted: the pool keeps its size."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable

import pytest

from support.fake_driver import FakeDriver, make_pool, until
from unhang.pool import Pool, PooledConnection, PoolTimeout
from unhang.pool.connection import Waiter


def in_a_thread(work: Callable[[], object]) -> None:
    """Run it in a thread that ends at once, with the garbage collector off."""
    gc.disable()
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        gc.enable()


def is_full_sized(pool: Pool) -> bool:
    """Whether all `max_size` connections can be had at once."""
    connections = [pool.lend(timeout=2) for _ in range(pool.options.max_size)]
    for connection in connections:
        pool.give_back(connection)
    return pool.stats().size == pool.options.max_size


def test_a_thread_that_ends_with_a_lease_gives_it_back_at_once() -> None:
    pool, _ = make_pool(max_size=2)
    in_a_thread(lambda: (pool.lend(), pool.lend()))
    connection = pool.lend(timeout=2)
    assert connection is not None
    assert pool.stats().reclaimed >= 1
    pool.give_back(connection)
    assert is_full_sized(pool)


def test_a_hundred_threads_that_forget_their_lease_leave_nothing_behind() -> None:
    pool, driver = make_pool(max_size=3, timeout=10.0)
    for _ in range(100):
        in_a_thread(pool.lend)
    until(lambda: pool.stats().leased == 0)
    assert is_full_sized(pool)
    assert sum(not c.is_closed for c in driver.opened) <= 3


def test_a_lease_that_threads_share_survives_the_one_that_began_it() -> None:
    pool, _ = make_pool(max_size=2)
    kept: list[PooledConnection] = []

    class Shared:
        def may_outlive_its_thread(self) -> bool:
            return True

    shared = Shared()

    def borrow() -> None:
        kept.append(pool.lend())
        kept[0].holder = weakref.ref(shared)

    in_a_thread(borrow)
    pool.give_back(pool.lend())
    pool.keep()
    assert pool.stats().reclaimed == 0
    pool.give_back(kept[0])
    assert pool.stats().idle == 2


def test_a_greenlet_that_is_killed_with_a_lease_gives_it_back() -> None:
    # In a process of its own: gevent patches the standard library for good.
    program = """
from gevent import monkey; monkey.patch_all()
import gevent
from support.fake_driver import make_pool
pool, _ = make_pool(max_size=1)
def borrow():
    pool.lend()
    gevent.sleep(60)
greenlet = gevent.spawn(borrow)
gevent.sleep(0.05)
greenlet.kill()
del greenlet
pool.give_back(pool.lend(timeout=3))

def wait():
    pool.lend(timeout=30)
held = pool.lend()
waiting = [gevent.spawn(wait) for _ in range(3)]
gevent.sleep(0.05)
try:
    with gevent.Timeout(0.1):
        pool.lend(timeout=30)
except gevent.Timeout:
    pass
gevent.killall(waiting)
del waiting
pool.give_back(held)
pool.give_back(pool.lend(timeout=3))
assert pool.waiting == 0, pool
print(pool.stats().leased, pool.stats().size)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": "tests"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "1"]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_while_waiting_loses_no_slot(
    monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException]
) -> None:
    pool, _ = make_pool(max_size=1)
    held = pool.lend()

    def wait(self: Waiter, seconds: float) -> None:
        raise interrupt

    with monkeypatch.context() as patch:
        patch.setattr(Waiter, "wait", wait)
        with pytest.raises(interrupt):
            pool.lend()
    assert pool.waiting == 0
    pool.give_back(held)
    assert is_full_sized(pool)


def test_an_interrupt_at_the_moment_of_the_hand_off_passes_the_connection_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, _ = make_pool(max_size=1)
    held = pool.lend()

    def served_and_interrupted(self: Waiter, seconds: float) -> None:
        pool.give_back(held)
        assert self.connection is held
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Waiter, "wait", served_and_interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.lend()
    assert pool.lend(timeout=1) is held


def test_an_interrupt_while_looking_at_a_connection_costs_only_that_connection() -> None:
    pool, driver = make_pool(max_size=2)
    connection = pool.lend()
    pool.give_back(connection)
    driver.look_problem = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        pool.lend()
    driver.look_problem = None
    assert connection.raw.is_closed
    assert is_full_sized(pool)


def test_an_interrupt_in_the_thread_that_connects_fails_the_borrowers_not_the_pool() -> None:
    pool, driver = make_pool(max_size=2)
    driver.transient = False
    driver.connect_problem = SystemExit()
    with pytest.raises(SystemExit):
        pool.lend(timeout=2)
    driver.connect_problem = None
    assert is_full_sized(pool)
    assert pool.stats().connecting == 0


def test_an_interrupt_while_resetting_closes_the_connection_and_frees_its_place() -> None:
    pool, driver = make_pool(max_size=1)
    driver.reset_problem = SystemExit()
    pool.give_back(pool.lend(), dirty=True)
    assert is_full_sized(pool)


def test_without_threads_the_borrower_connects_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool, driver = make_pool()
    from unhang.pool import process

    monkeypatch.setattr(process, "_process", process._Process())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    connection = pool.lend(timeout=1)
    assert len(driver.opened) == 1
    pool.give_back(connection, dirty=True)
    assert connection.raw.resets == 1
    driver.connect_problem = FakeDriver.operational_error(1040, "full")
    with pytest.raises(PoolTimeout):
        pool.lend()
        pool.lend(timeout=0.1)


def test_a_pool_saturated_and_relieved_serves_everybody() -> None:
    pool, _ = make_pool(max_size=2, timeout=10.0)
    held = [pool.lend(), pool.lend()]
    served: list[int] = []

    def borrow(number: int) -> None:
        pool.give_back(pool.lend())
        served.append(number)

    threads = [threading.Thread(target=borrow, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    until(lambda: pool.waiting == 40)
    for connection in held:
        pool.give_back(connection)
    for thread in threads:
        thread.join(10)
    assert sorted(served) == list(range(40))
    assert pool.stats().leased == 0


def test_a_lease_that_an_interrupt_lost_is_reclaimed_at_the_end_of_the_request() -> None:
    pool, _ = make_pool(max_size=1)
    pool.lend()  # and the variable it should have gone into was never assigned
    pool.reclaim_leaks()
    assert is_full_sized(pool)
    assert pool.stats().reclaimed == 1


def test_a_stale_report_of_a_dead_thread_does_not_end_the_lease_of_a_living_one() -> None:
    pool, _ = make_pool(max_size=1)
    connection = pool.lend()
    pool._abandoned.append((connection, connection.uses))
    pool.give_back(connection)
    again = pool.lend()
    pool.keep()
    assert again is connection
    assert not connection.raw.is_closed


def test_an_interrupt_before_the_queue_leaves_no_ghost_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, _ = make_pool(max_size=1)
    held = pool.lend()
    from unhang.pool.opening import Opening

    def interrupt(self: Opening) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Opening, "grow", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.lend()
    assert pool.waiting == 0
    pool.give_back(held)
    assert pool.lend(timeout=1) is held
