"""What each engine shows of a session: every kind is told apart, or unknown; never a wrong no."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from unhang import lab
from unhang.lab import Server
from unhang.mysql.engine import identify
from unhang.survey.connect import open_connection
from unhang.survey.login import from_dsn
from unhang.survey.model import Unseen
from unhang.survey.session import Session
from unhang.survey.sessions import Listing, read_attributes, read_sessions

PASSWORD = "secret"


@pytest.fixture
def server(any_engine: str) -> Iterator[Server]:
    with lab.server(any_engine) as server:
        if server.kind == "mariadb":
            server.execute("INSTALL SONAME 'metadata_lock_info'")
        server.create_account("app", PASSWORD, database="app")
        server.execute("GRANT RELOAD ON *.* TO app")
        for table in ("rows_of", "locked", "handled", "distributed"):
            server.execute(f"CREATE TABLE app.{table} (id INT PRIMARY KEY, n INT) ENGINE=InnoDB")
            server.execute(f"INSERT INTO app.{table} VALUES (1, 1), (2, 2)")
        yield server


class Clients:
    """Sessions of the application, by what they are; some of them wait for others."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ids: dict[str, int] = {}
        self.stack = contextlib.ExitStack()

    def connect(self, name: str) -> Any:
        connection = self.server.connect("app", PASSWORD, "app", read_timeout=60)
        self.stack.callback(self.cut, connection)
        self.ids[name] = connection.thread_id()
        return connection

    def cut(self, connection: Any) -> None:
        # Not close(): that would wait for the thread that reads.
        with contextlib.suppress(OSError, AttributeError):
            connection._sock.shutdown(socket.SHUT_RDWR)

    def add(self, name: str, *statements: str) -> Any:
        connection = self.connect(name)
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        return connection

    def start(self, name: str, statement: str) -> None:
        """One that has to wait for its answer."""
        connection = self.connect(name)

        def run() -> None:
            # It is cut off at the end of the test.
            with (
                contextlib.suppress(pymysql.err.Error, OSError, AttributeError, ValueError),
                connection.cursor() as cursor,
            ):
                cursor.execute(statement)

        threading.Thread(target=run, daemon=True).start()


@pytest.fixture
def clients(server: Server) -> Iterator[Clients]:
    clients = Clients(server)
    with clients.stack:
        yield clients


def read(
    server: Server, user: str = "root", password: str = "", unseen: list[Unseen] | None = None
) -> Listing:
    with contextlib.closing(open_connection(from_dsn(server.dsn(user, password)))) as connection:
        about = server.execute("SELECT @@version AS v, @@version_comment AS c")[0]
        return read_sessions(
            connection,
            identify(about["v"], about["c"]),
            account="'root'@'%'",
            unseen=(unseen if unseen is not None else []).append,
        )


def by_name(clients: Clients, listing: Listing) -> dict[str, Session]:
    found = {session.id: session for session in listing.sessions}
    return {name: found[id_] for name, id_ in clients.ids.items() if id_ in found}


def kinds(session: Session) -> set[tuple[str, str]]:
    assert session.locks is not None
    return {(lock.kind, lock.name) for lock in session.locks if lock.name != "app"}


@pytest.mark.every_engine
def test_every_kind_of_sleeper_is_told_apart(server: Server, clients: Clients) -> None:
    clients.add("plain", "SELECT 'a secret', 5")
    clients.add("begin", "BEGIN")
    clients.add("reader", "SET autocommit=0", "SELECT * FROM rows_of WHERE id = 2")
    clients.add("writer", "BEGIN", "UPDATE rows_of SET n = 5 WHERE id = 1")
    clients.add("snapshot", "START TRANSACTION WITH CONSISTENT SNAPSHOT")
    clients.add("named", "SELECT GET_LOCK('cron', 1)")
    clients.add("locking", "LOCK TABLES locked READ")
    clients.add("handler", "HANDLER handled OPEN")
    clients.add("xa", "XA START 'x'", "UPDATE distributed SET n = 6", "XA END 'x'")
    clients.add("table", "CREATE TEMPORARY TABLE t (id INT)")
    clients.add("memory", "CREATE TEMPORARY TABLE t (id INT) ENGINE=MEMORY")
    found = by_name(clients, read(server))
    assert set(found) == set(clients.ids)
    assert all(session.command == "Sleep" and session.is_client for session in found.values())
    held = {name: session.in_transaction for name, session in found.items()}
    assert {n for n, value in held.items() if value} == {"reader", "writer", "snapshot", "xa"}
    assert all(value is not None for value in held.values())
    assert found["writer"].rows_modified == 1
    assert (found["writer"].rows_locked or 0) >= 1
    assert kinds(found["plain"]) == set()
    assert kinds(found["reader"]) == {("metadata", "app.rows_of")}
    assert kinds(found["named"]) == {("user", "cron")}
    assert kinds(found["locking"]) == {("table", "app.locked")}
    assert kinds(found["handler"]) == {("metadata", "app.handled")}
    if server.kind == "mysql":
        assert {n for n, s in found.items() if s.empty_transaction} == {"begin"}
        assert {n for n, s in found.items() if s.xa} == {"xa"}
        assert {
            n: s.temporary_tables for n, s in found.items() if s.temporary_tables is not False
        } == {
            "table": True,
            "memory": None,
        }
        assert found["plain"].wait_timeout == 28800
        assert found["plain"].statement is not None
    else:  # what MariaDB does not show is unknown
        assert {s.empty_transaction for s in found.values()} == {None}
        assert {s.temporary_tables for s in found.values()} == {None}
        assert {s.wait_timeout for s in found.values()} == {None}
    assert not any("secret" in (s.statement or "") for s in found.values())


@pytest.mark.every_engine
def test_idle_time_and_activity_cannot_be_faked(server: Server, clients: Clients) -> None:
    faker = clients.add("faker", "SET TIMESTAMP = 1")
    idle = clients.add("idle", "SELECT 1")
    clients.connect("silent")
    time.sleep(1.3)
    before = by_name(clients, read(server))
    assert 1.2 < before["idle"].seconds < 4
    assert 1.2 < before["faker"].seconds < 4
    assert before["silent"].seconds < 5
    with faker.cursor() as cursor:
        cursor.execute("SELECT 1")
    idle.ping(reconnect=False)
    after = by_name(clients, read(server))
    assert after["faker"].seconds < 1
    for name in ("faker", "idle"):
        assert after[name].activity != before[name].activity, name
    assert after["silent"].activity == before["silent"].activity is not None


@pytest.mark.every_engine
def test_who_waits_for_whom_is_known(server: Server, clients: Clients) -> None:
    clients.add("reader", "SET autocommit=0", "SELECT * FROM rows_of")
    clients.add("writer", "BEGIN", "UPDATE distributed SET n = 5 WHERE id = 1")
    clients.add("named", "SELECT GET_LOCK('cron', 1)")
    clients.add("locking", "LOCK TABLES locked READ")
    clients.start("alter", "ALTER TABLE rows_of ADD COLUMN z INT")
    clients.start("update", "UPDATE distributed SET n = 6 WHERE id = 1")
    clients.start("cron", "SELECT GET_LOCK('cron', 60)")
    clients.start("change", "UPDATE locked SET n = 1")
    time.sleep(0.5)
    clients.start("select", "SELECT * FROM rows_of WHERE id = 77")
    time.sleep(0.5)
    found = by_name(clients, read(server))
    names = {id_: name for name, id_ in clients.ids.items()}
    blocks = {name: {names[id_] for id_ in session.blocks or ()} for name, session in found.items()}
    assert blocks["reader"] == {"alter", "select"}
    assert blocks["writer"] == {"update"}
    assert blocks["named"] == {"cron"}
    assert blocks["locking"] == {"change"}
    assert "77" not in (found["select"].statement or "77")


def test_without_privileges_what_is_hidden_is_unknown(server: Server, clients: Clients) -> None:
    clients.add("plain", "SELECT 1")
    clients.add("reader", "SET autocommit=0", "SELECT * FROM rows_of")
    unseen: list[Unseen] = []
    listing = read(server, "app", PASSWORD, unseen)
    found = by_name(clients, listing)
    assert not listing.sees_all
    assert any("PROCESS" in entry.grant for entry in unseen)
    # A session without any metadata lock has touched no table.
    assert found["plain"].in_transaction is False
    assert found["reader"].in_transaction is None
    server.execute("UNINSTALL SONAME 'metadata_lock_info'")
    unseen.clear()
    found = by_name(clients, read(server, "app", PASSWORD, unseen))
    assert found["plain"].in_transaction is None
    assert found["plain"].locks is None
    assert any("INSTALL SONAME" in entry.grant for entry in unseen)


@pytest.mark.every_engine
def test_without_performance_schema_nothing_is_guessed(any_engine: str) -> None:
    with lab.server(any_engine, performance_schema="OFF") as server:
        server.create_account("app", PASSWORD, database="app")
        clients = Clients(server)
        with clients.stack:
            clients.add("plain", "SELECT 1")
            clients.add("named", "SELECT GET_LOCK('cron', 1)")
            found = by_name(clients, read(server))
            assert {s.locks for s in found.values()} == {None}
            assert {s.empty_transaction for s in found.values()} == {None}
            with contextlib.closing(open_connection(from_dsn(server.dsn()))) as connection:
                assert read_attributes(connection) == {}


def test_with_performance_schema_mariadb_shows_more() -> None:
    with lab.server("mariadb", performance_schema=1) as server:
        server.execute("INSTALL SONAME 'metadata_lock_info'")
        for table, name in (
            ("setup_consumers", "events_transactions_current"),
            ("setup_consumers", "events_statements_current"),
            ("setup_instruments", "transaction"),
        ):
            server.execute(
                f"UPDATE performance_schema.{table} SET ENABLED = 'YES' WHERE NAME = %s", name
            )
        server.create_account("app", PASSWORD, database="app")
        clients = Clients(server)
        with clients.stack:
            clients.add("begin", "BEGIN")
            clients.add("ended", "BEGIN", "COMMIT")
            clients.add("xa", "XA START 'x'")
            clients.connect("silent")
            found = by_name(clients, read(server))
            assert found["begin"].empty_transaction is True
            assert found["ended"].empty_transaction is False
            assert found["xa"].xa is True
            assert found["silent"].empty_transaction is None
            assert (found["ended"].statement or "").strip() == "COMMIT"
            with contextlib.closing(open_connection(from_dsn(server.dsn()))) as connection:
                attributes = read_attributes(connection)
            assert attributes[clients.ids["begin"]]["_client_name"] == "pymysql"


@pytest.mark.every_engine
def test_one_query_a_source_whatever_the_number_of_sessions(
    server: Server, clients: Clients
) -> None:
    def queries() -> int:
        count = "SHOW GLOBAL STATUS LIKE 'Questions'"
        before = int(server.execute(count)[0]["Value"])
        read(server)
        return int(server.execute(count)[0]["Value"]) - before

    clients.add("first", "SELECT 1")
    few = queries()
    for number in range(60):
        clients.add(f"plain {number}", "SELECT 1")
    assert queries() == few
