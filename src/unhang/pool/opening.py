"""Growing a pool: who connects, how many at a time, and what happens while the server refuses."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING, Final

from unhang.pool import process
from unhang.pool.connection import PooledConnection

if TYPE_CHECKING:
    from unhang.pool.pool import Pool

_OPENERS: Final = 4
"""Connects at a time: enough for a burst, no storm on a server that just came back."""

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_LONGEST_NAP_SECONDS: Final = 0.5
"""How long an opener sleeps before it looks whether it is wanted still."""


class Opening:
    """Opens connections in the background, as many as borrowers wait without one.

    A borrower never connects himself: whichever comes first, a connection given back or a new one,
    serves him, and a connect that hangs cannot outlast his deadline.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._openers = 0
        self._has_succeeded = False
        self.connecting = 0
        self.failing_since: float | None = None
        self.last_error: tuple[BaseException, float] | None = None

    @property
    def is_proven(self) -> bool:
        """Whether a connection was opened, and the last attempt did not fail."""
        return self._has_succeeded and self.failing_since is None

    def grow(self) -> None:
        """See that as many connects run as there are borrowers without a connection."""
        with self._pool.lock:
            wanted = self._wanted() - (self._openers - self.connecting)
            # While the server refuses, one asks on behalf of all.
            limit = 1 if self.failing_since is not None else _OPENERS
            starting = max(0, min(wanted, limit - self._openers))
            self._openers += starting
        try:
            while starting:
                if not process.in_background(self._open_while_wanted):
                    self._open_while_wanted(retry=False)
                starting -= 1
        except BaseException:  # an interrupt: those not started must not count as running
            with self._pool.lock:
                self._openers -= starting
            raise

    def _wanted(self) -> int:
        # Under the lock.
        pool = self._pool
        if pool.is_closed:
            return 0
        # How many of these the server has room for, the policy says.
        room = pool.options.max_size - pool.size - self.connecting
        warm = pool.options.min_size - pool.size if pool.wants_warmth() else 0
        return max(0, min(room, max(pool.waiting, warm) - self.connecting))

    def _open_while_wanted(self, *, retry: bool = True) -> None:
        pool, pause = self._pool, _FIRST_PAUSE_SECONDS
        while True:
            with pool.lock:
                seconds = self._pause() if self._wanted() else math.inf
                if seconds == math.inf or (seconds and not retry):
                    self._openers -= 1  # the keeper asks again
                    return
                generation = pool.generation
                if not seconds:
                    self.connecting += 1
            if seconds:
                time.sleep(min(seconds, _LONGEST_NAP_SECONDS))
                continue
            try:
                connection = self._connect(generation)
            except BaseException as error:  # noqa: BLE001 - the borrowers raise it
                if not self._failed(error, retry):
                    return
                time.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 - jitter
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                if connection is not None:
                    self._succeeded(connection)
                pause = _FIRST_PAUSE_SECONDS

    def _pause(self) -> float:
        pool = self._pool
        size = max(0, pool.size - pool.long_leases) + self.connecting
        now = pool.clock()
        return pool.growth.pause(size, now, pool.longest_wait(now))

    def _connect(self, generation: int) -> PooledConnection | None:
        """A connection; `None` if the server is so full that it was closed again."""
        pool = self._pool
        with process.io():
            raw = pool.driver.connect()
            try:
                room = pool.driver.look(raw)
                idle_limit = pool.driver.idle_limit(raw)
            except BaseException:
                pool.driver.close(raw)
                raise
        now = pool.clock()
        with pool.lock:
            if room is not None:
                pool.growth.saw(*room, now)
            is_kept = pool.growth.keeps(pool.size, now, pool.longest_wait(now))
            if not is_kept:
                self.connecting -= 1
                pool.counters.count("let_go")
                pool.growth.closed(pool.size, 0.0, now)
            life = pool.growth.life_seconds(now)
        if not is_kept:
            pool.driver.close(raw)
            return None
        longest = pool.options.max_lifetime * random.uniform(0.9, 1.0)  # noqa: S311 - jitter
        return PooledConnection(
            pool,
            raw,
            generation=generation,
            now=now,
            expires_at=now + min(longest, life),
            idle_limit=idle_limit,
        )

    def _succeeded(self, connection: PooledConnection) -> None:
        with self._pool.lock:
            self.connecting -= 1
            self.failing_since = None
            self._has_succeeded = True
        self._pool.take_in(connection)
        if self._pool.waiting:
            self.grow()  # those that held back while the server refused

    def _failed(self, error: BaseException, retry: bool) -> bool:
        """Whether to try again, after a pause."""
        pool = self._pool
        pool.counters.count("connect_errors")
        is_transient = pool.driver.is_transient(error)
        with pool.lock:
            self.connecting -= 1
            now = pool.clock()
            if pool.driver.is_refusal(error):
                pool.growth.refused(pool.size, now)
            elif is_transient:
                pool.growth.failed(now)
            self.last_error = (error, now)
            if self.failing_since is None:
                self.failing_since = now
            if not is_transient:
                pool.fail_waiters(error)
            if is_transient and retry and pool.waiting and self._openers == 1:
                return True
            self._openers -= 1
            return False
