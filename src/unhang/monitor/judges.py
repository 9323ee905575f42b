"""What the judges of a canary share: limits, the baseline, what a judge is, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from unhang.i18n import _
from unhang.monitor.intervals import Interval, intervals
from unhang.monitor.metrics import label
from unhang.monitor.sample import Sample
from unhang.monitor.sequential import BLOCK_SECONDS

SHORTEST_BASELINE: Final = 30.0
"""Seconds without which nothing but an unreachable server is judged; 120 are worth having."""

_ALMOST: Final = 0.9  # 30 samples at 1 s span 29 s, and no schedule is exact

ALMOST_BLOCK: Final = 0.95 * BLOCK_SECONDS
"""Seconds that count as a block: no schedule is exact."""

STRETCH: Final = 3
"""Thirds of `BLOCK_SECONDS` or more in each of which a level has to be worse."""

LONGEST_STRETCH: Final = 600
"""Samples that are kept for it: 10 minutes at 1 s."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is large enough to matter, and how often an unchanged system may be called worse.

    Attributes:
        response_ratio: A quantile is worse from this multiple on. 1.5 is beyond what a load that
            wanders by 30 % does to it, and well below the doubling that has to be found.
        response_seconds: And by at least this much: 2 ms instead of 1 ms is no harm.
        error_share: More errors per request: 0.2 percentage points, a fifth of the 1 % that has
            to be found.
        error_events: In at least this many requests.
        rise: Errors, refused connections: from this multiple on.
        refused_events: Clients refused on at least this many occasions, of 5 s each.
        sessions_ratio: Sessions, for the load that there is: from this multiple on.
        sessions_more: And by at least this many.
        full_share: Of `max_connections`: above it, the next burst is refused.
        full_seconds: For this long.
        unreachable_seconds: The server cannot be asked for this long, or twice the longest gap of
            the baseline.
        silent_seconds: No request is answered for this long, or six times the longest silence of
            the baseline.
        false_alarms: The chance that an unchanged system is called worse by any of the rates in
            ten minutes of watching, shared out by `SHARES`.
    """

    response_ratio: float = 1.5
    response_seconds: float = 0.010
    error_share: float = 0.002
    error_events: int = 5
    rise: float = 2.0
    refused_events: int = 3
    sessions_ratio: float = 2.0
    sessions_more: float = 10.0
    full_share: float = 0.9
    full_seconds: float = 5.0
    unreachable_seconds: float = 10.0
    silent_seconds: float = 30.0
    false_alarms: float = 0.01


SHARES: Final = {
    "server_errors": 0.5,  # the least evidence comes from these, so they need the most
    "gone_away": 0.2,
    "database_errors": 0.2,
    "refused": 0.04,
    "response_p95": 0.04,
    "response_p50": 0.02,
}
"""How `Limits.false_alarms` is shared out (Bonferroni with weights)."""


@dataclass(frozen=True, slots=True)
class Worse:
    """One metric that is worse beyond noise.

    Attributes:
        metric: A key of `monitor.metrics.METRICS`, or `database_errors`, `sessions_full`,
            `unreachable`.
        before: In the baseline, in `unit`.
        now: In the last `seconds`.
        unit: `seconds`, `per 1,000 requests`, `per minute`, `per second`, `sessions`, `%`.
        seconds: For how long.
        reason: What the server said, where it could not be asked.
    """

    metric: str
    before: float
    now: float
    unit: str
    seconds: float
    reason: str = ""

    def sentence(self) -> str:
        """`95th percentile of response time: 48 ms before, 103 ms in the last 30 s`."""
        template = {
            "unreachable": _("the server has not answered for {seconds} s: {reason}"),
            "requests": _(
                "the application stopped answering: {before} requests per second before,"
                " none in the last {seconds} s"
            ),
            "sessions_full": _(
                "sessions: {now} % of max_connections in the last {seconds} s, {before} % before"
            ),
        }.get(self.metric, _("{metric}: {before} before, {now} in the last {seconds} s"))
        return template.format(
            metric=name_of(self.metric),
            before=amount(self.before, self.unit),
            now=amount(self.now, self.unit),
            seconds=round(self.seconds),
            reason=self.reason,
        )


def name_of(metric: str) -> str:
    """What a person calls this metric."""
    own = {
        "database_errors": _("database errors per 1,000 requests"),
        "sessions_full": _("sessions in % of max_connections"),
        "unreachable": _("longest time without an answer of the server, in seconds"),
    }
    return own[metric] if metric in own else label(metric)


def amount(value: float, unit: str) -> str:
    """A value for people: `48 ms`, `1.3 s`; else a number with as many digits as it deserves."""
    if unit == "seconds":
        return f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The samples before the change, each with the interval that ends in it."""

    steps: tuple[tuple[Sample, Interval | None], ...]

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Baseline:
        first = tuple((sample, None) for sample in samples[:1])
        rest = ((after, intervals([before, after])) for before, after in pairwise(samples))
        return cls((*first, *((sample, found[0]) for sample, found in rest if found)))

    @property
    def between(self) -> list[Interval]:
        return [interval for _sample, interval in self.steps if interval]

    @property
    def app_seconds(self) -> float:
        return sum(interval.seconds for interval in self.between if interval.app)

    @property
    def server_seconds(self) -> float:
        return sum(
            interval.seconds for sample, interval in self.steps if interval and sample.server
        )

    @property
    def requests_per_second(self) -> float | None:
        """`None` when it is unknown, or too short to say."""
        if self.app_seconds < _ALMOST * SHORTEST_BASELINE:
            return None
        return sum(i.app.requests for i in self.between if i.app) / self.app_seconds

    def app_lacks(self) -> str:
        """Why the application cannot be judged, if so."""
        if not any(sample.app for sample, _interval in self.steps):
            return _("nothing records response times: add unhang.middleware.ResponseTimes")
        return _too_short(self.app_seconds)

    def server_lacks(self) -> str:
        """Why the server cannot be judged, if so."""
        return _too_short(self.server_seconds)


def _too_short(seconds: float) -> str:
    if seconds >= _ALMOST * SHORTEST_BASELINE:
        return ""
    return _("the baseline has {seconds} s of it, and {needed} are needed").format(
        seconds=round(seconds), needed=round(SHORTEST_BASELINE)
    )


class Judge:
    """One metric. `blind` says why it cannot judge, or only slowly; empty where neither is so."""

    metric: str
    unit: str
    able = True
    blind = ""

    def add(self, sample: Sample, interval: Interval | None, /) -> Worse | None:
        """What is worse by now."""
        raise NotImplementedError

    def values(self) -> tuple[float | None, float | None]:
        """Before and during the watch."""
        raise NotImplementedError

    def _lacks(self, reason: str) -> None:
        self.able, self.blind = not reason, reason


class Moment(NamedTuple):
    """An interval: its length, its requests (if known), and what is judged of them."""

    seconds: float
    requests: int | None
    value: int
    buckets: tuple[int, ...] = ()


def thirds_of(recent: Sequence[Moment], *, requests: int = 0) -> list[list[Moment]]:
    """The last `STRETCH` periods of `BLOCK_SECONDS`, or longer until each has its requests.

    Returns:
        Nothing, when there are not that many yet.
    """
    found: list[list[Moment]] = []
    third: list[Moment] = []
    seconds, seen = 0.0, 0
    for moment in reversed(recent):
        third.append(moment)
        seconds, seen = seconds + moment.seconds, seen + (moment.requests or 0)
        if seconds >= ALMOST_BLOCK and seen >= requests:
            found.append(third)
            third, seconds, seen = [], 0.0, 0
            if len(found) == STRETCH:
                return found
    return []
