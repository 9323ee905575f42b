"""One look at the server and at the application's counters: everything that is compared later.

The server groups and counts; however many sessions there are, a few dozen rows travel. With 5,000
sessions that takes about 30 ms of the server (`information_schema.PROCESSLIST` with GROUP BY).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from unhang.latency import Counters, read_all
from unhang.mysql.engine import Engine, identify
from unhang.mysql.errorcodes import NO_PRIVILEGE, code_of

AGE_LIMITS: Final = (10, 60, 300, 1800)
"""Seconds at which one bucket of sleepers' ages ends and the next begins."""

SYSTEM_USERS: Final = ("system user", "event_scheduler", "unauthenticated user")


class Connection(Protocol):
    """A DB-API connection to MySQL or MariaDB, in autocommit mode."""

    def cursor(self) -> Any:
        """A cursor that returns rows as tuples."""


@dataclass(frozen=True, slots=True)
class Server:
    """The server's side of a sample. Counters are raw: they count since the server's start.

    Attributes:
        engine: `mariadb` or `mysql`.
        version: As the server says it.
        active: Sessions that are not asleep.
        sleepers: Sessions asleep, in a transaction or not.
        idle_in_transaction: Those of the sleepers that are in an InnoDB transaction; `None` is
            unknown (the login lacks PROCESS), never none.
        sleepers_by_age: How many were asleep for 0-10, 10-60, 60-300, 300-1800, 1800+ s. Times that
            cannot be true (`SET TIMESTAMP` fakes them on MySQL) are in none of them.
        sessions_by_user: Sessions of each account that this login can see.
        threads_connected, threads_running: Of the whole server, our own session included.
        max_connections, wait_timeout: The global values, as a count and in seconds.
        max_used_connections: The high-water mark since the server's start.
        connection_errors_max_connections, aborted_connects: See `refused_between`.
        aborted_connects_preauth, access_denied_errors: The same; `None` where the engine has none.
        aborted_clients: Sessions that ended without a goodbye; `wait_timeout` and KILL count too.
        connections: Attempts to connect, good or bad.
        uptime: Seconds since the server's start.
    """

    engine: str
    version: str
    active: int
    sleepers: int
    idle_in_transaction: int | None
    sleepers_by_age: tuple[int, int, int, int, int]
    sessions_by_user: Mapping[str, int]
    threads_connected: int
    threads_running: int
    max_connections: int
    wait_timeout: int
    max_used_connections: int
    connection_errors_max_connections: int
    aborted_connects: int
    aborted_connects_preauth: int | None
    access_denied_errors: int | None
    aborted_clients: int
    connections: int
    uptime: int

    @property
    def sessions(self) -> int:
        """All sessions that this login can see, without our own."""
        return self.active + self.sleepers

    @property
    def idle(self) -> int:
        """Sleepers outside a transaction; all sleepers while it is unknown which are inside."""
        return self.sleepers - (self.idle_in_transaction or 0)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment.

    Attributes:
        at: When, in UTC.
        server: `None` in a gap: the server could not be asked.
        app: The application's counters, merged over its processes; `None` when nothing is recorded.
        gap: Why the server could not be asked.
    """

    at: datetime
    server: Server | None = None
    app: Counters | None = None
    gap: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        server = asdict(self.server) if self.server else None
        if server:
            server["sleepers_by_age"] = list(server["sleepers_by_age"])
        return {
            "schema": 1,
            "at": self.at.isoformat(),
            "server": server,
            "app": self.app.to_json() if self.app else None,
            "gap": self.gap,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sample:
        """The inverse of `to_json`."""
        server = data["server"]
        if server:
            server = Server(**{**server, "sleepers_by_age": tuple(server["sleepers_by_age"])})
        app = Counters.from_json(data["app"]) if data["app"] else None
        return cls(datetime.fromisoformat(data["at"]), server, app, data["gap"])


def take_sample(connection: Connection, *, run_dir: str | Path | None = None) -> Sample:
    """Look at the server once, and at the application's counters.

    Args:
        connection: In autocommit mode. With PROCESS it sees all sessions, else its own account's.
        run_dir: Where the application records its response times; see `unhang.latency`.

    Raises:
        Exception: Whatever the driver raises, unchanged.
    """
    cursor = connection.cursor()
    try:
        server = _ask(cursor)
    finally:
        cursor.close()
    return Sample(datetime.now(UTC), server, app_counters(run_dir))


def app_counters(run_dir: str | Path | None) -> Counters | None:
    """The application's counters, merged; `None` when there are none, or they cannot be read."""
    if run_dir is None:
        return None
    try:
        files = read_all(run_dir)
    except OSError:
        return None
    return Counters.merge(files.values()) if files else None


_STATUS: Final = (
    "threads_connected",
    "threads_running",
    "max_used_connections",
    "connection_errors_max_connections",
    "aborted_connects",
    "aborted_connects_preauth",
    "access_denied_errors",
    "aborted_clients",
    "connections",
    "uptime",
)
_STATUS_SQL: Final = "SHOW GLOBAL STATUS WHERE Variable_name IN ({})".format(
    ", ".join(f"'{name}'" for name in _STATUS)
)
_SETTINGS_SQL: Final = (
    "SELECT @@version, @@version_comment, @@performance_schema,"
    " @@GLOBAL.max_connections, @@GLOBAL.wait_timeout"
)
# INTERVAL gives the number of limits that the age has reached. An age that is negative or longer
# than the server runs is a lie.
_SESSIONS_SQL: Final = """
SELECT p.USER, p.COMMAND = 'Sleep', {in_transaction},
       IF({age} BETWEEN 0 AND {uptime}, INTERVAL({age}, {limits}), NULL) AS age_bucket, COUNT(*)
FROM {processlist} p {join}
WHERE p.ID <> CONNECTION_ID() AND p.COMMAND <> 'Daemon' AND p.USER NOT IN ({system_users})
GROUP BY 1, 2, 3, 4
"""
_TRANSACTIONS: Final = (
    "LEFT JOIN (SELECT DISTINCT trx_mysql_thread_id AS id FROM information_schema.INNODB_TRX) x"
    " ON x.id = p.ID"
)


def _ask(cursor: Any) -> Server:
    cursor.execute(_SETTINGS_SQL)
    version, comment, has_performance_schema, max_connections, wait_timeout = cursor.fetchone()
    engine = identify(version, comment)
    cursor.execute(_STATUS_SQL)
    found = {name.lower(): int(value) for name, value in cursor.fetchall()}
    status: dict[str, Any] = {name: found.get(name) for name in _STATUS}
    processlist, age = _processlist(engine, bool(has_performance_schema))
    transactions_known = _may_see_transactions(cursor, engine)
    cursor.execute(
        _SESSIONS_SQL.format(
            in_transaction="x.id IS NOT NULL" if transactions_known else "NULL",
            join=_TRANSACTIONS if transactions_known else "",
            age=age,
            uptime=found["uptime"] + 1,  # both are rounded
            limits=", ".join(map(str, AGE_LIMITS)),
            processlist=processlist,
            system_users=", ".join(f"'{user}'" for user in SYSTEM_USERS),
        )
    )
    sessions = _tally(cursor.fetchall(), transactions_known=transactions_known)
    return Server(
        engine=engine.kind,
        version=version,
        max_connections=max_connections,
        wait_timeout=wait_timeout,
        **sessions,
        **status,
    )


def _processlist(engine: Engine, has_performance_schema: bool) -> tuple[str, str]:
    """The table of sessions to trust on this server, and its expression for the age in seconds."""
    if engine.kind == "mariadb":
        # TIME_MS, unlike TIME and performance_schema, is not fooled by SET TIMESTAMP (10.11, 11.8).
        return "information_schema.PROCESSLIST", "p.TIME_MS / 1000"
    if has_performance_schema and engine.release >= (8, 0, 22):
        return "performance_schema.processlist", "p.TIME"
    return "information_schema.PROCESSLIST", "p.TIME"


def _may_see_transactions(cursor: Any, engine: Engine) -> bool:
    """Whether this login may read INNODB_TRX, which takes PROCESS."""
    if engine.kind == "mariadb":
        # Not by trying: a denied statement counts in Access_denied_errors, from which refused
        # connections are computed.
        cursor.execute("SHOW GRANTS")
        grants = [row[0].upper() for row in cursor.fetchall()]
        return any(re.match(r"GRANT .*\b(ALL PRIVILEGES|PROCESS)\b.* ON \*\.\*", g) for g in grants)
    # Trying is the surest way here, roles included. It takes a statement of its own: in a join
    # with a process list that turns out empty MySQL 9.7 does not even look at INNODB_TRX.
    try:
        cursor.execute("SELECT 1 FROM information_schema.INNODB_TRX LIMIT 1")
        cursor.fetchall()
    except Exception as error:
        if code_of(error) not in NO_PRIVILEGE:
            raise
        return False
    return True


def _tally(rows: Any, *, transactions_known: bool) -> dict[str, Any]:
    by_user: dict[str, int] = {}
    ages = [0] * (len(AGE_LIMITS) + 1)
    active = sleepers = in_transaction = 0
    for user, asleep, in_trx, age_bucket, count in rows:
        by_user[user] = by_user.get(user, 0) + count
        if not asleep:
            active += count
            continue
        sleepers += count
        in_transaction += count if in_trx else 0
        if age_bucket is not None:
            ages[age_bucket] += count
    return {
        "active": active,
        "sleepers": sleepers,
        "idle_in_transaction": in_transaction if transactions_known else None,
        "sleepers_by_age": tuple(ages),
        "sessions_by_user": by_user,
    }
