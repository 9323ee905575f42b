"""The server's sessions, from the source of each engine that cannot be faked by a client.

MariaDB: `information_schema.PROCESSLIST`, whose TIME_MS is exact; `performance_schema` is off by
default there and believes a client's `SET TIMESTAMP`. MySQL: `performance_schema.processlist`
(the one in `information_schema` is deprecated, and asked only where the other is not there or
`performance_schema` is off). One query a source; nothing is locked for longer than the listing
takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pymysql

from unhang.i18n import _
from unhang.mysql import errorcodes
from unhang.mysql.engine import Engine
from unhang.survey.connect import Connection, Row, fetch
from unhang.survey.model import Unseen
from unhang.survey.server import unseen_because
from unhang.survey.session import Session

SYSTEM_USERS: Final = frozenset({"system user", "event_scheduler", "unauthenticated user"})
_SYSTEM_COMMANDS: Final = frozenset({"Daemon", "Slave_IO", "Slave_SQL", "Slave_worker"})

_MARIADB: Final = (
    "SELECT ID AS id, USER AS user, HOST AS host, DB AS db, COMMAND AS command,"
    " TIME_MS / 1000 AS seconds, STATE AS state FROM information_schema.PROCESSLIST"
    " WHERE ID <> CONNECTION_ID()"
)
_MYSQL: Final = (
    "SELECT ID AS id, USER AS user, HOST AS host, DB AS db, COMMAND AS command,"
    " TIME AS seconds, STATE AS state FROM {schema}.processlist"
    " WHERE ID <> CONNECTION_ID()"
)
_PROCESSLIST_SINCE: Final = (8, 0, 22)
_TRANSACTIONS: Final = (
    "SELECT trx_mysql_thread_id AS id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) AS seconds,"
    " trx_rows_locked AS rows_locked, trx_rows_modified AS rows_modified"
    " FROM information_schema.INNODB_TRX"
)
_OWN_TIMEOUTS: Final = (
    "SELECT t.PROCESSLIST_ID AS id, v.VARIABLE_VALUE AS wait_timeout"
    " FROM performance_schema.variables_by_thread v"
    " JOIN performance_schema.threads t USING (THREAD_ID)"
    " WHERE v.VARIABLE_NAME = 'wait_timeout' AND t.PROCESSLIST_ID IS NOT NULL"
)


def read_sessions(
    connection: Connection,
    engine: Engine,
    *,
    account: str,
    unseen: Callable[[Unseen], None],
) -> tuple[Session, ...]:
    """Every client session but our own, oldest id first.

    Without PROCESS a server shows an account its own sessions only, and nobody's transactions;
    `in_transaction` is then `None`.
    """
    blind = unseen_because(connection, engine) if engine.kind == "mysql" else None
    rows = fetch(connection, _listing(engine, blind=blind is not None))
    transactions = _transactions(connection, account=account, unseen=unseen)
    if blind:
        unseen(Unseen(_("each session's own wait_timeout"), blind))
    # No table of MariaDB shows another session's variables (10.11, 11.8).
    asked = engine.kind == "mysql" and not blind
    timeouts = _own_timeouts(connection, account=account, unseen=unseen) if asked else {}
    sessions = (
        _session(row, transactions, timeouts.get(row["id"]))
        for row in rows
        if row["user"] not in SYSTEM_USERS and row["command"] not in _SYSTEM_COMMANDS
    )
    return tuple(sorted(sessions, key=lambda session: session.id))


def _listing(engine: Engine, *, blind: bool) -> str:
    if engine.kind == "mariadb":
        return _MARIADB
    old = blind or engine.release < _PROCESSLIST_SINCE
    return _MYSQL.format(schema="information_schema" if old else "performance_schema")


def _session(row: Row, transactions: dict[int, Row] | None, wait_timeout: int | None) -> Session:
    transaction = (transactions or {}).get(row["id"])
    return Session(
        id=row["id"],
        user=row["user"] or "",
        # The client's port differs for each connection and says nothing about its owner.
        host=(row["host"] or "").rsplit(":", 1)[0],
        database=row["db"],
        command=row["command"],
        seconds=float(row["seconds"] or 0),
        state=row["state"] or "",
        in_transaction=None if transactions is None else transaction is not None,
        transaction_seconds=float(transaction["seconds"]) if transaction else None,
        rows_locked=int(transaction["rows_locked"]) if transaction else None,
        rows_modified=int(transaction["rows_modified"]) if transaction else None,
        wait_timeout=wait_timeout,
    )


def _transactions(
    connection: Connection, *, account: str, unseen: Callable[[Unseen], None]
) -> dict[int, Row] | None:
    try:
        rows = fetch(connection, _TRANSACTIONS)
    except pymysql.err.MySQLError as error:
        if errorcodes.code_of(error) not in errorcodes.NO_PRIVILEGE:
            raise
        unseen(
            Unseen(
                _("sessions of other accounts, and which sleepers hold a transaction open"),
                _("the account lacks the PROCESS privilege"),
                f"GRANT PROCESS ON *.* TO {account};",
            )
        )
        return None
    return {row["id"]: row for row in rows}


def _own_timeouts(
    connection: Connection, *, account: str, unseen: Callable[[Unseen], None]
) -> dict[int, int]:
    try:
        rows = fetch(connection, _OWN_TIMEOUTS)
    except pymysql.err.MySQLError as error:
        if errorcodes.code_of(error) not in errorcodes.NO_PRIVILEGE:
            raise
        unseen(
            Unseen(
                _("each session's own wait_timeout"),
                _("the account may not read performance_schema.variables_by_thread"),
                f"GRANT SELECT ON performance_schema.* TO {account};",
            )
        )
        return {}
    return {row["id"]: int(row["wait_timeout"]) for row in rows}
