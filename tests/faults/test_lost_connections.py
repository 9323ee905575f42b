"""Sessions that the server ends: what the application sees of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from django.db import InterfaceError, OperationalError

from support.databases import (
    Database,
    at_once,
    atomic,
    fetch,
    one,
    pool_of,
    run,
    session_ids,
    until,
)
from unhang import lab


@pytest.mark.parametrize("idle", [1, 2, 9])
def test_a_read_after_all_idle_sessions_were_killed_is_answered(
    database: Database, idle: int
) -> None:
    wrapper = database.wrapper()
    pool = pool_of(wrapper)
    for connection in [pool.lend() for _ in range(idle)]:
        pool.give_back(connection)
    until(lambda: len(database.sessions()) == idle)
    assert database.kill_all() == idle
    assert one(wrapper, "SELECT COUNT(*) FROM account") == 10


def test_a_write_after_an_idle_session_was_killed_is_done_once(database: Database) -> None:
    wrapper = database.wrapper()
    assert one(wrapper, "SELECT 1") == 1
    database.kill_all()
    assert run(wrapper, "INSERT INTO entry (note) VALUES ('after')") == 1
    assert database.value("SELECT COUNT(*) FROM shop.entry") == 1


def test_a_transaction_after_an_idle_session_was_killed_begins_on_a_live_one(
    database: Database,
) -> None:
    wrapper = database.wrapper()
    assert one(wrapper, "SELECT 1") == 1
    database.kill_all()
    with atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
        run(wrapper, "UPDATE account SET balance = 2 WHERE id = 2")
    assert database.value("SELECT SUM(balance) FROM shop.account WHERE id < 3") == 103


def kill_while_running(database: Database, text: str, times: int = 1) -> threading.Thread:
    """Kill whatever runs this text, so many times."""

    def work() -> None:
        killed: set[int] = set()
        deadline = time.monotonic() + 4
        while len(killed) < times and time.monotonic() < deadline:
            for number, _, statement in database.processes():
                if text in statement and number not in killed:
                    killed.add(number)
                    database.server.execute(f"KILL {number}")
            time.sleep(0.01)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("times", [1, 3])
def test_a_read_whose_session_is_killed_is_answered_on_another(
    database: Database, times: int
) -> None:
    wrapper = database.wrapper()
    killer = kill_while_running(database, "SLEEP(0.5)", times)
    rows = fetch(wrapper, "SELECT id, SLEEP(0.5) FROM account WHERE id = 3")
    killer.join()
    assert rows == ((3, 0),)


def test_a_read_that_is_killed_over_and_over_ends_with_the_deadline(database: Database) -> None:
    wrapper = database.wrapper(timeout=1.5)
    assert one(wrapper, "SELECT 1") == 1
    killer = kill_while_running(database, "SLEEP(9)", times=1_000)
    began = time.monotonic()
    with pytest.raises(OperationalError) as caught:
        fetch(wrapper, "SELECT SLEEP(9)")
    assert caught.value.args[0] in (2006, 2013)
    assert 1.4 < time.monotonic() - began < 5
    killer.join()


def test_a_write_whose_session_is_killed_is_never_run_again(database: Database) -> None:
    wrapper = database.wrapper()
    killer = kill_while_running(database, "SLEEP(1)")
    with pytest.raises(OperationalError) as caught:
        run(wrapper, "INSERT INTO entry (note) SELECT CONCAT('x', SLEEP(1))")
    killer.join()
    assert caught.value.args[0] in (2006, 2013)
    time.sleep(1.2)
    assert database.value("SELECT COUNT(*) FROM shop.entry") == 0
    assert run(wrapper, "INSERT INTO entry (note) VALUES ('next')") == 1


def test_a_session_killed_inside_a_transaction_raises_and_nothing_is_committed(
    database: Database,
) -> None:
    wrapper = database.wrapper()
    with pytest.raises(OperationalError), atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = balance - 50 WHERE id = 1")
        database.kill_all()
        run(wrapper, "UPDATE account SET balance = balance + 50 WHERE id = 2")
    assert database.value("SELECT SUM(balance) FROM shop.account") == 1000
    assert database.value("SELECT balance FROM shop.account WHERE id = 1") == 100
    assert one(wrapper, "SELECT COUNT(*) FROM account") == 10, "and the next statement works"


def test_a_read_inside_a_transaction_is_never_repeated(database: Database) -> None:
    wrapper = database.wrapper()
    with pytest.raises(OperationalError), atomic(wrapper):
        one(wrapper, "SELECT balance FROM account WHERE id = 1 FOR UPDATE")
        database.kill_all()
        one(wrapper, "SELECT balance FROM account WHERE id = 1")


def test_an_error_that_is_swallowed_does_not_let_half_a_transaction_through(
    database: Database,
) -> None:
    wrapper = database.wrapper()
    with pytest.raises(OperationalError), atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 0 WHERE id = 1")
        database.kill_all()
        with pytest.raises(OperationalError):
            run(wrapper, "UPDATE account SET balance = 0 WHERE id = 2")
        with pytest.raises(OperationalError, match="nothing is run until rollback"):
            run(wrapper, "UPDATE account SET balance = 0 WHERE id = 3")
    assert database.value("SELECT SUM(balance) FROM shop.account") == 1000


def test_a_commit_on_a_killed_session_is_an_error_never_a_silent_loss(database: Database) -> None:
    wrapper = database.wrapper()
    with pytest.raises((OperationalError, InterfaceError)), atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 0 WHERE id = 1")
        database.kill_all()
    assert database.value("SELECT SUM(balance) FROM shop.account") == 1000


def test_a_rollback_on_a_killed_session_is_no_second_error(database: Database) -> None:
    wrapper = database.wrapper()
    with pytest.raises(ZeroDivisionError), atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 0 WHERE id = 1")
        database.kill_all()
        raise ZeroDivisionError
    assert database.value("SELECT SUM(balance) FROM shop.account") == 1000
    assert run(wrapper, "UPDATE account SET balance = 0 WHERE id = 1") == 1


def test_a_killed_query_leaves_the_connection_good(database: Database) -> None:
    wrapper = database.wrapper()
    before = one(wrapper, "SELECT 1") and session_ids(wrapper)

    def kill() -> None:
        until(lambda: any("SLEEP(7)" in statement for _, _, statement in database.processes()))
        database.server.execute(f"KILL QUERY {before[0]}")

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        # MariaDB ends SLEEP with an error, as any statement.
        with pytest.raises(OperationalError) as caught:
            fetch(wrapper, "SELECT SLEEP(7) FROM account")
        assert caught.value.args[0] in (1317, 1969)
    finally:
        thread.join()
    assert one(wrapper, "SELECT 1") == 1
    assert session_ids(wrapper) == before


def test_pinned_state_that_is_lost_is_an_error_until_the_connection_is_closed(
    database: Database,
) -> None:
    wrapper = database.wrapper()
    run(wrapper, "SET @rate = 19")
    database.kill_all()
    for _ in range(2):
        with pytest.raises(OperationalError):
            fetch(wrapper, "SELECT @rate")
    with pytest.raises(OperationalError):
        fetch(wrapper, "SELECT 1")  # it may rely on the state, too
    wrapper.close()
    assert one(wrapper, "SELECT @rate") is None


@pytest.fixture(params=[1, 3])
def impatient(request: pytest.FixtureRequest) -> Iterator[Database]:
    with lab.server("mariadb", wait_timeout=request.param) as server:
        made = Database(server)
        made.tables()
        yield made
        made.close()


def test_with_a_wait_timeout_of_seconds_nothing_fails_at_any_pause(impatient: Database) -> None:
    """Background loops with pauses around the limit: reads, writes and transactions."""
    limit = float(impatient.value("SELECT @@global.wait_timeout"))
    pauses = (0.0, 0.3, limit * 0.5, limit * 0.9, limit, limit + 0.1, limit + 0.6)

    def loop(pause: float) -> None:
        wrapper = impatient.wrapper()
        assert run(wrapper, "INSERT INTO entry (note) VALUES (%s)", [f"{pause} a"]) == 1
        time.sleep(pause)
        assert one(wrapper, "SELECT COUNT(*) FROM entry WHERE note = %s", [f"{pause} a"]) == 1
        time.sleep(pause)
        with atomic(wrapper):
            run(wrapper, "INSERT INTO entry (note) VALUES (%s)", [f"{pause} b"])

    at_once([lambda pause=pause: loop(pause) for pause in pauses])  # type: ignore[misc]
    assert impatient.value("SELECT COUNT(*) FROM shop.entry") == 2 * len(pauses)


def test_in_request_mode_a_pause_in_the_middle_of_a_request_is_survived(
    impatient: Database,
) -> None:
    wrapper = impatient.wrapper(lease="request")
    limit = float(impatient.value("SELECT @@global.wait_timeout"))
    assert one(wrapper, "SELECT 1") == 1
    assert pool_of(wrapper).stats().leased == 1
    time.sleep(limit + 0.7)
    assert run(wrapper, "INSERT INTO entry (note) VALUES ('x')") == 1
    time.sleep(limit + 0.7)
    with atomic(wrapper):
        run(wrapper, "INSERT INTO entry (note) VALUES ('y')")
    wrapper.close_if_unusable_or_obsolete()
    assert pool_of(wrapper).stats().leased == 0


def test_the_applications_own_read_timeout_is_not_defeated_by_repeating(
    database: Database,
) -> None:
    wrapper = database.wrapper(options={"read_timeout": 1})
    assert one(wrapper, "SELECT 1") == 1
    began = time.monotonic()
    with pytest.raises(OperationalError):
        fetch(wrapper, "SELECT SLEEP(4)")
    assert time.monotonic() - began < 3.5
