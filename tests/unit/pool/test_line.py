"""Who in the pool's queue is served next, and who is let go."""

from __future__ import annotations

import threading

import pytest

from support.fake_driver import Clock, FakeDriver, FakeError, make_pool, until
from unhang.pool import Pool, PooledConnection, PoolOverloaded
from unhang.pool.connection import Waiter
from unhang.pool.line import STANDING_SECONDS, Line


@pytest.fixture
def line() -> Line:
    return Line(timeout=20.0)


def queue(line: Line, count: int, now: float) -> list[Waiter]:
    waiters = [Waiter() for _ in range(count)]
    for waiter in waiters:
        line.join(waiter, now)
    return waiters


def standing(line: Line, count: int = 50) -> tuple[list[Waiter], float]:
    """A line in which one is served a second, for longer than a second."""
    queue(line, count + 10, 0)
    for now in range(1, 11):
        line.next(now)
    assert line.is_standing(10.5)
    return list(line.waiters), 11.0


def test_first_come_first_served_when_everybody_can_be_served(line: Line) -> None:
    waiters = queue(line, 10, 0)
    assert [line.next(0.1 * n) for n in range(10)] == waiters
    assert len(line) == 0


def test_a_line_that_is_short_enough_never_stands(line: Line) -> None:
    queue(line, 15, 0)
    for second in range(1, 14):
        line.next(float(second))
        assert not line.is_standing(second + 0.5)


def test_the_newest_come_first_after_a_second_of_standing(line: Line) -> None:
    waiters, now = standing(line)
    assert line.next(now) is waiters[-1]
    newest = Waiter()
    line.join(newest, now)
    assert line.next(now) is newest


def test_a_burst_that_is_over_within_a_second_changes_no_order(line: Line) -> None:
    waiters = queue(line, 100, 0)
    assert line.next(0.5) is waiters[0]
    assert line.seconds(0.5) < 20
    assert not line.is_standing(0.6 + STANDING_SECONDS)


def test_one_moment_in_which_everybody_can_be_served_starts_the_second_anew(line: Line) -> None:
    queue(line, 30, 0)
    line.next(1.0)
    assert line.seconds(2.0) > 20
    assert not line.is_standing(2.0)
    for _ in range(20):
        line.leave(line.waiters[-1], 2.5)
    queue(line, 40, 2.9)
    assert not line.is_standing(2.9 + 0.9)
    assert line.is_standing(2.9 + 1.1)


def test_when_all_can_be_served_again_the_oldest_come_first_again(line: Line) -> None:
    waiters, now = standing(line)
    for _ in range(45):
        line.leave(line.waiters[-1], now)
    assert not line.is_standing(now)
    assert line.next(now) is waiters[0]


def test_nobody_asking_is_no_pause_in_serving(line: Line) -> None:
    queue(line, 1, 0)
    line.next(0.01)
    queue(line, 5, 1000.0)
    assert line.gap(1000.0) < 0.1
    assert not line.is_standing(1002.0)


def test_who_was_served_in_vain_is_next(line: Line) -> None:
    queue(line, 5, 0)
    again = Waiter()
    line.join(again, 0.1, in_front=True)
    assert line.next(0.2) is again


def test_who_was_served_in_vain_is_next_in_a_standing_line_too(line: Line) -> None:
    _, now = standing(line)
    again = Waiter()
    line.join(again, now, in_front=True)
    assert line.next(now) is again


def test_who_is_not_in_the_line_cannot_leave_it(line: Line) -> None:
    with pytest.raises(ValueError, match="not in deque"):
        line.leave(Waiter(), 0)


def test_a_borrower_is_let_go_after_half_the_timeout(line: Line) -> None:
    assert line.let_go_seconds() == 10.0


# ---- in the pool ----


class Borrower:
    """A thread that wants a connection."""

    def __init__(self, pool: Pool) -> None:
        self.got: PooledConnection | BaseException | None = None
        self._pool = pool
        self._thread = threading.Thread(target=self._borrow, daemon=True)
        before = pool.waiting
        self._thread.start()
        until(lambda: pool.waiting == before + 1 or self.got is not None)

    def _borrow(self) -> None:
        try:
            self.got = self._pool.lend()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.got = error

    def end(self) -> PooledConnection | BaseException:
        self._thread.join(5)
        assert self.got is not None, "it still waits"
        return self.got


@pytest.fixture
def napping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borrowers look at the clock, which the test moves, all the time."""

    def nap(waiter: Waiter, seconds: float) -> None:
        waiter._wake.acquire(timeout=min(0.005, max(0.0, seconds)))

    monkeypatch.setattr(Waiter, "wait", nap)


def crowd(count: int = 30) -> tuple[Pool, Clock, PooledConnection, list[Borrower]]:
    """One connection, and so many that wait for it."""
    clock = Clock()
    pool, _ = make_pool(clock=clock, max_size=1, timeout=20.0)
    held = pool.lend()
    borrowers = [Borrower(pool) for _ in range(count)]
    with pool.lock:
        pool._line._served = 1  # one more was served before: there is a pace
    return pool, clock, held, borrowers


def end_all(pool: Pool, borrowers: list[Borrower]) -> None:
    pool.close()
    for borrower in borrowers:
        borrower.end()


def test_who_waited_half_the_timeout_in_a_standing_line_is_let_go(napping: None) -> None:
    pool, clock, held, borrowers = crowd()
    for _ in range(10):
        clock.now += 1
        with pool.lock:
            pool._line.is_standing(clock.now)
    until(lambda: sum(b.got is not None for b in borrowers) == 28)
    errors = [b.got for b in borrowers if b.got is not None]
    assert all(isinstance(error, PoolOverloaded) for error in errors)
    assert pool.waiting == 2, "so many can be served in time, at one in ten seconds"
    text = str(errors[0])
    assert text.startswith("pool 'default': let go after 10.0 s, since ")
    assert "one is served every 10.00 s" in text
    assert "timeout of 20 s" in text
    assert "longest leases: 10.0 s by MainThread" in text
    assert isinstance(errors[0], FakeError)
    assert (pool.stats().overloads, pool.stats().timeouts) == (28, 0)
    pool.give_back(held)
    end_all(pool, borrowers)


def test_who_came_lately_stays_when_the_oldest_are_let_go(napping: None) -> None:
    pool, clock, held, old = crowd()
    for _ in range(9):
        clock.now += 1
        with pool.lock:
            pool._line.is_standing(clock.now)
    late = [Borrower(pool) for _ in range(3)]
    clock.now += 1
    until(lambda: any(b.got is not None for b in old))
    assert not any(b.got is not None for b in late)
    pool.give_back(held)
    until(lambda: any(isinstance(b.got, PooledConnection) for b in late))
    end_all(pool, [*old, *late])


def test_while_the_server_is_away_nobody_is_let_go(napping: None) -> None:
    clock, driver = Clock(), FakeDriver()
    driver.connect_problem = FakeError(2002, "down")
    pool, _ = make_pool(driver, clock, max_size=1, timeout=20.0)
    borrowers = [Borrower(pool) for _ in range(30)]
    until(lambda: pool.connect_error is not None)
    for _ in range(15):
        clock.now += 1
        with pool.lock:
            assert not pool._line.is_standing(clock.now), "nobody was served: who knows the pace?"
    threading.Event().wait(0.05)
    assert not any(b.got is not None for b in borrowers)
    end_all(pool, borrowers)
    assert pool.stats().overloads == 0


def test_an_interrupted_borrower_is_out_of_the_line_and_what_it_got_goes_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    pool, _ = make_pool(clock=clock, max_size=1, timeout=20.0)
    held, waits = pool.lend(), Waiter.wait
    me = threading.current_thread()

    def interrupted(waiter: Waiter, seconds: float) -> None:
        if threading.current_thread() is not me:
            return waits(waiter, seconds)
        pool.give_back(held)  # hands it to us, the first in the line
        assert waiter.connection is held
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pool.lend()
    assert pool.waiting == 0
    assert pool.stats().leased == 0
    assert pool.lend() is held


def test_an_interrupted_borrower_that_got_nothing_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool, _ = make_pool(max_size=1)
    held = pool.lend()

    def interrupted(_waiter: Waiter, _seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as there:
        there.setattr(Waiter, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.lend()
    assert pool.waiting == 0
    pool.give_back(held)
    assert pool.lend() is held
