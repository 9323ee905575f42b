"""Operators turn the knobs while the application works."""

from __future__ import annotations

import random
import threading
import time

import pytest

from support.databases import Database, at_once, atomic, one, pool_of, run

SECONDS = 2.5


@pytest.mark.parametrize("lease", ["transaction", "request"])
def test_resize_and_drain_under_load_cost_no_answer(database: Database, lease: str) -> None:
    """No error, no wrong answer, no torn transaction; and the limits hold afterwards."""
    pool = pool_of(database.wrapper(lease=lease, max_size=8))
    until = time.monotonic() + SECONDS

    def work(number: int) -> int:
        wrapper, turn = database.wrapper(lease=lease, max_size=8), 0
        while time.monotonic() < until:
            turn += 1
            assert one(wrapper, "SELECT %s", [number * 10_000 + turn]) == number * 10_000 + turn
            with atomic(wrapper):
                run(wrapper, "UPDATE account SET balance = balance - 1 WHERE id = %s", [number])
                run(wrapper, "UPDATE account SET balance = balance + 1 WHERE id = 9")
            wrapper.close_if_unusable_or_obsolete()
        return turn

    def turn_knobs() -> int:
        dice, turns = random.Random(1), 0
        while time.monotonic() < until:
            turns += 1
            dice.choice(
                [
                    pool.drain,
                    pool.keep,
                    lambda: pool.resize(min_size=1, max_size=dice.randint(2, 8)),
                ]
            )()
            time.sleep(0.02)
        return turns

    turns = at_once([*(lambda n=n: work(n) for n in range(8)), turn_knobs])  # type: ignore[misc]
    assert all(turn > 3 for turn in turns)
    assert database.value("SELECT SUM(balance) FROM shop.account") == 1000
    pool.resize(max_size=3)
    assert pool.stats().leased == 0
    assert pool.stats().size <= 3
    assert pool.stats().timeouts == 0


def test_two_hundred_threads_share_ten_connections(database: Database) -> None:
    served, lock = 0, threading.Lock()

    def work(number: int) -> None:
        nonlocal served
        wrapper = database.wrapper(max_size=10)
        for turn in range(3):
            assert one(wrapper, "SELECT %s", [number * 10 + turn]) == number * 10 + turn
        with lock:
            served += 1

    at_once([lambda n=n: work(n) for n in range(200)])  # type: ignore[misc]
    assert served == 200
    stats = pool_of(database.wrapper(max_size=10)).stats()
    assert stats.connects <= 10
    assert stats.timeouts == 0
