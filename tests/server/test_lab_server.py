"""Private servers: they start, obey, break on request, and end."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

import psutil
import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from unhang import lab
from unhang.errors import UsageProblem
from unhang.lab import Server
from unhang.lab.process import wait_until

GONE = {2006, 2013}
REFUSED = 2003


def run(connection: Connection[Cursor], sql: str) -> None:
    """Run one statement and close the connection."""
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(sql)


def session_ids(server: Server) -> set[int]:
    return {row["Id"] for row in server.execute("SHOW PROCESSLIST")}


def test_options_come_from_the_option_file_as_in_real_life(engine: str) -> None:
    with lab.server(
        engine, wait_timeout=77, skip_networking=False, options=["--max-connections=41"]
    ) as server:
        (row,) = server.execute("SELECT @@wait_timeout AS w, @@max_connections AS m")
        if server.kind == "mariadb":
            (origin,) = server.execute(
                "SELECT global_value_origin AS origin, global_value_path AS path "
                "FROM information_schema.system_variables WHERE variable_name = 'wait_timeout'"
            )
        else:
            (origin,) = server.execute(
                "SELECT variable_source AS origin, variable_path AS path "
                "FROM performance_schema.variables_info WHERE variable_name = 'wait_timeout'"
            )
        option_file = str(server.option_file)
    assert row == {"w": 77, "m": 41}
    # MySQL calls a file named by --defaults-file EXPLICIT.
    assert origin == {
        "origin": "CONFIG" if server.kind == "mariadb" else "EXPLICIT",
        "path": option_file,
    }


def test_root_gets_in_over_tcp_and_over_the_unix_socket(engine: str) -> None:
    with lab.server(engine) as server:
        for where in ({}, {"unix_socket": server.socket}):
            run(server.connect(**where), "CREATE DATABASE IF NOT EXISTS proof")
            run(server.connect(**where), "GRANT ALL ON proof.* TO CURRENT_USER()")
        assert server.execute("SELECT %s AS given", "100 %") == [{"given": "100 %"}]


def test_an_account_has_its_password_and_its_grants_and_no_others(engine: str) -> None:
    with lab.server(engine) as server:
        server.create_account("watcher", "naïve 50%'", grants=("PROCESS ON *.*",))
        server.create_account("shopper", "pw", database="market")
        with pytest.raises(pymysql.OperationalError) as denied:
            run(server.connect("watcher", "naïve 50%'"), "CREATE DATABASE forbidden")
        run(server.connect("shopper", "pw", "market"), "CREATE TABLE fruit (id INT)")
        with pytest.raises(pymysql.OperationalError) as wrong:
            server.connect("shopper", "wrong")
    assert denied.value.args[0] == 1044
    assert wrong.value.args[0] == 1045


def test_wait_timeout_ends_a_sleeper(engine: str) -> None:
    with lab.server(engine, wait_timeout=2) as server:
        sleeper = server.connect()
        mine = sleeper.thread_id()
        assert mine in session_ids(server)
        assert wait_until(lambda: mine not in session_ids(server), 15, interval=0.2)
        with pytest.raises(pymysql.OperationalError) as lost:
            run(sleeper, "SELECT 1")
    assert lost.value.args[0] in GONE


def test_data_port_and_drop_ins_survive_a_restart(engine: str) -> None:
    with lab.server(engine, wait_timeout=500) as server:
        server.execute("CREATE DATABASE keep")
        before = (server.port, server.pid)
        server.add_option("wait_timeout", 300)
        (server.option_dir / "50-team.cnf").write_text("[mysqld]\ninteractive-timeout = 301\n")
        server.restart()
        (row,) = server.execute("SELECT @@wait_timeout AS w, @@global.interactive_timeout AS i")
        databases = server.execute("SHOW DATABASES LIKE 'keep'")
        after = (server.port, server.pid)
    assert row == {"w": 300, "i": 301}
    assert len(databases) == 1
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_set_persist_survives_a_restart_on_mysql() -> None:
    engines = [name for name, f in lab.available_engines().items() if f.kind == "mysql"]
    if not engines:
        pytest.skip("no MySQL server here: make servers")
    with lab.server(engines[0]) as server:
        server.execute("SET PERSIST wait_timeout = 123")
        server.restart()
        assert server.execute("SELECT @@wait_timeout AS w") == [{"w": 123}]


def test_a_killed_server_starts_again_with_its_data(engine: str) -> None:
    with lab.server(engine) as server:
        server.execute("CREATE DATABASE keep")
        server.kill()
        assert not server.running
        with pytest.raises(pymysql.OperationalError) as refused:
            server.connect()
        server.start()
        assert server.execute("SHOW DATABASES LIKE 'keep'")
    assert refused.value.args[0] == REFUSED


def test_a_refusing_server_comes_back_on_the_same_port() -> None:
    with lab.server() as server:
        server.refuse()
        with pytest.raises(pymysql.OperationalError) as refused:
            server.connect()
        server.accept()
        server.connect().close()
    assert refused.value.args[0] == REFUSED


def test_a_frozen_server_accepts_and_does_not_answer(any_server: Server) -> None:
    with any_server.frozen():
        assert psutil.Process(any_server.pid).status() == psutil.STATUS_STOPPED
        began = time.monotonic()
        with pytest.raises(pymysql.OperationalError) as silent:
            any_server.connect(read_timeout=1)
        waited = time.monotonic() - began
    assert silent.value.args[0] == 2013
    assert waited >= 0.9
    any_server.connect().close()


def test_a_frozen_server_can_be_stopped_and_closed() -> None:
    with lab.server() as server:
        server.freeze()
        server.stop()
        server.start()
        server.freeze()
        home, pid = server.datadir.parent, server.pid
    assert not home.exists()
    assert not psutil.pid_exists(pid)


def test_everything_is_gone_after_the_block(engine: str) -> None:
    with lab.server(engine) as server:
        home = server.datadir.parent
        pids = [server.pid, server.guardian_pid]
    assert not home.exists()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_an_option_that_the_server_rejects_is_named_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        with pytest.raises(UsageProblem) as failed, lab.server(no_such_option=1):
            pass
        assert "no-such-option" in failed.value.cure
        assert not list(Path(short).iterdir())


def test_a_temporary_directory_too_long_for_a_socket_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with lab.server() as server:
        assert server.execute("SELECT 1 AS one") == [{"one": 1}]
    assert not list(long.iterdir())


def test_two_servers_have_different_ports_and_data() -> None:
    with lab.server() as one, lab.server() as two:
        one.execute("CREATE DATABASE only_here")
        assert one.port != two.port
        assert not two.execute("SHOW DATABASES LIKE 'only_here'")
