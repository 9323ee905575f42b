"""Has a rate risen? A test that may be looked at after every sample, as often as one likes.

Method: an e-process, the likelihood ratio of "the rate rose at some moment, to some multiple"
against "it is what it was". Seen as a bet, it is fair while nothing changes, so the probability
that it *ever* reaches 1/alpha is at most alpha (Ville 1939), however often one looks and whenever
one stops; a test at each second without that would cry wolf within minutes.

- For k0 events in an exposure n0 (requests, or minutes) before and k1 in n1 after, Poisson, the
  likelihood ratio of a rise by `r` is `r**k1 * ((n0 + n1) / (n0 + r*n1))**(k0 + k1)` when the rate
  is integrated out. As the baseline's events are part of it, a short baseline makes it slow, not
  wrong (Johari, Pekelis & Walsh, "Always Valid Inference", 2017; Ramdas et al., "Game-theoretic
  statistics and safe anytime-valid inference", 2023).
- How large the rise is, is not known: the mean over `RISES`, a mixture SPRT (Robbins 1970).
- When it began is not known: the mean over starts every `BLOCK_SECONDS`, most weight on the moment
  of the change (an e-detector: Shin, Ramdas & Rinaldo 2023). For each start all that was before is
  the reference, so the test sharpens while a watch goes on. The weights add up to 1 over
  `HORIZON_SECONDS`; a longer watch has that chance of a false alarm again per as many seconds.
- What the rate may be, is a gamma distribution: `Prior`, and with the weight `UNUSUAL` a much wider
  one. Without the first, a short baseline without events would say little; without the second, a
  system with many errors would be thought to have few, and called worse for them.

The rest is not theorem but measured (`benchmarks/canary.py`): real events come in clusters and
real rates wander. The logarithm of the evidence is divided by the dispersion (quasi-likelihood,
McCullagh & Nelder 1989 §9): the largest of what is seen second by second, what is seen from block
to block, before or after the start, and of a rate that wanders by `wander` for `WANDER_SECONDS`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

RISES: Final = (2.0, 5.0, 15.0, 50.0)

UNUSUAL: Final = 0.1
"""The weight of a rate that is nothing like the prior."""

VAGUER: Final = 100.0
"""By how much less exposure than the prior's such a rate is known."""

LEAST_RISE: Final = 1.25
WORTH_A_LOOK: Final = 2.0
"""Smaller rises, and logarithms of the evidence that cannot be larger, count for nothing. That
keeps the bet fair and spares most of the arithmetic at most times."""

BLOCK_SECONDS: Final = 10.0
HORIZON_SECONDS: Final = 600.0
AT_ONCE: Final = 0.8
"""How likely harm begins with the change itself; the rest is spread over the horizon."""

KEPT_STARTS: Final = 30
"""Later starts that are kept, so that a long watch costs no more per sample than a short one."""

WANDER_SECONDS: Final = 20.0
"""The memory of a rate that wanders: that of an AR(1) series with 0.9 from second to second."""

OCCASION_SECONDS: Final = 5.0
"""Events of so many seconds are one occasion: they come in bursts, and one burst is no rate."""

_LARGEST: Final = 600.0  # exp() of more overflows
_A_LITTLE: Final = 1e-6  # seconds that sums of seconds may be off


@dataclass(frozen=True, slots=True)
class Prior:
    """What is assumed before the baseline: so many events in so much exposure."""

    events: float
    exposure: float


@dataclass(frozen=True, slots=True)
class Rise:
    """What the evidence points to, where it suffices.

    Attributes:
        before, now: Events per exposure before the likeliest start and since.
        events: How many since.
        occasions: How many, if those of each `OCCASION_SECONDS` count as one.
        seconds: How long ago that start is.
    """

    before: float
    now: float
    events: int
    occasions: int
    seconds: float


class _Totals(NamedTuple):
    """Sums from the first addition on; two of them give any period by subtraction."""

    seconds: float = 0.0
    events: int = 0
    exposure: float = 0.0
    bins: int = 0
    occasions: int = 0
    pairs: float = 0.0  # of events in the same addition, each over its exposure
    occasion_at: float = -math.inf  # when the latest one began

    def plus(self, events: int, exposure: float, seconds: float) -> _Totals:
        if exposure <= 0:
            return self._replace(seconds=self.seconds + seconds)
        another = events > 0 and self.seconds - self.occasion_at > OCCASION_SECONDS - _A_LITTLE
        return _Totals(
            self.seconds + seconds,
            self.events + events,
            self.exposure + exposure,
            self.bins + 1,
            self.occasions + another,
            self.pairs + events * (events - 1) / exposure,
            self.seconds if another else self.occasion_at,
        )

    def minus(self, earlier: _Totals) -> _Totals:
        return _Totals(
            self.seconds - earlier.seconds,
            self.events - earlier.events,
            self.exposure - earlier.exposure,
            self.bins - earlier.bins,
            self.occasions - earlier.occasions,
            self.pairs - earlier.pairs,
        )

    def dispersion(self) -> float:
        """Variance over mean, 1 for chance alone, less what chance makes of it (two errors)."""
        if not self.events or self.bins < 3:
            return 1.0
        freedom = self.bins - 1
        # By pairs, not squares: an event alone in a short interval says nothing about clusters.
        excess = self.pairs * self.exposure / self.events - self.events
        return 1 + excess / freedom - 2 * math.sqrt(2 / freedom)


_NOTHING: Final = _Totals()


@dataclass(frozen=True, slots=True)
class _Start:
    """A moment at which a rise may have begun: all sums up to it, by addition and by block."""

    weight: float
    fine: _Totals
    coarse: _Totals
    dispersion: float


@dataclass(slots=True)
class RateTest:
    """Events per exposure: first the baseline with `learn`, then `add` after every sample.

    Args:
        alpha: The chance of a false alarm per `HORIZON_SECONDS`.
        prior: See `Prior`.
        wander: By what part an unchanged rate wanders up and down.
    """

    alpha: float
    prior: Prior
    wander: float = 0.3
    _fine: _Totals = _NOTHING
    _coarse: _Totals = _NOTHING
    _block: _Totals = _NOTHING
    _starts: deque[_Start] = field(default_factory=deque)
    _first: _Start | None = None

    def learn(self, events: int, exposure: float, seconds: float) -> None:
        """Count what happened in an interval of the baseline."""
        self._count(events, exposure, seconds)

    def add(self, events: int, exposure: float, seconds: float) -> None:
        """Count what happened in an interval of the watch."""
        if self._first is None:
            self._close_block()
            self._first = self._start(AT_ONCE)
        if self._count(events, exposure, seconds):
            self._starts.append(self._start((1 - AT_ONCE) * BLOCK_SECONDS / HORIZON_SECONDS))
            if len(self._starts) > KEPT_STARTS:
                self._starts.popleft()

    def rise(self) -> Rise | None:
        """The rise that is proved by now; `None` while the evidence is below 1/alpha."""
        if self._first is None:
            return None
        evidence, best, strongest = 0.0, self._first, -math.inf
        for start in (self._first, *self._starts):
            if self._fine.events - start.fine.events < 2:
                break  # and none of the later starts has more
            log = self._log_evidence(start)
            share = start.weight * math.exp(min(log, _LARGEST))
            evidence += share
            if share > strongest:
                best, strongest = start, share
        if evidence * self.alpha < 1:
            return None
        since = self._fine.minus(best.fine)
        before = best.fine.events / best.fine.exposure if best.fine.exposure else 0.0
        now = since.events / since.exposure
        return Rise(before, now, since.events, since.occasions, since.seconds)

    def of_baseline(self) -> float | None:
        """Events per exposure in the baseline; `None` without any exposure."""
        before = self._first.fine if self._first else self._fine
        return before.events / before.exposure if before.exposure else None

    def of_watch(self) -> float | None:
        """Events per exposure since the change; `None` without any exposure."""
        if self._first is None:
            return None
        since = self._fine.minus(self._first.fine)
        return since.events / since.exposure if since.exposure else None

    def _count(self, events: int, exposure: float, seconds: float) -> bool:
        """Count; whether a block ended with it."""
        self._fine = self._fine.plus(events, exposure, seconds)
        if self._fine.seconds - self._block.seconds < BLOCK_SECONDS - _A_LITTLE:
            return False
        self._close_block()
        return True

    def _close_block(self) -> None:
        block = self._fine.minus(self._block)
        if block.exposure > 0:
            self._coarse = self._coarse.plus(block.events, block.exposure, block.seconds)
        self._block = self._fine

    def _start(self, weight: float) -> _Start:
        """A start now, with the dispersion of all that was before."""
        rate = self._fine.events / self._fine.seconds if self._fine.seconds else 0.0
        dispersion = max(
            1 + self.wander**2 * WANDER_SECONDS * rate,
            self._fine.dispersion(),
            self._coarse.dispersion(),
        )
        return _Start(weight, self._fine, self._coarse, dispersion)

    def _log_evidence(self, start: _Start) -> float:
        new_events = self._fine.events - start.fine.events
        new_exposure = self._fine.exposure - start.fine.exposure
        usual = LEAST_RISE * start.fine.events * new_exposure
        if new_events * start.fine.exposure < usual:
            return -math.inf
        known = self.prior.events + start.fine.events
        best = _best_case(
            known, self.prior.exposure + start.fine.exposure, new_events, new_exposure
        )
        if best < WORTH_A_LOOK * start.dispersion:
            return -math.inf
        since = self._fine.minus(start.fine)
        if since.bins < 3:
            return -math.inf  # one cluster of events, or several? That takes three intervals
        dispersion = max(
            start.dispersion, since.dispersion(), self._coarse.minus(start.coarse).dispersion()
        )
        same = self._log_likelihood(1.0, start.fine, since)
        logs = [self._log_likelihood(r, start.fine, since) - same for r in RISES]
        return _log_mean([log / dispersion for log in logs])

    def _log_likelihood(self, r: float, before: _Totals, since: _Totals) -> float:
        """Of a rise by `r`, but for a constant; the unknown rate is integrated out."""
        shape, exposure = self.prior.events, self.prior.exposure
        power = shape + before.events + since.events
        seen = before.exposure + r * since.exposure
        usual, any_rate = (
            math.log(weight) + shape * math.log(e) - power * math.log(e + seen)
            for weight, e in ((1 - UNUSUAL, exposure), (UNUSUAL, exposure / VAGUER))
        )
        both = max(usual, any_rate) + math.log1p(math.exp(-abs(usual - any_rate)))
        return since.events * math.log(r) + both


def _best_case(k0: float, n0: float, k1: int, n1: float) -> float:
    """The logarithm of the likelihood ratio for the rise that fits best."""
    together = (k0 + k1) * math.log((k0 + k1) / (n0 + n1))
    return k1 * math.log(k1 / n1) + k0 * math.log(k0 / n0) - together


def _log_mean(logs: Sequence[float]) -> float:
    largest = max(logs)
    return largest + math.log(sum(math.exp(log - largest) for log in logs) / len(logs))
