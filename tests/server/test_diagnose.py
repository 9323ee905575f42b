"""`unhang diagnose` on real servers: what it sees, what it says when it may not see, and errors."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from support.projects import PASSWORD, Project, make_project, run_unhang
from unhang import lab
from unhang.lab import Server

LIMIT = 12


@pytest.fixture
def server(any_engine: str) -> Iterator[Server]:
    with lab.server(any_engine, max_connections=LIMIT) as server:
        yield server


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    return make_project(tmp_path, server)


def findings(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["rule"]: finding for finding in document["findings"]}


@contextlib.contextmanager
def sessions(server: Server, count: int) -> Iterator[list[Any]]:
    """Connections of the application's account."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(server.connect("app", PASSWORD, "app")))
            for _ in range(count)
        ]


@pytest.mark.every_engine
def test_the_seeded_causes_are_all_named(server: Server, project: Project) -> None:
    server.execute("SET GLOBAL interactive_timeout = 600")
    server.execute("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE=InnoDB")
    with sessions(server, LIMIT - 3) as opened:
        with opened[0].cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO t VALUES (1)")
        time.sleep(6)
        ran = project.unhang(
            "diagnose", "--login", project.login, "--workers", "4x16", "--format", "json"
        )
    assert ran.code == 1
    found = findings(ran.json())
    # The sleepers are this process's own: a script or unknown, as pytest was started. The one in a
    # transaction is told once.
    (sleeping,) = set(found) & {"UH201", "UH208"}
    assert set(found) == {"UH102", "UH103", "UH202", sleeping, "UH301", "UH302"}
    assert f"{LIMIT - 4} sleepers " in found[sleeping]["sentence"]
    assert "3 more slow queries and this server refuses" in found["UH301"]["sentence"]
    assert "1 rows locked" not in found["UH202"]["sentence"]
    assert "1 modified" in " ".join(found["UH202"]["evidence"].values())
    (survey,) = ran.json()["surveys"]
    assert len(survey["sessions"]) == LIMIT - 3
    assert {s["user"] for s in survey["sessions"]} == {"app"}
    held = [s for s in survey["sessions"] if s["in_transaction"]]
    assert len(held) == 1
    assert all(s["seconds"] >= 5 for s in survey["sessions"])


@pytest.mark.every_engine
def test_the_origin_of_a_value_is_known(server: Server, project: Project) -> None:
    def origin() -> str:
        ran = project.unhang("diagnose", "--login", project.login, "--format", "json")
        variable = ran.json()["surveys"][0]["server"]["variables"]["wait_timeout"]
        return str(variable["origin"]["kind"])

    assert origin() == "compiled default"
    server.execute("SET GLOBAL wait_timeout = 500")
    assert origin() == "set global"
    server.add_option("wait_timeout", 400)
    server.restart()
    assert origin() == "option file"


@pytest.mark.every_engine
def test_refused_clients_are_seen_with_the_right_counter(server: Server, project: Project) -> None:
    with pytest.raises(pymysql.err.OperationalError):
        server.connect("app", "wrong")
    with sessions(server, LIMIT):
        for _ in range(4):
            with pytest.raises(pymysql.err.OperationalError) as refused:
                server.connect("app", PASSWORD)
            assert refused.value.args[0] == 1040
    found = findings(
        project.unhang("diagnose", "--login", project.login, "--format", "json").json()
    )
    assert "4 clients were refused" in found["UH303"]["sentence"]


@pytest.mark.every_engine
def test_wrong_passwords_are_not_taken_for_refusals(server: Server, project: Project) -> None:
    for _ in range(5):
        with pytest.raises(pymysql.err.OperationalError):
            server.connect("app", "wrong")
    ran = project.unhang("diagnose", "--login", project.login, "--format", "json")
    assert "UH303" not in findings(ran.json())


@pytest.mark.every_engine
def test_what_cannot_be_seen_is_named_with_the_grant_that_shows_it(
    server: Server, project: Project
) -> None:
    with server.connect():  # a session of another account
        blind = project.unhang("diagnose")
        assert blind.code == 1
        assert "NOT SEEN" in blind.text
        assert "GRANT PROCESS ON *.* TO 'app'@'%';" in blind.text
        assert "(unknown of them in a transaction)" in blind.text or "0 asleep" in blind.text
        assert "root" not in blind.text
        server.execute("GRANT PROCESS ON *.* TO 'app'@'%'")
        if server.kind == "mysql":
            assert "GRANT SELECT ON performance_schema.* TO 'app'@'%';" in blind.text
            server.execute("GRANT SELECT ON performance_schema.* TO 'app'@'%'")
        else:
            server.execute("INSTALL SONAME 'metadata_lock_info'")
        seeing = project.unhang("diagnose")
    assert "NOT SEEN" not in seeing.text
    assert "root" in seeing.text


def test_an_admin_gets_in_when_the_server_is_full(server: Server, project: Project) -> None:
    with sessions(server, LIMIT):
        shut_out = project.unhang("diagnose")
        assert shut_out.code == 3
        assert "no connection left" in shut_out.text
        assert "--login" in shut_out.text
        inside = project.unhang("diagnose", "--login", project.login)
    assert inside.code == 1
    assert "no connection left: it refuses the next client" in inside.text


def test_it_runs_as_a_management_command(server: Server, project: Project) -> None:
    ran = project.unhang("unhang", "diagnose", program=("manage.py",))
    assert ran.code == 1
    assert "UH102" in ran.text
    assert "Django default: CONN_MAX_AGE 0 s" in ran.text


def test_the_ways_to_name_a_server_lead_to_the_same(
    server: Server, project: Project, tmp_path: Path
) -> None:
    option_file = tmp_path / "my.cnf"
    option_file.write_text(
        f'[client]\nhost={server.host}\nport={server.port}\nuser=app\npassword="{PASSWORD}"\n'
    )
    dsn = server.dsn("app", PASSWORD)
    ways = [
        run_unhang("diagnose", "--settings", "conf.settings", cwd=project.directory),
        run_unhang("diagnose", "--project", str(project.directory), cwd=Path("/")),
        run_unhang("diagnose", "--dsn", dsn, cwd=Path("/")),
        run_unhang("diagnose", cwd=Path("/"), UNHANG_DSN=dsn),
        run_unhang("diagnose", "--option-file", str(option_file), cwd=Path("/")),
        run_unhang("diagnose", cwd=project.directory, DJANGO_SETTINGS_MODULE="conf.settings"),
    ]
    assert [way.code for way in ways] == [1] * len(ways), ways
    assert all("seen as 'app'@'%'" in way.text and "UH102" in way.text for way in ways)


def test_the_login_may_go_through_the_socket(server: Server, project: Project) -> None:
    dsn = f"mysql://root@localhost/?unix_socket={server.socket}"
    ran = project.unhang("diagnose", "--login", dsn)
    assert ran.code == 1
    assert server.socket in ran.text


def test_a_saved_survey_is_judged_again_elsewhere(
    server: Server, project: Project, tmp_path: Path
) -> None:
    first = project.unhang("diagnose", "--login", project.login, "--format", "json")
    saved = tmp_path / "survey.json"
    saved.write_text(first.out)
    server.stop()
    again = run_unhang("diagnose", "--from", str(saved), "--format", "json", cwd=tmp_path)
    assert again.json()["findings"] == first.json()["findings"]
    assert json.dumps(first.json()).find(PASSWORD) == -1


def test_one_server_of_two_that_is_down_does_not_hide_the_other(
    server: Server, project: Project
) -> None:
    text = project.settings_file.read_text()
    project.settings_file.write_text(
        text + 'DATABASES["archive"] = {**DATABASES["default"], "PORT": 1}\n'
    )
    ran = project.unhang("diagnose")
    assert ran.code == 3
    assert "UH102" in ran.text
    assert "Nobody answers at 127.0.0.1:1" in ran.text
    assert project.unhang("diagnose", "--alias", "default").code == 1


# -- one clear sentence each ----------------------------------------------------------------------


def test_a_wrong_password_is_one_sentence(server: Server, project: Project) -> None:
    ran = project.unhang("diagnose", "--dsn", server.dsn("app", "wrong"))
    assert ran.code == 3
    assert "refuses the account app" in ran.text


def test_a_port_where_nobody_listens_is_one_sentence(tmp_path: Path) -> None:
    ran = run_unhang("diagnose", "--dsn", "mysql://app:x@127.0.0.1:1/", cwd=tmp_path)
    assert ran.code == 3
    assert "Nobody answers at 127.0.0.1:1: Connection refused." in ran.text


def test_a_host_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    ran = run_unhang("diagnose", "--dsn", "mysql://app@no-such-host.invalid/", cwd=tmp_path)
    assert ran.code == 3
    assert "Nobody answers at no-such-host.invalid:3306" in ran.text


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00" * 80]
)
def test_what_is_no_mysql_is_one_sentence(tmp_path: Path, greeting: bytes) -> None:
    class Other(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(greeting)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        dsn = f"mysql://app@127.0.0.1:{other.server_address[1]}/"
        ran = run_unhang("diagnose", "--dsn", dsn, cwd=tmp_path)
        other.shutdown()
    assert ran.code == 3
    assert "MySQL" in ran.text


def test_settings_that_do_not_exist_are_one_sentence(tmp_path: Path) -> None:
    ran = run_unhang("diagnose", "--settings", "nowhere.settings", cwd=tmp_path)
    assert ran.code == 2
    assert "There are no settings nowhere.settings in" in ran.text


def test_nothing_to_look_at_is_one_sentence(tmp_path: Path) -> None:
    ran = run_unhang("diagnose", cwd=tmp_path)
    assert ran.code == 2
    assert "--dsn" in ran.text


def test_a_project_without_mysql_is_one_sentence(server: Server, project: Project) -> None:
    text = project.settings_file.read_text()
    project.settings_file.write_text(text.replace("backends.mysql", "backends.sqlite3"))
    ran = project.unhang("diagnose")
    assert ran.code == 2
    assert "No database in conf.settings has a MySQL engine" in ran.text


def test_a_frozen_server_does_not_hold_the_tool_for_ever(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unhang.errors import CannotConnect
    from unhang.survey import connect, login

    monkeypatch.setattr(connect, "READ_SECONDS", 1)
    with server.frozen(), pytest.raises(CannotConnect, match="hung"):
        connect.open_connection(login.from_dsn(server.dsn()))


@pytest.mark.every_engine
def test_a_survey_of_many_sessions_asks_each_source_once(any_engine: str) -> None:
    from unhang.survey.collect import Target, survey_over
    from unhang.survey.connect import connected
    from unhang.survey.login import from_dsn

    with lab.server(any_engine, max_connections=400) as server:
        server.create_account("app", PASSWORD, database="app")
        login = from_dsn(server.dsn())
        with sessions(server, 300), connected(login) as connection:
            before = _questions(connection)
            survey = survey_over(connection, Target(login))
            asked = _questions(connection) - before
    assert len(survey.sessions) == 300
    assert asked < 30


def _questions(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        return int(cursor.fetchone()["Value"])


def test_manage_py_may_be_called_from_another_folder(
    server: Server, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    manage = str(project.directory / "manage.py")
    for arguments in (("diagnose",), ("diagnose", "--settings", "conf.settings")):
        ran = run_unhang("unhang", *arguments, cwd=elsewhere, program=(manage,))
        assert ran.code == 1, ran
        assert "Django default: CONN_MAX_AGE 0 s" in ran.text


def test_an_account_at_its_quota_is_one_sentence(server: Server, tmp_path: Path) -> None:
    server.execute("CREATE USER q@'%' IDENTIFIED BY 'q' WITH MAX_QUERIES_PER_HOUR 4")
    for verb in ("diagnose", "plan"):
        server.execute("FLUSH USER_RESOURCES")
        ran = run_unhang(verb, "--dsn", server.dsn("q", "q"), cwd=tmp_path)
        assert ran.code == 3, ran
        assert "max_queries_per_hour" in ran.text


def test_connections_of_others_count_as_used_without_process(
    server: Server, project: Project
) -> None:
    with server.connect(), server.connect():
        ran = project.unhang("diagnose")
    assert f"2 of {LIMIT} connections used, of which 0 visible" in ran.text


@pytest.mark.every_engine
def test_an_init_command_with_a_short_wait_timeout_is_found(server: Server, tmp_path: Path) -> None:
    extra = '"CONN_MAX_AGE": 280,\n"OPTIONS": {"init_command": "SET SESSION wait_timeout=30"},'
    project = make_project(tmp_path, server, extra)
    found = findings(project.unhang("diagnose", "--format", "json").json())
    assert found["UH101"]["evidence"]["wait_timeout by init_command"] == "30 s"


def test_localhost_means_the_socket_for_mysqlclient(server: Server, project: Project) -> None:
    pytest.importorskip("MySQLdb")
    text = project.settings_file.read_text().replace(
        f'"PORT": {server.port}', f'"PORT": 1, "OPTIONS": {{"unix_socket": {server.socket!r}}}'
    )
    project.settings_file.write_text(text.replace(repr(server.host), '"localhost"'))
    ran = project.unhang("diagnose")
    assert ran.code == 1, ran
    assert server.socket in ran.text
