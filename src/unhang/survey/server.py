"""Facts of the server itself: identity, variables with their origin, status counters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import pymysql

from unhang.i18n import _
from unhang.mysql import errorcodes
from unhang.mysql.engine import Engine, identify
from unhang.survey.connect import Connection, fetch
from unhang.survey.model import Origin, OriginKind, Server, Unseen, Variable

VARIABLES: Final = (
    "wait_timeout",
    "interactive_timeout",
    "max_connections",
    "max_user_connections",
    "skip_name_resolve",
)
STATUS: Final = (
    "Threads_connected",
    "Threads_running",
    "Max_used_connections",
    "Aborted_connects",
    "Aborted_connects_preauth",
    "Access_denied_errors",
    "Connection_errors_max_connections",
    "Uptime",
    "Com_admin_commands",
    "Questions",
)

_FIRST_WITH_ORIGINS: Final = (8, 0, 0)
_SWITCHES: Final = {"ON": "1", "OFF": "0"}

# MariaDB: information_schema.SYSTEM_VARIABLES.GLOBAL_VALUE_ORIGIN
# MySQL: performance_schema.variables_info.VARIABLE_SOURCE
_ORIGINS: Final[Mapping[str, OriginKind]] = {
    "COMPILE-TIME": "compiled default",
    "CONFIG": "option file",
    "COMMAND-LINE": "command line",
    "SQL": "set global",
    "COMPILED": "compiled default",
    "GLOBAL": "option file",
    "SERVER": "option file",
    "EXPLICIT": "option file",
    "EXTRA": "option file",
    "USER": "option file",
    "COMMAND_LINE": "command line",
    "PERSISTED": "persisted",
    "DYNAMIC": "set global",
}


def read_server(
    connection: Connection, *, account: str, unseen: Callable[[Unseen], None]
) -> Server:
    """The server behind `connection`.

    Args:
        account: Our account as the server names it, for the GRANT in an `Unseen`.
        unseen: Called with each thing that this account may not see.
    """
    about = fetch(
        connection,
        "SELECT @@version AS version, @@version_comment AS comment, @@hostname AS hostname,"
        " @@port AS port, @@datadir AS datadir, @@global.read_only AS read_only",
    )[0]
    engine = identify(about["version"], about["comment"])
    values = _integers(_show(connection, "GLOBAL VARIABLES", VARIABLES))
    origins = _origins(connection, engine, account=account, unseen=unseen)
    persisted = _persisted(connection, engine)
    if persisted is None:
        # Without it no value's origin is certain, and nobody may believe that nothing is persisted.
        _tell_hidden("persisted_variables", account, unseen)
        origins, persisted = {}, {}
    return Server(
        version=about["version"],
        version_comment=about["comment"],
        identity=_identity(connection, about),
        variables={
            name: Variable(name, value, origins.get(name, Origin("unknown")), persisted.get(name))
            for name, value in values.items()
        },
        status=_integers(_show(connection, "GLOBAL STATUS", STATUS)),
        read_only=str(about["read_only"]) not in ("0", "OFF"),
    )


def _show(connection: Connection, what: str, names: Iterable[str]) -> dict[str, str]:
    rows = fetch(connection, f"SHOW {what} WHERE Variable_name IN %s", [tuple(names)])
    return {row["Variable_name"]: row["Value"] for row in rows}


def _integers(values: Mapping[str, str]) -> dict[str, int]:
    values = {name: _SWITCHES.get(value, value) for name, value in values.items()}
    return {name: int(value) for name, value in values.items() if value.lstrip("-").isdigit()}


def _identity(connection: Connection, about: Mapping[str, Any]) -> str:
    # server_uuid: MySQL; a copy of a data directory has it, too. MariaDB's server_uid is made of
    # the machine's address and the port. A server_id would not do: SET GLOBAL changes it.
    uuid = _show(connection, "GLOBAL VARIABLES", ("server_uuid",)).get("server_uuid")
    place = "{hostname}:{port}:{datadir}".format(**about)
    return f"{uuid}:{place}" if uuid else place


def _origins(
    connection: Connection, engine: Engine, *, account: str, unseen: Callable[[Unseen], None]
) -> dict[str, Origin]:
    if engine.kind == "mariadb":
        sql = (
            "SELECT LOWER(VARIABLE_NAME) AS name, GLOBAL_VALUE_ORIGIN AS origin,"
            " GLOBAL_VALUE_PATH AS path FROM information_schema.SYSTEM_VARIABLES"
            " WHERE VARIABLE_NAME IN %s"
        )
    else:
        if engine.release < _FIRST_WITH_ORIGINS:
            unseen(Unseen(_origins_in_words(), _too_old()))
            return {}
        # There and filled also with performance_schema=OFF (MySQL 9.7), as persisted_variables is.
        sql = (
            "SELECT VARIABLE_NAME AS name, VARIABLE_SOURCE AS origin, VARIABLE_PATH AS path"
            " FROM performance_schema.variables_info WHERE VARIABLE_NAME IN %s"
        )
    try:
        rows = fetch(connection, sql, [VARIABLES])
    except pymysql.err.MySQLError as error:
        if errorcodes.code_of(error) not in errorcodes.NO_PRIVILEGE:
            raise
        _tell_hidden("variables_info", account, unseen)
        return {}
    return {
        row["name"]: Origin(_ORIGINS.get(row["origin"], "unknown"), row["path"] or None)
        for row in rows
    }


def _origins_in_words() -> str:
    return _("where the values of the server's variables come from")


def _too_old() -> str:
    return _("MySQL before 8.0 does not show it")


def _tell_hidden(table: str, account: str, unseen: Callable[[Unseen], None]) -> None:
    unseen(
        Unseen(
            _origins_in_words(),
            _("the account may not read {table}").format(table=f"performance_schema.{table}"),
            f"GRANT SELECT ON performance_schema.* TO {account};",
        )
    )


def unseen_because(connection: Connection, engine: Engine) -> str | None:
    """Why a MySQL server keeps from everybody what `performance_schema` sees; `None` if it tells.

    Switched off, its tables are there and empty (MySQL 9.7); before 8.0 some are not there. Those
    about variables are filled all the same.
    """
    if engine.release < _FIRST_WITH_ORIGINS:
        return _too_old()
    on = fetch(connection, "SELECT @@performance_schema AS value")[0]["value"]
    return None if on else _("performance_schema is off")


def _persisted(connection: Connection, engine: Engine) -> dict[str, int] | None:
    """What `mysqld-auto.cnf` holds; `None` when this account may not see it."""
    if not engine.can_persist:
        return {}
    sql = "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.persisted_variables"
    try:
        rows = fetch(connection, sql)
    except pymysql.err.MySQLError as error:
        if errorcodes.code_of(error) not in errorcodes.NO_PRIVILEGE:
            raise
        return None
    return _integers({row["VARIABLE_NAME"]: row["VARIABLE_VALUE"] for row in rows})
