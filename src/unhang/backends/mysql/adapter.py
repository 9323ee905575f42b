"""What the pool needs to know of MySQL and MariaDB: how a connection is opened, set up, cleaned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import MySQLdb as Database

from unhang import timeouts
from unhang.lanes import Lanes
from unhang.mysql import drivers, errorcodes
from unhang.mysql.drivers import PhysicalConnection
from unhang.mysql.engine import Kind, identify
from unhang.openers import note_pooled

if TYPE_CHECKING:
    from unhang.backends.mysql.wrapper import PooledWrapper

_FACTS: Final = (
    "SELECT @@session.wait_timeout, @@session.sql_auto_is_null, @@session.autocommit, "
    "CURRENT_ROLE(), DATABASE(), @@version, @@version_comment"
)

# The session's table holds the same number as the global one, which adds up all sessions: with
# 1,500 of them 0.4 ms of the server's CPU against 0.9 to 1.7 ms. No privilege is needed.
_LOOK: Final = {
    "mariadb": "SELECT VARIABLE_VALUE, @@GLOBAL.max_connections "
    "FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'THREADS_CONNECTED'",
    "mysql": "SELECT VARIABLE_VALUE, @@GLOBAL.max_connections "
    "FROM performance_schema.session_status WHERE VARIABLE_NAME = 'Threads_connected'",
}


class MysqlDriver:
    """Opens connections as one entry of DATABASES says.

    Args:
        make_wrapper: Gives a wrapper that nobody else uses. Its `get_connection_params` is asked
            for each connection anew, so a password that changes by the hour works.
        max_statement_seconds: After so long the server ends a statement that only reads; 0 is
            never.
    """

    operational_error: type[Exception] = Database.OperationalError

    def __init__(
        self, make_wrapper: Callable[[], PooledWrapper], *, max_statement_seconds: float = 0.0
    ) -> None:
        self._make_wrapper = make_wrapper
        self._max_statement_seconds = max_statement_seconds
        self.kind: Kind = "mysql"
        self.read_prefix = ""
        """What each statement that only reads begins with."""
        self.face = drivers.driver_of(Database)
        self.server_data: dict[str, Any] | None = None
        """What Django asks each server once per wrapper, asked once per pool."""
        self.read_timeout: float = math.inf
        self.lanes: Lanes | None = None
        """Who may run when it is crowded; set once there is a pool."""

    def connect(self) -> PhysicalConnection:
        """Open a connection and set it up as Django's own backend does, once for its life."""
        wrapper = self._make_wrapper()
        params = wrapper.get_connection_params()
        self.read_timeout = params.get("read_timeout") or math.inf
        connection = wrapper.open_connection({**params, "autocommit": True})
        try:
            physical = PhysicalConnection(connection)
            physical.user = params.get("user") or ""
            self._set_up(physical, wrapper.isolation_level, params.get("database"))
        except BaseException:
            connection.close()
            raise
        note_pooled(
            connection,
            session_id=physical.session_id,
            alias=wrapper.alias,
            port=physical.local_port,
        )
        return physical

    def _set_up(
        self, physical: PhysicalConnection, isolation_level: str | None, database: str | None
    ) -> None:
        cursor = physical.cursor
        if isolation_level:
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {isolation_level.upper()}")
        cursor.execute(_FACTS)
        facts = _values(cursor.fetchone())
        wait_timeout, auto_is_null, autocommit, role, current_database, *versions = facts
        if not autocommit:
            # An init_command, or the server's own default: transactions are the lease's business.
            cursor.execute("SET autocommit = 1")
        if not physical.keeps_role(role):
            raise drivers.CannotReset("SET ROLE survives a reset")
        if auto_is_null:
            cursor.execute("SET SQL_AUTO_IS_NULL = 0")
        if database is not None and current_database != database:
            physical.connection.select_db(database)
        elif database is None and current_database is not None:
            raise drivers.CannotReset("a database was selected, and there is no way back to none")
        self.kind = identify(*map(str, versions)).kind
        if self._max_statement_seconds:
            self._limit_reads(cursor)
        physical.idle_limit = safe_idle_seconds(float(wait_timeout))

    def _limit_reads(self, cursor: Any) -> None:
        seconds = self._max_statement_seconds
        if self.kind == "mariadb":
            # As a session variable it would end an UPDATE that waits for a lock, too (error 1969,
            # measured on 10.11 and 11.8). Said with each read it costs nothing measurable.
            self.read_prefix = f"SET STATEMENT max_statement_time={seconds:g} FOR "
        else:  # MySQL's is for SELECT alone
            cursor.execute(f"SET SESSION max_execution_time = {max(1, round(1000 * seconds))}")

    def is_alive(self, raw: PhysicalConnection) -> bool:
        """Nothing came from the server since the last answer."""
        return raw.is_quiet()

    def ping(self, raw: PhysicalConnection, timeout: float) -> bool:
        """Whether the server answers."""
        try:
            return self.face.ping(raw, timeout)
        except Database.Error:
            return False

    def reset(self, raw: PhysicalConnection) -> None:
        """As good as new: the session's state is wiped, then set up again."""
        wrapper = self._make_wrapper()
        params = wrapper.get_connection_params()
        connection = raw.connection
        self.face.reset_session(connection, params["charset"], params.get("collation"))
        connection.autocommit(True)
        # What the driver itself ran when it connected.
        if sql_mode := params.get("sql_mode"):
            raw.cursor.execute("SET SESSION sql_mode=%s", (sql_mode,))
        if init_command := params.get("init_command"):
            raw.cursor.execute(init_command)
            while raw.cursor.nextset():
                pass
        self._set_up(raw, wrapper.isolation_level, params.get("database"))

    def close(self, raw: PhysicalConnection) -> None:
        """Say goodbye; a connection that is lost already raises nothing that matters."""
        raw.connection.close()

    def abandon(self, raw: PhysicalConnection) -> None:
        """Leave it to the parent of a fork."""
        drivers.abandon(raw)

    def idle_limit(self, raw: PhysicalConnection) -> float:
        """From the session's own `wait_timeout`."""
        return raw.idle_limit

    def look(self, raw: PhysicalConnection) -> tuple[int, int] | None:
        """Sessions of the server, and its limit. An account with a limit of its own learns that one
        from being refused: how many sessions it has, only the privilege PROCESS would tell."""
        try:
            raw.cursor.execute(_LOOK[self.kind])
            sessions, limit = _values(raw.cursor.fetchone())
            return int(sessions), int(limit)
        except (Database.Error, TypeError, ValueError) as error:
            if errorcodes.is_lost(error):
                raise
            return None  # a proxy that answers for the server, say
        finally:
            self.face.let_go_of_rows(raw)

    def is_refusal(self, error: BaseException) -> bool:
        """The server, or the account, has no connection left."""
        return errorcodes.code_of(error) in errorcodes.REFUSED_FOR_LOAD

    def is_transient(self, error: BaseException) -> bool:
        """Starting, restarting, full, or cut off in the middle: worth another try."""
        return errorcodes.code_of(error) in errorcodes.MAY_PASS


def safe_idle_seconds(wait_timeout: float) -> float:
    """How long a connection may idle and still be lent, by its session's `wait_timeout`.

    The rule of `timeouts.py`, but never less than half: below 2 s the rule's margin, which also
    covers clocks of whole seconds, would leave nothing, and the pool looks before it lends.
    """
    bounded = min(max(wait_timeout, timeouts.MIN_WAIT_TIMEOUT), timeouts.MAX_WAIT_TIMEOUT)
    return max(timeouts.client_limit(bounded), bounded / 2)


def _values(row: Any) -> tuple[Any, ...]:
    # OPTIONS may ask for a cursor class whose rows are dicts.
    return tuple(row.values()) if isinstance(row, Mapping) else tuple(row)
