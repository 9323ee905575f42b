"""Sessions of MariaDB (10.11 and 11.8).

Idle time is TIME_MS of `information_schema.PROCESSLIST`, to the millisecond, which `SET TIMESTAMP`
does not fake; activity is its QUERY_ID, which every command moves, a ping too. Transactions are
InnoDB's. Locks (metadata, GET_LOCK, LOCK TABLES, backup) are those of the plugin
`metadata_lock_info`, which shows them to everybody, also those taken before it was installed.
`performance_schema`, off by default, adds a BEGIN that touched nothing, and last statements.

`performance_schema.threads` believes `SET TIMESTAMP` and shows the event scheduler as a sleeper, so
it is not asked who sleeps. Nothing shows a session's temporary tables or its own `wait_timeout`.
What each source locks while it is read: `docs/explanation/reading-sessions.md`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from unhang.i18n import _
from unhang.mysql.engine import Engine
from unhang.shape import certain_shape_of
from unhang.survey.connect import fetch_rows
from unhang.survey.model import Unseen
from unhang.survey.session import Lock, LockKind, Session
from unhang.survey.sessions.sources import (
    Blocked,
    Sources,
    Transaction,
    blocked_by,
    host_and_port,
)

Row = tuple[Any, ...]
Locks = Mapping[int, tuple[Lock, ...]]

_PROCESSLIST: Final = (
    "SELECT ID, USER, HOST, DB, COMMAND, TIME_MS, STATE, QUERY_ID, LEFT(INFO, 4000), MEMORY_USED,"
    " ID = CONNECTION_ID() FROM information_schema.PROCESSLIST"
)
_LOCKS: Final = (
    "SELECT THREAD_ID, LOCK_TYPE, LOCK_MODE, TABLE_SCHEMA, TABLE_NAME"
    " FROM information_schema.METADATA_LOCK_INFO WHERE THREAD_ID <> CONNECTION_ID()"
)
_LOCK_WAITS: Final = (
    "SELECT blocking_trx_id, requesting_trx_id FROM information_schema.INNODB_LOCK_WAITS"
)

INSTALL_LOCKS: Final = "INSTALL SONAME 'metadata_lock_info';"
"""Works on a running server, and shows locks taken before."""

_BACKUP_MODES: Final = re.compile(r"BACKUP_(START|FLUSH|WAIT_|BLOCK_)")


def read(
    sources: Sources,
    _engine: Engine,
    *,
    thorough: float | None,  # noqa: ARG001 - one signature for all engines
) -> tuple[list[Session], frozenset[int]]:
    """All sessions but our own, and the activity numbers that are of one session only."""
    everybody = sources.rows(_PROCESSLIST) or ()
    listed = [row for row in everybody if not row[10]]
    transactions = sources.transactions()
    locks = _locks(sources)
    extra = _Extra(sources)
    blocked = _blocked(sources, listed, transactions, locks)
    known = None if transactions is None else {t.session: t for t in transactions}
    # Without PROCESS locks tell; but a copy that is too old tells nothing.
    by_locks = not sources.sees_all
    sessions = [_session(row, known, locks, blocked, extra, by_locks) for row in listed]
    return sessions, _unique(everybody)


def _unique(everybody: Sequence[Row]) -> frozenset[int]:
    """Numbers that one session has, and that nobody can get any more.

    A ping takes the next number without using it up, and the next command of anybody takes it as
    well. So a number as high as this listing's own may get a second session at any moment.
    """
    counts = Counter(row[7] for row in everybody)
    own = next((row[7] for row in everybody if row[10]), 0)
    return frozenset(number for number, n in counts.items() if n == 1 and number and number < own)


def _session(
    row: Row,
    transactions: Mapping[int, Transaction] | None,
    locks: Locks | None,
    blocked: Blocked | None,
    extra: _Extra,
    by_locks: bool,
) -> Session:
    id_, user, host, database, command, time_ms, state, query_id, info, memory, __ = row
    name, port = host_and_port(host)
    transaction = (transactions or {}).get(id_)
    held = None if locks is None else locks.get(id_, ())
    begun = extra.open_transactions.get(id_)
    return Session(
        id=id_,
        user=user or "",
        host=name,
        port=port,
        database=database,
        command=command,
        seconds=float(time_ms or 0) / 1000,
        state=state or "",
        # In a pool of threads a request may wait in a queue while its session looks asleep.
        activity=query_id if extra.thread_each else None,
        memory=memory,
        in_transaction=_in_transaction(transactions, transaction, held if by_locks else None),
        transaction_seconds=transaction.seconds if transaction else None,
        rows_locked=transaction.rows_locked if transaction else None,
        rows_modified=transaction.rows_modified if transaction else None,
        empty_transaction=None if begun is None else begun.is_open and transaction is None,
        xa=begun.is_xa if begun else None,
        locks=held,
        blocks=None if blocked is None else tuple(sorted(blocked.get(id_, ()))),
        statement=certain_shape_of(info) if info else extra.statements.get(id_),
        is_client=True,
    )


def _in_transaction(
    transactions: Mapping[int, Transaction] | None,
    transaction: Transaction | None,
    held: tuple[Lock, ...] | None,
) -> bool | None:
    if transactions is not None:
        return transaction is not None
    # Every table that a transaction touched is locked against ALTER until it ends.
    return False if held == () else None


def _locks(sources: Sources) -> Locks | None:
    rows = sources.rows(_LOCKS)
    if rows is None:
        sources.unseen(
            Unseen(
                _("which locks a sleeper holds: GET_LOCK, LOCK TABLES, metadata locks"),
                _("MariaDB's plugin metadata_lock_info is not installed"),
                INSTALL_LOCKS,
            )
        )
        return None
    found: dict[int, list[Lock]] = defaultdict(list)
    for thread, kind, mode, schema, table in rows:
        strength = (mode or "").removeprefix("MDL_")
        name = ".".join(filter(None, (schema, table)))
        found[int(thread)].append(Lock(_kind(kind or "", strength), strength, name))
    return {thread: tuple(held) for thread, held in found.items()}


def _kind(type_: str, mode: str) -> LockKind:
    if type_ == "User lock":
        return "user"
    if type_ == "Table metadata lock":
        return "table" if mode in ("SHARED_NO_READ_WRITE", "SHARED_READ_ONLY") else "metadata"
    if mode.startswith("BACKUP_FTWRL") or type_ == "Global read lock":
        return "global"
    if type_ == "Backup lock":
        return "backup" if _BACKUP_MODES.match(mode) else "metadata"
    return "metadata" if type_.endswith("metadata lock") else "other"


# ---- who waits for whom ----


def _blocked(
    sources: Sources,
    listed: Iterable[Row],
    transactions: tuple[Transaction, ...] | None,
    locks: Locks | None,
) -> Blocked | None:
    waiting = [row for row in listed if row[4] != "Sleep" and "lock" in str(row[6]).lower()]
    if locks is None and (waiting or transactions is None):
        return None
    pairs = list(_row_lock_waits(sources, transactions))
    for row in waiting:
        pairs += [(holder, row[0]) for holder in _holders(row, locks or {})]
    return blocked_by(pairs)


def _row_lock_waits(
    sources: Sources, transactions: tuple[Transaction, ...] | None
) -> Iterator[tuple[int, int]]:
    if not any(t.waits for t in transactions or ()):
        return
    session_of = {t.id: t.session for t in transactions or ()}
    for holder, waiter in sources.rows(_LOCK_WAITS) or ():
        if str(holder) in session_of and str(waiter) in session_of:
            yield session_of[str(holder)], session_of[str(waiter)]


def _holders(row: Row, locks: Locks) -> Iterator[int]:
    """Who holds what this session waits for.

    No table of MariaDB says what a session waits for, so its statement does: it names the table.
    Those who hold it include those who wait in front of it.
    """
    state, statement = str(row[6]).lower(), str(row[8] or "")
    for session, held in locks.items():
        if session != row[0] and any(_is_wanted(lock, state, statement) for lock in held):
            yield session


def _is_wanted(lock: Lock, state: str, statement: str) -> bool:
    if "user lock" in state:
        return lock.kind == "user" and _names(statement, lock.name)
    if "backup lock" in state or "global read lock" in state:
        return lock.kind in ("backup", "global")
    if "metadata lock" in state or "table level lock" in state:
        return lock.kind in ("metadata", "table") and _names(statement, lock.name.split(".")[-1])
    return False


def _names(statement: str, name: str) -> bool:
    return bool(name) and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", statement, re.I) is not None


# ---- performance_schema, where it is on ----


class _Begun:
    def __init__(self, state: str, xa_state: str | None) -> None:
        self.is_open = state == "ACTIVE"
        self.is_xa = self.is_open and (xa_state or "NOTXA") != "NOTXA"


class _Extra:
    """What only `performance_schema` shows; empty where it is off, or may not be read."""

    def __init__(self, sources: Sources) -> None:
        self.open_transactions: Mapping[int, _Begun] = {}
        self.statements: Mapping[int, str] = {}
        ((on, handling),) = fetch_rows(
            sources.connection, "SELECT @@performance_schema, @@thread_handling"
        )
        self.thread_each = handling == "one-thread-per-connection"
        if not on:
            return
        consumers = {
            row[0]
            for row in sources.rows(
                "SELECT NAME FROM performance_schema.setup_consumers WHERE ENABLED = 'YES'"
            )
            or ()
        }
        if not consumers & {"events_transactions_current", "events_statements_current"}:
            return
        if not {"global_instrumentation", "thread_instrumentation"} <= consumers:
            return  # what is there stands still
        # Joined here: joins of these tables are quadratic in the server.
        session_of = dict(
            sources.rows(
                "SELECT THREAD_ID, PROCESSLIST_ID FROM performance_schema.threads"
                " WHERE PROCESSLIST_ID IS NOT NULL AND INSTRUMENTED = 'YES'"
            )
            or ()
        )
        instrument = sources.rows(
            "SELECT 1 FROM performance_schema.setup_instruments"
            " WHERE NAME = 'transaction' AND ENABLED = 'YES'"
        )
        if "events_transactions_current" in consumers and instrument:
            # A session without a row may have begun before this was switched on: unknown.
            self.open_transactions = {
                session_of[thread]: _Begun(state, xa)
                for thread, state, xa in sources.rows(
                    "SELECT THREAD_ID, STATE, XA_STATE"
                    " FROM performance_schema.events_transactions_current"
                )
                or ()
                if thread in session_of
            }
        if "events_statements_current" in consumers:
            self.statements = {
                session_of[thread]: text.strip()
                for thread, text in sources.rows(
                    "SELECT THREAD_ID, DIGEST_TEXT"
                    " FROM performance_schema.events_statements_current"
                    " WHERE DIGEST_TEXT IS NOT NULL"
                )
                or ()
                if thread in session_of
            }
