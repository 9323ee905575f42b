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

_UNCHANGED: Final = (
    "SELECT t.PROCESSLIST_ID FROM performance_schema.threads t"
    " LEFT JOIN performance_schema.events_statements_current e"
    " ON e.THREAD_ID = t.THREAD_ID AND e.NESTING_EVENT_LEVEL = 0"
    " WHERE t.PROCESSLIST_ID = {id} AND t.PROCESSLIST_COMMAND = 'Sleep'"
    " AND IFNULL(e.EVENT_ID, 0) = {activity} AND (e.EVENT_ID IS NULL OR e.TIMER_END IS NOT NULL)"
)


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
        same = _UNCHANGED.format(id=int(session.id), activity=int(session.activity or 0))
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(f"SET @unhang = ({same}); {self._kill('@unhang')}")
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
        same = _UNCHANGED.format(id=int(session.id), activity=int(session.activity or 0))
        if not fetch_rows(self._inspector, same):
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
