"""Compare and kill on MySQL, which has no anonymous blocks and takes no subquery in a KILL.

Two statements in one packet come closest: a user variable gets the session's id only if its last
statement is still the one that was seen, and KILL takes the variable. Where the account that kills
may not read performance_schema, another one compares, one round trip before the KILL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pymysql

from unhang.i18n import _
from unhang.mysql import errorcodes
from unhang.reaper.ending.outcome import (
    NO_SUCH_THREAD,
    Kill,
    Outcome,
    Result,
    plain_kill,
    result_of,
)
from unhang.survey.connect import Connection, fetch_rows
from unhang.survey.session import Session

# By the number of the server's thread: a key of that table, and never used for another session.
_UNCHANGED: Final = (
    "SELECT {id} FROM performance_schema.events_statements_current WHERE THREAD_ID = {thread}"
    " AND NESTING_EVENT_LEVEL = 0 AND EVENT_ID = {activity} AND END_EVENT_ID IS NOT NULL"
    # Of a thread that is not instrumented any more the row above stands still.
    " AND EXISTS (SELECT 1 FROM performance_schema.threads WHERE THREAD_ID = {thread}"
    " AND PROCESSLIST_COMMAND = 'Sleep' AND INSTRUMENTED = 'YES')"
)
_THREADS: Final = (
    "SELECT PROCESSLIST_ID, THREAD_ID FROM performance_schema.threads"
    " WHERE TYPE = 'FOREGROUND' AND PROCESSLIST_ID IS NOT NULL"
)


def read_threads(inspector: Connection) -> dict[int, int]:
    """The server's thread of each session; neither number is ever used again."""
    return {int(session): int(thread) for session, thread in fetch_rows(inspector, _THREADS)}


def _unchanged(session: Session, threads: Mapping[int, int]) -> str:
    """Selects the session's id if its last statement is still the one that was seen."""
    return _UNCHANGED.format(
        id=int(session.id), thread=int(threads[session.id]), activity=int(session.activity or 0)
    )


def _without_proof(
    sessions: Sequence[Session], threads: Mapping[int, int]
) -> tuple[list[Outcome], list[Session]]:
    """Those that cannot be compared, and the others: unknown activity is no activity number."""
    outcomes, left = [], []
    for session in sessions:
        if session.activity is None:
            outcomes.append(Outcome(session, Result.USED))
        elif session.id not in threads:
            outcomes.append(Outcome(session, Result.GONE))
        else:
            left.append(session)
    return outcomes, left


def _in_order(sessions: Sequence[Session], outcomes: Sequence[Outcome]) -> list[Outcome]:
    by_id = {outcome.session.id: outcome for outcome in outcomes}
    return [by_id[session.id] for session in sessions]


class InOnePacket:
    """Compares and kills over one connection, which takes several statements at once.

    Args:
        threads: What `read_threads` found after the look.
    """

    batch = 20
    how = _("compared inside the server, in the KILL's own packet")

    def __init__(
        self, connection: Connection, threads: Mapping[int, int], kill: Kill = plain_kill
    ) -> None:
        self._connection = connection
        self._threads = threads
        self._kill = kill

    def end(self, sessions: Sequence[Session]) -> list[Outcome]:
        outcomes, left = _without_proof(sessions, self._threads)
        while left and not any(outcome.is_surprise for outcome in outcomes):
            # An error ends a packet: what follows goes into the next one.
            found = self._packet(left)
            outcomes += found
            left = left[len(found) :]
        return _in_order(sessions, outcomes + [Outcome(s, Result.NOT_TRIED) for s in left])

    def _packet(self, sessions: Sequence[Session]) -> list[Outcome]:
        pairs = (
            f"SET @unhang = ({_unchanged(session, self._threads)}); {self._kill('@unhang')}"
            for session in sessions
        )
        answered = -1
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("; ".join(pairs))
                answered = 0
                while cursor.nextset():
                    answered += 1
        except pymysql.err.MySQLError as error:
            ended = sessions[: (answered + 1) // 2]
            failed = sessions[len(ended)]
            return [*(Outcome(s, Result.ENDED) for s in ended), self._failed(failed, error)]
        return [Outcome(session, Result.ENDED) for session in sessions]

    def _failed(self, session: Session, error: pymysql.err.MySQLError) -> Outcome:
        code = _code(error)
        if code != NO_SUCH_THREAD:
            return Outcome(session, result_of(code), code)
        # KILL of NULL, or of one that went in between.
        found: Any = fetch_rows(self._connection, "SELECT @unhang")[0][0]
        return Outcome(session, Result.USED if found is None else Result.GONE)


class InTwoTrips:
    """One connection compares, the other one kills.

    Args:
        many: How many are to be ended. Of thousands eight are compared at a time, since two round
            trips each would take longer than anybody waits; few are among those that just wake up.
    """

    how = _("compared over the inspector's connection, one round trip before the KILL")

    def __init__(
        self,
        inspector: Connection,
        killer: Connection,
        threads: Mapping[int, int],
        kill: Kill = plain_kill,
        *,
        many: int = 1,
    ) -> None:
        self._inspector = inspector
        self._killer = killer
        self._threads = threads
        self._kill = kill
        self.batch = _BATCH if many > _MANY else 1

    def end(self, sessions: Sequence[Session]) -> list[Outcome]:
        outcomes, known = _without_proof(sessions, self._threads)
        queries = (f"({_unchanged(session, self._threads)})" for session in known)
        same: set[int] = set()
        if known:
            found = fetch_rows(self._inspector, " UNION ALL ".join(queries))
            same = {int(row[0]) for row in found}
        for session in known:
            if any(outcome.is_surprise for outcome in outcomes):
                outcomes.append(Outcome(session, Result.NOT_TRIED))
            elif session.id not in same:
                outcomes.append(Outcome(session, Result.USED))
            else:
                outcomes.append(self._end(session))
        return _in_order(sessions, outcomes)

    def _end(self, session: Session) -> Outcome:
        try:
            with self._killer.cursor() as cursor:
                cursor.execute(self._kill(int(session.id)))
        except pymysql.err.MySQLError as error:
            code = _code(error)
            return Outcome(session, result_of(code), 0 if code == NO_SUCH_THREAD else code)
        return Outcome(session, Result.ENDED)


_MANY: Final = 500
_BATCH: Final = 8


def _code(error: pymysql.err.MySQLError) -> int:
    if errorcodes.is_lost(error):
        raise error
    return errorcodes.code_of(error) or -1
