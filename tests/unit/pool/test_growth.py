"""The pool does what its growth policy says: when to open, what to keep, when to ask the server."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.fake_driver import Clock, FakeDriver, RefusalError, until
from unhang.pool import Pool, PoolOptions, PoolTimeout
from unhang.pool.growth import Unlimited


class Told(Unlimited):
    """A policy that does as it is told, and remembers what it heard."""

    def __init__(self, max_size: int) -> None:
        super().__init__(max_size)
        self.heard: list[tuple[Any, ...]] = []
        self.allowed = max_size
        self.pauses: list[float] = []
        self.kept = True
        self.idle = 1.0
        self.life = math.inf
        self.look_in = math.inf

    def saw(self, sessions: int, limit: int, now: float) -> None:
        self.heard.append(("saw", sessions, limit))

    def refused(self, size: int, now: float) -> None:
        self.heard.append(("refused", size))

    def failed(self, now: float) -> None:
        self.heard.append(("failed",))

    def closed(self, size: int, lived: float, now: float) -> None:
        self.heard.append(("closed", size))

    def allowance(self, now: float, waited: float = 0.0) -> int:
        return self.allowed

    def pause(self, size: int, now: float, waited: float = 0.0) -> float:
        self.heard.append(("pause", size))
        return self.pauses.pop(0) if self.pauses else 0.0

    def keeps(self, size: int, now: float, waited: float = 0.0) -> bool:
        self.heard.append(("keeps", size))
        return self.kept

    def idle_seconds(self, max_idle: float, now: float) -> float:
        return max_idle * self.idle

    def life_seconds(self, now: float) -> float:
        return self.life

    def next_look(self, now: float) -> float:
        return self.look_in


def made(*, real: bool = False, **options: Any) -> tuple[Pool, FakeDriver, Told, Clock]:
    """A pool with such a policy; with `real`, its timeouts pass by themselves."""
    driver, clock = FakeDriver(), Clock()
    driver.room = (20, 100)
    policy: list[Told] = []

    def growth(max_size: int) -> Told:
        policy.append(Told(max_size))
        return policy[0]

    values = {"timeout": 5.0, **options}
    pool = Pool(
        driver, PoolOptions(**values), growth=growth, clock=time.monotonic if real else clock
    )
    return pool, driver, policy[0], clock


def at_once(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_every_connect_is_followed_by_a_look_and_the_question_whether_to_keep_it() -> None:
    pool, _driver, policy, _clock = made()
    pool.give_back(pool.lend())
    assert policy.heard == [("pause", 0), ("saw", 20, 100), ("keeps", 0)]


def test_a_connection_that_is_not_kept_is_closed_before_anybody_gets_it() -> None:
    pool, driver, policy, _clock = made(real=True)
    policy.kept = False
    policy.pauses = [0.0, *[math.inf] * 1000]
    with pytest.raises(PoolTimeout):
        pool.lend(timeout=0.2)
    assert [raw.is_closed for raw in driver.opened] == [True]
    assert (pool.stats().let_go, pool.stats().size, pool.stats().connecting) == (1, 0, 0)
    policy.kept, policy.pauses = True, []
    assert pool.lend().raw is driver.opened[1]


def test_a_pause_is_waited_for_within_the_deadline() -> None:
    pool, driver, policy, _clock = made()
    policy.pauses = [0.05, 0.05, 0.0]
    assert pool.lend().raw is driver.opened[0]
    assert [what for what, *_ in policy.heard].count("pause") == 3


def test_not_now_means_that_a_returned_connection_serves_who_waits() -> None:
    pool, driver, policy, _clock = made()
    first = pool.lend()
    policy.pauses = [math.inf] * 1000
    found: list[Any] = []
    waiter = at_once(lambda: found.append(pool.lend()))
    until(lambda: pool.waiting == 1)
    pool.give_back(first)
    waiter.join(5)
    assert found == [first]
    assert len(driver.opened) == 1


def test_a_pool_shrinks_to_its_allowance_when_leases_end() -> None:
    pool, _driver, policy, _clock = made()
    leases = [pool.lend() for _ in range(4)]
    policy.allowed = 2
    pool.keep()
    for lease in leases:
        pool.give_back(lease)
    assert pool.size == 2
    assert pool.stats().allowance == 2
    assert "nearly full" in str(pool.stats())


def test_long_leases_do_not_count_against_the_allowance() -> None:
    pool, _driver, policy, _clock = made()
    leases = [pool.lend() for _ in range(4)]
    policy.allowed = 2
    pool.keep()
    pool.long_leases = 3
    assert pool.allowance == 5
    policy.heard.clear()
    quick = pool.lend()
    assert ("pause", 1) in policy.heard, "four, less the three long ones"
    pool.give_back(quick)
    pool.give_back(leases[0])
    assert pool.size == 5


def test_unused_connections_go_as_early_as_the_policy_says() -> None:
    pool, _driver, policy, clock = made(min_size=1, max_idle=10.0)
    pool.give_back(pool.lend())
    clock.now += 100
    pool.keep()
    assert pool.size == 1, "warm for 280 s"
    policy.idle = 0.1
    pool.keep()
    assert pool.size == 0


def test_connections_live_as_long_as_the_policy_says() -> None:
    pool, driver, policy, clock = made()
    held = pool.lend()
    policy.life = 2.0
    clock.now += 1
    pool.keep()
    pool.give_back(held)
    assert pool.size == 1
    clock.now += 1.5
    assert pool.lend().raw is driver.opened[1]
    assert driver.opened[0].is_closed


def test_a_look_is_taken_over_an_idle_connection_which_ages_on() -> None:
    pool, driver, policy, clock = made(min_size=0, max_idle=10.0)
    pool.give_back(pool.lend())
    policy.heard.clear()
    policy.look_in = 0.0
    driver.room = (90, 100)
    clock.now += 6
    pool.keep()
    until(lambda: ("saw", 90, 100) in policy.heard and pool.stats().idle == 1)
    policy.look_in = math.inf
    clock.now += 6
    pool.keep()
    assert pool.size == 0, "looked at, but not used for 12 s"


def test_without_an_idle_connection_the_next_one_given_back_is_asked() -> None:
    pool, driver, policy, _clock = made()
    held = pool.lend()
    policy.heard.clear()
    pool._last_used = 1.0
    policy.look_in = 0.0
    pool.keep()
    assert policy.heard == []
    driver.room = (90, 100)
    pool.give_back(held)
    until(lambda: ("saw", 90, 100) in policy.heard and pool.stats().idle == 1)


def test_a_pool_at_rest_leaves_the_server_alone() -> None:
    pool, _driver, policy, clock = made()
    pool.give_back(pool.lend())
    policy.look_in = 0.0
    clock.now += 1
    pool.keep()
    until(lambda: policy.heard.count(("saw", 20, 100)) == 2 and pool.stats().idle == 1)
    clock.now += 50
    pool.keep()
    assert policy.heard.count(("saw", 20, 100)) == 2


def test_who_cannot_be_asked_is_not_asked_again() -> None:
    pool, driver, policy, clock = made()
    pool.give_back(pool.lend())
    driver.room = None
    policy.look_in = 0.0
    for _ in range(3):
        clock.now += 1
        pool.keep()
        until(lambda: pool.stats().idle == 1)
        pool.give_back(pool.lend())
    assert policy.heard.count(("saw", 20, 100)) == 1


def test_a_refusal_and_a_server_that_is_away_are_told_apart() -> None:
    pool, driver, policy, _clock = made(real=True)
    driver.connect_problem = RefusalError(1040, "Too many connections")
    with pytest.raises(PoolTimeout):
        pool.lend(timeout=0.1)
    assert ("refused", 0) in policy.heard
    assert ("failed",) not in policy.heard
    driver.connect_problem = driver.operational_error(2003, "away")
    with pytest.raises(PoolTimeout):
        pool.lend(timeout=0.3)
    assert ("failed",) in policy.heard
    driver.connect_problem = None
    pool.give_back(pool.lend())


def test_every_close_is_told() -> None:
    pool, _driver, policy, _clock = made()
    leases = [pool.lend(), pool.lend()]
    policy.heard.clear()
    pool.discard(leases[0])
    pool.discard(leases[1])
    assert [heard for heard in policy.heard if heard[0] == "closed"] == [
        ("closed", 1),
        ("closed", 0),
    ]


def test_the_warm_minimum_is_not_opened_again_while_the_server_fills() -> None:
    pool, driver, policy, clock = made(min_size=1)
    pool.give_back(pool.lend())
    policy.idle = 0.001
    clock.now += 1
    for _ in range(5):
        pool.keep()
    assert pool.size == 0
    assert len(driver.opened) == 1


def test_the_policy_hears_how_long_the_first_in_the_line_has_waited() -> None:
    pool, _driver, policy, clock = made()
    policy.pauses = [math.inf] * 1000
    waited: list[float] = []
    monitor = policy.pause

    def pause(size: int, now: float, seconds: float = 0.0) -> float:
        waited.append(seconds)
        return monitor(size, now, seconds)

    policy.pause = pause  # type: ignore[method-assign]
    borrower = at_once(lambda: pool.give_back(pool.lend()))
    until(lambda: pool.waiting == 1)
    clock.now += 2
    pool.keep()
    until(lambda: 2.0 in waited)
    policy.pauses = []
    pool.keep()
    borrower.join(5)
    assert not borrower.is_alive()
