"""What an init_command does to a session."""

from __future__ import annotations

import pytest

from unhang.mysql.init_command import session_wait_timeout, transaction_conflicts


@pytest.mark.parametrize(
    "command",
    [
        "SET SESSION wait_timeout=30",
        "SET wait_timeout = 30",
        "set local Wait_Timeout := 30;",
        "SET @@session.wait_timeout = 30",
        "SET @@wait_timeout=30",
        "SET sql_mode='STRICT_ALL_TABLES,NO_ZERO_DATE', wait_timeout=30",
        "SET wait_timeout=30, sql_mode=''",
        "SET NAMES utf8mb4; SET SESSION wait_timeout=30",
        "SET wait_timeout=99, wait_timeout=30",
        "SET GLOBAL max_connections=5, SESSION wait_timeout=30",
    ],
)
def test_it_is_found_among_other_assignments(command: str) -> None:
    assert session_wait_timeout(command) == 30


@pytest.mark.parametrize(
    "command",
    [
        "",
        "SET sql_mode='wait_timeout=30'",
        "SET GLOBAL wait_timeout=30",
        "SET @@global.wait_timeout=30",
        "SET GLOBAL max_connections=5, wait_timeout=30",  # GLOBAL holds on
        "SET innodb_lock_wait_timeout=30",
        "SET lock_wait_timeout=30, @wait_timeout=30",
        "SELECT 1, wait_timeout=30",
        "SET wait_timeout=DEFAULT",
    ],
)
def test_what_does_not_set_the_sessions_own_is_left_alone(command: str) -> None:
    assert session_wait_timeout(command) is None


def test_it_is_cut_as_the_server_cuts_it() -> None:
    assert session_wait_timeout("SET wait_timeout=0") == 1
    assert session_wait_timeout("SET wait_timeout=99999999") == 31_536_000


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("SET autocommit=0", ("autocommit = 0",)),
        ("set @@session.AUTOCOMMIT := OFF", ("autocommit = OFF",)),
        ("SET NAMES utf8mb4; SET sql_mode='', autocommit = 'off'", ("autocommit = off",)),
        ("SET SESSION completion_type='CHAIN'", ("completion_type = CHAIN",)),
        ("start  transaction read only", ("START TRANSACTION",)),
        ("BEGIN; LOCK TABLES a READ", ("BEGIN", "LOCK TABLES")),
    ],
)
def test_what_moves_the_borders_of_transactions_is_named(
    command: str, parts: tuple[str, ...]
) -> None:
    assert transaction_conflicts(command) == parts


@pytest.mark.parametrize(
    "command",
    [
        "",
        "SET autocommit=1",
        "SET GLOBAL autocommit=0",
        "SET sql_mode='STRICT_ALL_TABLES', innodb_lock_wait_timeout=5, completion_type=NO_CHAIN",
        "SET @note='a;BEGIN'",
        "SELECT 'autocommit=0'",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    ],
)
def test_what_every_session_may_have_is_left_alone(command: str) -> None:
    assert transaction_conflicts(command) == ()
