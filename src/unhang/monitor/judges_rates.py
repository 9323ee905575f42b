"""Judges of rates: requests that fail, clients that are refused, response times.

Requests slower than a worse quantile would be are a rate too, so response times need no assumption
about their shape.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from operator import add
from typing import Final, NamedTuple

from unhang.i18n import _
from unhang.latency.counters import N_BUCKETS, Counters, bucket_of, quantile_of
from unhang.monitor.intervals import Interval
from unhang.monitor.judges import (
    LONGEST_STRETCH,
    SHARES,
    STRETCH,
    Baseline,
    Judge,
    Limits,
    Moment,
    Worse,
    amount,
    thirds_of,
)
from unhang.monitor.sample import Sample
from unhang.monitor.sequential import BLOCK_SECONDS, Prior, RateTest, Rise

REQUESTS_PER_THIRD: Final = 60
"""So that 5 % of them are three."""

REQUESTS_BEYOND: Final = 10
"""A quantile of the baseline needs this many requests above it: 200 for the 95th percentile."""

FEWEST_OCCASIONS: Final = 4
"""Errors on so many occasions (`sequential.OCCASION_SECONDS`), so not before 15 s."""

REQUESTS_TO_PROVE: Final = 1200
"""Requests in which 1 % of new errors is proved, with none in a baseline of 120 s."""


# -- requests that fail, clients that are refused


class _Event(NamedTuple):
    """How one kind of event is counted (events and exposure), and shown per how much exposure."""

    counted: Callable[[Interval], tuple[int, float] | None]
    unit: str
    scale: float
    prior: Prior


def _per_request(
    events_of: Callable[[Counters], int],
) -> Callable[[Interval], tuple[int, float] | None]:
    return lambda i: (events_of(i.app), i.app.requests) if i.app else None


def _refused(interval: Interval) -> tuple[int, float] | None:
    return None if interval.refused is None else (interval.refused, interval.seconds / 60)


# Applications in production fail seldom: a mean of 0.015 % before anything is seen. It is a weak
# belief, as 2,000 requests are soon seen.
_FEW_ERRORS: Final = Prior(0.3, 2000)
_PER_1000: Final = "per 1,000 requests"
EVENTS: Final = {
    "server_errors": _Event(_per_request(lambda a: a.server_errors), _PER_1000, 1000, _FEW_ERRORS),
    "gone_away": _Event(
        _per_request(lambda a: a.database_errors["gone_away"]), _PER_1000, 1000, _FEW_ERRORS
    ),
    "database_errors": _Event(
        _per_request(lambda a: sum(a.database_errors.values())), _PER_1000, 1000, _FEW_ERRORS
    ),
    "refused": _Event(_refused, "per minute", 1, Prior(0.3, 5)),
}


class Failures(Judge):
    """Errors per request, or refused clients per minute."""

    def __init__(self, metric: str, before: Baseline, limits: Limits) -> None:
        self.metric, self._event, self._limits = metric, EVENTS[metric], limits
        self.unit = self._event.unit
        self._test = RateTest(limits.false_alarms * SHARES[metric], self._event.prior)
        for interval in before.between:
            self._count(interval, self._test.learn)
        self._lacks(before.server_lacks() if metric == "refused" else before.app_lacks())
        rate = before.requests_per_second
        if self.able and metric == "server_errors" and rate is not None:
            self.blind = _slow_to_prove(rate)

    def add(self, _sample: Sample, interval: Interval | None, /) -> Worse | None:
        if interval is None:
            return None
        self._count(interval, self._test.add)
        if not self.able:
            return None
        rise = self._test.rise()
        if rise is None or not self._matters(rise):
            return None
        scale = self._event.scale
        return Worse(self.metric, rise.before * scale, rise.now * scale, self.unit, rise.seconds)

    def values(self) -> tuple[float | None, float | None]:
        sides = self._test.of_baseline(), self._test.of_watch()
        before, during = (None if side is None else side * self._event.scale for side in sides)
        return before, during

    def _count(self, interval: Interval, into: Callable[[int, float, float], None]) -> None:
        counted = self._event.counted(interval)
        if counted is not None:
            into(*counted, interval.seconds)

    def _matters(self, rise: Rise) -> bool:
        if rise.now < self._limits.rise * rise.before:
            return False
        if self.metric == "refused":
            return rise.occasions >= self._limits.refused_events
        more = rise.now - rise.before
        few = rise.events < self._limits.error_events or rise.occasions < FEWEST_OCCASIONS
        return not few and more >= self._limits.error_share


def _slow_to_prove(requests_per_second: float) -> str:
    seconds = REQUESTS_TO_PROVE / requests_per_second if requests_per_second else float("inf")
    if seconds <= 60:
        return ""
    if requests_per_second == 0:
        return _("no requests in the baseline")
    return _(
        "only {rate} requests per second: 1 % of new errors takes about {seconds} s to prove"
    ).format(rate=amount(requests_per_second, ""), seconds=round(seconds))


# -- response times

QUANTILES: Final = {"response_p95": 0.95, "response_p50": 0.50}
# How much the share of slow requests wanders when response times as a whole do by 10 %: more in the
# tail, where the density falls off, than at the median.
_WANDER: Final = {"response_p95": 0.3, "response_p50": 0.15}


class Slowness(Judge):
    """A quantile of the response times, by the share of requests above a worse quantile."""

    unit = "seconds"

    def __init__(self, metric: str, before: Baseline, limits: Limits) -> None:
        self.metric, self._q = metric, QUANTILES[metric]
        histograms = [i.app.buckets for i in before.between if i.app]
        merged = [sum(column) for column in zip(*histograms, strict=True)] or [0] * N_BUCKETS
        self._before = quantile_of(merged, self._q)
        self._during = [0] * N_BUCKETS
        self._recent: deque[Moment] = deque(maxlen=LONGEST_STRETCH)
        self._test = RateTest(limits.false_alarms * SHARES[metric], Prior(0.5, 50), _WANDER[metric])
        self._lacks(before.app_lacks() or self._too_few(sum(merged)))
        worse = max(
            (self._before or 0) * limits.response_ratio,
            (self._before or 0) + limits.response_seconds,
        )
        self._cut = bucket_of(worse) + 1
        for interval in before.between:
            if interval.app:
                self._test.learn(*self._slow(interval.app), interval.seconds)
        rate = before.requests_per_second
        if self.able and rate is not None:
            self.blind = _slow_to_judge(rate)

    def add(self, _sample: Sample, interval: Interval | None, /) -> Worse | None:
        if interval is None or interval.app is None:
            return None
        slow, requests = self._slow(interval.app)
        if requests:
            self._during = list(map(add, self._during, interval.app.buckets))
        self._recent.append(Moment(interval.seconds, requests, slow, interval.app.buckets))
        if not self.able:
            return None
        self._test.add(slow, requests, interval.seconds)
        if self._test.rise() is None:
            return None
        return self._throughout()

    def values(self) -> tuple[float | None, float | None]:
        return self._before, quantile_of(self._during, self._q)

    def _slow(self, app: Counters) -> tuple[int, int]:
        return sum(app.buckets[self._cut :]), sum(app.buckets)

    def _too_few(self, requests: int) -> str:
        needed = round(REQUESTS_BEYOND / (1 - self._q))
        if requests >= needed:
            return ""
        return _("only {requests} requests in the baseline, and {needed} are needed").format(
            requests=requests, needed=needed
        )

    def _throughout(self) -> Worse | None:
        """Worse, if the quantile is so in each of the last thirds."""
        thirds = thirds_of(self._recent, requests=REQUESTS_PER_THIRD)
        for third in thirds:
            requests = sum(m.requests or 0 for m in third)
            if sum(m.value for m in third) <= (1 - self._q) * requests:
                return None
        members = [moment for third in thirds for moment in third]
        now = quantile_of(
            [sum(c) for c in zip(*(m.buckets for m in members), strict=True)], self._q
        )
        if now is None or self._before is None:
            return None
        seconds = sum(m.seconds for m in members)
        return Worse(self.metric, self._before, now, self.unit, seconds)


def _slow_to_judge(requests_per_second: float) -> str:
    seconds = STRETCH * max(BLOCK_SECONDS, REQUESTS_PER_THIRD / requests_per_second)
    if seconds <= 60:
        return ""
    return _("only {rate} requests per second: judged over {seconds} s").format(
        rate=amount(requests_per_second, ""), seconds=round(seconds)
    )
