"""What Django's own backend does, ours does too; and what it costs the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, OperationalError, connections
from django.db.backends.signals import connection_created
from django.db.transaction import TransactionManagementError

from support.databases import (
    Database,
    at_once,
    atomic,
    fetch,
    in_thread,
    one,
    pool_of,
    run,
    session_ids,
    until,
)
from unhang import lab
from unhang.lab import Server
from unhang.pool import parse_options

PROGRAM = Path(__file__).parents[1] / "support/backend_program.py"


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with lab.server("mariadb", max_connections=60) as server:
        yield server


@pytest.fixture
def database(shared_server: Server, django_db_blocker: Any) -> Iterator[Database]:
    with django_db_blocker.unblock():
        made = Database(shared_server)
        made.tables()
        yield made
        made.close()


# ---- both drivers, all engines, TCP, socket and TLS ----


@pytest.mark.every_engine
@pytest.mark.parametrize("driver", ["mysqlclient", "pymysql"])
@pytest.mark.parametrize("transport", ["tcp", "socket", "tls"])
def test_an_application_works_with_each_driver_engine_and_transport(
    any_engine: str, driver: str, transport: str
) -> None:
    options = ["--ssl=1"] if transport == "tls" and any_engine == "mariadb118" else []
    with lab.server(any_engine, options=options) as server:
        made = Database(server)
        settings = made.settings(NAME="shop")
        if transport == "socket":
            settings["HOST"] = str(server.socket)
            settings["PORT"] = ""
        if transport == "tls":
            if not has_tls(server):
                pytest.skip(f"the private {any_engine} has no certificate")
            settings["OPTIONS"] = tls_options(driver)
        done = subprocess.run(
            [sys.executable, str(PROGRAM), json.dumps(settings)],
            capture_output=True,
            text=True,
            timeout=60,
            env=os.environ | {"UNHANG_DRIVER": driver},
        )
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "driver": "MySQLdb" if driver == "mysqlclient" else "pymysql",
        "inserted": 2,
        "read": "één",
        "after rollback": 3,
        "read after kill": 3,
        "write after kill": 1,
        "lost": True,
        "rows": 5,
        "state": None,
        "pid answers": True,
        "isolation": "READ-COMMITTED",
        "charset": "utf8mb4",
    }


def has_tls(server: Server) -> bool:
    rows = server.execute("SHOW VARIABLES LIKE 'have_ssl'") or [{"Value": "YES"}]
    return str(rows[0]["Value"]) == "YES"


def tls_options(driver: str) -> dict[str, Any]:
    return (
        {"ssl_mode": "REQUIRED"} if driver == "mysqlclient" else {"ssl": {"check_hostname": False}}
    )


# ---- what goes to the server ----


class Statements:
    """The statements that the server gets meanwhile, from its general log."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> list[str]:
        self.seen: list[str] = []
        self._server.execute("SET GLOBAL log_output = 'TABLE'")
        self._server.execute("TRUNCATE mysql.general_log")
        self._server.execute("SET GLOBAL general_log = 1")
        return self.seen

    def __exit__(self, *_exc_info: object) -> None:
        self._server.execute("SET GLOBAL general_log = 0")
        rows = self._server.execute(
            "SELECT command_type AS kind, CONVERT(argument USING utf8mb4) AS text "
            "FROM mysql.general_log WHERE user_host LIKE '%app%' ORDER BY event_time"
        )
        for row in rows:
            text = " ".join(str(row["text"]).split())
            self.seen.append(text if row["kind"] == "Query" else str(row["kind"]))


def test_a_transaction_costs_two_round_trips_more_than_its_statements(database: Database) -> None:
    wrapper = database.wrapper()
    assert one(wrapper, "SELECT 1") == 1
    with Statements(database.server) as seen, atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
        run(wrapper, "UPDATE account SET balance = 2 WHERE id = 2")
    assert seen == [
        "BEGIN",
        "UPDATE account SET balance = 1 WHERE id = 1",
        "UPDATE account SET balance = 2 WHERE id = 2",
        "COMMIT",
    ]


def test_an_empty_transaction_costs_nothing(database: Database) -> None:
    wrapper = database.wrapper()
    assert one(wrapper, "SELECT 1") == 1
    with Statements(database.server) as seen:
        with atomic(wrapper):
            pass
        with pytest.raises(ZeroDivisionError), atomic(wrapper):
            raise ZeroDivisionError
    assert seen == []


def test_a_connection_is_set_up_once_for_its_life(database: Database) -> None:
    with Statements(database.server) as seen:
        for turn in range(3):
            wrapper = database.wrapper()
            assert one(wrapper, "SELECT %s", [turn]) == turn
            wrapper.close()
    assert [text for text in seen if "ISOLATION" in text] == [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
    ]
    assert seen.count("Connect") == 1
    assert not [text for text in seen if text.startswith("SET autocommit")]
    assert len([text for text in seen if "@@lower_case_table_names" in text]) <= 1


def test_a_statement_that_commits_falls_back_to_what_the_stock_backend_does(
    database: Database,
) -> None:
    wrapper = database.wrapper()
    with Statements(database.server) as seen:
        with pytest.raises(ZeroDivisionError), atomic(wrapper):
            run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
            run(wrapper, "CREATE TABLE IF NOT EXISTS extra (id INT)")
            run(wrapper, "UPDATE account SET balance = 2 WHERE id = 2")
            raise ZeroDivisionError
        assert pool_of(wrapper).stats().leased == 0
    texts = [text for text in seen if not text.startswith(("SELECT", "SET SESSION"))]
    assert texts[-7:] == [
        "BEGIN",
        "UPDATE account SET balance = 1 WHERE id = 1",
        "SET autocommit=0",
        "CREATE TABLE IF NOT EXISTS extra (id INT)",
        "UPDATE account SET balance = 2 WHERE id = 2",
        "ROLLBACK",
        "SET autocommit=1",
    ]
    # What came before the CREATE was committed by it, what came after was not.
    assert database.value("SELECT balance FROM shop.account WHERE id = 1") == 1
    assert database.value("SELECT balance FROM shop.account WHERE id = 2") == 100


def test_a_deadlock_that_is_swallowed_lets_nothing_commit_by_itself(database: Database) -> None:
    """The server ends the whole transaction then; what follows must belong to a new one."""
    wrapper, ready, go = database.wrapper(), threading.Event(), threading.Event()

    def other() -> None:
        rival = database.wrapper()
        with atomic(rival):
            # More rows, so that the other one is chosen as the victim.
            run(rival, "UPDATE account SET balance = balance + 1 WHERE id > 4")
            ready.set()
            go.wait(10)
            run(rival, "UPDATE account SET balance = balance + 1 WHERE id = 1")

    thread = threading.Thread(target=other)
    thread.start()
    ready.wait(10)
    with pytest.raises(ZeroDivisionError), atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
        go.set()
        with pytest.raises(OperationalError) as caught:
            run(wrapper, "UPDATE account SET balance = 1 WHERE id = 9")
        assert caught.value.args[0] == 1213
        run(wrapper, "UPDATE account SET balance = 7 WHERE id = 2")
        raise ZeroDivisionError
    thread.join(10)
    assert database.value("SELECT balance FROM shop.account WHERE id = 2") == 100


# ---- as with the stock backend ----


def test_connection_created_is_sent_and_its_statements_hold(database: Database) -> None:
    calls: list[Any] = []

    def receiver(connection: Any, **_kwargs: Any) -> None:
        calls.append(connection)
        with connection.cursor() as cursor:
            cursor.execute("SET @from_signal = 5")

    connection_created.connect(receiver)
    try:
        wrapper = database.wrapper()
        assert one(wrapper, "SELECT @from_signal") == 5
        wrapper.close_if_unusable_or_obsolete()  # the end of the request
        assert pool_of(wrapper).stats().leased == 0
        assert one(wrapper, "SELECT @from_signal") == 5
    finally:
        connection_created.disconnect(receiver)
    assert calls == [wrapper, wrapper]


def test_a_request_without_state_keeps_the_virtual_connection(database: Database) -> None:
    wrapper = database.wrapper()
    assert one(wrapper, "SELECT 1") == 1
    virtual = wrapper.connection
    wrapper.close_if_unusable_or_obsolete()
    assert wrapper.connection is virtual
    assert pool_of(wrapper).stats().leased == 0


def test_queries_are_logged_and_wrapped(database: Database) -> None:
    wrapper = database.wrapper()
    seen: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    wrapper.force_debug_cursor = True
    with wrapper.execute_wrapper(watch), atomic(wrapper):
        fetch(wrapper, "SELECT %s", ["it's"])
    assert seen == ["SELECT %s"]
    assert [query["sql"] for query in wrapper.queries] == ["BEGIN", "SELECT 'it\\'s'", "COMMIT"]


def test_on_commit_runs_after_the_commit_and_not_after_a_rollback(database: Database) -> None:
    wrapper, ran = database.wrapper(), []
    with atomic(wrapper):
        run(wrapper, "INSERT INTO entry (note) VALUES ('x')")
        wrapper.on_commit(lambda: ran.append(database.value("SELECT COUNT(*) FROM shop.entry")))
        assert ran == []
    with pytest.raises(ZeroDivisionError), atomic(wrapper):
        wrapper.on_commit(lambda: ran.append("never"))
        raise ZeroDivisionError
    assert ran == [1]


def test_savepoints_roll_back_a_part(database: Database) -> None:
    wrapper = database.wrapper()
    with atomic(wrapper):
        run(wrapper, "INSERT INTO entry (note) VALUES ('outer')")
        with pytest.raises(IntegrityError), atomic(wrapper):
            run(wrapper, "INSERT INTO entry (note) VALUES ('inner')")
            run(wrapper, "INSERT INTO entry (note) VALUES ('outer')")
        run(wrapper, "INSERT INTO entry (note) VALUES ('after')")
    assert fetch(wrapper, "SELECT note FROM entry ORDER BY note") == (("after",), ("outer",))


def test_durable_blocks_cannot_be_nested(database: Database) -> None:
    wrapper = database.wrapper()
    with (
        atomic(wrapper),
        pytest.raises(RuntimeError, match="durable"),
        atomic(wrapper, durable=True),
    ):
        pass


def test_autocommit_off_by_hand_is_a_transaction_until_commit(database: Database) -> None:
    wrapper = database.wrapper()
    wrapper.set_autocommit(False)
    run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
    assert database.value("SELECT balance FROM shop.account WHERE id = 1") == 100
    wrapper.commit()
    assert pool_of(wrapper).stats().leased == 0
    run(wrapper, "UPDATE account SET balance = 2 WHERE id = 1")
    wrapper.rollback()
    run(wrapper, "UPDATE account SET balance = 3 WHERE id = 2")
    wrapper.set_autocommit(True)  # commits, as the server does
    assert database.rows("SELECT balance FROM shop.account WHERE id IN (1, 2)") == [(1,), (3,)]


def test_select_for_update_locks_until_the_transaction_ends(database: Database) -> None:
    wrapper = database.wrapper()

    def try_it() -> int:
        other = database.wrapper()
        run(other, "SET innodb_lock_wait_timeout = 1")
        try:
            return run(other, "UPDATE account SET balance = 5 WHERE id = 1")
        finally:
            other.close()

    with atomic(wrapper):
        assert one(wrapper, "SELECT balance FROM account WHERE id = 1 FOR UPDATE") == 100
        assert isinstance(in_thread(try_it), OperationalError)
    assert in_thread(try_it) == 1


def test_close_inside_a_transaction_rolls_back_and_bars_the_rest(database: Database) -> None:
    wrapper = database.wrapper()
    with atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
        wrapper.close()
        with pytest.raises(TransactionManagementError):
            run(wrapper, "UPDATE account SET balance = 1 WHERE id = 2")
    until(lambda: pool_of(wrapper).stats().leased == 0)
    assert int(one(wrapper, "SELECT SUM(balance) FROM account")) == 1000


def test_two_aliases_to_one_server_have_pools_and_transactions_of_their_own(
    database: Database,
) -> None:
    a, b = database.wrapper("default"), database.wrapper("other")
    assert pool_of(a) is not pool_of(b)
    with pytest.raises(ZeroDivisionError), atomic(a):
        run(a, "UPDATE account SET balance = 1 WHERE id = 1")
        with atomic(b):
            run(b, "UPDATE account SET balance = 2 WHERE id = 2")
        raise ZeroDivisionError
    assert database.rows("SELECT balance FROM shop.account WHERE id IN (1, 2)") == [(100,), (2,)]


def test_threads_share_the_pool_and_not_the_wrapper(database: Database) -> None:
    answers = at_once(
        [lambda n=n: one(database.wrapper(max_size=3), "SELECT %s", [n]) for n in range(30)]  # type: ignore[misc]
    )
    assert answers == list(range(30))
    assert len(session_ids(database.wrapper(max_size=3))) <= 3


def test_changed_settings_lead_to_another_pool(database: Database) -> None:
    wrapper = database.wrapper()
    first = pool_of(wrapper)
    wrapper.settings_dict["NAME"] = "mysql"  # as the test runner does
    wrapper.close()
    assert pool_of(wrapper) is not first
    assert one(wrapper, "SELECT DATABASE()") == "mysql"


def test_third_party_code_finds_the_drivers_connection(database: Database) -> None:
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    assert wrapper.connection.escape("it's", wrapper.connection.encoders) in (
        "'it\\'s'",
        b"'it\\'s'",
    )
    assert wrapper.connection.get_server_info().startswith(("10.", "11.", "9.", "5.5.5"))
    assert not wrapper.connection.holds_connection
    number = wrapper.connection.thread_id()
    assert one(wrapper, "SELECT CONNECTION_ID()") == number, "it stays the same until close()"
    assert "pinned by the driver's thread_id" in repr(wrapper.connection)
    wrapper.close()
    until(lambda: number not in database.sessions())


def test_a_virtual_connection_is_small(database: Database) -> None:
    import tracemalloc

    wrapper = database.wrapper()
    assert one(wrapper, "SELECT 1") == 1
    make = wrapper.get_new_connection
    params = wrapper.get_connection_params()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [make(params) for _ in range(200)]
        size = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert size < 2_000


# ---- options ----


def test_conn_max_age_is_refused_with_the_reason(database: Database) -> None:
    wrapper = database.wrapper_with("aged", CONN_MAX_AGE=60)
    with pytest.raises(ImproperlyConfigured, match="Pooling doesn't support persistent"):
        wrapper.ensure_connection()
    wrapper.settings_dict["CONN_MAX_AGE"] = 0


def test_an_unknown_option_is_refused_with_the_nearest_known_one(database: Database) -> None:
    wrapper = database.wrapper("odd", max_sise=3)
    with pytest.raises(ImproperlyConfigured, match=r"\['odd'\].*did you mean 'max_size'"):
        wrapper.ensure_connection()
    wrapper.settings_dict["OPTIONS"] = {}


def test_true_is_accepted_as_django_does_for_postgresql(database: Database) -> None:
    wrapper = database.wrapper_with("flag", OPTIONS={"pool": True})
    assert one(wrapper, "SELECT 1") == 1
    assert pool_of(wrapper).options == parse_options(True)


def test_a_query_in_the_event_loop_is_refused(database: Database) -> None:
    import asyncio

    from django.core.exceptions import SynchronousOnlyOperation

    async def ask() -> None:
        database.wrapper().ensure_connection()

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(ask())


def test_close_pool_costs_a_pool_in_use_nothing(database: Database) -> None:
    wrapper = database.wrapper()
    for _ in range(5):
        assert one(wrapper, "SELECT 1") == 1
        wrapper.close()
        wrapper.close_pool()
    assert pool_of(wrapper).stats().connects == 1


def test_no_alias_of_the_test_process_is_touched() -> None:
    assert not [alias for alias in connections if alias != "default"]


GIS_PROGRAM = """
import json, sys
from django.conf import settings
settings.configure(DATABASES={"default": json.loads(sys.argv[1])}, USE_TZ=True,
                   INSTALLED_APPS=["django.contrib.gis"],
                   DEFAULT_AUTO_FIELD="django.db.models.AutoField")
import django
django.setup()
from django.contrib.gis.db import models
from django.contrib.gis.geos import Point, Polygon
from django.db import connection

class Shop(models.Model):
    place = models.PointField()
    class Meta:
        app_label = "shops"

with connection.schema_editor() as editor:
    editor.create_model(Shop)
Shop.objects.create(place=Point(1, 1))
Shop.objects.create(place=Point(9, 9))
found = Shop.objects.filter(place__within=Polygon.from_bbox((0, 0, 5, 5)))
print([shop.place.wkt for shop in found], connection.connection.holds_connection)
"""


def has_gdal() -> bool:
    import ctypes.util

    return ctypes.util.find_library("gdal") is not None


@pytest.mark.skipif(not has_gdal(), reason="no GDAL here: apt install libgdal32")
def test_geodjango_works_on_the_same_pool(shared_server: Server) -> None:
    made = Database(shared_server)
    shared_server.execute("DROP TABLE IF EXISTS shop.shops_shop")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            GIS_PROGRAM,
            json.dumps(made.settings(ENGINE="unhang.backends.mysql_gis")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['POINT (1 1)'] False"


def test_pymysql_in_the_place_of_mysqldb_keeps_one_set_of_exceptions() -> None:
    program = (
        "import unhang.backends.mysql.which_driver, MySQLdb, pymysql\n"
        "from MySQLdb.constants import CLIENT\n"
        "from MySQLdb.converters import conversions\n"
        "from MySQLdb.connections import Connection\n"
        "import MySQLdb.err\n"
        "assert MySQLdb.err.OperationalError is pymysql.err.OperationalError\n"
        "assert pymysql.OperationalError is pymysql.err.OperationalError\n"
        "assert Connection is pymysql.connections.Connection\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"UNHANG_DRIVER": "pymysql"},
    )
    assert done.returncode == 0, done.stderr
