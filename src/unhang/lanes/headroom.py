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

_CROWDED: Final = 0.8
_FULL: Final = 0.98
"""From the first part of the ceiling on, shares shrink and connections live only for a while; at
the second it is full: what comes and goes at random needs the rest."""

_IDLE_FREE: Final = 0.4
_IDLE_NONE: Final = 0.9
"""Up to the first part of the ceiling an idle connection may stay; from the second on it goes."""

_BLIND_SECONDS: Final = 0.03
"""From a look until what all others open meanwhile shows: about one connect."""

_LONGEST_GROWTH_SECONDS: Final = 1.0

_SMOOTH_SECONDS: Final = 3.0
"""Shares and times follow the mean of the looks over so long; whether to open, the last look."""

_SHRINK: Final = 0.6
_GROW: Final = 0.8
"""How fast a share follows, and how crowded the server is when a share is 1. Lower shares come
within a narrow band above (the power 8), larger ones below that (2)."""

_SMALLEST_SHARE: Final = 0.1
_FIRST_SHARE: Final = 1.0
"""At least, and at least at the first look."""

_LIFE_SECONDS: Final = 1.0
"""How long a connection lives when the server is full."""

_LONGEST_REST_SECONDS: Final = 5.0
"""A quarter of the pool's default timeout: with twice that, half of it is left for the rest."""

_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 2.0

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
        self._has_begun = False

    # ---- what is learned ----

    @property
    def ceiling(self) -> int:
        """Sessions that all pools together may have; 0 as long as the limit is unknown."""
        if not self._limit:
            return 0
        return max(1, math.floor(self._limit - max(self._reserve * self._limit, _LEAST_RESERVE)))

    def saw(self, sessions: int, limit: int, now: float) -> None:
        """The server was asked: right after each connect, and when `next_look` says so.

        Args:
            sessions: Its `Threads_connected`, this pool's own among them.
            limit: Its `max_connections`. Or both of the account, if it has less room of its own.
            now: Seconds that only ever go forward.
        """
        is_first, self._limit, self._sessions = not self._limit, limit, sessions
        seconds = min(now - self._seen_at, 2 * _SMOOTH_SECONDS)
        self._seen_at = now
        if is_first:
            self._mean = sessions
            self._begin_share()
            return
        self._mean += (sessions - self._mean) * -math.expm1(-seconds / _SMOOTH_SECONDS)
        self._adjust_share(min(seconds, self._look_seconds))
        if self._rng.random() < seconds / 10:  # who has the odd connection changes now and then
            self._jitter = self._rng.random()

    def _crowding(self, now: float) -> float:
        """How far into its last part the server is: 0 or less before it, 1 when it is full."""
        if not self._limit or now - self._seen_at > _FADES_SECONDS:
            return -math.inf
        return (self._mean / self.ceiling - _CROWDED) / (_FULL - _CROWDED)

    def _begin_share(self) -> None:
        """Where `_adjust_share` would end."""
        crowding = self._crowding(self._seen_at)
        if crowding > 0:
            balance = _GROW / crowding
            self._set_share(max(balance ** (2 if balance > 1 else 8), _FIRST_SHARE))

    def _adjust_share(self, seconds: float) -> None:
        share, crowding = self._share, self._crowding(self._seen_at)
        step = _SHRINK * _GROW * share ** (1 / 2 if share > 1 else 7 / 8)
        # Implicit (backward Euler), so that a long step cannot overshoot.
        gain = max(0.0, -crowding) * share
        loss = _SHRINK * max(0.0, crowding)
        self._set_share((share + (step + gain) * seconds) / (1 + loss * seconds))

    def _set_share(self, share: float) -> None:
        self._share = min(max(share, _SMALLEST_SHARE), self.max_size)

    def refused(self, size: int, now: float) -> None:
        """A connect got 1040, 1203 or 1226 while the pool had `size` connections."""
        self._refused_at, self._refused_size = now, size
        # With room seen a moment ago it is the account's own limit, and not the server's.
        if self._limit and (self._sessions >= self.ceiling or now - self._seen_at > 1):
            self.saw(self._limit, self._limit, now)
        self._back_off(now)

    def closed(self, size: int, lived: float, now: float) -> None:
        """A connection that was open for `lived` seconds was closed; `size` are left.

        A pool whose share is below 1 leaves the time between to others.
        """
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

    # ---- what is decided ----

    def allowance(self, now: float) -> int:
        """Connections that the pool may have, 1 to `max_size`; what is above goes when idle."""
        share = self._share + self._jitter + self._faded(self._seen_at + _FADES_SECONDS, now)
        taught = max(self._refused_size, 1) + self._faded(self._refused_at, now)
        return max(1, math.floor(min(share, taught, self.max_size)))

    def _faded(self, since: float, now: float) -> float:
        """Connections that may be had again because what forbade them is so long ago."""
        return max(0.0, now - since) / _FADES_SECONDS * self.max_size

    def pause(self, size: int, now: float) -> float:
        """Seconds until one more may be opened; at 0 it is taken as opened.

        Args:
            size: Connections of the pool, those being opened among them.
            now: Seconds.

        Returns:
            0: at once; `inf`: not before something changes, so ask again after the next look.
        """
        if size == 0:
            return max(0.0, self._start_at - now)
        if not self._has_begun:
            return math.inf  # the first connection shows how full it is
        is_full = self._limit and self._sessions >= self.ceiling
        if size >= self.allowance(now) or (is_full and now - self._seen_at < _FADES_SECONDS):
            return math.inf
        seconds = max(self._start_at, self._opened_at + self._patience * self._growth(size)) - now
        if seconds > 0:
            return seconds
        self._opened_at = now
        self._patience = self._rng.uniform(0, 2)
        return 0.0

    def _growth(self, size: int) -> float:
        """Seconds between two connects of a pool of this size, in the mean: logistic growth.

        There may be as many pools as sessions, and none sees what the others open in the blind
        moment: together they may take half the room. Large pools wait longer.
        """
        seconds = _BLIND_SECONDS * (1 + size)
        if self._limit:
            seconds *= self._sessions / max(1, self.ceiling - self._sessions)
        return min(seconds, _LONGEST_GROWTH_SECONDS) if seconds > 0.01 else 0.0

    def keeps(self, size: int, now: float) -> bool:
        """Whether to keep the connection just opened, after its look; else close it at once.

        Above the ceiling only a first connection has a chance, which falls to nothing at the limit
        (as random early detection does in a router: Floyd, Jacobson 1993).

        Args:
            size: Connections that the pool has besides.
            now: Seconds.
        """
        self._has_begun = True
        excess = self._sessions - self.ceiling
        if self._limit and excess > 0:
            chance = 0.0 if size else 1 - excess / max(1, self._limit - self.ceiling)
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
        return max_idle * min(max(room, 0.0), 1.0)

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
        every = self._look_seconds * (0.75 + 0.5 * self._jitter)
        return max(0.0, self._seen_at + every - now)

    @property
    def _look_seconds(self) -> float:
        return max(1.0, self._sessions / _LOOKS_PER_SECOND)
