"""A comparison finds what differs, and does not find what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from unhang.monitor import bootstrap, metrics
from unhang.monitor.compare import Comparison, compare
from unhang.monitor.metrics import METRICS
from unhang.monitor.sample import Sample
from unit.monitor.monitor_data import at, period, sample

NO_DIFFERENCE = "no difference that the data can show"


def verdicts(comparison: Comparison) -> dict[str, str]:
    return {row.metric: row.verdict for row in comparison.rows}


@pytest.mark.slow
def test_identical_periods_are_called_different_in_at_most_5_percent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Fewer draws for speed; the error is then known less well, which makes it no easier.
    monkeypatch.setattr(bootstrap, "DRAWS", 80)
    alarms = 0
    for seed in range(200):
        found = verdicts(compare(period(2 * seed), period(2 * seed + 1)))
        alarms += bool({"better", "worse"} & set(found.values()))
    assert alarms <= 10


def test_a_period_does_not_differ_from_itself() -> None:
    samples = period(1)
    found = verdicts(compare(samples, samples))
    judged = {name: found[name] for name, metric in METRICS.items() if metric.judged}
    assert set(judged.values()) <= {NO_DIFFERENCE, "too few samples"}


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        ({"idle": 400}, "idle_sleepers"),
        ({"idle": 400}, "sessions"),
        ({"median": 0.1}, "response_p50"),
        ({"median": 0.1}, "response_p95"),
        ({"median": 0.1}, "response_p99"),
    ],
)
def test_a_doubling_is_worse_and_a_halving_better(change: dict[str, Any], metric: str) -> None:
    normal, doubled = period(1, n=120), period(2, n=120, **change)
    assert compare(normal, doubled).row(metric).verdict == "worse"
    assert compare(doubled, normal).row(metric).verdict == "better"


@pytest.mark.parametrize(
    ("change", "metric"),
    [
        ({"errors": 0.02}, "server_errors"),
        ({"gone_away": 0.02}, "gone_away"),
        ({"refused": 0.4}, "refused"),
    ],
)
def test_doubled_event_rates_are_worse(change: dict[str, Any], metric: str) -> None:
    ((name, rate),) = change.items()
    normal, doubled = period(1, n=300, **change), period(2, n=300, **{name: 2 * rate})
    assert compare(normal, doubled).row(metric).verdict == "worse"
    assert compare(doubled, normal).row(metric).verdict == "better"


def test_the_interval_of_a_real_change_holds_its_true_size() -> None:
    row = compare(period(1, n=300), period(2, n=300, median=0.1)).row("response_p50")
    assert row.interval is not None
    assert row.interval[0] < 0.05 < row.interval[1]
    assert row.difference == pytest.approx(0.05, abs=0.005)


def test_errors_that_end_altogether_are_better() -> None:
    before = period(1, n=300, gone_away=0.01, refused=0.3)
    after = period(2, n=300, gone_away=0.0, refused=0.0)
    comparison = compare(before, after)
    assert comparison.row("gone_away").verdict == "better"
    assert comparison.row("refused").verdict == "better"


def test_no_errors_on_either_side_are_no_difference_but_no_certainty() -> None:
    row = compare(period(1, refused=0), period(2, refused=0)).row("refused")
    assert (row.before, row.after, row.difference) == (0, 0, 0)
    assert row.verdict == NO_DIFFERENCE
    assert row.interval is not None
    assert row.interval[0] < 0 < row.interval[1]


def test_a_single_event_is_not_made_a_verdict_of() -> None:
    after = period(2, n=100, refused=0)
    assert after[50].server is not None
    for i in range(50, 100):
        now = after[i].server
        assert now is not None
        after[i] = replace(after[i], server=replace(now, connection_errors_max_connections=1))
    assert compare(period(1, n=100, refused=0), after).row("refused").verdict == NO_DIFFERENCE


def test_a_difference_below_the_floor_is_none_however_certain() -> None:
    before = [sample(5 * i, sleepers=1001 + i % 2) for i in range(200)]
    after = [sample(5 * i, sleepers=1011 + i % 2) for i in range(200)]
    row = compare(before, after).row("idle_sleepers")
    assert row.interval is not None
    assert row.interval[0] > 0  # certain, but 1 %
    assert row.verdict == NO_DIFFERENCE


def test_requests_per_second_are_reported_and_never_judged() -> None:
    row = compare(period(1), period(2, rate=16)).row("requests")
    assert row.after == pytest.approx(16, rel=0.2)
    assert row.verdict == "not judged"


@pytest.mark.parametrize("few", [0, 1, metrics.MIN_SAMPLES - 1])
def test_too_few_samples_are_said_to_be_too_few(few: int) -> None:
    comparison = compare(period(1)[:few], period(2))
    assert set(verdicts(comparison).values()) == {"too few samples"}
    assert comparison.before.samples == few


def test_a_high_quantile_needs_more_requests_than_a_median() -> None:
    found = verdicts(compare(period(1, rate=1), period(2, rate=1)))
    assert found["response_p50"] == NO_DIFFERENCE
    assert found["response_p99"] == "too few samples"


def test_a_series_that_only_climbs_is_not_judged_better_or_worse() -> None:
    climbing = [sample(5 * i, sleepers=10 + i) for i in range(100)]
    flat = [sample(5 * i, sleepers=10 + i % 3) for i in range(100)]
    assert compare(climbing, flat).row("idle_sleepers").verdict == NO_DIFFERENCE


def test_a_server_that_was_full_all_the_time_is_found_to_be_better() -> None:
    full = [sample(5 * i, sleepers=38 + (i > 30)) for i in range(80)]
    relieved = [sample(5 * i, sleepers=10 + i % 5) for i in range(80)]
    assert compare(full, relieved).row("idle_sleepers").verdict == "better"


def test_what_is_unknown_is_not_judged_and_not_zero() -> None:
    blind = [sample(5 * i, idle_in_transaction=None) for i in range(60)]
    row = compare(blind, blind).row("idle_in_transaction")
    assert (row.before, row.verdict) == (None, "too few samples")
    assert compare(blind, blind).row("response_p50").before is None


def test_gaps_are_counted_and_left_out() -> None:
    samples = period(1, n=80)
    for i in range(10, 20):
        samples[i] = Sample(samples[i].at, app=samples[i].app, gap="2003: refused")
    comparison = compare(samples, period(2, n=80))
    assert comparison.before.gaps == 10
    assert comparison.before.samples == 80
    assert comparison.row("idle_sleepers").verdict == NO_DIFFERENCE


def test_a_period_names_its_ends() -> None:
    side = compare(period(1, n=60, interval=5), []).before
    assert (side.start, side.end) == (at(0), at(59 * 5))


@pytest.mark.parametrize("n", [0, 60])
def test_a_comparison_survives_json(n: int) -> None:
    comparison = compare(period(1, n=n), period(2, idle=400))
    text = json.dumps(comparison.to_json())
    assert Comparison.from_json(json.loads(text)) == comparison
    assert json.loads(text)["schema"] == 1


def test_every_metric_has_a_row_and_a_name_for_people() -> None:
    assert [row.metric for row in compare([], []).rows] == list(METRICS)
    assert all(metrics.label(name) for name in METRICS)
