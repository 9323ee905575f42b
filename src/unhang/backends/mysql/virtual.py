"""The virtual connection: what Django's wrapper holds. It owns a connection only during a lease.

Outside a transaction a statement leases a connection and gives it back when its rows are read.
Inside one the lease lasts until commit or rollback. What may leave state in the session pins it
until `close()`. The rules of what is run again:

* nothing was sent yet (a lease, BEGIN): always, within the deadline;
* a read outside a transaction: within the deadline;
* anything else: never. It may have reached the server.
"""

from __future__ import annotations

import enum
import logging
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import MySQLdb as Database

from unhang.backends.mysql import ending
from unhang.backends.mysql.adapter import MysqlDriver
from unhang.backends.mysql.cursor import VirtualCursor
from unhang.backends.mysql.facade import DriverFacade
from unhang.backends.mysql.hindsight import NOBODYS, Hindsight, may_insert, may_look_back
from unhang.lanes import Lanes, Running
from unhang.mysql import errorcodes
from unhang.mysql.statements import Kind, kind_of
from unhang.pool import Pool, PooledConnection, PoolTimeout

logger = logging.getLogger("unhang.backends.mysql")

_CR_SERVER_GONE: Final = 2006
_HARDLY_SECONDS: Final = 0.1


class Transaction(enum.Enum):
    """How far a transaction has come on the server."""

    NONE = "none"
    BEGUN = "begun"
    """BEGIN was sent; the session is in autocommit mode otherwise."""
    MANUAL = "manual"
    """SET autocommit=0 was sent, which is what Django's own backend does in every transaction."""
    LOST = "lost"
    """The session ended in the middle; so did the transaction. Only rollback or close go on."""


NONE, BEGUN, MANUAL, LOST = Transaction
_READS: Final = frozenset({Kind.READ, Kind.READ_SESSION})
_READ, _WRITE, _DDL = Kind.READ, Kind.WRITE, Kind.DDL
_STATELESS: Final = frozenset({Kind.READ, Kind.WRITE, Kind.DDL})
"""Leave nothing in the session: outside a transaction any connection will do, for each."""

_COMMIT_NOTHING: Final = frozenset({Kind.READ, Kind.READ_SESSION, Kind.WRITE, Kind.SAVEPOINT})
"""Cannot end a transaction behind our back. After anything else BEGIN would have been spent, and
what follows would be committed statement by statement."""


class VirtualConnection(DriverFacade):
    """Looks like a connection of the driver; costs nothing to hold.

    Args:
        pool: Where leases come from.
        is_shared: Whether threads share it (Django's `inc_thread_sharing`), so that a lease may
            outlive the thread that began it.
    """

    __slots__ = (
        "__weakref__",
        "_autocommit",
        "_driver",
        "_hindsight",
        "_is_closed",
        "_is_doubtful",
        "_is_shared",
        "_keeps",
        "_lanes",
        "_lease",
        "_pin",
        "_pool",
        "_transaction",
        "is_set_up",
    )

    def __init__(self, pool: Pool, driver: MysqlDriver, is_shared: Callable[[], bool]) -> None:
        self._pool = pool
        self._driver = driver
        self._lanes: Lanes | None = driver.lanes
        self._is_shared = is_shared
        self.is_set_up = False
        self._keeps = pool.options.lease == "request"
        self._autocommit = True
        self._lease: PooledConnection | None = None
        self._transaction = NONE
        self._pin = ""
        self._is_doubtful = False
        self._is_closed = False
        self._hindsight = Hindsight()

    def __repr__(self) -> str:
        held = f"holds a connection: {self.why_held}" if self._lease is not None else "holds none"
        return f"<VirtualConnection of {self._pool.name!r}, {held}>"

    @property
    def why_held(self) -> str:
        """Why it holds a connection now, for people; empty if it does not."""
        if self._lease is None:
            return ""
        if self._pin:
            return f"pinned by {self._pin}"
        return "in a transaction" if self._transaction is not NONE else "leased for the request"

    @property
    def holds_connection(self) -> bool:
        """Whether it has a lease."""
        return self._lease is not None

    @property
    def is_clean(self) -> bool:
        """Whether it has left nothing at the server: no state, no transaction, none that was lost,
        and statements commit themselves."""
        return not self._pin and self._transaction is NONE and self._autocommit

    @property
    def pool_is_closed(self) -> bool:
        """Whether it can never lease again."""
        return self._pool.is_closed

    # ---- statements ----

    def run(self, cursor: VirtualCursor, query: Any, args: Any, *, many: bool = False) -> Any:
        """Run one statement for a cursor, which takes the result."""
        kind = kind_of(query)
        stands_alone = (
            self._autocommit
            and not self._pin
            and kind in _STATELESS
            and self._transaction is NONE
            and not self._is_closed
        )
        if stands_alone:
            return self._run_alone(cursor, kind, query, args, many)
        return self._run_held(cursor, kind, query, args, many)

    def _run_alone(
        self, cursor: VirtualCursor, kind: Kind, query: Any, args: Any, many: bool
    ) -> Any:
        pool, may_repeat, lanes = self._pool, kind is _READ, self._lanes
        running = None if lanes is None else lanes.admit(query, let_go=self.let_go)
        try:
            lease = self._take(careful=not may_repeat)
        except BaseException:
            self._done(running, ok=False)
            raise
        began = lease.leased_at
        while True:
            sent = pool.clock()
            if running is not None:
                running.since = sent
                if may_repeat:
                    running.request = ending.request.get()
                lease.running = running
            try:
                physical = lease.raw
                if may_repeat and self._driver.read_prefix and not many:
                    result = physical.cursor.execute(self._limited(query), args)
                else:
                    run = physical.cursor.executemany if many else physical.cursor.execute
                    result = run(query, args)
                cursor.take(physical)
            except BaseException as error:
                lease.running = None
                if running is not None and ending.wait_for_end(running):
                    pool.discard(lease)
                    self._done(running, ok=False)
                    raise
                is_lost = self._settle(lease, error, query, args)
                left = began + pool.options.timeout - pool.clock()
                timed_out = self._timed_out(sent)
                if may_repeat and is_lost and timed_out:
                    ending.end_timed_out(pool, lease, query)
                if not (may_repeat and is_lost and left > 0) or timed_out:
                    self._done(running, ok=False)
                    raise
                pool.counters.count("repeats")
                logger.info("pool %r: connection lost, read repeated: %s", pool.name, error)
                try:
                    lease = self._lend_instead(left, error)
                except BaseException:
                    self._done(running, ok=False)
                    raise
                continue
            lease.running = None
            if running is not None:
                self._done(running)
                if ending.wait_for_end(running):  # too late for it; a KILL may still be on its way
                    pool.discard(lease)
                    return result
            self._driver.face.let_go_of_rows(physical)
            self._done_with(lease, inserted=kind is _WRITE and bool(cursor.lastrowid))
            return result

    def _limited(self, query: Any) -> Any:
        """The same statement, ended by the server after `max_statement_seconds`."""
        prefix = self._driver.read_prefix
        return prefix.encode() + query if isinstance(query, bytes) else prefix + str(query)

    def _done(self, running: Running | None, *, ok: bool = True) -> None:
        if self._lanes is not None and running is not None:
            self._lanes.done(running, ok=ok)

    def _lend_instead(self, seconds: float, lost: BaseException) -> PooledConnection:
        """Another connection, in the time that is left. Is there hardly any, what was lost is the
        news, not that there was no other."""
        try:
            return self._pool.lend(seconds)
        except PoolTimeout as late:
            if seconds < _HARDLY_SECONDS:
                raise lost from late
            raise

    def _take(self, *, careful: bool) -> PooledConnection:
        """A connection for one statement: the one of the request, if that lives, else any."""
        lease = self._lease
        if lease is not None:
            self._lease = None
            if not lease.is_gone and (not careful or lease.raw.is_quiet()):
                return lease
            self._pool.discard(lease)
            self._hindsight.has_inserted = False
        return self._pool.lend(careful=careful)

    def _done_with(self, lease: PooledConnection, *, inserted: bool) -> None:
        if self._keeps:
            inserted = inserted or self._hindsight.has_inserted
            self._hold(lease)
            self._hindsight.has_inserted = inserted
            return
        self._hindsight.remember(lease, inserted=inserted)
        self._pool.give_back(lease)

    def _timed_out(self, sent: float) -> bool:
        # The application's own read_timeout has ended it, and the server may still be at it.
        return self._pool.clock() - sent >= 0.9 * self._driver.read_timeout

    def _run_held(
        self, cursor: VirtualCursor, kind: Kind, query: Any, args: Any, many: bool
    ) -> Any:
        running = None
        is_usable = not self._is_closed and self._transaction is not LOST
        if self._lanes is not None and is_usable and kind is not Kind.SAVEPOINT:
            held = self._lease is not None and (bool(self._pin) or self._transaction is not NONE)
            let_go = None if held else self.let_go
            running = self._lanes.admit(query, holds=held, let_go=let_go)
        try:
            result = self._run_admitted(cursor, kind, query, args, many, running)
        except BaseException:
            self._done(running, ok=False)
            raise
        self._done(running)
        return result

    def _run_admitted(
        self,
        cursor: VirtualCursor,
        kind: Kind,
        query: Any,
        args: Any,
        many: bool,
        running: Running | None,
    ) -> Any:
        lease = self._lease_for(kind, query)
        if running is not None:
            running.since = self._pool.clock()
            lease.running = running
        try:
            if kind is Kind.OTHER:
                raw = lease.raw.connection.cursor()
                result = (raw.executemany if many else raw.execute)(query, args)
                cursor.take_cursor(raw)
            else:
                physical = lease.raw
                if kind in _READS and self._driver.read_prefix and not many:
                    query = self._limited(query)
                run = physical.cursor.executemany if many else physical.cursor.execute
                result = run(query, args)
                cursor.take(physical)
                self._driver.face.let_go_of_rows(physical)
        except BaseException as error:
            lease.running = None
            self._failed(lease, error, query, args)
            raise
        lease.running = None
        if self._lease is None:  # nothing in it that would have to be held
            self._done_with(lease, inserted=False)
        elif (kind is _WRITE and cursor.lastrowid) or (kind is Kind.OTHER and may_insert(query)):
            self._hindsight.has_inserted = True
        return result

    def _failed(
        self, lease: PooledConnection, error: BaseException, query: Any = None, args: Any = None
    ) -> None:
        """A statement failed that must not be run again."""
        if self._lease is None:
            self._settle(lease, error, query, args)
        elif self._settle_held(lease, error, query, args):
            self._lose()
        else:
            # A deadlock, for one, has ended the transaction; the error does not always tell.
            self._is_doubtful = True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around the use of a pinned cursor of the driver: notice what its errors mean."""
        try:
            yield
        except BaseException as error:
            if self._lease is not None:
                self._failed(self._lease, error)
            raise

    def _lease_for(self, kind: Kind, query: Any = "") -> PooledConnection:
        self._check_usable()
        if self._lease is not None and self._hindsight.is_somebody_elses(kind, query):
            raise Database.NotSupportedError(NOBODYS)
        if not self._autocommit:
            lease = self._in_transaction(kind, query)
        elif self._lease is not None:
            lease = self._lease
        else:
            lease = self._lend(kind, query)
            if kind is Kind.OTHER:
                self._hold(lease)
        if kind is Kind.OTHER and not self._pin:
            self._pin_by("a statement that may leave state in the session")
        return lease

    def _lend(self, kind: Kind, query: Any, seconds: float | None = None) -> PooledConnection:
        """Any connection, unless the statement looks back at what an earlier one left."""
        if not may_look_back(kind, query):
            return self._pool.lend(seconds)
        lease, uses = self._hindsight.wanted(query)
        if lease is None or not self._pool.lend_again(lease, uses):
            raise Database.NotSupportedError(NOBODYS)
        return lease

    def _check_usable(self) -> None:
        if self._is_closed:
            raise Database.InterfaceError(0, "the connection is closed")
        self._notice_lost_lease()
        if self._transaction is LOST:
            raise Database.OperationalError(
                _CR_SERVER_GONE,
                "The connection was lost, and with it the transaction or the session's state; "
                "nothing is run until rollback() or close()",
            )

    def _notice_lost_lease(self) -> None:
        """Before a held lease is used: is it still ours, and is the session still there?"""
        lease = self._lease
        if lease is None:
            return
        is_bare = not self._pin and self._transaction is NONE
        if lease.is_gone:  # that of the process we were forked from, or reclaimed
            self._lease = None
            if not is_bare:
                self._lose()
        elif is_bare and not lease.raw.is_quiet():  # a lease for the request; nothing was sent yet
            self._lease = None
            self._pool.discard(lease)

    # ---- transactions ----

    def _in_transaction(self, kind: Kind, query: Any) -> PooledConnection:
        commits_nothing = kind in _COMMIT_NOTHING
        lease = self._lease
        if lease is None or self._transaction is NONE:
            # BEGIN would commit a transaction that was begun by hand, and unlock tables.
            command = b"BEGIN" if commits_nothing and not self._pin else b"SET autocommit=0"
            return self._begin(command, kind, query)
        if self._transaction is BEGUN and (self._is_doubtful or not commits_nothing):
            self._command(lease, b"SET autocommit=0")
            self._transaction = MANUAL
            self._is_doubtful = False
        return lease

    def _begin(self, command: bytes, kind: Kind = Kind.WRITE, query: Any = "") -> PooledConnection:
        """Open a transaction. Nothing has happened in it yet, so this may be tried again."""
        pool = self._pool
        deadline = pool.clock() + pool.options.timeout
        while True:
            lease = self._lease
            if lease is None:
                lease = self._lend(kind, query, deadline - pool.clock())
                self._hold(lease)
            try:
                lease.raw.connection.query(command)
            except BaseException as error:
                self._lease = None
                is_lost = self._settle(lease, error)
                if self._pin:
                    self._lose()
                if not is_lost or self._pin or pool.clock() >= deadline:
                    raise
                continue
            self._is_doubtful = False
            self._transaction = BEGUN if command == b"BEGIN" else MANUAL
            return lease

    def _command(self, lease: PooledConnection, command: bytes) -> None:
        try:
            lease.raw.connection.query(command)
        except BaseException as error:
            if self._settle_held(lease, error):
                self._lose()
            raise

    def autocommit(self, on: bool) -> None:
        """Leave or enter the mode in which statements belong to a transaction. Entering sends
        nothing; leaving commits what is open, as the server does."""
        if on and not self._autocommit:
            self._check_usable()
            if self._transaction is BEGUN:
                self.commit()
            elif self._transaction is MANUAL and self._lease is not None:
                self._command(self._lease, b"SET autocommit=1")
                self._transaction = NONE
                self._let_go_unless_pinned()
        self._autocommit = bool(on)

    def get_autocommit(self) -> bool:
        """Whether statements outside a transaction commit themselves."""
        return self._autocommit

    def begin(self) -> None:
        """Open a transaction now, as PyMySQL's method does."""
        self._check_usable()
        if self._transaction is NONE:
            self._begin(b"BEGIN")

    def commit(self) -> None:
        """Commit. When the connection is lost meanwhile nobody knows the outcome: an error."""
        self._check_usable()
        self._end(lambda connection: connection.commit())

    def rollback(self) -> None:
        """Roll back. A lost connection did that by itself."""
        if self._is_closed:
            raise Database.InterfaceError(0, "the connection is closed")
        self._notice_lost_lease()
        if self._transaction is LOST:
            self._transaction = NONE
            self._pin = ""
            return
        self._end(lambda connection: connection.rollback())

    def _end(self, how: Callable[[Any], None]) -> None:
        lease = self._lease
        if lease is None or (self._transaction is NONE and not self._pin):
            return
        try:
            how(lease.raw.connection)
        except BaseException as error:
            self._failed(lease, error)
            raise
        self._is_doubtful = False
        if self._transaction is BEGUN:
            self._transaction = NONE
            self._let_go_unless_pinned()

    # ---- leases ----

    def _hold(self, lease: PooledConnection) -> None:
        if self._lease is not lease:
            self._hindsight.has_inserted = self._hindsight.continues_insert(lease)
        self._lease = lease
        # Weakly: a wrapper that is dropped in the middle must be able to go, and its lease with it.
        lease.holder = weakref.ref(self)

    def _pin_by(self, reason: str) -> None:
        if not self._pin:
            self._pool.counters.count("pins")
        self._pin = reason

    def may_outlive_its_thread(self) -> bool:
        """For the pool: whether the end of the thread that began the lease ends the lease."""
        return self._is_shared()

    def _let_go_unless_pinned(self) -> None:
        if not self._pin and not self._keeps:
            self.let_go()

    def let_go(self) -> None:
        """Give the connection back; there must be neither a transaction nor state in it."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._hindsight.remember(lease, inserted=self._hindsight.has_inserted)
            self._pool.give_back(lease)

    def end_request(self) -> None:
        """A lease for the request ends with it, and so does one that an interrupt has lost."""
        self.let_go()
        self._pool.reclaim_leaks()

    def _settle(
        self, lease: PooledConnection, error: BaseException, query: Any = None, args: Any = None
    ) -> bool:
        """End a lease after an error. Returns whether the connection was lost, and only that."""
        if self._is_sound(lease, error, query, args):
            self._hindsight.remember(lease, inserted=False)
            self._pool.give_back(lease)
            return False
        self._pool.discard(lease)
        return errorcodes.is_lost(error)

    def _settle_held(
        self, lease: PooledConnection, error: BaseException, query: Any = None, args: Any = None
    ) -> bool:
        """After an error in a lease that goes on. Returns whether it had to be ended."""
        if self._is_sound(lease, error, query, args):
            return False
        self._pool.discard(lease)
        return True

    def _is_sound(
        self, lease: PooledConnection, error: BaseException, query: Any, args: Any
    ) -> bool:
        """Whether the connection is of use after this error."""
        if lease.is_gone or errorcodes.is_lost(error):
            return False
        if isinstance(error, Database.Error):
            code = errorcodes.code_of(error)
            if code in errorcodes.READ_ONLY and not self._pin:
                # A failover made the server a replica: the next connection goes to the new one.
                self._pool.drain()
            # An InternalError without a code is PyMySQL's: the protocol is out of step.
            in_step = code is not None or not isinstance(error, Database.InternalError)
            return in_step and self._driver.face.is_open(lease.raw)
        # An interrupt or a row that cannot be decoded leaves half an answer behind, in the socket
        # or in the driver; arguments that cannot be converted are found before anything is sent.
        return isinstance(error, Exception) and _are_bad(lease, query, args)

    def _lose(self) -> None:
        self._lease = None
        self._transaction = LOST
        self._is_doubtful = False

    def close(self) -> None:
        """Give the connection back. A transaction or state left behind is wiped before reuse."""
        self._is_closed = True
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if self._pin.startswith("the driver's"):
            self._pool.discard(lease)  # nobody knows what was done to the object
        else:
            is_dirty = bool(self._pin) or self._transaction is not NONE
            self._pool.give_back(lease, dirty=is_dirty)

    def __del__(self, _is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        lease = getattr(self, "_lease", None)
        if lease is not None and not _is_ending():
            self._pool.abandon(lease)

    # ---- what code expects of a driver's connection; the rest is in DriverFacade ----

    def __enter__(self) -> VirtualConnection:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor. With a cursor class of the driver, that one, and the connection is pinned."""
        if args or kwargs:
            return self.raw("cursor").cursor(*args, **kwargs)
        return VirtualCursor(self)

    def pinned_cursor(self, reason: str) -> Any:
        """A cursor of the driver, on a lease that lasts until `close()`."""
        lease = self._lease_for(Kind.OTHER)
        self._pin = reason
        return lease.raw.connection.cursor()

    def raw(self, name: str) -> Any:
        """The driver's connection, pinned: who works with it directly may leave anything there."""
        lease = self._lease_for(Kind.OTHER)
        self._pin = f"the driver's {name}"
        return lease.raw.connection

    def ping(self, reconnect: bool = False) -> None:  # noqa: ARG002 - the drivers' signature
        """Raise if no connection to the server can be had."""
        if not self.is_usable(self._pool.options.timeout):
            raise Database.OperationalError(_CR_SERVER_GONE, "The server does not answer")

    def is_usable(self, seconds: float) -> bool:
        """Whether the server answers within so many seconds; a connection to ask it over is waited
        for as long."""
        try:
            self._check_usable()
            lease = self._lease or self._pool.lend(seconds)
        except Database.Error:
            return False
        if self._driver.ping(lease.raw, seconds):
            if lease is not self._lease:
                self._pool.give_back(lease)
            return True
        self._pool.discard(lease)
        if lease is self._lease:
            self._lose()
        return False

    def briefly(self, use: Callable[[Any], Any]) -> Any:
        """Something that leaves nothing in the session."""
        if self._lease is not None:
            self._check_usable()
            return use(self._lease.raw.connection)
        lease = self._pool.lend()
        try:
            result = use(lease.raw.connection)
        except BaseException as error:
            self._settle(lease, error)
            raise
        self._pool.give_back(lease)
        return result


def _are_bad(lease: PooledConnection, query: Any, args: Any) -> bool:
    """Whether these arguments cannot even be made into a statement."""
    if query is None or args is None:
        return False
    try:
        lease.raw.cursor.mogrify(query, args)
    except Exception:  # noqa: BLE001 - whatever their conversion raises
        return True
    return False
