"""The load is decided beforehand, and its times count from when a request was due."""

from __future__ import annotations

from unhang.lab.arrivals import Page, schedule
from unhang.lab.demo_json import responses_by_second
from unhang.lab.load import Answer, Waits

PAGES = [
    Page("fast", ("/a", "/b"), per_second=50.0),
    Page("order", ("/o",), per_second=2.0, body={"x": 1}),
    Page("clockwork", ("/c",), every=2.5),
]


def test_the_same_seed_gives_the_same_load() -> None:
    assert schedule(PAGES, 20, seed=1) == schedule(PAGES, 20, seed=1)
    assert schedule(PAGES, 20, seed=1) != schedule(PAGES, 20, seed=2)


def test_arrivals_come_in_order_within_the_time_and_at_their_rates() -> None:
    arrivals = schedule(PAGES, 100, seed=1)
    dues = [arrival.due for arrival in arrivals]
    assert dues == sorted(dues)
    assert dues[0] > 0
    assert dues[-1] < 100
    fast = [arrival for arrival in arrivals if arrival.name == "fast"]
    assert 4700 < len(fast) < 5300  # 5,000 give or take four standard deviations
    assert {arrival.path for arrival in fast} == {"/a", "/b"}
    clockwork = [arrival.due for arrival in arrivals if arrival.name == "clockwork"]
    assert clockwork == [2.5 * n for n in range(1, 40)]
    assert all(arrival.body == {"x": 1} for arrival in arrivals if arrival.name == "order")


def test_one_pages_rate_does_not_move_the_others() -> None:
    other = [PAGES[0], Page("order", ("/o",), per_second=9.0)]
    fast = [[a for a in schedule(p, 10, 1) if a.name == "fast"] for p in (PAGES, other)]
    assert fast[0] == fast[1]


def answer(due: float, seconds: float, status: int = 200) -> Answer:
    return Answer("fast", due, due + seconds, status)


def test_waits_are_those_of_the_answered_and_failures_are_counted() -> None:
    answers = [answer(0, n / 100) for n in range(1, 101)] + [answer(0, 0.001, 500)] * 100
    waits = Waits.of(answers)
    assert (waits.requests, waits.failed) == (200, 100)
    assert (waits.p50, waits.p95, waits.p99) == (0.5, 0.95, 0.99)


def test_nobody_answered_has_no_times() -> None:
    assert Waits.of([answer(0, 0.1, 0)]) == Waits(1, 1, None, None, None)


def test_seconds_without_requests_or_answers_are_gaps() -> None:
    rows = responses_by_second([answer(0.5, 0.02), answer(0.6, 0.04), answer(2.1, 9.0, 503)])
    assert rows == {
        "t": [0, 1, 2],
        "answered": [2, 0, 0],
        "failed": [0, 0, 1],
        "p50_ms": [20.0, None, None],
        "p95_ms": [40.0, None, None],
    }
