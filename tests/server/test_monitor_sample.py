"""What a sample says is what the server does, on each engine."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from unhang import lab
from unhang.lab import Server
from unhang.latency import Recorder
from unhang.monitor.sample import Sample, take_sample

APP = ("app", "secret")


@pytest.fixture
def server(engine: str) -> Iterator[Server]:
    with lab.server(engine, max_connections=30) as private:
        private.create_account(*APP, database="shop")
        private.create_account("inspector", "secret", ("PROCESS ON *.*",))
        private.execute("CREATE TABLE shop.item (id INT PRIMARY KEY) ENGINE=InnoDB")
        private.execute("INSERT INTO shop.item VALUES (1)")
        yield private


@contextlib.contextmanager
def sessions(server: Server, count: int, *login: str) -> Iterator[list[Any]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(server.connect(*(login or APP), "shop")))
            for _ in range(count)
        ]


def look(server: Server, *login: str) -> Any:
    """The server's side of a sample taken with this login (root if none)."""
    with contextlib.closing(server.connect(*login)) as connection:
        sample = take_sample(connection)
    assert Sample.from_json(json.loads(json.dumps(sample.to_json()))) == sample
    assert sample.server is not None
    return sample.server


def run(connection: Any, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_sleepers_and_their_account_are_counted_without_ourselves(server: Server) -> None:
    with sessions(server, 4), sessions(server, 2, "root", ""):
        seen = look(server)
        assert seen.sleepers == 6
        assert seen.sessions_by_user == {"app": 4, "root": 2}
        assert seen.threads_connected >= 7
    assert seen.engine == server.kind
    assert seen.max_connections == 30
    assert seen.idle_in_transaction == 0
    assert sum(seen.sleepers_by_age) == 6
    assert seen.sleepers_by_age[0] == 6


def test_a_running_statement_is_active(server: Server) -> None:
    with sessions(server, 1) as (busy,):
        busy._execute_command(pymysql.constants.COMMAND.COM_QUERY, "SELECT SLEEP(30)")
        for _ in range(200):
            seen = look(server)
            if seen.active:
                break
        assert (seen.active, seen.sleepers) == (1, 0)
        server.execute(f"KILL {busy.thread_id()}")


def test_a_sleeper_in_a_transaction_is_not_an_idle_one(server: Server) -> None:
    with sessions(server, 3) as (first, _second, _third):
        run(first, "BEGIN")
        run(first, "UPDATE item SET id = 2")
        seen = look(server, "inspector", "secret")
        assert (seen.sleepers, seen.idle_in_transaction, seen.idle) == (3, 1, 2)
        run(first, "ROLLBACK")


@pytest.mark.parametrize("others", [0, 2])
def test_without_the_privilege_transactions_are_unknown_and_never_none(
    server: Server, others: int
) -> None:
    with sessions(server, others), sessions(server, 1, "root", "") as (root,):
        run(root, "BEGIN")
        run(root, "UPDATE item SET id = 2")
        seen = look(server, *APP)
        assert seen.idle_in_transaction is None
        assert seen.sleepers == others  # its own account's only


def test_looking_without_the_privilege_raises_no_counter_of_denied_access(server: Server) -> None:
    with contextlib.closing(server.connect(*APP)) as connection:
        first, second = (take_sample(connection).server for _ in range(2))
    assert first is not None
    assert second is not None
    assert second.access_denied_errors == first.access_denied_errors


def test_all_privileges_let_it_see_transactions(server: Server) -> None:
    server.create_account("dba", "secret")
    assert look(server, "dba", "secret").idle_in_transaction == 0


def test_a_faked_clock_does_not_make_a_sleeper_old(server: Server) -> None:
    with sessions(server, 1) as (liar,):
        run(liar, "SET TIMESTAMP = 1")
        run(liar, "SELECT 1")
        seen = look(server)
        assert seen.sleepers == 1
        assert seen.sleepers_by_age[1:] == (0, 0, 0, 0)


def test_the_applications_counters_are_part_of_it(server: Server, tmp_path: Any) -> None:
    recorder = Recorder(tmp_path / "run")
    recorder.begin()
    recorder.finish(0.2, server_error=True)
    with contextlib.closing(server.connect()) as connection:
        recorded = take_sample(connection, run_dir=tmp_path / "run").app
        nothing = take_sample(connection, run_dir=tmp_path / "nowhere").app
    assert recorded is not None
    assert recorded.server_errors == 1
    assert nothing is None
