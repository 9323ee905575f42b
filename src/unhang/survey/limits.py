"""Limits of single accounts, and clients that are just logging in."""

from __future__ import annotations

from typing import Final

import pymysql

from unhang.mysql import errorcodes
from unhang.mysql.engine import Engine
from unhang.survey.connect import Connection, fetch
from unhang.survey.model import AccountLimit

# The session's value is the account's own limit where it has one (MariaDB 10.11, MySQL 9.7).
_OWN: Final = (
    "SELECT @@session.max_user_connections AS connections, @@global.max_user_connections AS common"
)
_ALL: Final = (
    "SELECT User AS user, MAX(max_user_connections) AS connections FROM mysql.user"
    " WHERE max_user_connections > 0 GROUP BY User"
)
_LOGINS: Final = (
    "SELECT {seconds} AS seconds FROM {schema}.processlist WHERE USER = 'unauthenticated user'"
)


def read_limits(connection: Connection, *, account: str) -> tuple[AccountLimit, ...]:
    """Accounts with a limit of their own: the one that looks, and all if it may read mysql.user.

    Args:
        account: Ours, as the server names it.
    """
    user = account.rpartition("@")[0].strip("'")
    own = fetch(connection, _OWN)[0]
    limits = {}
    if own["connections"] and own["connections"] != own["common"]:
        limits[user] = int(own["connections"])
    try:
        rows = fetch(connection, _ALL)
    except pymysql.err.MySQLError as error:
        if errorcodes.code_of(error) not in errorcodes.NO_PRIVILEGE:
            raise
        rows = []
    limits |= {str(row["user"]): int(row["connections"]) for row in rows}
    return tuple(AccountLimit(name, number) for name, number in sorted(limits.items()))


def read_logins(connection: Connection, engine: Engine) -> tuple[float, ...]:
    """How long each client that is just logging in has been at it, seconds.

    Without PROCESS nobody else is shown, which looks like none.
    """
    mariadb = engine.kind == "mariadb"
    sql = _LOGINS.format(
        seconds="TIME_MS / 1000" if mariadb else "TIME", schema="information_schema"
    )
    return tuple(float(row["seconds"] or 0) for row in fetch(connection, sql))
