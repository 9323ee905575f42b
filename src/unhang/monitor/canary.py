"""Is the system worse than before the change, beyond noise? Asked after every sample of a watch.

A metric is worse when its rise is both proved and large enough to matter. Proof of rates is the
sequential test of `sequential`: requests that fail, clients that are refused, and, for response
times, requests slower than the quantile of the baseline would be if it were worse (that is
`Limits.response_ratio` times as long): while the 95th percentile is not worse, fewer than 5 % of
the requests are. This needs no assumption about the shape of response times. What matters is in
`Limits`. Sessions are a level, not a rate; for them, and for response times, the rise has to show
in each third of a stretch of 30 s or more, so that a slow batch or a burst of a few seconds, which
a short baseline may not have met, is no proof.

What was measured is in the table of `benchmarks/canary.py`. What it cannot do:

- With less than 20 requests/s, 1 % of new errors takes longer than a minute: about 1,200 requests
  have to be seen. At 1 request/s that is 20 minutes. `blind` says so. At just 20 requests/s it is
  found within a minute in 98 % of watches if the baseline had no errors, in 94 % if one request in
  2,000 failed before: an unlucky baseline hides it. From 100 requests/s on, it takes 16 to 30 s.
- New errors that do not double those of the baseline are not found.
- A response time that rises by less than `Limits.response_seconds` is not found.
- A change that comes with another load is not told from one of the load, but for sessions.
- A slow stretch of more than 20 s of a kind that the baseline did not meet looks like harm, and so
  do errors that go on for more than 15 s.
- Where errors come in bursts, a baseline may meet fewer of them than the watch does: with bursts of
  1 to 3 s, one in 200 unchanged systems is called worse when they come every five
  minutes, and five in 100 when they come every minute; after a baseline of 300 s, one in 100.
- Intervals in which the counters of an ended worker vanish are left out: where a worker ends in
  nearly every interval, little is left to judge.

A restart of the server during the watch is told in `notes`. It is no proof of harm, as timeouts do
not restart servers; but what it leads to is judged like anything else, since nobody can
tell whose errors they are, and the change may have been lost with it (`SET GLOBAL`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from unhang.i18n import _
from unhang.monitor.intervals import intervals
from unhang.monitor.judges import SHORTEST_BASELINE, Baseline, Judge, Limits, Worse, name_of
from unhang.monitor.judges_levels import Crowd, Full, Silence, Unreachable
from unhang.monitor.judges_rates import EVENTS, QUANTILES, Failures, Slowness
from unhang.monitor.sample import Sample

__all__ = ["SHORTEST_BASELINE", "Canary", "Limits", "Worse", "name_of"]

Verdict = Literal["worse", "not worse", "cannot be judged"]


@dataclass(frozen=True, slots=True)
class Row:
    """One metric at the end of a watch; `before` and `during` are `None` when unknown."""

    metric: str
    unit: str
    before: float | None
    during: float | None
    verdict: Verdict


class Blind(NamedTuple):
    """What cannot be judged, or not within a minute, and why."""

    metric: str
    reason: str


class Canary:
    """Judges a watch, sample by sample. No I/O and no clock: time is that of the samples.

    Args:
        baseline: Samples before the change, in the order of time, 0.5 to 10 s apart.
        limits: See there.
        settle_until: Response times and sessions are judged only after this moment: an application
            that was restarted is slow at first. Errors and refusals are judged from the start.

    Attributes:
        settle_until: May be set later, when the application is restarted.
        notes: Sentences about what happened that proves nothing: a restart of the server.
    """

    def __init__(
        self,
        baseline: Sequence[Sample],
        limits: Limits | None = None,
        *,
        settle_until: datetime | None = None,
    ) -> None:
        self.limits = limits = limits or Limits()
        self.notes: list[str] = []
        self.settle_until = settle_until
        self._worse: dict[str, Worse] = {}
        self._last = baseline[-1] if baseline else None
        self._uptime = next((s.server.uptime for s in reversed(baseline) if s.server), 0)
        before = Baseline.of(baseline)
        steady: list[Judge] = [
            *(Failures(name, before, limits) for name in EVENTS),
            Unreachable(before, limits),
            Silence(before, limits),
        ]
        settling: list[Judge] = [
            *(Slowness(name, before, limits) for name in QUANTILES),
            Crowd(before, limits),
            Full(before, limits),
        ]
        self._judges = ((False, steady), (True, settling))

    def add(self, sample: Sample) -> tuple[Worse, ...]:
        """Take a sample into account; what is worse by now, `()` while nothing is."""
        between = intervals([self._last, sample]) if self._last else []
        last, self._last = self._last, sample
        if last and not between:
            return ()  # a clock was set back: go on from here
        self._look_for_restart(sample)
        early = self.settle_until is not None and sample.at <= self.settle_until
        found = []
        for settles, judges in self._judges:
            if not (settles and early):
                found += [judge.add(sample, between[0] if between else None) for judge in judges]
        worse = tuple(one for one in found if one is not None)
        self._worse |= {one.metric: one for one in worse}
        return worse

    @property
    def blind(self) -> tuple[Blind, ...]:
        """What the baseline lacks, so that a metric cannot be judged, or only slowly."""
        return tuple(Blind(judge.metric, judge.blind) for judge in self._all() if judge.blind)

    def summary(self) -> list[Row]:
        """One row per metric, for the end of a watch."""
        return [self._row(judge) for judge in self._all()]

    def to_json(self) -> dict[str, Any]:
        """A plain dict, for the journal."""
        return {
            "schema": 1,
            "limits": asdict(self.limits),
            "settle_until": self.settle_until and self.settle_until.isoformat(),
            "rows": [asdict(row) for row in self.summary()],
            "worse": [asdict(one) for one in self._worse.values()],
            "blind": [one._asdict() for one in self.blind],
            "notes": list(self.notes),
        }

    def _all(self) -> list[Judge]:
        return [judge for _settles, judges in self._judges for judge in judges]

    def _row(self, judge: Judge) -> Row:
        before, during = judge.values()
        verdict: Verdict = "not worse"
        if judge.metric in self._worse:
            verdict = "worse"
        elif not judge.able or during is None:
            verdict = "cannot be judged"  # nothing was seen of it, before or during the watch
        return Row(judge.metric, judge.unit, before, during, verdict)

    def _look_for_restart(self, sample: Sample) -> None:
        if sample.server is None:
            return
        if sample.server.uptime < self._uptime:
            text = _(
                "the server was restarted at about {time} UTC: settings that were not persisted are"
                " what its configuration says"
            )
            self.notes.append(text.format(time=f"{sample.at:%H:%M:%S}"))
        self._uptime = sample.server.uptime
