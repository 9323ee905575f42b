"""The wait_timeout that an init_command gives a session."""

from __future__ import annotations

import pytest

from unhang.mysql.init_command import session_wait_timeout


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
