"""What the visitors of one contender got: pure functions of the requests."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tables import quantile

from hang.load import FAST, FAST_DEADLINE, SLOW, Phases, Request
from hang.scenarios import Contender, Scenario
from hang.trial import Trial

IN_TIME_SECONDS: Final = 0.5
LATE_CLIENT_SECONDS: Final = 0.05
"""A load that is sent later than this (p99) measures the client, too."""

_REFUSED: Final = 503
_REFUSAL_SLACK_SECONDS: Final = 1.0
"""From the pool's deadline to the visitor: what a busy machine needs to say no."""


def waited(request: Request) -> float:
    """Seconds; the deadline for one that never got its page: failing at once is not fast."""
    return request.seconds if request.ok else FAST_DEADLINE


def in_time(request: Request) -> bool:
    return waited(request) <= IN_TIME_SECONDS


@dataclass(frozen=True, kw_only=True)
class Slow:
    """What became of the slow queries.

    Attributes:
        refused: Answered 503 inside the time that the pool's options allow.
        longest_refusal: Seconds that the last of all 503 took.
        bad: Neither served nor refused in that time.
        per_second: Served, from the first question to the last answer.
    """

    served: int
    refused: int
    longest_refusal: float
    bad: int
    per_second: float

    @property
    def settled(self) -> float:
        """Share of those that were served or refused."""
        asked = self.served + self.refused + self.bad
        return (asked - self.bad) / asked if asked else 1.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All rounds of one contender in one scenario.

    Attributes:
        fast: How many fast requests were due in the slow phase.
        in_time: Share of them that were answered within half a second.
        p99s: Of each round, seconds.
        p50, p99: Of all rounds together, seconds.
        errors: How many requests that are not slow ended badly, by kind and status; status 0 is no
            answer.
        recovery: Seconds from the end of the slow phase to the last fast request that was not
            answered in time; infinite if those of the last second were not.
        crowd: The most slow queries at a time in one process, waiting ones too. With as many as it
            has threads, nothing else is served there, whatever lends the connections.
        late_client: By how much the load was sent late (p99), seconds.
        timeline: p95 of the fast requests of each second.
    """

    scenario: Scenario
    contender: Contender
    phases: Phases
    fast: int
    in_time: float
    p50: float
    p99: float
    p99s: tuple[float, ...]
    errors: Mapping[tuple[str, int], int]
    slow: Slow
    recovery: float
    peak_sessions: int
    refused_logins: int
    crowd: int
    late_client: float
    timeline: Sequence[tuple[int, float]]

    @property
    def errors_outside(self) -> int:
        return sum(self.errors.values())

    @property
    def recovery_text(self) -> str:
        if math.isinf(self.recovery):
            return f"> {self.phases.recovery:.0f} s"
        return f"{self.recovery:.1f} s"

    @classmethod
    def of(cls, trials: Sequence[Trial]) -> Summary:
        """The rounds of one contender in one scenario, together."""
        first, phases = trials[0], trials[0].phases
        everything = [request for trial in trials for request in trial.requests]
        during = [waited(r) for r in _fast(everything) if _in_slow_phase(r, phases)]
        counted = [r for r in everything if r.due >= phases.slow_begin]
        return cls(
            scenario=first.scenario,
            contender=first.contender,
            phases=phases,
            fast=len(during),
            in_time=sum(s <= IN_TIME_SECONDS for s in during) / len(during),
            p50=quantile(during, 0.50),
            p99=quantile(during, 0.99),
            p99s=tuple(_p99(trial) for trial in trials),
            errors=Counter((r.kind, r.status) for r in counted if r.kind != SLOW and not r.ok),
            slow=_slow(trials, first.contender.refusal_seconds),
            recovery=max(_recovery(trial) for trial in trials),
            peak_sessions=max(trial.peak_sessions for trial in trials),
            refused_logins=sum(trial.refused_logins for trial in trials),
            crowd=max(_crowd(trial.requests) for trial in trials),
            late_client=quantile([r.sent - r.due for r in everything], 0.99),
            timeline=_timeline(everything, phases),
        )


def against(own: Summary, limit: Summary) -> float:
    """How many times the limit's p99 a contender's is: the median of the rounds."""
    return statistics.median(a / b for a, b in zip(own.p99s, limit.p99s, strict=True))


def _fast(requests: Iterable[Request]) -> list[Request]:
    return [request for request in requests if request.kind in FAST]


def _in_slow_phase(request: Request, phases: Phases) -> bool:
    return phases.slow_begin <= request.due < phases.slow_end


def _p99(trial: Trial) -> float:
    fast = (r for r in _fast(trial.requests) if _in_slow_phase(r, trial.phases))
    return quantile([waited(request) for request in fast], 0.99)


def _slow(trials: Iterable[Trial], refusal_seconds: float) -> Slow:
    by_trial = [[r for r in trial.requests if r.kind == SLOW] for trial in trials]
    slow = [request for of_one in by_trial for request in of_one]
    lasted = sum(max(r.ended for r in of_one) - min(r.due for r in of_one) for of_one in by_trial)
    served = sum(request.ok for request in slow)
    refusals = [request.seconds for request in slow if request.status == _REFUSED]
    refused = sum(s <= refusal_seconds + _REFUSAL_SLACK_SECONDS for s in refusals)
    return Slow(
        served=served,
        refused=refused,
        longest_refusal=max(refusals, default=0.0),
        bad=len(slow) - served - refused,
        per_second=served / lasted,
    )


def _crowd(requests: Iterable[Request]) -> int:
    steps = []
    for request in requests:
        if request.kind == SLOW and request.process:
            steps += [(request.sent, 1, request.process), (request.ended, -1, request.process)]
    here: Counter[int] = Counter()
    most = 0
    for _at, step, process in sorted(steps):
        here[process] += step
        most = max(most, here[process])
    return most


def _recovery(trial: Trial) -> float:
    end = trial.phases.slow_end
    late = [r.due - end for r in _fast(trial.requests) if r.due >= end and not in_time(r)]
    last = max(late, default=0.0)
    return math.inf if last > trial.phases.recovery - 1.0 else last


def _timeline(requests: Iterable[Request], phases: Phases) -> list[tuple[int, float]]:
    seconds: dict[int, list[float]] = {second: [] for second in range(int(phases.end))}
    for request in _fast(requests):
        seconds[int(request.due)].append(waited(request))
    return [(second, quantile(all_of_it, 0.95)) for second, all_of_it in seconds.items()]
