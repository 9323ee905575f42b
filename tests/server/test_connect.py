"""The tool's own connections on real servers: what outlasts what, and what stays untouched."""

from __future__ import annotations

import time
from typing import Any

import pytest

from unhang import lab
from unhang.lab import Server
from unhang.survey.collect import Target, take_survey
from unhang.survey.connect import connected, fetch
from unhang.survey.login import Login, from_dsn

SESSION = "SELECT @@session.wait_timeout AS seconds"


def login(server: Server) -> Login:
    return from_dsn(server.dsn())


@pytest.mark.every_engine
def test_a_wait_timeout_shorter_than_a_pause_does_not_end_our_own_session(any_engine: str) -> None:
    with (
        lab.server(any_engine, wait_timeout=1) as server,
        connected(login(server)) as connection,
    ):
        assert fetch(connection, "SELECT 1 AS one") == [{"one": 1}]
        time.sleep(2.5)
        assert fetch(connection, "SELECT 2 AS two") == [{"two": 2}]


@pytest.mark.every_engine
def test_what_every_new_session_gets_can_still_be_seen(any_engine: str) -> None:
    with lab.server(any_engine, wait_timeout=77) as server:
        with connected(login(server), own_timeout=False) as connection:
            assert fetch(connection, SESSION) == [{"seconds": 77}]
        if server.kind == "mariadb":
            with connected(login(server)) as connection:
                assert fetch(connection, SESSION) == [{"seconds": 28_800}]


@pytest.mark.every_engine
def test_looking_leaves_the_origin_of_a_value_as_it_was(any_engine: str) -> None:
    with lab.server(any_engine, wait_timeout=77) as server:
        surveys = [take_survey(Target(login(server))) for _ in range(2)]
    assert [s.server.variables["wait_timeout"].origin.kind for s in surveys] == ["option file"] * 2


def test_a_server_that_restarted_is_not_taken_for_one_that_ended_an_idle_session() -> None:
    if "mysql97" not in lab.available_engines():
        pytest.skip("no mysql97 server here: make servers")
    with lab.server("mysql97") as server, connected(login(server)) as connection:
        server.restart()
        with pytest.raises(Exception, match=r"2013|2006|4031|1053") as lost:
            fetch(connection, "SELECT 1")
        assert lost.type.__module__ == "pymysql.err"


def test_sessions_are_seen_when_performance_schema_is_off() -> None:
    if "mysql97" not in lab.available_engines():
        pytest.skip("no mysql97 server here: make servers")
    with lab.server("mysql97", options=["--performance-schema=OFF"]) as server:
        sleeper: Any = server.connect()
        with sleeper:
            survey = take_survey(Target(login(server)))
    assert [session.command for session in survey.sessions] == ["Sleep"]
    assert survey.sessions[0].in_transaction is None, "XA and empty ones are not seen then"
    assert survey.server.variables["wait_timeout"].origin.kind == "compiled default"
    (unseen,) = survey.unseen
    assert "each session's own wait_timeout" in unseen.what
    assert (unseen.why, unseen.grant) == ("performance_schema is off", "")
