"""The pool: lend, give back, discard.

Three rules hold everywhere. No lock is held across I/O. A borrower waits for the pool alone, never
for a connect or a check that hangs: those run in other threads, or are bounded. What nobody is sure
of is closed, not lent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final, NoReturn

from unhang import timeouts
from unhang.pool import messages, process
from unhang.pool.connection import (
    GONE,
    IDLE,
    LEASE_SECONDS,
    LEASED,
    RESETTING,
    PooledConnection,
    Waiter,
)
from unhang.pool.counters import Counters
from unhang.pool.driver import Driver
from unhang.pool.errors import PoolClosed, PoolOverloaded, PoolTimeout
from unhang.pool.growth import Growth, Unlimited
from unhang.pool.line import STANDING_SECONDS, Line
from unhang.pool.opening import Opening
from unhang.pool.options import PoolOptions
from unhang.pool.owners import current_owner
from unhang.pool.stats import PoolStats

logger = logging.getLogger("unhang.pool")

TRUSTED_SECONDS: Final = 0.1
"""A connection used so recently is lent without a look, unless the borrower asks for one."""

PING_AFTER_SECONDS: Final = 30.0
"""A path that drops packets in silence shows nothing to `poll()`: after so long, ask the server."""

PING_TIMEOUT_SECONDS: Final = 1.0

WARM_SECONDS: Final = float(timeouts.client_limit(timeouts.RECOMMENDED_WAIT_TIMEOUT))
"""How long after its last use the warm minimum is kept: 280 s."""

CLOSE_GRACE_SECONDS: Final = 30.0
"""Celery calls `close_pool()` around every task: a pool in steady use must survive that."""


class Pool:
    """Connections to one database, for all threads of this process.

    Args:
        driver: How to handle its connections.
        options: Sizes and times.
        name: For messages and metrics.
        growth: Makes the policy of how far it may grow, by `max_size`; made anew after a fork.
        clock: Seconds that only ever go forward.
    """

    def __init__(
        self,
        driver: Driver,
        options: PoolOptions,
        *,
        name: str = "default",
        growth: Callable[[int], Growth] = Unlimited,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.driver = driver
        self.options = options
        self.clock = clock
        self._make_growth = growth
        self.generation = 0
        self.is_closed = False
        self._set_up()
        process.register(self)

    def __repr__(self) -> str:
        return f"<Pool {self.name!r} {self.stats()}>"

    def _set_up(self) -> None:
        self.lock = threading.Lock()
        self.counters = Counters()
        self.growth = self._make_growth(self.options.max_size)
        self._allowance = self.options.max_size
        self._wants_look = False
        self.long_leases = 0
        """Connections whose borrowers are long about it, as somebody else sees to: they do not
        count against the pool's share of the server, or nobody quick could get one meanwhile."""
        self._can_look = True
        self._looked_at = -math.inf
        self._opening = Opening(self)
        # Appending and popping at the right end are atomic: the way of a borrower who finds an
        # idle connection, and back, takes no lock.
        self._idle: deque[PooledConnection] = deque()
        self._all: set[PooledConnection] = set()
        self._line = Line(self.options.timeout)
        self._waiters = self._line.waiters
        self._abandoned: deque[tuple[PooledConnection, int]] = deque()
        self._close_at: float | None = None
        self._last_used = -math.inf

    # ---- lend ----

    def lend(self, timeout: float | None = None, *, careful: bool = True) -> PooledConnection:
        """A connection for the running thread, until `give_back` or `discard`.

        Args:
            timeout: Seconds to wait at most, for everything together; the option's by default.
            careful: Look whether the server ended it, even if it was in use a moment ago. A
                borrower that can begin again needs no such look.

        Raises:
            PoolTimeout: None became free, and none could be opened, in time.
            PoolOverloaded: `max_waiting` borrowers wait already, or so many do for so long that
                not everybody can be served in time.
            PoolClosed: The pool was closed.
            Exception: What the driver's `connect` raised, if waiting would not help.
        """
        now = self.clock()
        if not self._waiters:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._lend_later(now, timeout, careful)
            # The same as _is_fit and _leased, on the way that nearly every lease takes: the calls
            # saved are a third of its cost (benchmarks/lending.py).
            idle_seconds = now - connection.idle_since
            if (
                not careful
                and idle_seconds < TRUSTED_SECONDS
                and idle_seconds < connection.idle_limit
                and now < connection.expires_at
                and connection.generation == self.generation
            ) or self._is_fit_or_closed(connection, now, careful):
                connection.state = LEASED
                connection.leased_at = now
                connection.uses += 1
                connection.owner = owner = current_owner()
                owner.held.add(connection)
                return connection
            found = self._take_idle(now, careful)
            if found is not None:
                return self._leased(found, now)
        return self._lend_later(now, timeout, careful)

    def lend_again(self, connection: PooledConnection, uses: int) -> bool:
        """Lease this very connection if it is idle and nobody had it since its lease no. `uses`."""
        with self.lock:
            try:
                self._idle.remove(connection)
            except (ValueError, IndexError):  # leased, gone, or somebody is just taking it
                return False
        now = self.clock()
        if connection.uses != uses:
            self._to_idle(connection)
            return False
        if not self._is_fit_or_closed(connection, now, careful=True):
            return False
        self._leased(connection, now)
        return True

    def _take_idle(self, now: float, careful: bool) -> PooledConnection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if self._is_fit_or_closed(connection, now, careful):
                return connection

    def _is_fit_or_closed(self, connection: PooledConnection, now: float, careful: bool) -> bool:
        try:
            if self._is_fit(connection, now, careful):
                return True
        except BaseException:
            self._close(connection)
            raise
        self._close(connection)
        return False

    def _is_fit(self, connection: PooledConnection, now: float, careful: bool) -> bool:
        idle_seconds = now - connection.idle_since
        if (
            connection.generation != self.generation
            or now >= connection.expires_at
            or idle_seconds >= connection.idle_limit
        ):
            return False
        if not careful and idle_seconds < TRUSTED_SECONDS:
            return True
        if not self.driver.is_alive(connection.raw):
            self.counters.count("found_dead")
            return False
        if idle_seconds < PING_AFTER_SECONDS:
            return True
        if self.driver.ping(connection.raw, PING_TIMEOUT_SECONDS):
            return True
        # Its path is cut without a sign. The others went the same way: do not try each in turn.
        self.counters.count("found_dead")
        self.drain()
        return False

    def _leased(self, connection: PooledConnection, now: float) -> PooledConnection:
        connection.state = LEASED
        connection.leased_at = now
        connection.uses += 1
        connection.owner = owner = current_owner()
        owner.held.add(connection)
        return connection

    def _lend_later(self, began: float, timeout: float | None, careful: bool) -> PooledConnection:
        deadline = began + (self.options.timeout if timeout is None else timeout)
        first_in_line = False
        while True:
            waiter = Waiter(began)
            try:
                self._queue(waiter, first_in_line)
                self._opening.grow()
                self._await(waiter, began, deadline)
            except BaseException:
                self._leave(waiter, hand_on=True)
                raise
            self._leave(waiter)
            if waiter.error is not None:
                raise waiter.error
            if waiter.connection is None:
                self._raise_unserved(self.clock() - began, deadline)
            connection, now = waiter.connection, self.clock()
            # Idle for no time at all, so this is at most the careful look.
            if self._is_fit_or_closed(connection, connection.idle_since, careful):
                self.counters.waited(now - began)
                return self._leased(connection, now)
            first_in_line = True

    def _await(self, waiter: Waiter, began: float, deadline: float) -> None:
        """Until served, until the deadline, or until waiting on makes no sense."""
        patience = self._line.let_go_seconds()
        while not waiter.is_served:
            now = self.clock()
            if now >= deadline or (now - began >= patience and self._lets_go(now)):
                return
            waiter.wait(min(deadline, max(began + patience, now + STANDING_SECONDS)) - now)

    def _lets_go(self, now: float) -> bool:
        # A server that is away may be back within the deadline, and then serves them all at once.
        with self.lock:
            return self._line.is_standing(now) and self.connect_error is None

    def _queue(self, waiter: Waiter, first_in_line: bool) -> None:
        self._reclaim_abandoned()
        with self.lock:
            if self.is_closed:
                raise messages.error(self, PoolClosed, f"the pool {self.name!r} is closed")
            if not first_in_line:
                self._refuse_if_overloaded()
                self.counters.count("waits")
            self._line.join(waiter, self.clock(), in_front=first_in_line)
            # One may have been given back between the look at the idle ones and now.
            self._serve_waiters()

    def _refuse_if_overloaded(self) -> None:
        limit = self.options.max_waiting
        if limit and len(self._waiters) >= limit:
            self.counters.count("overloads")
            raise messages.error(self, PoolOverloaded, messages.too_many(self, len(self._waiters)))

    def _leave(self, waiter: Waiter, *, hand_on: bool = False) -> None:
        """Out of the queue; with `hand_on`, what was handed over just now goes to the next one."""
        with self.lock:
            if not waiter.is_served:
                with contextlib.suppress(ValueError):  # interrupted before it was in
                    self._line.leave(waiter, self.clock())
            elif hand_on and waiter.connection is not None:
                waiter.connection.state = IDLE
                self._idle.append(waiter.connection)
                self._serve_waiters()

    def _serve_waiters(self) -> None:
        # Under the lock.
        while self._waiters:
            try:
                connection = self._idle.pop()
            except IndexError:
                return
            connection.state = LEASED
            self._line.next(self.clock()).serve(connection)

    def fail_waiters(self, problem: BaseException) -> None:
        """Let every borrower in the queue raise this. Under the lock."""
        while self._waiters:
            self._waiters.popleft().serve(error=messages.copy_of(problem))

    def _raise_unserved(self, waited: float, deadline: float) -> NoReturn:
        if self.clock() < deadline:
            self.counters.count("overloads")
            raise messages.error(self, PoolOverloaded, messages.let_go(self, waited))
        self.counters.count("timeouts")
        cause = self.connect_error
        made = messages.error(self, PoolTimeout, *messages.timeout_args(self, waited))
        raise made from (cause[1] if cause else None)

    # ---- give back ----

    def give_back(self, connection: PooledConnection, *, dirty: bool = False) -> None:
        """End a lease.

        Args:
            connection: As it was lent; must not be used afterwards.
            dirty: The session may have state of its borrower: it is reset before anybody gets it.

        Raises:
            ValueError: It is not on lease from this pool.
        """
        if connection.state is not LEASED or connection.pool is not self:
            if connection.state is GONE and connection.pool is self:
                return  # left behind by a fork, or reclaimed
            raise ValueError(f"{connection!r} is not on lease from the pool {self.name!r}")
        now = self._end_lease(connection)
        # A closed pool has a later generation, too.
        if (
            connection.generation != self.generation
            or now >= connection.expires_at
            or len(self._all) > self._allowance + self.long_leases
        ):
            self._close(connection)
        elif dirty or self._wants_look:
            work = self._reset if dirty else self._look
            connection.state = RESETTING
            if not process.in_background(lambda: work(connection)):
                work(connection)
        else:
            self._last_used = connection.idle_since = now
            connection.state = IDLE
            if not self._waiters:
                self._idle.append(connection)
                # Somebody may have queued up since the look above, and found nothing idle.
                if self._waiters:
                    self._hand_out()
            else:
                self._hand_out(connection)

    def reclaim_leaks(self) -> None:
        """Discard what the running thread leased for one call and never gave back.

        An exception that a signal raises between two lines can lose a lease. Whoever knows that
        the thread is not in the middle of such a call, as at the end of a request, asks for this.
        """
        for connection in list(current_owner().held):
            if connection.pool is self and connection.holder is None:
                self.counters.count("reclaimed")
                self.discard(connection)

    def discard(self, connection: PooledConnection) -> None:
        """End a lease of a connection that is broken, or of unknown state."""
        if connection.state is LEASED:
            self._end_lease(connection)
            self._close(connection)

    def abandon(self, connection: PooledConnection) -> None:
        """Its borrower is no more. Takes no lock: finalisers call this."""
        self._abandoned.append((connection, connection.uses))
        process.keeper().call()

    def _end_lease(self, connection: PooledConnection) -> float:
        now = self.clock()
        seconds = now - connection.leased_at
        connection.lease_seconds += seconds
        connection.lease_counts[bisect_left(LEASE_SECONDS, seconds)] += 1
        owner = connection.owner
        if owner is not None:
            owner.held.discard(connection)
            connection.owner = None
        connection.holder = None
        return now

    def _to_idle(self, connection: PooledConnection) -> None:
        connection.state = IDLE
        self._hand_out(connection)

    def _hand_out(self, connection: PooledConnection | None = None) -> None:
        with self.lock:
            if connection is not None:
                self._idle.append(connection)
            self._serve_waiters()

    def _reset(self, connection: PooledConnection) -> None:
        try:
            with process.io():
                self.driver.reset(connection.raw)
            connection.idle_limit = self.driver.idle_limit(connection.raw)
        except BaseException as problem:  # noqa: BLE001 - whatever it was, nobody may get this one
            logger.info("pool %r: reset failed, connection closed: %s", self.name, problem)
            self._close(connection)
            return
        self.counters.count("resets")
        self._admit(connection)

    def _look(self, connection: PooledConnection) -> None:
        """Ask the server how full it is."""
        self._wants_look = False
        self._looked_at = self.clock()
        try:
            with process.io():
                room = self.driver.look(connection.raw)
        except BaseException as problem:  # noqa: BLE001 - whatever it was, nobody may get this one
            logger.info("pool %r: look failed, connection closed: %s", self.name, problem)
            self._close(connection)
            return
        now = self.clock()
        with self.lock:
            self._can_look = room is not None
            if room is not None:
                self.growth.saw(*room, now)
            self._follow_growth(now)
        connection.idle_since = now
        if self.is_closed or connection.generation != self.generation:
            self._close(connection)
        else:
            connection.state = IDLE
            self._hand_out(connection)

    def _follow_growth(self, now: float) -> None:
        """What the policy allows now, for the ways that must not ask it. Under the lock."""
        allowance = self.growth.allowance(now, self.longest_wait(now))
        self._allowance = min(self.options.max_size, allowance)
        life = self.growth.life_seconds(now)
        if life < math.inf:
            for connection in self._all:
                connection.expires_at = min(connection.expires_at, connection.opened_at + life)

    def take_in(self, connection: PooledConnection) -> None:
        """A new connection, fresh from the server."""
        with self.lock:
            self._all.add(connection)
        self.counters.count("connects")
        self._admit(connection)
        process.keeper().start()

    def _admit(self, connection: PooledConnection) -> None:
        if self.is_closed or connection.generation != self.generation:
            self._close(connection)
        else:
            connection.idle_since = self.clock()
            if self._waiters:
                self._last_used = connection.idle_since
            self._to_idle(connection)

    def _close(self, connection: PooledConnection) -> None:
        with self.lock:
            if connection in self._all:
                self._all.remove(connection)
                self.counters.retire(connection)
                now = self.clock()
                self.growth.closed(len(self._all), now - connection.opened_at, now)
            connection.state = GONE
        try:
            self.driver.close(connection.raw)
        except Exception as problem:  # noqa: BLE001 - it is gone either way
            logger.debug("pool %r: closing a connection: %s", self.name, problem)
        if self._waiters:
            self._opening.grow()

    def _reclaim_abandoned(self) -> None:
        while True:
            try:
                connection, uses = self._abandoned.popleft()
            except IndexError:
                return
            holder = connection.holder() if connection.holder is not None else None
            if connection.state is not LEASED or connection.uses != uses:
                continue  # given back meanwhile, and perhaps leased by somebody else
            if holder is None or not holder.may_outlive_its_thread():
                self.counters.count("reclaimed")
                self.discard(connection)

    # ---- what the keeper does ----

    @property
    def needs_keeper(self) -> bool:
        """Whether there is anything to look after."""
        return bool(self._all or self._abandoned or self._close_at)

    def wants_warmth(self) -> bool:
        """Whether it was used so recently that the warm minimum is worth having, and the server has
        room for what nobody uses."""
        now = self.clock()
        is_roomy = self.growth.idle_seconds(WARM_SECONDS, now) >= WARM_SECONDS
        return is_roomy and now - self._last_used < WARM_SECONDS

    def keep(self) -> float:
        """Close what is idle for too long, and refill. Returns the seconds until the next look."""
        self._reclaim_abandoned()
        now = self.clock()
        if self._close_at is not None and now >= self._close_at:
            was_used = self._last_used >= self._close_at - CLOSE_GRACE_SECONDS
            self._close_at = None
            if not was_used:
                self.drain()
        with self.lock:
            self._follow_growth(now)
            is_due = self._may_look() and self.growth.next_look(now) <= 0
        while (connection := self._take_surplus(now)) is not None:
            self._close(connection)
        if is_due:
            self._look_soon()
        if self.connect_error is None:
            self._opening.grow()
        return self._next_due(now)

    def _may_look(self) -> bool:
        """Whether what the server says would matter: a pool that rests while there is room for all
        leaves the server alone."""
        rests = self._last_used <= self._looked_at and self._allowance >= self.options.max_size
        return self._can_look and bool(self._all) and not rests

    def _look_soon(self) -> None:
        """Over the idle connection that is least in demand; without any, over the next that is
        given back."""
        try:
            connection = self._idle.popleft()
        except IndexError:
            self._wants_look = True
            return
        connection.state = RESETTING
        since = connection.idle_since
        if not process.in_background(lambda: self._look_and_forget(connection, since)):
            self._look_and_forget(connection, since)

    def _look_and_forget(self, connection: PooledConnection, idle_since: float) -> None:
        self._look(connection)
        if connection.state is IDLE:  # it was not used: it ages on
            connection.idle_since = idle_since

    def _take_surplus(self, now: float) -> PooledConnection | None:
        # The left end is the one unused longest. It leaves the deque while it is looked at, so no
        # borrower can get it meanwhile.
        try:
            connection = self._idle.popleft()
        except IndexError:
            return None
        if self._is_surplus(connection, now):
            return connection
        with self.lock:
            self._idle.appendleft(connection)
            self._serve_waiters()
        return None

    def _is_surplus(self, connection: PooledConnection, now: float) -> bool:
        return (
            now - connection.idle_since >= self._may_idle(connection)
            or now >= connection.expires_at
            or connection.generation != self.generation
            or not self.driver.is_alive(connection.raw)
        )

    def _may_idle(self, connection: PooledConnection) -> float:
        is_warm = len(self._all) <= self.options.min_size
        longest = WARM_SECONDS if is_warm else self.options.max_idle
        return min(self.growth.idle_seconds(longest, self.clock()), connection.idle_limit)

    def _next_due(self, now: float) -> float:
        try:
            oldest = self._idle[0]
        except IndexError:
            return math.inf
        return oldest.idle_since + self._may_idle(oldest) - now

    # ---- for operators ----

    @property
    def size(self) -> int:
        """Connections open."""
        return len(self._all)

    @property
    def in_use(self) -> int:
        """Connections that are not idle."""
        return max(0, len(self._all) - len(self._idle))

    @property
    def allowance(self) -> int:
        """Connections that it may have now: `max_size`, or less where the server is nearly full."""
        return min(self.options.max_size, self._allowance + self.long_leases)

    @property
    def waiting(self) -> int:
        """Borrowers in the queue."""
        return len(self._waiters)

    def longest_wait(self, now: float) -> float:
        """Seconds that the first in the queue has waited. Under the lock."""
        return self._line.longest_wait(now)

    @property
    def seconds_between_leases(self) -> float:
        """How long it takes, at the moment, until the next one in the queue is served."""
        return self._line.gap(self.clock())

    def connections(self) -> list[PooledConnection]:
        """Those that are open, in no order."""
        return list(self._all)

    @property
    def connect_error(self) -> tuple[float, BaseException] | None:
        """Why no connection can be opened at the moment, and how many seconds ago that was said."""
        opening = self._opening
        if opening.failing_since is None or opening.last_error is None:
            return None
        problem, when = opening.last_error
        return self.clock() - when, problem

    @property
    def is_proven(self) -> bool:
        """Whether a connection could be opened, the last time that one was wanted."""
        return self._opening.is_proven

    def stats(self) -> PoolStats:
        """Its numbers now; counters are since the pool was made, or since the fork."""
        connections = self.connections()
        states = [connection.state for connection in connections]
        wait_seconds, lease_seconds, lease_counts = self.counters.times(connections)
        return PoolStats(
            name=self.name,
            min_size=self.options.min_size,
            max_size=self.options.max_size,
            allowance=self.allowance,
            size=len(connections),
            idle=states.count(IDLE),
            leased=states.count(LEASED),
            resetting=states.count(RESETTING),
            connecting=self._opening.connecting,
            waiting=len(self._waiters),
            wait_seconds=wait_seconds,
            lease_seconds=lease_seconds,
            lease_counts=lease_counts,
            **self.counters.totals(connections),
        )

    def resize(self, *, min_size: int | None = None, max_size: int | None = None) -> None:
        """Other limits from now on. Leased connections that are too many go when given back.

        Raises:
            OptionError: The new limits contradict each other.
        """
        self.options = dataclasses.replace(
            self.options,
            min_size=self.options.min_size if min_size is None else min_size,
            max_size=self.options.max_size if max_size is None else max_size,
        )
        self.growth = self._make_growth(self.options.max_size)
        self._allowance = self.options.max_size
        while len(self._all) > self.options.max_size and self._close_oldest_idle():
            pass
        self._opening.grow()

    def drain(self) -> None:
        """Retire every connection there is: idle ones now, leased ones when they are given back."""
        with self.lock:
            self.generation += 1
        while self._close_oldest_idle():
            pass

    def _close_oldest_idle(self) -> bool:
        try:
            self._close(self._idle.popleft())
        except IndexError:
            return False
        return True

    def close_soon(self) -> None:
        """Let idle connections go in half a minute, unless the pool is used again until then."""
        self._close_at = self.clock() + CLOSE_GRACE_SECONDS
        process.keeper().start()

    def close(self) -> None:
        """For good: who waits gets `PoolClosed`, leased connections are closed when given back."""
        with self.lock:
            self.is_closed = True
            self.fail_waiters(messages.error(self, PoolClosed, f"pool {self.name!r} was closed"))
        self.drain()

    def start_over_in_child(self) -> None:
        """After a fork, in the child: the connections are the parent's. Sends nothing."""
        inherited = self.connections()
        self._set_up()
        self.generation += 1
        for connection in inherited:
            connection.state = GONE
            with contextlib.suppress(Exception):
                self.driver.abandon(connection.raw)
