"""What both engines' readers share: rows of a source, or nothing and the reason."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pymysql

from unhang.i18n import _
from unhang.mysql import errorcodes
from unhang.survey.connect import Connection, fetch_rows
from unhang.survey.model import Unseen

Blocked = Mapping[int, frozenset[int]]
"""Ids of those that wait, by the id of the session they wait for."""

_NO_SUCH_TABLE: Final = frozenset({1109, 1146, 1051})

_TRANSACTIONS: Final = (
    "SELECT /* {mark} */ trx_mysql_thread_id,"
    " TIMESTAMPDIFF(MICROSECOND, trx_started, NOW(6)) / 1e6,"
    " trx_rows_locked, trx_rows_modified, trx_id, trx_state, trx_query,"
    " trx_mysql_thread_id = CONNECTION_ID() FROM information_schema.INNODB_TRX"
)
_STALE_SECONDS: Final = 0.12
"""InnoDB keeps its copy as long as somebody reads it every 0.1 s."""
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open transaction of InnoDB; its age in seconds."""

    session: int
    seconds: float
    rows_locked: int
    rows_modified: int
    id: str
    waits: bool


class Sources:
    """Reads sources, and notes those that this account may not read.

    Attributes:
        account: Ours as GRANT wants it written.
        unseen: Called with each thing that cannot be seen.
        sees_all: Sessions of other accounts are shown, too.
    """

    def __init__(
        self, connection: Connection, account: str, unseen: Callable[[Unseen], None]
    ) -> None:
        self.connection = connection
        self.account = account
        self.unseen = unseen
        self.sees_all = True

    def rows(self, sql: str) -> tuple[tuple[Any, ...], ...] | None:
        """All rows, or `None` if the account may not read them or the source is not there."""
        try:
            return fetch_rows(self.connection, sql)
        except pymysql.err.MySQLError as error:
            if errorcodes.code_of(error) not in errorcodes.NO_PRIVILEGE | _NO_SUCH_TABLE:
                raise
            return None

    def transactions(self) -> tuple[Transaction, ...] | None:
        """InnoDB's open transactions; `None` if they cannot be seen as they are now.

        Holds InnoDB's list of transactions while it is copied. The copy is kept as long as it is
        read often, by a monitor for instance; so ours is proven fresh by a transaction of our own
        whose statement must be in it.
        """
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_STALE_SECONDS * random.uniform(1.0, 1.5))  # noqa: S311 - jitter
            mark = f"look {random.getrandbits(64):x}"
            rows = self._transactions(mark)
            if rows is None:
                self._without_process()
                return None
            if any(row[7] and mark in str(row[6]) for row in rows):
                return tuple(_transaction(row) for row in rows if not row[7])
        self.unseen(
            Unseen(
                _("which sleepers hold a transaction open"),
                _("somebody reads INNODB_TRX so often that its copy is never renewed"),
            )
        )
        return None

    def _transactions(self, mark: str) -> tuple[tuple[Any, ...], ...] | None:
        fetch_rows(self.connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
        try:
            return self.rows(_TRANSACTIONS.format(mark=mark))
        finally:
            fetch_rows(self.connection, "COMMIT")

    def _without_process(self) -> None:
        self.sees_all = False
        self.unseen(
            Unseen(
                _("sessions of other accounts, and which sleepers hold a transaction open"),
                _("the account lacks the PROCESS privilege"),
                f"GRANT PROCESS ON *.* TO {self.account};",
            )
        )

    def no_performance_schema(self, what: str, table: str) -> None:
        """Note that `performance_schema` is there, and this account may not read it."""
        self.unseen(
            Unseen(
                what,
                _("the account may not read performance_schema.{table}").format(table=table),
                f"GRANT SELECT ON performance_schema.* TO {self.account};",
            )
        )


def _transaction(row: tuple[Any, ...]) -> Transaction:
    return Transaction(
        session=int(row[0]),
        seconds=float(row[1]),
        rows_locked=int(row[2]),
        rows_modified=int(row[3]),
        id=str(row[4]),
        waits=row[5] != "RUNNING",
    )


def read_attributes(connection: Connection) -> dict[int, dict[str, str]]:
    """What drivers said of themselves when they connected: `_pid`, `program_name`, `_client_name`,
    and with mysqlclient `_server_host`, the address that the client connected to.

    By session id; empty where `performance_schema` is off or may not be read. Read alone: joined in
    the server it is quadratic on MariaDB (5.6 s for 5,000 sessions).
    """
    rows = Sources(connection, "", lambda _: None).rows(
        "SELECT PROCESSLIST_ID, ATTR_NAME, ATTR_VALUE"
        " FROM performance_schema.session_connect_attrs"
        " WHERE ATTR_NAME IN ('_pid', 'program_name', '_client_name', '_server_host')"
    )
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for session, name, value in rows or ():
        found[int(session)][name] = value or ""
    return found


def blocked_by(pairs: Iterable[tuple[int, int]]) -> Blocked:
    """From pairs of (who holds, who waits)."""
    found: dict[int, set[int]] = defaultdict(set)
    for holder, waiter in pairs:
        if holder != waiter:
            found[holder].add(waiter)
    return {holder: frozenset(waiters) for holder, waiters in found.items()}


def host_and_port(text: str | None) -> tuple[str, int | None]:
    """`10.0.0.7:51234` as two; a socket's `localhost` has no port."""
    host, colon, port = (text or "").rpartition(":")
    return (host, int(port)) if colon and port.isdecimal() else (text or "", None)
