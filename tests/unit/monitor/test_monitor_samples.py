"""Samples, what lies between them, and who was refused meanwhile."""

from __future__ import annotations

import json
from typing import Any

import pytest

from unhang.latency import Counters
from unhang.latency.counters import N_BUCKETS
from unhang.monitor.intervals import intervals
from unhang.monitor.refused import MARIADB_COUNTER, MYSQL_COUNTER, Refused, refused_between
from unhang.monitor.sample import Sample
from unit.monitor.monitor_data import at, sample, server


def app(requests: int) -> Counters:
    return Counters((requests, *[0] * (N_BUCKETS - 1)))


@pytest.mark.parametrize(
    "one",
    [
        sample(),
        sample(0.25, idle_in_transaction=None),
        Sample(at(1), server(), app(7)),
        Sample(at(2), app=app(3), gap="1040: Too many connections"),
        Sample(at(3)),
    ],
)
def test_a_sample_survives_json(one: Sample) -> None:
    data = json.loads(json.dumps(one.to_json()))
    assert data["schema"] == 1
    assert Sample.from_json(data) == one


def test_idle_sleepers_are_those_outside_a_transaction() -> None:
    assert server(sleepers=10, idle_in_transaction=3).idle == 7
    assert server(active=2, sleepers=10, idle_in_transaction=3).sessions == 12


def test_while_transactions_are_unknown_all_sleepers_count_as_idle() -> None:
    assert server(sleepers=10, idle_in_transaction=None).idle == 10


# -- refused

FULL: dict[str, Any] = {
    "engine": "mariadb",
    "max_connections": 10,
    "max_used_connections": 11,
    "access_denied_errors": 0,
    "aborted_connects_preauth": 0,
}


def refused(before: dict[str, Any], after: dict[str, Any], **both: Any) -> Refused | None:
    return refused_between(sample(0, **both, **before), sample(5, **both, **after))


def test_mysql_counts_refused_clients_exactly() -> None:
    one = {"connection_errors_max_connections": 4}
    two = {"connection_errors_max_connections": 11, "aborted_connects": 50}
    assert refused(one, two) == Refused(7, MYSQL_COUNTER, exact=True)


@pytest.mark.parametrize(
    ("added", "count"),
    [
        ({"aborted_connects": 7}, 7),
        ({"aborted_connects": 7, "connection_errors_max_connections": 7}, 7),
        ({"aborted_connects": 5, "access_denied_errors": 5}, 0),
        ({"aborted_connects": 5, "aborted_connects_preauth": 5}, 0),
        ({"aborted_connects": 12, "access_denied_errors": 5}, 7),
        ({"access_denied_errors": 3}, 0),
        ({"access_denied_errors": 3, "connection_errors_max_connections": 2}, 2),
    ],
)
def test_mariadb_refusals_are_what_no_other_counter_explains(
    added: dict[str, Any], count: int
) -> None:
    both = {k: v for k, v in FULL.items() if k not in added}
    assert refused({}, added, **both) == Refused(count, MARIADB_COUNTER, exact=False)


def test_on_mariadb_nobody_is_refused_while_the_limit_was_never_reached() -> None:
    both = FULL | {"max_used_connections": 10}
    assert refused({}, {"aborted_connects": 5}, **both) == Refused(0, MARIADB_COUNTER, exact=True)


def test_a_limit_that_was_raised_meanwhile_hides_no_refusal() -> None:
    both = {k: v for k, v in FULL.items() if k != "max_connections"}
    found = refused({"max_connections": 10}, {"max_connections": 50, "aborted_connects": 5}, **both)
    assert found is not None
    assert found.count == 5


@pytest.mark.parametrize("engine", ["mysql", "mariadb"])
def test_after_a_restart_counters_count_from_zero(engine: str) -> None:
    counters = {"connection_errors_max_connections": 3, "aborted_connects": 3}
    both = {**FULL, "engine": engine}
    found = refused(dict.fromkeys(counters, 90), {**counters, "uptime": 4}, **both)
    assert found is not None
    assert (found.count, found.exact) == (3, False)


def test_beside_a_gap_it_is_unknown_who_was_refused() -> None:
    gap = Sample(at(5), gap="2003: refused")
    assert refused_between(sample(), gap) is None
    assert refused_between(gap, sample()) is None


# -- intervals


def test_an_interval_holds_what_was_added() -> None:
    samples = [
        Sample(at(0), server(), app(10)),
        Sample(at(5), server(connection_errors_max_connections=2), app(14)),
    ]
    (one,) = intervals(samples)
    assert (one.seconds, one.refused) == (5, 2)
    assert one.app is not None
    assert one.app.requests == 4


def test_the_application_is_followed_through_a_gap_of_the_server() -> None:
    samples = [
        Sample(at(0), server(), app(1)),
        Sample(at(5), app=app(3), gap="2003: refused"),
        Sample(at(10), server(), app(6)),
    ]
    found = intervals(samples)
    assert [i.refused for i in found] == [None, None]
    assert [i.app.requests for i in found if i.app] == [2, 3]


def test_counts_that_went_back_make_no_difference() -> None:
    (one,) = intervals([Sample(at(0), server(), app(9)), Sample(at(5), server(), app(2))])
    assert one.app is None


def test_a_clock_that_was_set_back_makes_no_interval() -> None:
    assert [i.seconds for i in intervals([sample(10), sample(5), sample(5), sample(9)])] == [4]
