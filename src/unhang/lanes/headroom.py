"""Headroom: all pools of all hosts stay below the server's limit, and none knows of another.

Each pool sees the same number, the server's sessions, with every connect and every look. What it
may do follows from that number, so all slow down together. `benchmarks/fleet.py` shows what 10 to
10,000 processes make of it; the constants below are what settles there without swinging.
"""

from __future__ import annotations

import math
import random
from typing import Final

_LEAST_RESERVE: Final = 2
"""Sessions left to people and other programs, at least."""

_CROWDED: Final = 0.75
"""From this part of the ceiling on, shares shrink and connections live only for a while."""

_IDLE_FREE: Final = 0.4
_IDLE_NONE: Final = 0.9
"""Up to the first part of the ceiling an idle connection may stay; from the second on it goes."""

_BLIND_SECONDS: Final = 0.03
"""From a look until what all others open meanwhile shows: about one connect."""

_LONGEST_GROWTH_SECONDS: Final = 1.0
_SMOOTH_SECONDS: Final = 3.0
"""Shares and times follow the mean of the looks over so long; whether to open, the last look."""

_SHRINK: Final = 0.6
_ONE_EACH: Final = 0.7
"""How fast a share follows; and how crowded the server is when a share is 1."""

_FAR: Final = 2.5
"""A share so many times too large or small, after a storm, is brought so near at once."""

_PATIENT_SECONDS: Final = 1.0
"""A borrower who has waited so long is not kept waiting for fairness' sake: what is free below the
ceiling may be used."""

_DESPERATE_SECONDS: Final = 3.0
"""A pool without any connection keeps one from then on, were it the server's last: a fleet that
leaves others their reserve must not be one that stands still."""

_URGENT_SECONDS: Final = 0.2
_PROBE_SECONDS: Final = 1.0
"""Between two connects on his behalf, in the mean: with a fresh look, and without."""

_FIRST_SECONDS: Final = 1.0
"""A first connect that takes longer shows nothing in time; others need not wait for it."""

_SMALLEST_SHARE: Final = 0.1
_FIRST_SHARE: Final = 1.0
_LEAST_IDLE_SECONDS: Final = 0.15
"""As long as there is room below the ceiling: a connection that goes between two requests of a
burst is opened again for the second."""

_LIFE_SECONDS: Final = 1.0
"""How long a connection lives when the server is full."""

_LONGEST_REST_SECONDS: Final = 5.0
"""A quarter of the pool's default timeout: with twice that, half of it is left for the rest."""

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = (1.0, 2.0)
"""Between two looks; the longer time while there is room for all."""

_LOOKS_PER_SECOND: Final = 500.0
"""Of all processes together; each that looks has a session, so sessions are what bounds them."""

_FADES_SECONDS: Final = 30.0
"""What was seen so long ago says nothing about now, but that caution is due."""


class Headroom:
    """What one pool may do, as far as the server's room goes. Under the caller's lock, if any.

    The pool's share is a number of connections; below 1 it is the part of the time in which the
    pool may have one. It follows a law like DCTCP's (RFC 8257, section 3): it grows by a step and
    shrinks in proportion to itself and to how crowded the server is. The point where both cancel
    out is the same for all, wherever they began.

    Args:
        max_size: Connections of the pool at most.
        reserve: The part of the server's limit that is left to others, 2 sessions at least.
        rng: Where jitter comes from.
    """

    def __init__(
        self, max_size: int, *, reserve: float = 0.1, rng: random.Random | None = None
    ) -> None:
        self.max_size = max_size
        self._reserve = reserve
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._jitter = self._rng.random()
        self._limit = self._sessions = 0
        self._mean = 0.0
        self._seen_at = -math.inf
        self._share = float(max_size)
        self._refused_at = -math.inf
        self._refused_size = 0
        self._failures = 0
        self._start_at = self._opened_at = -math.inf
        self._patience = 1.0
        self._first_until = -math.inf
        self._was_away = False

    @property
    def ceiling(self) -> int:
        """Sessions that all pools together may have; 0 as long as the limit is unknown."""
        if not self._limit:
            return 0
        return max(1, math.floor(self._limit - max(self._reserve * self._limit, _LEAST_RESERVE)))

    def saw(self, sessions: int, limit: int, now: float) -> None:
        """The server was asked for its `Threads_connected`, this pool's own among them, and its
        `max_connections`: right after each connect, and when `next_look` says so."""
        is_first, self._limit, self._sessions = not self._limit, limit, sessions
        seconds, self._seen_at = now - self._seen_at, now
        if is_first or self._was_away or seconds > _FADES_SECONDS:
            # After the server was away every pool begins with one: it is as empty for all of them.
            self._mean = sessions
            share = _FIRST_SHARE if self._was_away else max(self._balance(), _FIRST_SHARE)
            self._was_away = False
            self._set_share(share)
            return
        self._mean += (sessions - self._mean) * -math.expm1(-seconds / _SMOOTH_SECONDS)
        self._adjust_share(min(seconds, self._look_seconds))
        if self._rng.random() < seconds / 10:  # who has the odd connection changes now and then
            self._jitter = self._rng.random()

    def _crowding(self, now: float) -> float:
        """How far into its last part the server is: 0 or less before it, 1 when it is full."""
        if not self._limit or now - self._seen_at > _FADES_SECONDS:
            return -math.inf
        return (self._mean / self.ceiling - _CROWDED) / (1 - _CROWDED)

    def _balance(self) -> float:
        """The share at which gain and loss cancel out."""
        crowding = self._crowding(self._seen_at)
        balance = _ONE_EACH / crowding if crowding > 0 else math.inf
        return float(balance ** (2 if balance > 1 else 5))

    def _adjust_share(self, seconds: float) -> None:
        share, crowding, balance = self._share, self._crowding(self._seen_at), self._balance()
        gain = _SHRINK * _ONE_EACH * share ** (1 / 2 if share > 1 else 4 / 5)
        gain += min(max(0.0, -crowding), 1.0) * share
        # Backward Euler: a long step cannot overshoot.
        share = (share + gain * seconds) / (1 + _SHRINK * max(0.0, crowding) * seconds)
        self._set_share(min(max(share, balance / _FAR if crowding > 0 else 0.0), balance * _FAR))

    def _set_share(self, share: float) -> None:
        self._share = min(max(share, _SMALLEST_SHARE), self.max_size)

    def refused(self, size: int, now: float) -> None:
        """A connect got 1040, 1203 or 1226 while the pool had `size` connections."""
        self._refused_at, self._refused_size = now, size
        # With room seen a moment ago it is the account's own limit, and not the server's.
        if self._limit and (self._sessions >= self.ceiling or now - self._seen_at > 1):
            self.saw(self._limit, self._limit, now)
        self._back_off(now)

    def failed(self, now: float) -> None:  # noqa: ARG002 - as the others
        """A connect failed because the server is away."""
        self._was_away = True

    def closed(self, size: int, lived: float, now: float) -> None:
        """A connection was closed; a pool whose share is below 1 leaves the rest to others."""
        if size == 0:
            rest = self._rng.uniform(0, 2 * self._rest_seconds(lived))
            self._start_at = max(self._start_at, now + rest)

    def _rest_seconds(self, lived: float) -> float:
        return min(lived * max(0.0, 1 / self._share - 1), _LONGEST_REST_SECONDS)

    def _back_off(self, now: float) -> None:
        longest = max(_LONGEST_PAUSE_SECONDS, 2 * self._rest_seconds(_LIFE_SECONDS))
        longest = min(_FIRST_PAUSE_SECONDS * 2**self._failures, longest)
        self._failures = min(self._failures + 1, 10)
        self._start_at = now + self._rng.uniform(0, longest)

    def allowance(self, now: float, waited: float = 0.0) -> int:
        """Connections that the pool may have, 1 to `max_size`; what is above goes when idle."""
        if waited >= _PATIENT_SECONDS and not self._is_full(now):
            return self.max_size
        share = self._share + self._jitter + self._faded(self._seen_at + _FADES_SECONDS, now)
        taught = max(self._refused_size, 1) + self._faded(self._refused_at, now)
        return max(1, math.floor(min(share, taught, self.max_size)))

    def _faded(self, since: float, now: float) -> float:
        """Connections that may be had again because what forbade them is so long ago."""
        return max(0.0, now - since) / _FADES_SECONDS * self.max_size

    def _is_full(self, now: float) -> bool:
        is_known = bool(self._limit) and now - self._seen_at < _FADES_SECONDS
        return is_known and self._sessions >= self.ceiling

    def pause(self, size: int, now: float, waited: float = 0.0) -> float:
        """Seconds until one more may be opened; at 0 it is taken as opened; `inf`: ask again after
        the next look. Those being opened count as part of `size`; `waited` is for how long the
        first in the line has."""
        if size == 0:
            seconds = max(0.0, self._start_at - now)
            if seconds == 0:  # the first one will show how full the server is
                self._first_until = now + _FIRST_SECONDS
            return seconds
        if now < self._first_until:
            return math.inf
        is_fresh = now - self._seen_at <= 1.5 * self._look_seconds
        is_urgent = waited >= _PATIENT_SECONDS and not (self._is_full(now) and is_fresh)
        if is_urgent:
            every = _URGENT_SECONDS if is_fresh else _PROBE_SECONDS
        elif self._is_full(now) or size >= self.allowance(now):
            return math.inf
        else:
            every = self._growth(size)
        seconds = max(self._start_at, self._opened_at + self._patience * every) - now
        if seconds > 0:
            return seconds
        self._opened_at = now
        self._patience = self._rng.uniform(0, 2)
        return 0.0

    def _growth(self, size: int) -> float:
        """Seconds between two connects, in the mean: logistic growth. As many pools as sessions may
        open in the blind moment, and take half the room together. Large pools wait longer."""
        seconds = _BLIND_SECONDS * max(0, size - 1)
        if self._limit:
            seconds *= self._sessions / max(1, self.ceiling - self._sessions)
        elif self._refused_at == -math.inf:
            return 0.0  # nobody said anything against it
        return min(seconds, _LONGEST_GROWTH_SECONDS) if seconds > 0.01 else 0.0

    def keeps(self, size: int, now: float, waited: float = 0.0) -> bool:
        """Whether to keep the connection just opened beside `size` others. Above the ceiling only a
        first one has a chance, which falls to nothing at the limit (as random early detection does
        in a router: Floyd, Jacobson 1993)."""
        self._first_until = -math.inf
        excess = self._sessions - self.ceiling
        is_desperate = size == 0 and waited >= _DESPERATE_SECONDS
        if self._limit and excess > 0 and not is_desperate:
            chance = 0.0 if size else (1 - excess / max(1, self._limit - self.ceiling)) ** 3
            if self._rng.random() >= chance:
                self._back_off(now)
                return False
        self._failures = 0
        self._jitter = self._rng.random()
        return True

    def idle_seconds(self, max_idle: float, now: float) -> float:
        """How long an unused connection may stay: less and less as the server fills."""
        if self._crowding(now) == -math.inf:
            return max_idle
        room = (_IDLE_NONE - self._mean / self.ceiling) / (_IDLE_NONE - _IDLE_FREE)
        least = _LEAST_IDLE_SECONDS if self._mean < self.ceiling else 0.0
        return max(least, max_idle * min(max(room, 0.0), 1.0))

    def life_seconds(self, now: float) -> float:
        """How long a connection may live, so that pools without one get their turn."""
        crowding, jitter = self._crowding(now), 0.7 + 0.6 * self._jitter
        if crowding > 0:
            return _LIFE_SECONDS / crowding * max(1.0, self._share) * jitter
        if not self._limit and now - self._refused_at < _FADES_SECONDS:
            return _LONGEST_REST_SECONDS * jitter
        return math.inf

    def next_look(self, now: float) -> float:
        """Seconds until it makes sense to ask the server again."""
        return max(0.0, self._seen_at + self._look_seconds * (0.75 + self._jitter / 2) - now)

    @property
    def _look_seconds(self) -> float:
        often, seldom = _LOOK_SECONDS
        is_roomy = max(self._mean, self._sessions) < _IDLE_FREE * self.ceiling
        return max(seldom if is_roomy else often, self._sessions / _LOOKS_PER_SECOND)
