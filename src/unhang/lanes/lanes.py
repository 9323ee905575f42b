"""Lanes of one pool: who may start a statement now, who waits, who is refused.

A statement that is known to be fast passes without a lock. One that is slow, unknown, or in a named
lane takes a ticket for the time that it runs; when it is crowded, tickets are few (`rules`). Nobody
waits with a connection in his hands if that can be helped.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from unhang.lanes import messages, naming, tables, workers
from unhang.lanes.ledger import Entry, Ledger
from unhang.lanes.row import Row, Ticket
from unhang.lanes.rules import Verdict, judge
from unhang.lanes.stats import LaneStats, Tally
from unhang.lanes.table import LANES, Table
from unhang.pool import Pool, PooledConnection, SlowLane, process

logger = logging.getLogger("unhang.lanes")

SLOW: Final = "slow"
NEW: Final = "new"
"""Of statements that nobody knows yet. A burst of them would else take everything before the first
is over the threshold."""

TICK_SECONDS: Final = 0.25
"""How often running statements are looked at, so how late one is found to be over its threshold."""

NAP_SECONDS: Final = 0.025
"""How often those who wait look whether another process has given a place back."""

PATIENCE: Final = 6
"""Times the lane's timeout, for tasks and commands: no browser waits for them."""

IN_TRANSACTION: Final = 0.1
"""Share of its patience that a statement has inside a transaction, where it holds a connection, and
perhaps locks, while it waits."""

NEW_WAITS: Final = 1.5
"""Times the threshold. By then every run that had begun is known to be fast or slow; what is still
unknown has nobody to learn from, and runs."""

SUSPECT_SHARE: Final = 0.1
"""Of the threshold: a stranger that has been running for so long may well turn out to be slow."""

SCOUT_WAITS: Final = 0.25
"""Times the threshold: a stranger without its like under way has nobody to learn from."""

_REPLACED_SECONDS: Final = 1.0
_LOST_SECONDS: Final = 5.0
_SMOOTHING: Final = 0.3


_inside = threading.local()


class Running:
    """One run of a statement."""

    __slots__ = ("ending", "entry", "is_over", "is_proven", "request", "since", "ticket")

    def __init__(self, entry: Entry, *, is_proven: bool) -> None:
        self.entry = entry
        self.is_proven = is_proven
        self.is_over = False
        """Counted as slow, while it ran."""
        self.since = math.inf
        """When it was sent."""
        self.ticket: Ticket | None = None
        self.request: object | None = None
        """Whose it is, if it may be ended once that has nobody waiting."""
        self.ending: threading.Event | None = None
        """Set when whoever is ending it on the server is through."""


class Lanes:
    """The lanes of one pool.

    Args:
        pool: Whose connections they share.
        options: The slow lane's.
        identity: Server and account: processes with the same one share the lanes.
        label: The same for people.
        named: Share and timeout of lanes that have their own, by name.
        find_table: Gives the table of an identity.
        clock: Seconds that all processes of the host count alike.
    """

    def __init__(
        self,
        pool: Pool,
        options: SlowLane,
        *,
        identity: str,
        label: str = "",
        named: Mapping[str, SlowLane] | None = None,
        find_table: Callable[[str, str], Table] = tables.shared,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self.options = options
        self.clock = clock
        self._find_table: Callable[[], Table] = lambda: find_table(identity, label)
        self._named = dict(named or {})
        self._make_lock()
        self._start()
        self.ledger = Ledger(self.row.table, options.threshold, clock)
        self._is_inherited = False
        process.register(self)

    def __repr__(self) -> str:
        return f"<Lanes of {self.pool.name!r}, {self.row.table!r}>"

    def _make_lock(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)

    def _start(self) -> None:
        self._lines: dict[int, deque[Ticket]] = {}
        self._tallies: dict[int, Tally] = {}
        self._unsaid: deque[tuple[Any, ...]] = deque()
        self._looked_at = self.clock()
        self._ticketed: set[Running] = set()
        self.row = Row(self.pool, self._find_table, self.options.workers)
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        # The same numbers in every process: the lanes of the settings, in their order.
        for name in (SLOW, NEW, *sorted(self._named)):
            self._number(name)
        self._slow, self._new = self._numbers[SLOW], self._numbers[NEW]

    # ---- a statement's way ----

    def admit(
        self, query: Any, *, holds: bool = False, let_go: Callable[[], None] | None = None
    ) -> Running:
        """Let a statement begin, at once or after waiting for its lane.

        Args:
            query: Its text before parameters are bound.
            holds: It is inside a transaction, so it waits with a connection in its hands.
            let_go: Called before it waits; gives back what need not be held meanwhile.

        Raises:
            SlowLaneFull: The lane had no place in time. Also the driver's `OperationalError`.
        """
        entry = self.ledger.entry_of(query)
        if self.ledger.is_proven(entry):
            return Running(entry, is_proven=True)
        name = naming.name_for(self.pool.name)
        if name == naming.NO_LANE or getattr(_inside, "lanes", False):
            return Running(entry, is_proven=False)
        if self._is_inherited:
            self._attach_in_child()
        running = Running(entry, is_proven=False)
        try:
            self._enter(running, name, holds, let_go)
        except BaseException:
            with self._lock:
                self._release(running)
            raise
        finally:
            self._say()
        return running

    def done(self, running: Running, *, ok: bool = True) -> None:
        """It is over, or did not begin after all. What failed at once was not fast."""
        now = self.clock()
        seconds = now - running.since
        if (
            running.is_proven
            and running.ticket is None
            and not running.is_over
            and seconds < self.options.threshold
        ):
            self.ledger.note(running.entry, now)
            return
        with self._lock:
            entry = running.entry
            if not running.is_over and seconds >= self.options.threshold:
                running.is_over = True
                self._overran(entry)
            if running.is_over:
                self.ledger.took(entry, seconds)
            elif ok and seconds >= 0:
                self.ledger.was_fast(entry)
            self._release(running)
        self._say()

    def _release(self, running: Running) -> None:
        ticket, running.ticket = running.ticket, None
        self._ticketed.discard(running)
        if ticket is not None:
            self.row.give(ticket)
            if self.row.waiting:
                self._changed.notify_all()

    # ---- into a lane ----

    def _enter(
        self, running: Running, name: str | None, holds: bool, let_go: Callable[[], None] | None
    ) -> None:
        began = self.clock()
        with self._lock:
            self.row.publish_once()
            self.ledger.find(running.entry)
            number = self._lane_of(running.entry, name)
            if number is None:  # proven fast in the meantime
                return
            is_stranger = number == self._new
            if (name is None and not workers.serves_requests()) or (is_stranger and holds):
                # Workers of tasks are meant to be busy; who holds a transaction's locks must not
                # wait for what strangers find out. Counted, and shown.
                self._give_ticket(running, number)
                self._tally(number).admitted += 1
                return
            verdict = self._take(running, number)
            if verdict is Verdict.RUN:
                self._tally(number).admitted += 1
                return
            if verdict is Verdict.REFUSE:
                raise self._refusal(running.entry, number, 0.0)
        if let_go is not None:
            let_go()
        with self._lock:
            self._wait(running, name, began, holds)

    def _wait(self, running: Running, name: str | None, began: float, holds: bool) -> None:
        # Under the lock, which waiting releases.
        ticket = Ticket(-1, began)
        self.row.wait(1)
        try:
            while True:
                waited = self.clock() - began
                number = self._lane_of(running.entry, name)
                if number is None:  # others found out that it is fast
                    return
                if number != ticket.lane:
                    self._stand_in_line(ticket, number, running.entry, waited)
                patience = self._patience(number, holds)
                if self._is_served(running, ticket, waited, patience):
                    tally = self._tally(number)
                    tally.admitted += 1
                    tally.wait_seconds += waited
                    self._log(f"waited {waited:.2f} s", running.entry, number)
                    return
                left = patience - waited
                if left <= 0:
                    raise self._refusal(running.entry, number, waited)
                self._changed.wait(min(left, NAP_SECONDS))
        finally:
            with contextlib.suppress(KeyError, ValueError):  # interrupted between two lines
                self._lines[ticket.lane].remove(ticket)
            self.row.hide(ticket)
            self.row.wait(-1)
            self._changed.notify_all()

    def _stand_in_line(self, ticket: Ticket, number: int, entry: Entry, waited: float) -> None:
        is_first = ticket.lane < 0
        if not is_first:
            self._lines[ticket.lane].remove(ticket)
        self._lines.setdefault(number, deque()).append(ticket)
        ticket.lane = number
        self.row.show(ticket, entry, waits=True)
        if is_first:
            self._tally(number).waits += 1
            self._log("waits", entry, number)
        elif self._ought_not_to_wait(number, entry):
            raise self._refusal(entry, number, waited)

    def _ought_not_to_wait(self, number: int, entry: Entry) -> bool:
        """Whether one in the line, whose statement looks slow by now, takes a worker too many."""
        self.row.wait(-1)
        try:
            with self._alone():
                return self._verdict_alone(number, entry) is Verdict.REFUSE
        finally:
            self.row.wait(1)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """Looking and taking are one step, for the whole host where that shares its places."""
        return self.row.table.alone() if self.row.is_shared else contextlib.nullcontext()

    def _is_served(self, running: Running, ticket: Ticket, waited: float, patience: float) -> bool:
        number = ticket.lane
        if self._lines[number][0] is ticket and self._take(running, number) is Verdict.RUN:
            return True
        if number == self._new and self._ought_not_to_wait(number, running.entry):
            raise self._refusal(running.entry, number, waited)
        waits = SCOUT_WAITS if self.row.runs_since(running.entry) is None else NEW_WAITS
        longest = min(waits * self.options.threshold, patience)
        if number == self._new and waited >= longest:
            self._give_ticket(running, number)
            return True
        return False

    def _patience(self, number: int, holds: bool) -> float:
        seconds = self._share(number).timeout
        if not workers.serves_requests():
            seconds *= PATIENCE
        return seconds * IN_TRANSACTION if holds else seconds

    def _lane_of(self, entry: Entry, name: str | None) -> int | None:
        """The number of the lane that a statement needs a ticket of; `None` if it is fast."""
        if self.ledger.is_slow(entry):
            return self._slow if name is None else self._number(name)
        if self.ledger.is_unknown(entry):
            return self._new if name is None else self._number(name)
        return None

    def _take(self, running: Running, number: int) -> Verdict:
        """A ticket, if the rules allow one."""
        now = self.clock()
        ticket = Ticket(number, now)
        # Known before it is counted: what an interrupt leaves half done, `keep` finds.
        self._ticketed.add(running)
        if self.row.take_if_roomy(ticket, running.entry, now):
            running.ticket = ticket
            return Verdict.RUN
        with self._alone():
            verdict = self._verdict_alone(number, running.entry)
            if verdict is Verdict.RUN:
                self._give_ticket(running, number)
        return verdict

    def _verdict_alone(self, number: int, entry: Entry) -> Verdict:
        verdict = self._judge(number, entry)
        # A process that was killed still looks as if it held its places.
        if verdict is not Verdict.RUN and self.row.is_shared and self.row.table.sweep():
            verdict = self._judge(number, entry)
        return verdict

    def _judge(self, number: int, entry: Entry) -> Verdict:
        is_request, is_scout = workers.serves_requests(), False
        if number == self._new:
            since = self.row.runs_since(entry)
            is_scout = since is None
            # Nothing speaks against a stranger before its like has been running for a while.
            is_suspect = since is not None and self.clock() - since >= self._suspect_seconds
            is_request = is_request and is_suspect
        levels, share = self.row.levels(number), self._share(number).share
        is_stranger = number == self._new
        return judge(
            levels, share, is_request=is_request, is_stranger=is_stranger, is_scout=is_scout
        )

    @property
    def _suspect_seconds(self) -> float:
        return SUSPECT_SHARE * self.options.threshold

    def _give_ticket(self, running: Running, number: int) -> None:
        running.ticket = Ticket(number, self.clock())
        self._ticketed.add(running)
        self.row.take(running.ticket, running.entry)

    # ---- lanes by name ----

    def share_of(self, lane: str) -> SlowLane:
        """What a lane may use, and how long it is waited for."""
        return self._named.get(lane, self.options)

    def _share(self, number: int) -> SlowLane:
        return self.share_of(self._names[number])

    def _number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self.row.table.lane_number(name)
            if number is None:
                self._will_say(
                    logging.WARNING,
                    "pool %r: there are %d lanes on this host already; %r shares the slow lane",
                    self.pool.name,
                    LANES,
                    name,
                )
                number = self._numbers[SLOW]
            self._numbers[name] = number
            self._names.setdefault(number, name)
        return number

    # ---- what people see ----

    def _tally(self, number: int) -> Tally:
        tally = self._tallies.get(number)
        if tally is None:
            tally = self._tallies[number] = Tally()
        return tally

    def stats(self) -> list[LaneStats]:
        """Each lane's numbers now; counters are since the pool was made, or since the fork."""
        with self._lock:
            return [
                LaneStats.of(
                    self.pool.name,
                    name,
                    self._tally(number),
                    running=self.row.running[number],
                    waiting=len(self._lines.get(number, ())),
                )
                for number, name in self._names.items()
            ]

    def _refusal(self, entry: Entry, number: int, waited: float) -> Exception:
        if waited:
            self._tally(number).timeouts += 1
        else:
            self._tally(number).refused += 1
        self._log("refused", entry, number)
        levels = self.row.levels(number)
        return messages.refusal(self, entry, self._names[number], levels, waited)

    def _will_say(self, *record: Any) -> None:
        """Say it once no lock is held: a handler may well write to the database."""
        self._unsaid.append(record)

    def _say(self) -> None:
        while self._unsaid:
            with contextlib.suppress(IndexError):
                record = self._unsaid.popleft()
                _inside.lanes = True  # whatever a handler runs is not held back
                try:
                    logger.log(*record)
                finally:
                    _inside.lanes = False

    def _log(self, what: str, entry: Entry, number: int) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            self._will_say(
                logging.DEBUG,
                "pool %r: lane %s: %s: %.80s (%d running, %d waiting, %s; %s)",
                self.pool.name,
                self._names[number],
                what,
                entry.shape,
                self.row.running[number],
                len(self._lines.get(number, ())),
                self._tally(number),
                self.pool.stats(),
            )

    # ---- what the keeper does ----

    @property
    def needs_keeper(self) -> bool:
        """The pool's own need is ours: nothing runs without a connection."""
        return False

    def keep(self) -> float:
        """Count what is over its threshold, and tell the others. Returns seconds until the next
        look."""
        if self._is_inherited:
            return math.inf
        if self.pool.is_closed and not self.pool.size:
            self.close()
            return math.inf
        now = self.clock()
        for connection in self.pool.connections():
            running = connection.running
            if (
                isinstance(running, Running)
                and not running.is_over
                and now - running.since >= self.options.threshold
            ):
                self._count_as_slow(connection, running)
        self._reclaim_lost(now)
        with self._lock:
            tickets = [one.ticket for one in self._ticketed if one.ticket is not None]
            self.row.recount(tickets, sum(map(len, self._lines.values())))
            fast = max(0, self.pool.in_use - sum(self.row.running))
            self.row.fast += _SMOOTHING * (fast - self.row.fast)
            self.row.publish()
        if now - self._looked_at >= _REPLACED_SECONDS:
            self._looked_at = now
            self._follow_the_file()
        self._say()
        return TICK_SECONDS if self.pool.size else math.inf

    def _reclaim_lost(self, now: float) -> None:
        """Places of statements that an interrupt ended between two lines, as Celery's time limits
        may do: nobody will ever say that they are over."""
        held = {connection.running for connection in self.pool.connections()}
        longest = self.pool.options.timeout + _LOST_SECONDS
        for running in list(self._ticketed):
            ticket = running.ticket
            if ticket is None or running in held:
                continue
            is_waiting = running.since == math.inf  # for a connection, or it never will be sent
            if now - ticket.since >= (longest if is_waiting else _LOST_SECONDS):
                with self._lock:
                    if running.ticket is ticket:
                        self._release(running)

    def _count_as_slow(self, connection: PooledConnection, running: Running) -> None:
        with self._lock:
            if connection.running is not running or running.is_over:
                return
            running.is_over = True
            self._overran(running.entry)
            if running.ticket is None:
                self._give_ticket(running, self._slow)
            elif running.ticket.lane == self._new:
                self.row.move(running.ticket, self._slow, running.entry)
            # Its borrower looks for a ticket after he has said that it is over; one of us sees it.
            if connection.running is not running:
                self._release(running)

    def _overran(self, entry: Entry) -> None:
        if self.ledger.overran(entry):
            self._will_say(
                logging.INFO,
                "pool %r: slow from now on, over %g s: %.200s (%s)",
                self.pool.name,
                self.options.threshold,
                entry.shape,
                self.pool.stats(),
            )
            self._changed.notify_all()

    def _follow_the_file(self) -> None:
        """If somebody removed the file, newcomers have another one: go there, with what runs."""
        if self.row.table.is_replaced():
            with self._lock:
                if self.row.go_to(self._find_table(), self._names):
                    self.ledger.use(self.row.table)

    def start_over_in_child(self) -> None:
        """After a fork, in the child: row, tickets and locks are the parent's. The child of a fork
        often runs another program at once: what costs time waits for its first statement."""
        self._make_lock()
        self.row.forget()
        self._is_inherited = True

    def _attach_in_child(self) -> None:
        with self._lock:
            if self._is_inherited:
                self._start()
                self.ledger.use(self.row.table)
                self._is_inherited = False  # last: other threads look at it without the lock

    def close(self) -> None:
        """At exit. A process that is killed gives back as much: the kernel does it."""
        with self._lock:
            if not self._is_inherited:
                self.row.leave()
