"""Before and after: is the difference larger than chance, and large enough to matter?

Method: the mean, rate or quantile of each side with the error of a block bootstrap (`bootstrap`),
Welch's t for the difference, Holm's correction over all judged rows, so that a comparison of two
like periods is rarely wrong *as a whole* (`FALSE_ALARMS`). A row's 95 % interval is its own,
without that correction: it may miss 0 while the verdict still is "no difference that the data can
show". For a fair comparison take the same hours and a like load, and
leave out the time in which old sessions drain (old `CONN_MAX_AGE` + new `wait_timeout`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, Literal

from unhang.monitor import bootstrap
from unhang.monitor.bootstrap import Estimate
from unhang.monitor.intervals import intervals
from unhang.monitor.metrics import METRICS, Metric
from unhang.monitor.sample import Sample

Verdict = Literal[
    "better", "worse", "no difference that the data can show", "too few samples", "not judged"
]

RELATIVE_FLOOR: Final = 0.02
"""A difference below 2 % matters to nobody, however certain it is."""

LEVEL: Final = 0.95
"""Of the intervals shown."""

FALSE_ALARMS: Final = 0.02
"""How often a whole comparison of two like periods may name any difference. Real series hang
together in worse ways than made-up ones, so this is stricter than the usual 5 %: with 0.05, 5.5 %
of 200 made-up comparisons (600 samples a side, autocorrelation 0.9) were false alarms, now 3.5 %;
none of 200 with 60 samples and autocorrelation 0.5."""


@dataclass(frozen=True, slots=True)
class Row:
    """One metric on both sides.

    Attributes:
        metric: A key of `METRICS`.
        before, after, difference: In the metric's unit; `None` when unknown.
        interval: The 95 % confidence interval of the difference.
        verdict: The lower the better, for every metric that is judged.
    """

    metric: str
    before: float | None
    after: float | None
    difference: float | None
    interval: tuple[float, float] | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Period:
    """What one side rests on: its first and last sample, how many there are, and gaps in them."""

    start: datetime | None
    end: datetime | None
    samples: int
    gaps: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two periods, metric by metric."""

    before: Period
    after: Period
    rows: tuple[Row, ...]

    def row(self, metric: str) -> Row:
        """The row of one metric.

        Raises:
            KeyError: There is no such metric.
        """
        return {row.metric: row for row in self.rows}[metric]

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return {
            "schema": 1,
            "level": LEVEL,
            "before": _period_json(self.before),
            "after": _period_json(self.after),
            "rows": [asdict(r) | {"interval": r.interval and list(r.interval)} for r in self.rows],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Comparison:
        """The inverse of `to_json`."""
        rows = (
            Row(**{**row, "interval": tuple(row["interval"]) if row["interval"] else None})
            for row in data["rows"]
        )
        return cls(_period(data["before"]), _period(data["after"]), tuple(rows))


def compare(before: Sequence[Sample], after: Sequence[Sample]) -> Comparison:
    """Compare two periods.

    Args:
        before, after: Samples in the order of time, taken at an even interval. At least
            `metrics.MIN_SAMPLES` on each side; more when they hang together for long.

    Returns:
        One row for each of `METRICS`. The same samples always give the same answer.
    """
    sides = [(side, intervals(side)) for side in (before, after)]
    estimates = {
        name: [metric.estimate(*side) for side in sides] for name, metric in METRICS.items()
    }
    differences = {
        name: bootstrap.difference(old, new)
        for name, (old, new) in estimates.items()
        if old is not None and new is not None
    }
    certain = _certain({n: d for n, d in differences.items() if METRICS[n].judged})
    rows = (_row(n, estimates[n], differences.get(n), n in certain) for n in METRICS)
    return Comparison(_period_of(before), _period_of(after), tuple(rows))


def _certain(differences: Mapping[str, Estimate]) -> set[str]:
    """The metrics that differ by more than chance: Holm's step-down procedure (1979)."""
    found: set[str] = set()
    by_p = sorted((bootstrap.p_value(d), name) for name, d in differences.items())
    for rank, (p, name) in enumerate(by_p):
        if p > FALSE_ALARMS / (len(by_p) - rank):
            break
        found.add(name)
    return found


def _row(
    name: str, sides: Sequence[Estimate | None], difference: Estimate | None, certain: bool
) -> Row:
    before, after = (side.value if side else None for side in sides)
    if difference is None:
        return Row(name, before, after, None, None, "too few samples")
    ends = bootstrap.interval(difference, LEVEL)
    verdict = _verdict(METRICS[name], difference, certain, scale=before or 0.0)
    return Row(name, before, after, difference.value, ends, verdict)


def _verdict(metric: Metric, difference: Estimate, certain: bool, *, scale: float) -> Verdict:
    if not metric.judged:
        return "not judged"
    if not certain or abs(difference.value) < max(metric.floor, RELATIVE_FLOOR * scale):
        return "no difference that the data can show"
    return "better" if difference.value < 0 else "worse"


# -- periods


def _period_of(samples: Sequence[Sample]) -> Period:
    gaps = sum(sample.server is None for sample in samples)
    if not samples:
        return Period(None, None, 0, 0)
    return Period(samples[0].at, samples[-1].at, len(samples), gaps)


def _period_json(period: Period) -> dict[str, Any]:
    ends = {"start": period.start, "end": period.end}
    return asdict(period) | {name: at and at.isoformat() for name, at in ends.items()}


def _period(data: Mapping[str, Any]) -> Period:
    ends = {n: data[n] and datetime.fromisoformat(data[n]) for n in ("start", "end")}
    return Period(**{**data, **ends})
