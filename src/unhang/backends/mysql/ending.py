"""Ending a read on the server that nobody waits for any more.

KILL QUERY goes out over a second connection, and only if it can hit nothing else. Our own side
vouches for the session: it is leased to this one statement, and its borrower does not go on before
the KILL is answered. The server vouches for the id: the session of that number belongs to our
account, comes from our very socket, and runs a statement of this shape. Behind a proxy that
numbers sessions itself one of these does not hold, and nothing is ended.
"""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar
from typing import Any, Final

from unhang.backends.mysql.adapter import MysqlDriver
from unhang.lanes import Running
from unhang.mysql.drivers import PhysicalConnection
from unhang.pool import Pool, PooledConnection, process
from unhang.shape import shape_of

logger = logging.getLogger("unhang.backends.mysql")

_ANSWER_SECONDS: Final = 5.0
"""A KILL that is not answered by then is not waited for; its connection is closed all the same."""

_SESSION: Final = (
    "SELECT USER, HOST, COMMAND, INFO FROM information_schema.PROCESSLIST WHERE ID = %s"
)

request: ContextVar[object | None] = ContextVar("unhang_request", default=None)
"""Stands for the request that the running code belongs to, if that can be abandoned."""


def end_reads_of(token: object) -> int:
    """End what this request reads at the moment, outside of transactions. How many were tried.

    A read that runs is ended in the background, so this returns at once.
    """
    found = 0
    for pool in process.pools():
        for lease in pool.connections():
            running = lease.running
            if isinstance(running, Running) and running.request is token:
                found += _begin_to_end(pool, lease, running)
    return found


def _begin_to_end(pool: Pool, lease: PooledConnection, running: Running) -> bool:
    answered = threading.Event()
    running.ending = answered
    # Its borrower looks for `ending` after he has said that it is over: one of us sees the other.
    if lease.running is not running or lease.is_gone:
        answered.set()
        return False

    def end() -> None:
        try:
            end_read(pool, lease.raw, running.entry.shape)
        finally:
            answered.set()

    if not process.in_background(end):
        answered.set()
        return False
    return True


def end_timed_out(pool: Pool, lease: PooledConnection, query: Any) -> None:
    """The application's `read_timeout` has closed a connection in the middle of a read. Its session
    can run nothing else any more, and would run this to its end."""
    shape = shape_of(query)
    process.in_background(lambda: _ignore(end_read(pool, lease.raw, shape)))


def _ignore(_result: object) -> None:
    """What comes of it is in the log, and in the counters."""


def wait_for_end(running: Running) -> bool:
    """For the borrower: whether somebody is ending, or has ended, what ran. Then the connection
    must not be used again."""
    if running.ending is None:
        return False
    running.ending.wait(_ANSWER_SECONDS)
    return True


def end_read(pool: Pool, physical: PhysicalConnection, shape: str) -> bool:
    """KILL QUERY for the statement that runs on this connection, if it is certain to be that one.

    Returns whether the server was told to. Never raises: who asks has other things to do.
    """
    driver = pool.driver
    if not isinstance(driver, MysqlDriver):
        return False
    try:
        with process.io():
            second = driver.connect()
    except Exception as error:  # noqa: BLE001 - no connection left, server down: then it runs on
        logger.info(
            "pool %r: an abandoned read runs on, no second connection: %s", pool.name, error
        )
        return False
    try:
        return _kill(pool, second, physical, shape)
    except Exception as error:  # noqa: BLE001 - as above
        logger.info("pool %r: an abandoned read runs on: %s", pool.name, error)
        return False
    finally:
        driver.close(second)


def _kill(pool: Pool, second: PhysicalConnection, physical: PhysicalConnection, shape: str) -> bool:
    session = physical.session_id
    cursor = second.connection.cursor()
    cursor.execute(_SESSION, (session,))
    row = cursor.fetchone()
    values = tuple(row.values()) if isinstance(row, dict) else row
    if values is None or not _is_ours(values, physical, second, shape):
        logger.info(
            "pool %r: session %s is not certain to run an abandoned read", pool.name, session
        )
        return False
    cursor.execute(f"KILL QUERY {session:d}")
    pool.counters.count("ended")
    logger.info("pool %r: ended an abandoned read: %.80s (%s)", pool.name, shape, pool.stats())
    return True


def _is_ours(
    values: Any, physical: PhysicalConnection, second: PhysicalConnection, shape: str
) -> bool:
    user, host, command, info = map(_text, values)
    port = host.rpartition(":")[2] if ":" in host else ""
    return (
        command in ("Query", "Execute")
        and user == _text(second.user)
        and port == (str(physical.local_port) if physical.local_port else "")
        and _bound(shape_of(_without_limit(info))) == _bound(shape)
    )


def _without_limit(statement: str) -> str:
    """Without the limit that the backend itself puts in front (`max_statement_seconds`)."""
    if statement.startswith("SET STATEMENT max_statement_time="):
        return statement.partition(" FOR ")[2]
    return statement


def _bound(shape: str) -> str:
    """A shape as it looks with arguments in it."""
    text = shape.replace("%%", "%").replace("%s, …", "(…)").replace("((…))", "(…)")
    return text.replace("%s", "?").replace(" ", "")


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
