"""Two borrowers of one pool: what one did, or what befell him, is never seen by the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import InterfaceError, NotSupportedError, OperationalError

from support.databases import Database, atomic, fetch, in_thread, one, pool_of, run, until


def others_insert(database: Database) -> None:
    """Somebody else inserts a row over the only connection."""
    in_thread(lambda: run(database.wrapper(max_size=1), "INSERT INTO entry (note) VALUES (UUID())"))


LOOKING_BACK: dict[str, Callable[[Any], Any]] = {
    "in a statement that writes": lambda wrapper: run(
        wrapper, "UPDATE account SET balance = LAST_INSERT_ID() WHERE id = 1"
    ),
    "in SET": lambda wrapper: run(wrapper, "SET @id = LAST_INSERT_ID()"),
    "after a read of ours": lambda wrapper: (
        one(wrapper, "SELECT 1"),
        one(wrapper, "SELECT LAST_INSERT_ID()"),
    ),
    "through a system variable": lambda wrapper: one(wrapper, "SELECT @@identity"),
}


@pytest.mark.parametrize("how", LOOKING_BACK)
@pytest.mark.parametrize("inside", ["alone", "in a transaction", "late in a transaction"])
def test_an_insert_id_of_somebody_else_is_an_error_never_an_answer(
    database: Database, how: str, inside: str
) -> None:
    wrapper = database.wrapper(max_size=1)
    run(wrapper, "INSERT INTO entry (note) VALUES ('mine')")
    others_insert(database)
    with pytest.raises(NotSupportedError):
        if inside == "alone":
            LOOKING_BACK[how](wrapper)
        else:
            with atomic(wrapper):
                if inside.startswith("late"):
                    one(wrapper, "SELECT COUNT(*) FROM account")
                LOOKING_BACK[how](wrapper)
    assert database.value("SELECT balance FROM shop.account WHERE id = 1") == 100


def test_an_update_over_another_connection_does_not_hide_whose_insert_it_was(
    database: Database,
) -> None:
    wrapper = database.wrapper(max_size=2)
    pool = pool_of(wrapper)
    run(wrapper, "INSERT INTO entry (note) VALUES ('mine')")
    mine = one(wrapper, "SELECT MAX(id) FROM entry")
    kept = pool.lend()  # our connection is busy elsewhere
    others_insert_over = pool.lend()
    pool.give_back(others_insert_over)
    run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
    pool.give_back(kept)
    with pytest.raises(NotSupportedError):
        one(wrapper, "SELECT LAST_INSERT_ID()")
    with atomic(wrapper):
        run(wrapper, "INSERT INTO entry (note) VALUES ('again')")
        run(wrapper, "UPDATE account SET balance = 2 WHERE id = 1")
        assert one(wrapper, "SELECT LAST_INSERT_ID()") == mine + 1


def test_the_sequence_idiom_works(database: Database) -> None:
    wrapper = database.wrapper()
    run(wrapper, "UPDATE account SET balance = LAST_INSERT_ID(balance + 1) WHERE id = 1")
    assert one(wrapper, "SELECT LAST_INSERT_ID()") == 101


def test_atomic_does_not_commit_a_transaction_begun_by_hand(database: Database) -> None:
    wrapper = database.wrapper()
    run(wrapper, "START TRANSACTION")
    run(wrapper, "UPDATE account SET balance = 0 WHERE id = 1")
    with pytest.raises(ZeroDivisionError), atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 0 WHERE id = 2")
        raise ZeroDivisionError
    assert database.value("SELECT SUM(balance) FROM shop.account") == 1000


def test_atomic_does_not_unlock_tables_locked_by_hand(database: Database) -> None:
    wrapper, rival = database.wrapper(), database.wrapper("rival")
    run(wrapper, "LOCK TABLES account WRITE")
    with atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
        run(rival, "SET lock_wait_timeout = 1")
        with pytest.raises(OperationalError):
            run(rival, "UPDATE account SET balance = 9 WHERE id = 1")


@pytest.mark.parametrize(
    "options", [{"autocommit": False}, {"init_command": "SET autocommit = 0"}], ids=str
)
def test_an_autocommit_mode_that_is_off_does_not_lose_writes(
    database: Database, options: dict[str, Any]
) -> None:
    wrapper = database.wrapper(options=options, max_size=1)
    for turn in range(2):
        run(wrapper, "UPDATE account SET balance = %s WHERE id = 1", [turn])
        assert database.value("SELECT balance FROM shop.account WHERE id = 1") == turn
        run(wrapper, "SET @state = 1")
        wrapper.close()  # the second turn is after a reset
    assert one(wrapper, "SELECT @@autocommit") == 1


def test_a_role_is_not_handed_on(database: Database) -> None:
    for statement in (
        "DROP ROLE IF EXISTS auditor",
        "CREATE ROLE auditor",
        "GRANT auditor TO app@'%'",
    ):
        database.server.execute(statement)
    wrapper = database.wrapper(max_size=1)
    run(wrapper, "SET ROLE auditor")
    wrapper.close()
    assert one(database.wrapper(max_size=1), "SELECT CURRENT_ROLE()") is None


def test_a_row_that_cannot_be_decoded_leaves_nothing_for_the_next_borrower(
    database: Database,
) -> None:
    wrapper = database.wrapper(max_size=1)
    bad = "SELECT 'a' UNION ALL SELECT CONVERT(X'FF' USING utf8mb4) UNION ALL SELECT 'c'"
    try:
        with wrapper.cursor() as cursor:
            cursor.execute(
                "SELECT id, CAST(CASE id WHEN 3 THEN X'EDA080' ELSE 'a' END AS CHAR CHARACTER SET "
                "binary) FROM account"
            )
            fetch(wrapper, bad)
    except (UnicodeDecodeError, OperationalError):
        pass
    assert run(database.wrapper(max_size=1), "UPDATE account SET balance = 1 WHERE id = 77") == 0
    assert one(database.wrapper(max_size=1), "SELECT 42") == 42


def test_an_exception_in_the_middle_of_an_answer_costs_the_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Celery's SoftTimeLimitExceeded, which a signal raises and which is an `Exception`."""
    from unhang.backends.mysql.cursor import VirtualCursor

    wrapper = database.wrapper(max_size=1)
    assert one(wrapper, "SELECT 1") == 1
    before = pool_of(wrapper).connections()

    def interrupted(*_args: Any) -> None:
        raise RuntimeError("soft time limit")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(VirtualCursor, "take", interrupted)
        fetch(wrapper, "SELECT 2")
    assert one(wrapper, "SELECT 3") == 3
    assert pool_of(wrapper).connections() != before


def test_code_that_only_asks_for_attributes_gets_no_lease(database: Database) -> None:
    """As monitoring does around every query."""
    wrapper = database.wrapper()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
        inner = cursor.cursor
        assert hasattr(inner, "mogrify")
        assert not hasattr(inner, "get_dsn_parameters")
        assert not hasattr(inner.connection, "get_dsn_parameters")
        assert not hasattr(inner.connection.info, "get_parameters")
        assert inner.mogrify("SELECT %s", ["x"]) == "SELECT 'x'"
        assert cursor.fetchall() == ((1,),)
    assert not wrapper.connection.holds_connection
    assert pool_of(wrapper).stats().pins == 0


def test_executemany_with_nothing_to_do_does_nothing(database: Database) -> None:
    wrapper = database.wrapper()
    with wrapper.cursor() as cursor:
        cursor.executemany("INSERT INTO entry (note) VALUES (%s)", [])
        assert cursor.cursor.lastrowid is None
        assert cursor.cursor.description is None


def test_callproc_has_a_description(database: Database) -> None:
    database.server.execute("DROP PROCEDURE IF EXISTS shop.one")
    database.server.execute("CREATE PROCEDURE shop.one() SELECT 1 AS answer")
    wrapper = database.wrapper()
    with wrapper.cursor() as cursor:
        cursor.callproc("one")
        assert [column[0] for column in cursor.description] == ["answer"]
        assert cursor.fetchall() == ((1,),)


def test_warnings_are_counted(database: Database) -> None:
    wrapper = database.wrapper()
    with wrapper.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS entry (id INT)")
        assert cursor.cursor.warning_count == 1


def test_a_pool_closed_by_hand_is_replaced_for_the_next_request(database: Database) -> None:
    wrapper = database.wrapper()
    assert one(wrapper, "SELECT 1") == 1
    pool_of(wrapper).close()
    wrapper.close_if_unusable_or_obsolete()
    assert one(wrapper, "SELECT 2") == 2


def test_a_frozen_server_is_not_usable_and_says_so_in_time(database: Database) -> None:
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    assert wrapper.is_usable()
    with database.server.frozen():
        assert not wrapper.is_usable()
    assert one(wrapper, "SELECT 1") == 1


def test_a_commit_that_fails_lets_nothing_commit_by_itself(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Galera refuses at COMMIT with 1213, and the connection stays good."""
    import MySQLdb

    wrapper = database.wrapper(max_size=1)
    wrapper.set_autocommit(False)
    run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
    physical = pool_of(wrapper).connections()[0].raw

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def commit(self) -> None:
            real.rollback()
            raise MySQLdb.OperationalError(1213, "Deadlock found")

    real = physical.connection
    with monkeypatch.context() as patch:
        patch.setattr(physical, "connection", Refusing())
        with pytest.raises(OperationalError):
            wrapper.commit()
    run(wrapper, "UPDATE account SET balance = 2 WHERE id = 1")
    wrapper.rollback()
    assert database.value("SELECT balance FROM shop.account WHERE id = 1") == 100


def test_after_close_nothing_runs(database: Database) -> None:
    wrapper = database.wrapper()
    wrapper.ensure_connection()
    virtual = wrapper.connection
    with virtual:
        pass
    with pytest.raises(Exception, match="is closed") as caught:
        virtual.cursor().execute("SELECT 1")
    assert type(caught.value).__name__ == InterfaceError.__name__
    until(lambda: pool_of(wrapper).stats().leased == 0)
