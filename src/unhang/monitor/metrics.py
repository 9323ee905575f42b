"""What is compared: each metric with its unit, its estimate, and what difference matters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from unhang.i18n import _
from unhang.monitor import bootstrap
from unhang.monitor.bootstrap import Estimate
from unhang.monitor.intervals import Interval
from unhang.monitor.sample import Sample, Server

MIN_SAMPLES: Final = 30
MIN_BEYOND: Final = 10
"""A quantile needs this many response times above it: 1,000 requests for p99."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How one metric is estimated and judged.

    Attributes:
        unit: `sessions`, `per minute`, `per 1,000 requests`, `seconds`, `per second`.
        floor: The smallest difference that matters, in that unit.
        judged: Whether less is better; otherwise it is reported only.
    """

    unit: str
    floor: float
    estimate: Callable[[Sequence[Sample], Sequence[Interval]], Estimate | None]
    judged: bool = True


def _mean(
    of: Callable[[Server], int | None], samples: Sequence[Sample], _between: Sequence[Interval]
) -> Estimate | None:
    seen = [of(sample.server) for sample in samples if sample.server is not None]
    known = [(float(value), 1.0) for value in seen if value is not None]
    return bootstrap.ratio(known) if len(known) >= MIN_SAMPLES else None


def _rate(
    of: Callable[[Interval], tuple[float, float] | None],
    _samples: Sequence[Sample],
    between: Sequence[Interval],
) -> Estimate | None:
    pairs = [pair for pair in map(of, between) if pair is not None]
    exposure = sum(below for _above, below in pairs)
    if len(pairs) < MIN_SAMPLES or exposure <= 0:
        return None
    return bootstrap.ratio(pairs, resolution=1 / exposure)


def _quantile(q: float, _samples: Sequence[Sample], between: Sequence[Interval]) -> Estimate | None:
    histograms = [interval.app.buckets for interval in between if interval.app]
    requests = sum(map(sum, histograms))
    if len(histograms) < MIN_SAMPLES or requests * (1 - q) < MIN_BEYOND:
        return None
    return bootstrap.quantile(histograms, q)


def _refused(interval: Interval) -> tuple[float, float] | None:
    return None if interval.refused is None else (interval.refused, interval.seconds / 60)


def _gone_away(interval: Interval) -> tuple[float, float] | None:
    app = interval.app
    return (app.database_errors["gone_away"], app.requests / 1000) if app else None


def _server_errors(interval: Interval) -> tuple[float, float] | None:
    app = interval.app
    return (app.server_errors, app.requests / 1000) if app else None


def _requests(interval: Interval) -> tuple[float, float] | None:
    return (interval.app.requests, interval.seconds) if interval.app else None


METRICS: Final[Mapping[str, Metric]] = {
    "idle_sleepers": Metric("sessions", 0.5, partial(_mean, lambda s: s.idle)),
    "idle_in_transaction": Metric("sessions", 0.1, partial(_mean, lambda s: s.idle_in_transaction)),
    "sessions": Metric("sessions", 0.5, partial(_mean, lambda s: s.sessions)),
    # More threads that run may be more work that gets done.
    "threads_running": Metric(
        "sessions", 0.1, partial(_mean, lambda s: s.threads_running), judged=False
    ),
    "refused": Metric("per minute", 0.01, partial(_rate, _refused)),
    "gone_away": Metric("per 1,000 requests", 0.01, partial(_rate, _gone_away)),
    "server_errors": Metric("per 1,000 requests", 0.01, partial(_rate, _server_errors)),
    "response_p50": Metric("seconds", 0.001, partial(_quantile, 0.50)),
    "response_p95": Metric("seconds", 0.001, partial(_quantile, 0.95)),
    "response_p99": Metric("seconds", 0.001, partial(_quantile, 0.99)),
    "requests": Metric("per second", 0.0, partial(_rate, _requests), judged=False),
}


def label(metric: str) -> str:
    """What a person calls this metric."""
    return {
        "idle_sleepers": _("idle sleepers"),
        "idle_in_transaction": _("sleepers in a transaction"),
        "sessions": _("sessions"),
        "threads_running": _("running threads"),
        "refused": _("refused connections per minute"),
        "gone_away": _("lost connections per 1,000 requests"),
        "server_errors": _("server errors per 1,000 requests"),
        "response_p50": _("median response time"),
        "response_p95": _("95th percentile of response time"),
        "response_p99": _("99th percentile of response time"),
        "requests": _("requests per second"),
    }[metric]
