"""One session of every kind that nobody may end: what a reaper is tried with."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pymysql

from unhang.lab.client import Client

DATABASE: Final = "specimens"

_HELD: Final[Mapping[str, tuple[str, ...]]] = {
    "a transaction that only read, autocommit off": ("SET autocommit=0", "SELECT * FROM read_only"),
    "a transaction that changed a row": ("BEGIN", "UPDATE changed SET n = 2"),
    "a transaction with a consistent snapshot": ("START TRANSACTION WITH CONSISTENT SNAPSHOT",),
    "GET_LOCK": ("SELECT GET_LOCK('specimen', 0)",),
    "LOCK TABLES": ("LOCK TABLES locked READ",),
    "an open HANDLER": ("HANDLER handled OPEN",),
    "an XA transaction": (
        "XA START 'specimen'",
        "UPDATE distributed SET n = 2",
        "XA END 'specimen'",
    ),
}
_MYSQL_ONLY: Final[Mapping[str, tuple[str, ...]]] = {
    "BEGIN and nothing else": ("BEGIN",),
    "an XA transaction that touched nothing": ("XA START 'empty'",),
    "a temporary table": ("CREATE TEMPORARY TABLE kept (n INT)",),
    "a temporary table in memory": ("CREATE TEMPORARY TABLE kept (n INT) ENGINE=MEMORY",),
    "the lock for a backup": ("LOCK INSTANCE FOR BACKUP",),
}
_MARIADB_ONLY: Final[Mapping[str, tuple[str, ...]]] = {
    "a stage of a backup": ("BACKUP STAGE START",),
}
_TABLES: Final = ("read_only", "changed", "locked", "handled", "distributed")


class Specimens:
    """The sessions, by what they are."""

    def __init__(self) -> None:
        self.connections: dict[str, pymysql.connections.Connection[Any]] = {}
        self.failed: dict[str, BaseException] = {}

    def lost(self) -> list[str]:
        """Those that somebody ended."""
        gone = list(self.failed)
        for name, connection in self.connections.items():
            if name in self.failed:
                continue
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT CONNECTION_ID()")
                    cursor.fetchall()
            except pymysql.err.MySQLError:
                gone.append(name)
        return gone


@contextmanager
def specimens(server: Client, user: str, password: str) -> Iterator[Specimens]:
    """Make one of each kind for `user`, and some of other accounts; closed at the end.

    What an engine does not show (on MariaDB a BEGIN that touched nothing, and temporary tables) is
    not among them: the operator has to vouch for those.
    """
    server.execute(f"CREATE DATABASE {DATABASE}")
    for table in _TABLES:
        server.execute(f"CREATE TABLE {DATABASE}.{table} (n INT) ENGINE=InnoDB")
        server.execute(f"INSERT INTO {DATABASE}.{table} VALUES (1)")  # noqa: S608 - our own names
    server.execute(f"GRANT ALL ON {DATABASE}.* TO '{user}'@'%'")
    for privilege in ("RELOAD",) if server.kind == "mariadb" else ("RELOAD", "BACKUP_ADMIN"):
        server.execute(f"GRANT {privilege} ON *.* TO '{user}'@'%'")
    found = Specimens()
    with contextlib.ExitStack() as stack:

        def add(name: str, *statements: str, account: str = user, secret: str = password) -> Any:
            connection = server.connect(account, secret, DATABASE, read_timeout=600)
            stack.callback(_close, connection)
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            found.connections[name] = connection
            return connection

        # Accounts first: a backup's lock keeps them from being made.
        for other in ("others", f"{user}2", user.upper(), "rdsadmin", "repl"):
            server.create_account(other, password, [f"ALL ON {DATABASE}.*"])
            add(f"a session of {other}", "SELECT 1", account=other)
        add("a session of root", "SELECT 1", account="root", secret="")
        own = _MYSQL_ONLY if server.kind == "mysql" else _MARIADB_ONLY
        for name, statements in {**_HELD, **own}.items():
            add(name, *statements)
        _keep_busy(found, add("a statement that runs"), "SELECT SLEEP(600)", stack)
        _keep_faking(found, add("a session that fakes its clock", "SET TIMESTAMP = 1"), stack)
        yield found


def _close(connection: Any) -> None:
    # A thread may read from it; closing alone would wait for that thread.
    with contextlib.suppress(OSError, AttributeError):
        connection._sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(pymysql.err.Error):
        connection._force_close()


def _keep_busy(
    found: Specimens, connection: Any, statement: str, stack: contextlib.ExitStack
) -> None:
    name = "a statement that runs"
    del found.connections[name]  # it cannot be asked; its thread tells
    stopping = threading.Event()

    def run() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
        except (pymysql.err.MySQLError, OSError, AttributeError) as error:
            if not stopping.is_set():
                found.failed[name] = error

    threading.Thread(target=run, daemon=True).start()
    stack.callback(stopping.set)


def _keep_faking(found: Specimens, connection: Any, stack: contextlib.ExitStack) -> None:
    """It works all the time, and its TIME says that it has slept for decades."""
    name = "a session that fakes its clock"
    del found.connections[name]
    stopping = threading.Event()

    def run() -> None:
        while not stopping.wait(0.2):
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
            except (pymysql.err.MySQLError, OSError) as error:
                if not stopping.is_set():
                    found.failed[name] = error
                return

    threading.Thread(target=run, daemon=True).start()

    def stop() -> None:
        stopping.set()
        time.sleep(0.3)

    stack.callback(stop)
