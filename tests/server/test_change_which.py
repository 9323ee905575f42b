"""Which server a plan is for, whatever it is called and however it is reached."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from support.projects import RESTARTED, Ran, call_unhang, make_project
from unhang import lab
from unhang.change import journal as journals
from unhang.change import plan as plans
from unhang.lab import Server
from unhang.survey.connect import Connection, connected, fetch
from unhang.survey.login import from_dsn
from unhang.survey.server import read_server

SECRET = "hunter2"


def identity(server: Server) -> str:
    with connected(from_dsn(server.dsn())) as connection:
        return read_server(connection, account="", unseen=lambda _unseen: None).identity


def mysql() -> str:
    if "mysql97" not in lab.available_engines():
        pytest.skip("no mysql97 server here: make servers")
    return "mysql97"


def test_a_copied_data_directory_is_another_server() -> None:
    with lab.server(mysql()) as first, lab.server("mysql97") as copy:
        copy.stop()
        (copy.datadir / "auto.cnf").write_bytes((first.datadir / "auto.cnf").read_bytes())
        copy.start()
        sql = "SELECT @@server_uuid AS uuid"
        assert first.execute(sql) == copy.execute(sql)
        assert identity(first) != identity(copy)
        known = identity(copy)
        copy.restart()
        assert identity(copy) == known


def test_a_server_id_that_is_set_later_makes_no_other_server(tmp_path: Path) -> None:
    with lab.server("mariadb") as server:
        project = make_project(tmp_path, server)
        assert project.apply(project.plan()).code == 0
        server.execute("SET GLOBAL server_id = 4711")
        back = project.rollback()
        assert back.code == 6, back


def test_what_is_persisted_is_seen_without_performance_schema(tmp_path: Path) -> None:
    with lab.server(mysql(), performance_schema="OFF") as server:
        server.execute("SET PERSIST wait_timeout = 600")
        project = make_project(tmp_path, server)
        plan = project.plan()
        assert project.apply(plan).code == 0
        back = project.rollback()
        assert back.code == 6, back
        assert "no longer persisted" not in back.text.split("interactive_timeout")[0]
        rows = server.execute("SELECT * FROM performance_schema.persisted_variables")
    assert [tuple(row.values()) for row in rows] == [("wait_timeout", "600")]


def test_what_is_persisted_out_of_sight_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everybody may read that table of MySQL 9.7; another server may be less open.
    def refused(connection: Connection, sql: str, *arguments: Any) -> Any:
        if "persisted_variables" in sql:
            raise pymysql.err.OperationalError(1142, "SELECT command denied to user 'root'")
        return fetch(connection, sql, *arguments)

    monkeypatch.setattr("unhang.survey.server.fetch", refused)
    with lab.server(mysql()) as server:
        ran = call_unhang("plan", "--dsn", server.dsn(), cwd=tmp_path)
    assert ran.code == 3, ran
    assert "GRANT SELECT ON performance_schema.*" in ran.text


@pytest.fixture
def server() -> Iterator[Server]:
    with lab.server("mariadb") as server:
        server.create_account("dba", SECRET)
        yield server


def a_file(folder: Path, text: str, server: Server) -> None:
    (folder / "secret.sh").write_text(f"#!/bin/sh\ntouch ran\necho {SECRET}\n")
    (folder / "secret.sh").chmod(0o700)
    place = f'host = "{server.host}"\nport = {server.port}\nuser = "dba"\n'
    secret = 'password_command = ["./secret.sh"]\n'
    (folder / "unhang.toml").write_text(text.replace("PLACE\n", place).replace("SECRET\n", secret))


def plan_of(ran: Ran) -> plans.Plan:
    assert ran.code in (0, 1), ran
    return plans.Plan.from_json(ran.json()["plan"])


def test_aliases_of_a_target_bring_the_others_on_their_server(
    server: Server, tmp_path: Path
) -> None:
    project = make_project(tmp_path, server)
    with project.settings_file.open("a") as file:
        file.write(
            'DATABASES["by_socket"] = {\n    **DATABASES["default"],\n    "CONN_MAX_AGE": 90,\n'
            f'    "HOST": {server.socket!r},\n}}\n'
        )
    a_file(tmp_path, '[targets.shop]\nsettings = "conf.settings"\naliases = ["default"]\n', server)
    ran = project.unhang("plan", "--target", "shop", "--wait-timeout", "50", "--format", "json")
    (target,) = plan_of(ran).servers
    assert {(a.name, a.conn_max_age) for a in target.aliases} == {("default", 0), ("by_socket", 90)}
    assert (target.target, target.also) == ("shop", ())


_TWO_NAMES = """
[targets.one]
PLACE
SECRET
[targets.two]
PLACE
SECRET
[targets.elsewhere]
host = "db2.example.com"
user = "dba"
SECRET
[targets.unknown]
dsn_env = "NOWHERE_DSN"
[groups]
staging = ["one"]
production = ["two", "elsewhere"]
[promotion]
production = "staging"
"""


def test_another_name_of_the_same_server_is_told_without_its_secret(
    server: Server, tmp_path: Path
) -> None:
    other = f'PLACE\npassword_command = ["echo", "{SECRET}"]\n'
    a_file(tmp_path, _TWO_NAMES.replace("PLACE\nSECRET\n", other, 1), server)
    ran = call_unhang("plan", "--target", "one", "--format", "json", cwd=tmp_path)
    plan = plan_of(ran)
    (note,) = (warning for warning in plan.warnings if "unhang.toml" in warning)
    assert f"{server.host}:{server.port} is also what unhang.toml calls two:" in note
    assert "elsewhere" not in note
    assert not (tmp_path / "ran").exists()
    assert plan.targets == {"one"}


def test_two_names_at_once_do_not_evade_the_promotion(server: Server, tmp_path: Path) -> None:
    a_file(tmp_path, _TWO_NAMES, server)
    file = tmp_path / "plan.json"
    made = call_unhang("plan", "--target", "one", "--target", "two", "-o", str(file), cwd=tmp_path)
    assert made.code == 1, made
    plan = plans.load(file)
    assert plan.targets == {"one", "two"}
    (target,) = plan.servers
    assert (target.target, target.also) == ("one", ("two",))
    refused = call_unhang("apply", str(file), "--yes", *RESTARTED, cwd=tmp_path)
    assert refused.code == 4, refused
    assert "was not applied and watched in staging before" in refused.text


def test_an_address_does_not_evade_the_promotion(server: Server, tmp_path: Path) -> None:
    a_file(tmp_path, _TWO_NAMES.replace("[targets.one]\nPLACE", "[targets.one]\nELSE"), server)
    text = (tmp_path / "unhang.toml").read_text()
    (tmp_path / "unhang.toml").write_text(text.replace("ELSE", 'host = "staging"\nuser = "dba"'))
    file = tmp_path / "plan.json"
    dsn = server.dsn("dba", SECRET)
    made = call_unhang("plan", "--dsn", dsn, "-o", str(file), cwd=tmp_path)
    assert made.code == 1, made
    assert "apply will refuse it" in made.text
    plan = plans.load(file)
    assert plan.targets == {"two"}
    assert plan.targets_file == str(tmp_path / "unhang.toml")
    assert not plan.servers[0].target, "the way to reach it is the login, as it was"
    apply = ("apply", str(file), "--yes", *RESTARTED, "--login", dsn)
    refused = call_unhang(*apply, cwd=tmp_path)
    assert refused.code == 4, refused
    done = call_unhang(*apply, "--force", "staging is down", cwd=tmp_path)
    assert done.code == 0, done
    assert not (tmp_path / "ran").exists()


def test_an_address_without_a_promotion_stays_an_address(server: Server, tmp_path: Path) -> None:
    a_file(tmp_path, _TWO_NAMES.split("[promotion]")[0], server)
    dsn = server.dsn("dba", SECRET)
    plan = plan_of(call_unhang("plan", "--dsn", dsn, "--format", "json", cwd=tmp_path))
    assert (plan.targets, plan.targets_file) == (frozenset(), "")


def test_targets_at_their_goal_are_saved_to_be_promoted(server: Server, tmp_path: Path) -> None:
    a_file(tmp_path, "[targets.one]\nPLACE\nSECRET\n", server)
    (server.option_dir / "zz-unhang.cnf").write_text(
        "[mysqld]\nwait_timeout = 300\ninteractive_timeout = 300\n"
    )
    server.restart()
    file = tmp_path / "plan.json"
    made = call_unhang("plan", "--target", "one", "-o", str(file), cwd=tmp_path)
    assert made.code == 0, made
    assert "saved all the same" in made.text
    assert plans.load(file).steps == ()
    applied = call_unhang("apply", str(file), "--yes", cwd=tmp_path)
    assert applied.code == 0, applied
    assert journals.newest(tmp_path / ".unhang").finished
    unnamed = call_unhang("plan", "--dsn", server.dsn(), "--format", "json", cwd=tmp_path)
    assert unnamed.json()["file"] is None
