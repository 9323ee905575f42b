"""What a borrower leaves in a session is never seen by the next one."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import NotSupportedError, OperationalError, ProgrammingError

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

LEFT_BEHIND = {
    "user variable": ("SET @tenant = 7", "SELECT @tenant"),
    "user variable in a select": ("SELECT @tenant := 7", "SELECT @tenant"),
    "foreign keys off": ("SET foreign_key_checks = 0", "SELECT @@foreign_key_checks"),
    "isolation": (
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW VARIABLES LIKE 't%%isolation'",
    ),
    "time zone": ("SET time_zone = '+09:00'", "SELECT @@time_zone"),
    "sql_mode": ("SET sql_mode = 'ANSI_QUOTES'", "SELECT @@sql_mode"),
    "character set": ("SET NAMES latin1", "SELECT @@character_set_client"),
    "autocommit": ("SET autocommit = 0", "SELECT @@autocommit"),
    "wait_timeout": ("SET SESSION wait_timeout = 7", "SELECT @@session.wait_timeout"),
    "database": ("USE mysql", "SELECT DATABASE()"),
    "lock by name": ("SELECT GET_LOCK('nightly', 0)", "SELECT IS_USED_LOCK('nightly')"),
    "prepared statement": (
        "PREPARE p FROM 'SELECT 1'",
        "SHOW SESSION STATUS LIKE 'Prepared_stmt_count'",
    ),
}


@pytest.mark.parametrize("what", LEFT_BEHIND)
def test_session_state_is_gone_for_the_next_borrower(database: Database, what: str) -> None:
    leave, look = LEFT_BEHIND[what]
    wrapper = database.wrapper(max_size=1)
    clean = fetch(wrapper, look)
    wrapper.close()
    until(lambda: pool_of(wrapper).stats().idle == 1)
    session = session_ids(wrapper)
    fetch(wrapper, leave)
    assert wrapper.connection.holds_connection, "it is pinned: the borrower keeps his state"
    kept = fetch(wrapper, look)
    if what not in ("prepared statement",):
        assert kept != clean
    wrapper.close()
    other = database.wrapper(max_size=1)
    assert fetch(other, look) == clean
    assert session_ids(other) == session, "and it is the same session"


@pytest.mark.parametrize("kind", ["temporary table", "locked tables"])
def test_tables_are_no_state_of_the_next_borrower(database: Database, kind: str) -> None:
    wrapper = database.wrapper(max_size=1)
    if kind == "temporary table":
        run(wrapper, "CREATE TEMPORARY TABLE entry (secret INT)")
        assert fetch(wrapper, "SELECT * FROM entry") == ()
        wrapper.close()
        other = database.wrapper(max_size=1)
        assert fetch(other, "SELECT note FROM entry") == ()
    else:
        run(wrapper, "LOCK TABLES account WRITE")
        with pytest.raises(OperationalError):
            fetch(wrapper, "SELECT * FROM entry")
        wrapper.close()
        assert fetch(database.wrapper(max_size=1), "SELECT * FROM entry") == ()


def test_an_open_transaction_is_rolled_back_at_close(database: Database) -> None:
    wrapper = database.wrapper(max_size=1)
    wrapper.set_autocommit(False)
    run(wrapper, "UPDATE account SET balance = 0")
    wrapper.close()
    other = database.wrapper(max_size=1)
    assert int(one(other, "SELECT SUM(balance) FROM account")) == 1000
    assert run(other, "UPDATE account SET balance = 1 WHERE id = 1") == 1, "no lock is left"


def test_a_transaction_begun_by_hand_is_pinned_and_rolled_back(database: Database) -> None:
    wrapper = database.wrapper(max_size=1)
    run(wrapper, "START TRANSACTION")
    run(wrapper, "UPDATE account SET balance = 0")
    assert int(one(wrapper, "SELECT SUM(balance) FROM account")) == 0
    wrapper.close()
    assert int(one(database.wrapper(max_size=1), "SELECT SUM(balance) FROM account")) == 1000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # PyMySQL's __del__
def test_unread_rows_never_reach_the_next_borrower(database: Database) -> None:
    from MySQLdb.cursors import SSCursor

    wrapper = database.wrapper(max_size=1)
    wrapper.ensure_connection()
    unbuffered = wrapper.connection.cursor(SSCursor)
    unbuffered.execute("SELECT a.id, b.id FROM account a, account b")
    assert unbuffered.fetchone() is not None
    wrapper.close()
    assert fetch(database.wrapper(max_size=1), "SELECT 42") == ((42,),)
    del unbuffered
    gc.collect()


def test_a_second_result_set_never_reaches_the_next_borrower(database: Database) -> None:
    database.server.execute("DROP PROCEDURE IF EXISTS shop.two")
    database.server.execute("CREATE PROCEDURE shop.two() BEGIN SELECT 1; SELECT 2; END")
    wrapper = database.wrapper(max_size=1)
    with wrapper.cursor() as cursor:
        cursor.execute("CALL two()")
        assert cursor.fetchall() == ((1,),)
        assert cursor.nextset()
        assert cursor.fetchall() == ((2,),)
    cursor = wrapper.cursor()
    cursor.execute("CALL two()")
    wrapper.close()
    assert fetch(database.wrapper(max_size=1), "SELECT 42") == ((42,),)


def test_init_command_and_sql_mode_hold_again_after_a_reset(database: Database) -> None:
    options = {"init_command": "SET @@session.max_statement_time = 30", "sql_mode": "ANSI_QUOTES"}
    wrapper = database.wrapper(max_size=1, options=options)
    looks = "SELECT @@max_statement_time, @@sql_mode, @@autocommit"
    before = fetch(wrapper, looks)
    assert float(before[0][0]) == 30
    run(wrapper, "SET @@session.max_statement_time = 1, sql_mode = ''")
    wrapper.close()
    assert fetch(database.wrapper(max_size=1, options=options), looks) == before


def test_the_last_insert_id_is_that_of_this_application_thread(database: Database) -> None:
    wrapper = database.wrapper()
    for number in range(3):
        run(wrapper, "INSERT INTO entry (note) VALUES (%s)", [f"n{number}"])
        expected = one(wrapper, "SELECT MAX(id) FROM entry WHERE note = %s", [f"n{number}"])
        run(wrapper, "UPDATE entry SET note = note WHERE id = %s", [expected])
    run(wrapper, "INSERT INTO entry (note) VALUES ('last')")
    assert one(wrapper, "SELECT LAST_INSERT_ID()") == expected + 1


def test_a_last_insert_id_that_would_be_somebody_elses_is_an_error(database: Database) -> None:
    wrapper, other = database.wrapper(max_size=1), database.wrapper(max_size=1)
    run(wrapper, "INSERT INTO entry (note) VALUES ('mine')")
    in_thread(lambda: run(database.wrapper(max_size=1), "INSERT INTO entry (note) VALUES ('his')"))
    with pytest.raises(NotSupportedError, match=r"transaction.atomic\(\)"):
        one(wrapper, "SELECT LAST_INSERT_ID()")
    with atomic(other):
        run(other, "INSERT INTO entry (note) VALUES ('atomic')")
        number = one(other, "SELECT LAST_INSERT_ID()")
    assert one(other, "SELECT note FROM entry WHERE id = %s", [number]) == "atomic"


def test_warnings_of_the_last_statement_can_be_read(database: Database) -> None:
    wrapper = database.wrapper()
    run(wrapper, "CREATE TABLE IF NOT EXISTS entry (id INT)")
    assert "already exists" in str(fetch(wrapper, "SHOW WARNINGS"))


def test_a_thread_that_dies_in_a_transaction_frees_its_locks_at_once(database: Database) -> None:
    gc.disable()
    try:

        def forget() -> None:
            wrapper = database.wrapper(max_size=2)
            wrapper.set_autocommit(False)
            run(wrapper, "UPDATE account SET balance = 0")

        in_thread(forget)
        other = database.wrapper(max_size=2)
        run(other, "SET innodb_lock_wait_timeout = 3")
        assert run(other, "UPDATE account SET balance = 5 WHERE id = 1") == 1
    finally:
        gc.enable()
    assert database.value("SELECT SUM(balance) FROM shop.account") == 905


def test_a_wrapper_that_is_dropped_frees_its_connection(database: Database) -> None:
    wrapper = database.wrapper(max_size=1)
    pool = pool_of(wrapper)
    wrapper.set_autocommit(False)
    run(wrapper, "UPDATE account SET balance = 0")
    wrapper.connection = None  # as a garbage-collected wrapper leaves it
    until(lambda: pool.stats().leased == 0)
    assert database.value("SELECT SUM(balance) FROM shop.account") == 1000


def test_a_hundred_threads_leave_no_session_behind(database: Database) -> None:
    gc.disable()
    try:
        for _ in range(10):
            at_once([lambda: one(database.wrapper(max_size=4), "SELECT 1")] * 10)
        pool = pool_of(database.wrapper(max_size=4))
        assert pool.stats().leased == 0
        assert pool.stats().size <= 4
        until(lambda: len(database.sessions()) <= 4)
    finally:
        gc.enable()


@pytest.mark.parametrize("moment", ["in the query", "after it"])
@pytest.mark.parametrize("inside", ["alone", "in a transaction"])
def test_an_interrupt_in_a_statement_costs_a_connection_never_a_slot_or_an_answer(
    database: Database, moment: str, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unhang.backends.mysql.cursor import VirtualCursor

    wrapper = database.wrapper(max_size=2)
    assert one(wrapper, "SELECT 1") == 1
    pool = pool_of(wrapper)

    def interrupt(*_args: Any, **_kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "after it":
            patch.setattr(VirtualCursor, "take", interrupt)
        else:
            for connection in pool.connections():
                patch.setattr(connection.raw, "cursor", _Interrupting())
        with pytest.raises(KeyboardInterrupt):
            if inside == "alone":
                fetch(wrapper, "SELECT 2")
            else:
                with atomic(wrapper):
                    fetch(wrapper, "SELECT 2")
    assert pool.stats().leased == 0
    held = [pool.lend(timeout=2), pool.lend(timeout=2)]
    for connection in held:
        pool.give_back(connection)
    assert [one(wrapper, f"SELECT {n}") for n in range(5)] == list(range(5))


class _Interrupting:
    def execute(self, query: Any, args: Any = None) -> None:
        raise KeyboardInterrupt


def test_arguments_that_cannot_be_converted_cost_no_connection(database: Database) -> None:
    wrapper = database.wrapper(max_size=1)
    before = one(wrapper, "SELECT 1") and session_ids(wrapper)

    class Strange:
        def __str__(self) -> str:
            raise ZeroDivisionError

    with atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
        with pytest.raises((ZeroDivisionError, ProgrammingError, TypeError)):
            fetch(wrapper, "SELECT %s", [Strange()])
        assert one(wrapper, "SELECT balance FROM account WHERE id = 1") == 1
    assert session_ids(wrapper) == before


def test_a_descriptor_used_again_by_another_connection_does_not_revive_a_dead_one(
    database: Database,
) -> None:
    """Connector/C closes the socket at the first error and goes on showing its number."""
    wrapper = database.wrapper(max_size=2)
    pool = pool_of(wrapper)
    a = pool.lend()
    if not hasattr(a.raw.connection, "fileno"):
        pytest.skip("PyMySQL forgets its socket at the first error")
    number = a.raw.connection.fileno()
    database.kill_all()
    with pytest.raises(Exception, match=r"20\d\d"):
        a.raw.connection.query(b"SELECT 1")
    b = pool.lend()
    assert b.raw.connection.fileno() == number, "the case this test is about"
    pool.discard(a)
    pool.give_back(b)
    assert one(wrapper, "SELECT 7") == 7
    assert pool.stats().size == 1


@pytest.fixture
def tls() -> Iterator[Database]:
    with lab.server("mariadb", ssl=True) as server:
        made = Database(server)
        made.tables()
        yield made
        made.close()


def test_threads_that_share_a_wrapper_share_its_transaction(database: Database) -> None:
    wrapper = database.wrapper(max_size=2)
    wrapper.inc_thread_sharing()
    began = threading.Event()

    def begin() -> None:
        wrapper.set_autocommit(False)
        run(wrapper, "UPDATE account SET balance = 0 WHERE id = 1")
        began.set()

    in_thread(begin)
    assert began.is_set()
    pool_of(wrapper).keep()
    run(wrapper, "UPDATE account SET balance = 0 WHERE id = 2")
    wrapper.commit()
    wrapper.set_autocommit(True)
    wrapper.dec_thread_sharing()
    assert database.value("SELECT SUM(balance) FROM shop.account") == 800
