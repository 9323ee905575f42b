"""Compare and kill inside MariaDB (10.11, 11.8), in one round trip, without any privilege.

`KILL QUERY ID n` finds the session whose last statement has that number, and has no effect on one
that sleeps. A session gets a new number with each command, so the server's answer 1957, no such
query, says that it has done something since it was looked at. That costs a tenth of a look at
`information_schema.PROCESSLIST`, which builds a row for every session: 20 ms with 5,000 of them.

Pings do not get a number of their own: sessions that pinged may share one, or have one that
somebody else gets next. Those are compared in PROCESSLIST, a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import pymysql

from unhang.i18n import _
from unhang.mysql import errorcodes
from unhang.reaper.ending.outcome import Kill, Outcome, Result, plain_kill, result_of
from unhang.survey.connect import Connection, fetch_rows
from unhang.survey.session import Session

_NO_SUCH_QUERY: Final = 1957
_NOT_OWNER_OF_QUERY: Final = 1979
_FEW: Final = 10
"""Compared in one look at PROCESSLIST: the KILL of the last follows a few milliseconds later."""

# code: 0 ended, 1957 used again, 1979 unproven (the number is that of another account's session),
# anything else the server's error. After an error of the KILL the rest of a batch is not tried.
_ALONE: Final = """
BEGIN NOT ATOMIC
DECLARE codes TEXT DEFAULT ''; DECLARE code, failed, proven INT DEFAULT 0;
FOR r IN (WITH v (id, number) AS (VALUES {pairs}) SELECT id, number FROM v) DO
  IF failed = 0 THEN BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN
      GET DIAGNOSTICS CONDITION 1 code = MYSQL_ERRNO;
      IF proven = 0 THEN SET code = IF(code = 1979, code, 1957);
      ELSEIF code <> 1094 THEN SET failed = 1; END IF;
      SET codes = CONCAT(codes, ' ', r.id, ':', code);
    END;
    SET proven = 0; KILL QUERY ID r.number; SET proven = 1;
    {kill};
    SET codes = CONCAT(codes, ' ', r.id, ':0');
  END; END IF;
END FOR;
SELECT codes; END
"""
_SHARED: Final = """
BEGIN NOT ATOMIC DECLARE codes TEXT DEFAULT ''; DECLARE code, failed INT DEFAULT 0;
FOR r IN (SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND = 'Sleep'
          AND (ID, QUERY_ID) IN ({pairs})) DO
  IF failed = 0 THEN BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN
      GET DIAGNOSTICS CONDITION 1 code = MYSQL_ERRNO;
      IF code <> 1094 THEN SET failed = 1; END IF;
      SET codes = CONCAT(codes, ' ', r.ID, ':', code);
    END;
    {kill};
    SET codes = CONCAT(codes, ' ', r.ID, ':0');
  END; END IF;
END FOR;
SELECT codes, failed; END
"""


class MariaDBEnder:
    """Ends sessions of the account it is logged in with.

    Args:
        connection: That account's.
        unique: Numbers that belong to one session only, as `read_sessions` found; none if they are
            few and named, which is compared without `KILL QUERY ID`.
    """

    batch = 50
    how = _("compared inside the server, by KILL QUERY ID")

    def __init__(
        self, connection: Connection, unique: frozenset[int], kill: Kill = plain_kill
    ) -> None:
        self._connection = connection
        self._kill = kill
        self._unique = unique

    def end(self, sessions: Sequence[Session]) -> list[Outcome]:
        codes: dict[int, int] = {}
        known = [s for s in sessions if s.activity]
        alone = [s for s in known if s.activity in self._unique]
        shared = [s for s in known if s.activity not in self._unique]
        # The server looks for a session from the newest on.
        alone.sort(key=lambda session: -session.id)
        if alone:
            block = _ALONE.format(pairs=_pairs(alone), kill=self._kill("r.id"))
            codes |= self._run(alone, block)
            # Either they share a number with sessions that our look was not shown, or all of them
            # may not be touched: the other comparison tells.
            shared += [s for s in alone if codes.get(s.id) == _NOT_OWNER_OF_QUERY]
            codes = {id_: code for id_, code in codes.items() if code != _NOT_OWNER_OF_QUERY}
        for start in range(0, len(shared), _FEW):
            few = shared[start : start + _FEW]
            if any(code not in _EXPECTED for code in codes.values()):
                break
            block = _SHARED.format(pairs=_pairs(few), kill=self._kill("r.ID"))
            found = self._run(few, block)
            if all(code in _EXPECTED for code in found.values()):
                # Those that the comparison left out have changed.
                codes |= {s.id: _NO_SUCH_QUERY for s in few}
            codes |= found
        # Unknown activity cannot be compared.
        codes |= {s.id: _NO_SUCH_QUERY for s in sessions if not s.activity}
        return [_outcome(session, codes.get(session.id)) for session in sessions]

    def _run(self, sessions: Sequence[Session], block: str) -> dict[int, int]:
        try:
            text = str(fetch_rows(self._connection, block)[0][0])
        except pymysql.err.MySQLError as error:
            code = errorcodes.code_of(error)
            if code is None or errorcodes.is_lost(error):
                raise
            # Of the block as a whole: its first session stands for it, the rest was not tried.
            return {sessions[0].id: code}
        return {int(i): int(c) for i, c in (pair.split(":") for pair in text.split())}


_EXPECTED: Final = frozenset({0, _NO_SUCH_QUERY, 1094})


def _pairs(sessions: Iterable[Session]) -> str:
    return ", ".join(f"({int(s.id)}, {int(s.activity or 0)})" for s in sessions)


def _outcome(session: Session, code: int | None) -> Outcome:
    if code is None:
        return Outcome(session, Result.NOT_TRIED)
    if code == 0:
        return Outcome(session, Result.ENDED)
    if code == _NO_SUCH_QUERY:
        return Outcome(session, Result.USED)
    return Outcome(session, result_of(code), code)
