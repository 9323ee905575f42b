"""Estimates carry an error that fits how much their neighbours resemble each other."""

from __future__ import annotations

import math
import random

import pytest

from unhang.latency.counters import N_BUCKETS, bucket_of
from unhang.monitor import bootstrap
from unhang.monitor.bootstrap import Estimate
from unit.monitor.monitor_data import memory_walk


def rng(seed: int) -> random.Random:
    return random.Random(seed)


def mean_of(series: list[float]) -> Estimate | None:
    return bootstrap.ratio([(x, 1.0) for x in series])


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_the_memory_of_a_series_is_found(phi: float) -> None:
    truth = (1 + phi) / (1 - phi)
    assert bootstrap.memory(memory_walk(rng(1), 20_000, phi)) == pytest.approx(truth, rel=0.15)


def test_a_constant_series_has_no_memory_and_no_error() -> None:
    assert bootstrap.memory([0.1] * 100) == 1.0
    estimate = mean_of([0.1] * 100)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.1)
    assert estimate.error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("phi", [0.0, 0.8, 0.9])
def test_the_error_of_a_mean_is_that_of_theory_and_rather_above(phi: float) -> None:
    n = 600
    theory = math.sqrt((1 + phi) / (1 - phi) / n)
    estimates = [mean_of(memory_walk(rng(seed), n, phi)) for seed in range(30)]
    errors = [e.error for e in estimates if e is not None and e.freedom > 2]
    assert len(errors) >= 28
    assert theory <= sum(errors) / len(errors) <= 1.2 * theory


def test_a_rate_is_weighted_by_its_exposure() -> None:
    pairs = [(1.0, 1.0), (0.0, 9.0)] * 50
    estimate = bootstrap.ratio(pairs)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.1)


def test_a_rate_without_events_keeps_the_error_of_one_event() -> None:
    estimate = bootstrap.ratio([(0.0, 2.0)] * 100, resolution=1 / 200)
    assert estimate is not None
    assert (estimate.value, estimate.error) == (0.0, 1 / 200)


def test_a_rate_over_no_exposure_is_unknown() -> None:
    assert bootstrap.ratio([(0.0, 0.0)] * 100) is None


def test_a_series_too_short_for_its_memory_is_known_no_better_than_its_range() -> None:
    climb = mean_of([float(i) for i in range(100)])
    assert climb is not None
    low, high = bootstrap.interval(climb)
    assert low < -100
    assert high > 200


def test_a_full_server_is_a_known_quantity_though_it_hardly_changes() -> None:
    full = mean_of([38.0] * 30 + [39.0] * 50)
    assert full is not None
    low, high = bootstrap.interval(full)
    assert 36 < low < 38.6 < high < 41


def test_a_handful_of_samples_gives_no_estimate() -> None:
    assert mean_of([1.0, 2.0]) is None


def test_the_same_data_give_the_same_answer() -> None:
    series = memory_walk(rng(3), 200, 0.5)
    assert mean_of(series) == mean_of(series)


def histograms(seed: int, n: int = 200, each: int = 50) -> list[list[int]]:
    source = rng(seed)
    made = []
    for _ in range(n):
        buckets = [0] * N_BUCKETS
        for _ in range(each):
            buckets[bucket_of(source.expovariate(10))] += 1
        made.append(buckets)
    return made


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_a_quantile_and_its_error_are_those_of_theory(q: float) -> None:
    n, each = 200, 50
    density = 10 * (1 - q)  # of exponential times with mean 0.1 s, at their quantile
    theory = math.sqrt(q * (1 - q) / (n * each)) / density
    estimates = [bootstrap.quantile(histograms(seed, n, each), q) for seed in range(10)]
    errors = [e.error for e in estimates if e is not None]
    values = [e.value for e in estimates if e is not None]
    assert sum(values) / 10 == pytest.approx(-math.log(1 - q) / 10, rel=1 / 32)
    assert sum(errors) / 10 == pytest.approx(theory, rel=0.35)


def test_a_quantile_of_no_times_is_unknown() -> None:
    assert bootstrap.quantile([[0] * N_BUCKETS] * 50, 0.5) is None


def test_the_error_of_a_difference_joins_both() -> None:
    difference = bootstrap.difference(Estimate(10, 3, 9), Estimate(4, 4, 9))
    assert difference.value == -6
    assert difference.error == 5
    assert difference.freedom == pytest.approx(625 / (81 / 9 + 256 / 9))


def test_two_certain_values_differ_with_certainty_or_not_at_all() -> None:
    same = bootstrap.difference(Estimate(1, 0, 9), Estimate(1, 0, 9))
    other = bootstrap.difference(Estimate(1, 0, 9), Estimate(2, 0, 9))
    assert (bootstrap.p_value(same), bootstrap.p_value(other)) == (1.0, 0.0)
    assert bootstrap.interval(other) == (1, 1)


@pytest.mark.parametrize(
    ("freedom", "t"), [(5, 2.5706), (10, 2.2281), (30, 2.0423), (math.inf, 1.96)]
)
def test_intervals_and_p_values_follow_students_t(freedom: float, t: float) -> None:
    low, high = bootstrap.interval(Estimate(1, 1, freedom))
    assert (low, high) == pytest.approx((1 - t, 1 + t), rel=0.005)
    assert bootstrap.p_value(Estimate(t, 1, freedom)) == pytest.approx(0.05, rel=0.01)
