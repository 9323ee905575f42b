"""Compare and kill on MySQL, which has no anonymous blocks and takes no subquery in a KILL.

Two statements in one packet come closest: a user variable gets the session's id only if its last
statement is still the one that was seen, and KILL takes the variable. Where the account that kills
may not read performance_schema, another one compares, one round trip before the KILL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

# By the thread's number, which is a key of that table; half the price of a join.
_UNCHANGED: Final = (
    "SELECT {id} FROM performance_schema.events_statements_current"
    " WHERE THREAD_ID = PS_THREAD_ID({id}) AND NESTING_EVENT_LEVEL = 0"
    " AND EVENT_ID = {activity} AND TIMER_END IS NOT NULL"
)
_STILL_WITHOUT_STATEMENT: Final = (
    "SELECT PROCESSLIST_ID FROM performance_schema.threads"
    " WHERE PROCESSLIST_ID = {id} AND PROCESSLIST_COMMAND = 'Sleep' AND NOT EXISTS"
    " (SELECT 1 FROM performance_schema.events_statements_current"
    " WHERE THREAD_ID = PS_THREAD_ID({id}))"
)


def _unchanged(session: Session) -> str:
    """Selects the session's id if its last statement is still the one that was seen."""
    query = _UNCHANGED if session.activity else _STILL_WITHOUT_STATEMENT
    return query.format(id=int(session.id), activity=int(session.activity or 0))


class InOnePacket:
    """Compares and kills over one connection, which takes several statements at once."""

    batch = 1
    how = _("compared inside the server, in the KILL's own packet")

    def __init__(self, connection: Connection, kill: Kill = plain_kill) -> None:
        self._connection = connection
        self._kill = kill

    def end(self, sessions: Sequence[Session]) -> list[Outcome]:
        return _until_a_surprise(sessions, self._end)

    def _end(self, session: Session) -> Outcome:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"SET @unhang = ({_unchanged(session)}); {self._kill('@unhang')}")
                while cursor.nextset():
                    pass
        except pymysql.err.MySQLError as error:
            return self._failed(session, error)
        return Outcome(session, Result.ENDED)

    def _failed(self, session: Session, error: pymysql.err.MySQLError) -> Outcome:
        code = _code(error)
        if code != NO_SUCH_THREAD:
            return Outcome(session, result_of(code), code)
        # KILL of NULL, or of one that went in between.
        found: Any = fetch_rows(self._connection, "SELECT @unhang")[0][0]
        return Outcome(session, Result.USED if found is None else Result.GONE)


class InTwoTrips:
    """One connection compares, the other one kills."""

    batch = 1
    how = _("compared over the inspector's connection, one round trip before the KILL")

    def __init__(self, inspector: Connection, killer: Connection, kill: Kill = plain_kill) -> None:
        self._inspector = inspector
        self._killer = killer
        self._kill = kill

    def end(self, sessions: Sequence[Session]) -> list[Outcome]:
        return _until_a_surprise(sessions, self._end)

    def _end(self, session: Session) -> Outcome:
        if not fetch_rows(self._inspector, _unchanged(session)):
            return Outcome(session, Result.USED)
        try:
            with self._killer.cursor() as cursor:
                cursor.execute(self._kill(int(session.id)))
        except pymysql.err.MySQLError as error:
            code = _code(error)
            return Outcome(session, result_of(code), 0 if code == NO_SUCH_THREAD else code)
        return Outcome(session, Result.ENDED)


def _until_a_surprise(
    sessions: Sequence[Session], end: Callable[[Session], Outcome]
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for session in sessions:
        if outcomes and outcomes[-1].is_surprise:
            outcomes.append(Outcome(session, Result.NOT_TRIED))
        else:
            outcomes.append(end(session))
    return outcomes


def _code(error: pymysql.err.MySQLError) -> int:
    if errorcodes.is_lost(error):
        raise error
    return errorcodes.code_of(error) or -1
