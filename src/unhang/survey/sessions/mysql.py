"""Sessions of MySQL (9.7, and 8.0.22 and later by its documentation).

All of it comes from `performance_schema`: who is there from `threads`; idle time and activity from
`events_statements_current`, whose timer no client can set and whose EVENT_ID every command moves, a
ping too; transactions, empty and XA ones as well, from `events_transactions_current`; locks, and
who waits for them, from `metadata_locks` and `data_lock_waits`. InnoDB says how many rows a
transaction locked, and who has temporary tables of InnoDB; who ever ran CREATE TABLE, EXECUTE or a
stored program may have one of another engine. A thread that is not instrumented is unknown.

Times in `threads` and `processlist` are whole seconds of a clock that `SET TIMESTAMP` moves.
What each source locks while it is read: `docs/explanation/reading-sessions.md`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from unhang.i18n import _
from unhang.mysql.engine import Engine
from unhang.shape import certain_shape_of
from unhang.survey.model import Unseen
from unhang.survey.server import unseen_because
from unhang.survey.session import Lock, LockKind, Session
from unhang.survey.sessions.sources import (
    Blocked,
    Sources,
    Transaction,
    blocked_by,
    host_and_port,
)

Row = tuple[Any, ...]

_PROCESSLIST: Final = (
    "SELECT ID, USER, HOST, DB, COMMAND, TIME, STATE, LEFT(INFO, 4000) FROM {schema}.processlist"
    " WHERE ID <> CONNECTION_ID()"
)
_PORTS: Final = "SELECT ID, HOST FROM performance_schema.processlist WHERE HOST LIKE '%:%'"
_THREADS: Final = (
    "SELECT PROCESSLIST_ID, PROCESSLIST_USER, PROCESSLIST_HOST, PROCESSLIST_DB,"
    " PROCESSLIST_COMMAND, PROCESSLIST_TIME, PROCESSLIST_STATE, LEFT(PROCESSLIST_INFO, 4000),"
    " THREAD_ID, NAME, INSTRUMENTED = 'YES' FROM performance_schema.threads"
    " WHERE TYPE = 'FOREGROUND' AND PROCESSLIST_ID IS NOT NULL"
)
_STATEMENTS: Final = (
    "SELECT THREAD_ID, EVENT_ID, TIMER_START, TIMER_END, LEFT(DIGEST_TEXT, 1000),"
    # TIMER_END of a statement that runs is the present.
    " THREAD_ID = PS_CURRENT_THREAD_ID(), END_EVENT_ID IS NOT NULL"
    " FROM performance_schema.events_statements_current WHERE NESTING_EVENT_LEVEL = 0"
)
_OPEN: Final = (
    "SELECT THREAD_ID, XA_STATE FROM performance_schema.events_transactions_current"
    " WHERE STATE = 'ACTIVE'"
)
_LOCKS: Final = (
    "SELECT OWNER_THREAD_ID, OBJECT_TYPE, OBJECT_SCHEMA, OBJECT_NAME, LOCK_TYPE, LOCK_STATUS"
    " FROM performance_schema.metadata_locks"
    " WHERE OWNER_THREAD_ID IS NOT NULL AND OWNER_THREAD_ID <> PS_CURRENT_THREAD_ID()"
)
_LOCK_WAITS: Final = (
    "SELECT BLOCKING_THREAD_ID, REQUESTING_THREAD_ID FROM performance_schema.data_lock_waits"
)
_TEMPORARY: Final = (
    "SELECT ID FROM information_schema.INNODB_SESSION_TEMP_TABLESPACES"
    " WHERE STATE = 'ACTIVE' AND PURPOSE = 'USER'"
)
# Nothing that may have made a table, and no fewer statements than the client sent: somebody may
# have emptied this table meanwhile.
_INNOCENT: Final = (
    "SELECT e.THREAD_ID FROM"
    " (SELECT THREAD_ID, SUM(COUNT_STAR) AS statements, SUM(IF(EVENT_NAME IN"
    " ('statement/sql/create_table', 'statement/sql/call_procedure', 'statement/sql/execute_sql',"
    " 'statement/com/Execute', 'statement/sp/stmt'), COUNT_STAR, 0)) AS suspect"
    " FROM performance_schema.events_statements_summary_by_thread_by_event_name"
    " WHERE THREAD_ID IN ({threads}) GROUP BY THREAD_ID) e"
    " JOIN (SELECT THREAD_ID, CAST(VARIABLE_VALUE AS UNSIGNED) AS questions"
    " FROM performance_schema.status_by_thread"
    " WHERE THREAD_ID IN ({threads}) AND VARIABLE_NAME = 'Questions') q USING (THREAD_ID)"
    " WHERE e.suspect = 0 AND e.statements >= q.questions"
)
_TIMEOUTS: Final = (
    "SELECT THREAD_ID, VARIABLE_VALUE FROM performance_schema.variables_by_thread"
    " WHERE THREAD_ID IN ({threads}) AND VARIABLE_NAME = 'wait_timeout'"
)
_INSTRUMENTS: Final = (
    "SELECT NAME FROM performance_schema.setup_instruments WHERE ENABLED = 'YES'"
    " AND NAME IN ('transaction', 'wait/lock/metadata/sql/mdl')"
    " UNION ALL SELECT NAME FROM performance_schema.setup_consumers WHERE ENABLED = 'YES'"
    " UNION ALL SELECT 'every statement' FROM DUAL WHERE NOT EXISTS"
    " (SELECT 1 FROM performance_schema.setup_instruments WHERE ENABLED = 'NO' AND"
    " (NAME LIKE 'statement/sql/%' OR NAME LIKE 'statement/com/%' OR NAME = 'statement/sp/stmt'"
    " OR NAME LIKE 'statement/abstract/%'))"
)
# Without these what is there stands still.
_MOVES: Final = frozenset({"global_instrumentation", "thread_instrumentation", "every statement"})
_LOST: Final = (
    "SHOW GLOBAL STATUS WHERE Variable_name IN"
    " ('Performance_schema_metadata_lock_lost', 'Performance_schema_thread_instances_lost')"
)

_PROCESSLIST_SINCE: Final = (8, 0, 22)
_CLIENT: Final = "thread/sql/one_connection"
_PICOSECONDS: Final = 1e12
_TIMEOUTS_READ: Final = 200
"""Sleepers, the longest asleep first, whose own `wait_timeout` is read, 70 us each."""
_LOOKED_AT: Final = 50
"""Sleepers, the longest asleep first, of whom a short look finds out whether they may have made a
temporary table, 0.6 ms each."""


def read(
    sources: Sources, engine: Engine, *, thorough: float | None
) -> tuple[list[Session], frozenset[int]]:
    """All sessions but our own; every activity number is of one session only."""
    blind = unseen_because(sources.connection, engine)
    if blind:
        sources.unseen(Unseen(_("what sleepers hold, and each session's own wait_timeout"), blind))
        sources.transactions()
        old = sources.rows(_PROCESSLIST.format(schema="information_schema")) or ()
        return [_plain(row) for row in old], frozenset()
    threads = sources.rows(_THREADS)
    if threads is None:
        return _own_only(sources, engine), frozenset()
    return _Reader(sources, threads, thorough).sessions(), frozenset()


def _own_only(sources: Sources, engine: Engine) -> list[Session]:
    """Without SELECT on performance_schema: who sleeps, and InnoDB's transactions."""
    sources.no_performance_schema(
        _("what sleepers hold, and each session's own wait_timeout"), "threads"
    )
    schema = "performance_schema" if engine.release >= _PROCESSLIST_SINCE else "information_schema"
    transactions = sources.transactions()
    known = None if transactions is None else {t.session: t for t in transactions}
    listed = sources.rows(_PROCESSLIST.format(schema=schema)) or ()
    return [_plain(row, known) for row in listed]


def _plain(row: Row, known: Mapping[int, Transaction] | None = None) -> Session:
    id_, user, host, database, command, seconds, state, info = row
    name, port = host_and_port(host)
    transaction = known.get(id_) if known else None
    return Session(
        id=id_,
        user=user or "",
        host=name,
        port=port,
        database=database,
        command=command,
        seconds=float(seconds or 0),
        state=state or "",
        statement=certain_shape_of(info) if info else None,
        in_transaction=None if known is None else transaction is not None,
        transaction_seconds=transaction.seconds if transaction else None,
        rows_locked=transaction.rows_locked if transaction else None,
        rows_modified=transaction.rows_modified if transaction else None,
    )


class _Reader:
    """Puts together what `performance_schema` keeps by thread."""

    def __init__(self, sources: Sources, threads: Sequence[Row], thorough: float | None) -> None:
        self.sources = sources
        self.thorough = thorough
        self.threads = threads
        self.session_of = {row[8]: row[0] for row in threads}
        self.shown = {row[0] for row in sources.rows(_INSTRUMENTS) or ()}
        lost = sources.rows(_LOST) or ()
        # What did not fit into the server's tables is missing without a trace.
        self.is_complete = all(int(row[1]) == 0 for row in lost)
        self.now: int | None = None

    def sessions(self) -> list[Session]:
        own, handling = self._rows("SELECT CONNECTION_ID(), @@thread_handling")[0]
        # In a pool of threads a request may wait in a queue while its session looks asleep.
        self.thread_each = handling == "one-thread-per-connection"
        listed = [row for row in self.threads if row[0] != own]
        ports: dict[int, str] = {row[0]: row[1] for row in self._rows(_PORTS)}
        statements = self._statements()
        transactions = self.sources.transactions()
        known = None if transactions is None else {t.session: t for t in transactions}
        begun = self._begun()
        locks, waits = self._locks()
        blocked = self._blocked(waits, transactions)
        longest = self._longest(listed, statements)
        temporary, innocent = self._temporary(), self._innocent(longest)
        timeouts = self._timeouts([thread for thread, __ in longest[:_TIMEOUTS_READ]])
        found = []
        for row in listed:
            id_, thread = row[0], row[8]
            moves = bool(row[10])  # else what its thread's tables say stands still
            xa = begun.get(thread) if begun is not None and moves else None
            last = statements.get(thread) if statements is not None and moves else None
            innodb = None if known is None else id_ in known
            transaction = known.get(id_) if known else None
            host, port = host_and_port(ports.get(id_, row[2]))
            found.append(
                Session(
                    id=id_,
                    user=row[1] or "",
                    host=host,
                    database=row[3],
                    command=_command(row[4], last),
                    seconds=self._seconds(row, last),
                    state=row[6] or "",
                    in_transaction=_either(innodb, xa, locks, id_),
                    transaction_seconds=transaction.seconds if transaction else None,
                    rows_locked=transaction.rows_locked if transaction else None,
                    rows_modified=transaction.rows_modified if transaction else None,
                    wait_timeout=timeouts.get(thread),
                    port=port,
                    # No row is no proof of no statement: anybody may empty that table.
                    activity=int(last[1]) if last and self.thread_each else None,
                    empty_transaction=(
                        None if begun is None or not moves else thread in begun and not innodb
                    ),
                    xa=None if begun is None or not moves else xa not in (None, "NOTXA"),
                    locks=None if locks is None or not moves else locks.get(id_, ()),
                    temporary_tables=_has_tables(id_, thread, temporary, innocent),
                    blocks=None if blocked is None else tuple(sorted(blocked.get(id_, ()))),
                    statement=certain_shape_of(row[7]) if row[7] else last[4] if last else None,
                    is_client=row[9] == _CLIENT,
                )
            )
        return found

    def _rows(self, sql: str) -> Sequence[Row]:
        return self.sources.rows(sql) or ()

    def _statements(self) -> Mapping[int, Row] | None:
        if not {"events_statements_current", *_MOVES} <= self.shown:
            return None
        rows = self._rows(_STATEMENTS)
        self.now = next((row[2] for row in rows if row[5]), None)
        return {row[0]: row for row in rows}

    def _seconds(self, row: Row, last: Row | None) -> float:
        """By the timer of the statements' own table, which no client can set."""
        if row[4] != "Sleep" or last is None or self.now is None:
            return float(row[5] or 0)
        if not last[6]:
            return 0.0  # it has begun one since the threads were listed
        return max(0.0, (int(self.now) - int(last[3])) / _PICOSECONDS)

    def _begun(self) -> Mapping[int, str] | None:
        if not {"transaction", "events_transactions_current", *_MOVES} <= self.shown:
            return None
        return {row[0]: row[1] or "NOTXA" for row in self._rows(_OPEN)}

    def _locks(self) -> tuple[Mapping[int, tuple[Lock, ...]] | None, list[tuple[int, int]]]:
        if "wait/lock/metadata/sql/mdl" not in self.shown or not self.is_complete:
            return None, []
        held: dict[int, list[Lock]] = defaultdict(list)
        holders: dict[Row, list[int]] = defaultdict(list)
        wanted: list[tuple[Row, int]] = []
        for thread, kind, schema, name, mode, status in self._rows(_LOCKS):
            session = self.session_of.get(thread)
            if session is None:
                continue
            if status == "GRANTED":
                place = ".".join(filter(None, (schema, name)))
                held[session].append(Lock(_kind(kind, mode), mode, place))
                holders[(kind, schema, name)].append(session)
            else:
                wanted.append(((kind, schema, name), session))
        pairs = [(holder, waiter) for place, waiter in wanted for holder in holders[place]]
        return {session: tuple(locks) for session, locks in held.items()}, pairs

    def _blocked(
        self, pairs: list[tuple[int, int]], transactions: Iterable[Transaction] | None
    ) -> Blocked | None:
        if transactions is None or "wait/lock/metadata/sql/mdl" not in self.shown:
            return None
        return blocked_by([*pairs, *self._row_lock_waits(transactions)])

    def _row_lock_waits(self, transactions: Iterable[Transaction]) -> Iterator[tuple[int, int]]:
        if any(t.waits for t in transactions):
            for holder, waiter in self._rows(_LOCK_WAITS):
                if holder in self.session_of and waiter in self.session_of:
                    yield self.session_of[holder], self.session_of[waiter]

    def _temporary(self) -> frozenset[int] | None:
        rows = self.sources.rows(_TEMPORARY)
        return None if rows is None else frozenset(row[0] for row in rows)

    def _longest(
        self, listed: Iterable[Row], statements: Mapping[int, Row] | None
    ) -> list[tuple[int, float]]:
        """Threads of sleepers and their idle seconds, the longest asleep first."""
        known = statements or {}
        idle = [
            (row[8], self._seconds(row, known.get(row[8]))) for row in listed if row[4] == "Sleep"
        ]
        return sorted(idle, key=lambda pair: -pair[1])

    def _innocent(self, longest: Sequence[tuple[int, float]]) -> frozenset[int]:
        """Threads that cannot have made a temporary table."""
        if not self.shown >= _MOVES:
            return frozenset()
        if self.thorough is None:
            threads = [thread for thread, __ in longest[:_LOOKED_AT]]
        else:
            threads = [thread for thread, idle in longest if idle >= self.thorough]
        if not threads:
            return frozenset()
        asked = ", ".join(map(str, threads))
        return frozenset(row[0] for row in self._rows(_INNOCENT.format(threads=asked)))

    def _timeouts(self, threads: Sequence[int]) -> dict[int, int]:
        if not threads:
            return {}
        rows = self._rows(_TIMEOUTS.format(threads=", ".join(map(str, threads))))
        return {thread: int(value) for thread, value in rows}


def _command(listed: str, last: Row | None) -> str:
    """What it does; a statement may have begun after the threads were listed."""
    return "Query" if listed == "Sleep" and last is not None and not last[6] else listed


def _either(
    innodb: bool | None, xa: str | None, locks: Mapping[int, Any] | None, session: int
) -> bool | None:
    """In a transaction that holds something, by InnoDB or by an open one that holds locks."""
    if xa is not None and (innodb or (locks or {}).get(session)):
        return True
    return innodb


def _has_tables(
    session: int, thread: int, temporary: frozenset[int] | None, innocent: frozenset[int]
) -> bool | None:
    """Those of other engines than InnoDB no table shows: who never created any has none."""
    if temporary is not None and session in temporary:
        return True
    return False if temporary is not None and thread in innocent else None


def _kind(type_: str, mode: str) -> LockKind:
    if type_ == "USER LEVEL LOCK":
        return "user"
    if type_ == "TABLE":
        return "table" if mode in ("SHARED_NO_READ_WRITE", "SHARED_READ_ONLY") else "metadata"
    if type_ in ("GLOBAL", "COMMIT"):
        return "global" if mode.startswith("SHARED") else "metadata"
    if type_ == "BACKUP LOCK":
        return "backup" if mode.startswith("SHARED") else "metadata"
    return "metadata" if type_ in ("SCHEMA", "TABLESPACE", "COLUMN STATISTICS") else "other"
