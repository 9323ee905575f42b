"""Judges of levels: sessions, a server that is full or cannot be asked, a silent application."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Final

from unhang.i18n import _
from unhang.monitor.intervals import Interval
from unhang.monitor.judges import (
    LONGEST_STRETCH,
    Baseline,
    Judge,
    Limits,
    Moment,
    Worse,
    amount,
    thirds_of,
)
from unhang.monitor.sample import Sample

SPREADS: Final = 5
"""Standard deviations of the baseline's sessions by which they have to rise."""

SILENCES: Final = 6
"""Times the longest silence of the baseline."""


class Crowd(Judge):
    """Sessions, for the load that there is: in each third of the last half minute."""

    metric, unit = "sessions", "sessions"

    def __init__(self, before: Baseline, limits: Limits) -> None:
        seen = [s.server.sessions for s, _interval in before.steps if s.server]
        self._limits = limits
        self._mean = fmean(seen) if seen else 0.0
        self._spread = pstdev(seen) if seen else 0.0
        self._rate = before.requests_per_second
        self._recent: deque[Moment] = deque(maxlen=LONGEST_STRETCH)
        self._during = self._n = 0
        self._lacks(before.server_lacks())

    def add(self, sample: Sample, interval: Interval | None, /) -> Worse | None:
        if sample.server is None or interval is None:
            self._recent.clear()
            return None
        sessions = sample.server.sessions
        self._during, self._n = self._during + sessions, self._n + 1
        requests = interval.app.requests if interval.app else None
        self._recent.append(Moment(interval.seconds, requests, sessions))
        thirds = thirds_of(self._recent) if self.able else []
        if not thirds:
            return None
        means = [sum([m.value for m in third]) / len(third) for third in thirds]
        if min(means) < self._needed(load=1.0):
            return None  # nearly always, so it is asked first
        moments = [m for third in thirds for m in third]
        if min(means) < self._needed(self._load(moments)):
            return None
        seconds = sum(m.seconds for m in moments)
        return Worse(self.metric, self._mean, fmean(means), self.unit, seconds)

    def values(self) -> tuple[float | None, float | None]:
        return self._mean if self.able else None, self._during / self._n if self._n else None

    def _needed(self, load: float) -> float:
        """What would be too many for that many times the load of the baseline."""
        expected = self._mean * load
        return max(
            self._limits.sessions_ratio * expected,
            expected + self._limits.sessions_more,
            expected + SPREADS * self._spread,
        )

    def _load(self, moments: Sequence[Moment]) -> float:
        """How many times the load of the baseline there is; 1 when it is less, or unknown."""
        known = [(m.requests, m.seconds) for m in moments if m.requests is not None]
        if not known or not self._rate:
            return 1.0
        rate = sum(r for r, _s in known) / sum(s for _r, s in known)
        return max(1.0, rate / self._rate)


class Full(Judge):
    """All sessions of the server, near `max_connections`."""

    metric, unit = "sessions_full", "%"

    def __init__(self, before: Baseline, limits: Limits) -> None:
        shares = [share for s, _interval in before.steps if (share := _share(s)) is not None]
        self._limits = limits
        self._most = max(shares, default=0.0)
        self._highest: float | None = None
        self._run, self._samples = 0.0, 0
        self._lacks(before.server_lacks())
        if self.able and self._most >= limits.full_share:
            self._lacks(
                _("the baseline already had {share} % of max_connections").format(
                    share=amount(100 * self._most, "%")
                )
            )

    def add(self, sample: Sample, interval: Interval | None, /) -> Worse | None:
        share = _share(sample)
        if share is None:
            return None  # a full server may refuse the question: a gap ends no run
        self._highest = max(self._highest or 0.0, share)
        if share < self._limits.full_share:
            self._run, self._samples = 0.0, 0
            return None
        self._run += interval.seconds if interval and self._samples else 0.0
        self._samples += 1
        if not self.able or self._run < self._limits.full_seconds or self._samples < 2:
            return None
        return Worse(self.metric, 100 * self._most, 100 * share, self.unit, self._run)

    def values(self) -> tuple[float | None, float | None]:
        highest = None if self._highest is None else 100 * self._highest
        return 100 * self._most if self.able else None, highest


def _share(sample: Sample) -> float | None:
    server = sample.server
    return server.threads_connected / server.max_connections if server else None


class Unreachable(Judge):
    """The server cannot be asked, for longer than it ever could not in the baseline."""

    metric, unit = "unreachable", "s"

    def __init__(self, before: Baseline, limits: Limits) -> None:
        self._away, self._longest_now = 0.0, 0.0
        self._gaps, longest = 0, 0.0
        for sample, interval in before.steps:
            longest = max(longest, self._count(sample, interval))
        self._longest_before = longest
        self._limit = max(limits.unreachable_seconds, 2 * longest)
        self._away, self._gaps = 0.0, 0
        if not any(sample.server for sample, _interval in before.steps):
            self._lacks(_("the server could not be asked in the baseline"))

    def add(self, sample: Sample, interval: Interval | None, /) -> Worse | None:
        away = self._count(sample, interval)
        self._longest_now = max(self._longest_now, away)
        if not self.able or away < self._limit or self._gaps < 2:
            return None
        reason = sample.gap or ""
        return Worse(self.metric, self._longest_before, away, self.unit, away, reason)

    def values(self) -> tuple[float | None, float | None]:
        return self._longest_before, self._longest_now

    def _count(self, sample: Sample, interval: Interval | None) -> float:
        """For how long it has been away: since the first gap, not since the last answer."""
        if sample.server is not None:
            self._away, self._gaps = 0.0, 0
            return 0.0
        self._away += interval.seconds if interval and self._gaps else 0.0
        self._gaps += 1
        return self._away


class Silence(Judge):
    """Not one request is answered, of an application that was steadily asked."""

    metric, unit = "requests", "per second"

    def __init__(self, before: Baseline, limits: Limits) -> None:
        self._rate = before.requests_per_second
        self._silent = longest = 0.0
        for sample, interval in before.steps:
            longest = max(longest, self._count(sample, interval))
        self._limit = max(limits.silent_seconds, SILENCES * longest)
        self._silent = self._served = self._seconds = 0.0
        self._lacks(before.app_lacks())
        if self._rate is not None and self._rate <= 1:
            self._lacks(_("not more than one request per second in the baseline"))

    def add(self, sample: Sample, interval: Interval | None, /) -> Worse | None:
        if interval and interval.app:
            self._served += interval.app.requests
            self._seconds += interval.seconds
        silent = self._count(sample, interval)
        if not self.able or self._rate is None or silent < self._limit:
            return None
        return Worse(self.metric, self._rate, 0.0, self.unit, silent)

    def values(self) -> tuple[float | None, float | None]:
        return self._rate, self._served / self._seconds if self._seconds else None

    def _count(self, sample: Sample, interval: Interval | None) -> float:
        """For how long nothing was answered. Counters that are gone count as silence too; those
        that went back are of workers that end, which is a sign of life."""
        silent = sample.app is None or (
            interval is not None and interval.app is not None and not interval.app.requests
        )
        self._silent = self._silent + interval.seconds if silent and interval else 0.0
        return self._silent
