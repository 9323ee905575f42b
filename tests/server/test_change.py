"""The whole change on real servers: plan, apply, verify, roll back, and how it can go wrong."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import apply_and_die
from support.projects import Project, make_project
from support.walks import plan_for, walk
from unhang import lab
from unhang.change import journal as journals
from unhang.change.option_file import DROP_IN
from unhang.lab import Server

Values = dict[str, Any]


@pytest.fixture
def server(any_engine: str) -> Iterator[Server]:
    with lab.server(any_engine) as server:
        yield server


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    return make_project(tmp_path, server)


def state(server: Server, project: Project) -> Values:
    """Everything that a change may touch."""
    rows = server.execute("SHOW GLOBAL VARIABLES LIKE '%\\_timeout'")
    names = ("wait_timeout", "interactive_timeout")
    found: Values = {row["Variable_name"]: row["Value"] for row in rows}
    found = {name: found[name] for name in names}
    found["settings"] = project.settings_file.read_bytes()
    found["drop-in"] = sorted(path.read_bytes() for path in server.option_dir.iterdir())
    if server.kind == "mysql":
        sql = "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.persisted_variables"
        found["persisted"] = {r["VARIABLE_NAME"]: r["VARIABLE_VALUE"] for r in server.execute(sql)}
    return found


def timeout_of(server: Server) -> int:
    return int(server.execute("SELECT @@global.wait_timeout AS value")[0]["value"])


@pytest.mark.every_engine
def test_there_and_back_again(server: Server, project: Project) -> None:
    before = state(server, project)
    plan = project.plan()
    assert state(server, project) == before, "a plan changes nothing"

    applied = project.apply(plan)
    assert applied.code == 0, applied
    assert timeout_of(server) == 300
    text = project.settings_file.read_text()
    assert '"CONN_MAX_AGE": 280,\n        "CONN_HEALTH_CHECKS": True,\n' in text
    assert text.startswith("# Settings of the test shop.\n")
    verified = project.unhang("verify", "--login", project.login)
    assert verified.code == 0, verified
    assert "In effect for everybody" in verified.text

    back = project.rollback()
    assert back.code == 6, back
    assert state(server, project) == before


@pytest.mark.every_engine
def test_the_values_survive_a_restart_of_the_server(server: Server, project: Project) -> None:
    assert project.apply(project.plan("--wait-timeout", "60")).code == 0
    server.restart()
    assert timeout_of(server) == 60
    assert project.unhang("verify", "--login", project.login).code == 0
    assert project.rollback().code == 6
    server.restart()
    assert timeout_of(server) == 28_800


@pytest.mark.every_engine
def test_what_was_persisted_or_in_a_drop_in_before_comes_back(
    server: Server, project: Project
) -> None:
    if server.kind == "mysql":
        server.execute("SET PERSIST wait_timeout = 777")
    else:
        (server.option_dir / DROP_IN).write_text("[mysqld]\nwait_timeout = 777\n")
        server.restart()
    before = state(server, project)
    assert project.apply(project.plan()).code == 0
    assert project.rollback().code == 6
    assert state(server, project) == before
    server.restart()
    assert timeout_of(server) == 777


def test_applying_twice_changes_nothing(server: Server, project: Project) -> None:
    plan = project.plan()
    assert project.apply(plan).code == 0
    after = state(server, project)
    assert project.apply(plan).code == 0
    assert state(server, project) == after
    again = project.unhang("plan", "--login", project.login)
    assert again.code == 0
    assert "Nothing to change" in again.text


@pytest.mark.every_engine
def test_sessions_from_before_are_counted_until_they_have_drained(
    server: Server, project: Project
) -> None:
    with server.connect() as old:
        assert project.apply(project.plan()).code == 0
        waiting = project.unhang("verify", "--login", project.login, "--format", "json")
        assert waiting.code == 5
        (draining,) = waiting.json()["verification"]["draining"]
        assert draining["count"] == 1
        assert 28_000 < draining["gone_within_seconds"] <= 28_800
        assert old.open
    drained = project.unhang("verify", "--login", project.login, "--wait", "5")
    assert drained.code == 0, drained


# -- the safe order -----------------------------------------------------------------------------


def test_lowering_waits_for_the_application(server: Server, tmp_path: Path) -> None:
    project = make_project(tmp_path, server, '"CONN_MAX_AGE": None,')
    plan = project.plan()
    stopped = project.apply(plan)
    assert stopped.code == 5
    assert "must be restarted first" in stopped.text
    assert '"CONN_MAX_AGE": 280,' in project.settings_file.read_text()
    assert timeout_of(server) == 28_800, "the server comes last"
    assert project.apply(plan, "--restarted").code == 0
    assert timeout_of(server) == 300


def test_a_restart_command_is_run_between_django_and_the_server(
    server: Server, tmp_path: Path
) -> None:
    project = make_project(tmp_path, server, '"CONN_MAX_AGE": 3600,')
    witness = tmp_path / "witness.py"
    witness.write_text(
        "import pathlib, pymysql\n"
        f"c = pymysql.connect(host={server.host!r}, port={server.port}, user='root')\n"
        "cursor = c.cursor()\n"
        "cursor.execute('SELECT @@global.wait_timeout')\n"
        "text = pathlib.Path('conf/settings.py').read_text()\n"
        "seen = f\"{cursor.fetchone()[0]} {'280' in text}\"\n"
        "c.close()\n"
        "pathlib.Path('seen').write_text(seen)\n"
    )
    done = project.apply(project.plan(), "--restart-command", f"{sys.executable} {witness}")
    assert done.code == 0, done
    assert (tmp_path / "seen").read_text() == "28800 True"


def test_a_restart_command_that_fails_stops_before_the_server(
    server: Server, tmp_path: Path
) -> None:
    project = make_project(tmp_path, server, '"CONN_MAX_AGE": None,')
    failed = project.apply(project.plan(), "--restart-command", "false")
    assert failed.code == 5
    assert timeout_of(server) == 28_800
    assert project.rollback("--restarted").code == 6


def test_raising_goes_server_first(server: Server, tmp_path: Path) -> None:
    server.execute("SET GLOBAL wait_timeout = 30")
    project = make_project(tmp_path, server, '"CONN_MAX_AGE": 24,\n"CONN_HEALTH_CHECKS": True,')
    assert project.apply(project.plan("--wait-timeout", "300")).code == 0
    journal = journals.newest(project.directory / ".unhang")
    kinds = [type(step).__name__ for step in journal.plan.steps]
    assert kinds.index("SetVariable") < kinds.index("EditSettings")
    done = [entry["step"] for entry in journal.entries if entry["event"] == "done"]
    assert done == sorted(done)


# -- crashes ------------------------------------------------------------------------------------


def die_at(project: Project, verb: str, plan: Path, moment: int) -> bool:
    """Whether the walk died at that moment, rather than go through."""
    arguments = [verb, str(plan), str(project.directory / ".unhang"), project.login, str(moment)]
    done = subprocess.run(
        [sys.executable, apply_and_die.__file__, *arguments],
        cwd=project.directory,
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode != 0


@pytest.mark.slow
def test_killed_at_any_moment_of_apply_a_rollback_restores_everything(
    server: Server, project: Project
) -> None:
    before = state(server, project)
    for moment in itertools.count(1):
        plan = plan_for(project, 60 + moment)
        died = die_at(project, "apply", plan, moment)
        walk(project, plan, "rollback")
        assert state(server, project) == before, moment
        if not died:
            break
    assert moment > 10, "each step has three moments"


@pytest.mark.every_engine
def test_killed_in_apply_and_again_in_rollback_both_can_be_finished(
    server: Server, project: Project
) -> None:
    before = state(server, project)
    for moment in (2, 5, 8, 11):
        plan = plan_for(project, 60 + moment)
        die_at(project, "apply", plan, moment)
        walk(project, plan, "apply")
        assert timeout_of(server) == 60 + moment
        assert die_at(project, "rollback", plan, moment)
        walk(project, plan, "rollback")
        assert state(server, project) == before, moment


# -- refusals -----------------------------------------------------------------------------------


def test_a_server_that_was_changed_meanwhile_makes_the_plan_stale(
    server: Server, project: Project
) -> None:
    plan = project.plan()
    server.execute("SET GLOBAL wait_timeout = 1234")
    settings = project.settings_file.read_bytes()
    refused = project.apply(plan)
    assert refused.code == 4
    assert "stale" in refused.text
    assert project.settings_file.read_bytes() == settings
    assert timeout_of(server) == 1234


def test_settings_that_were_edited_meanwhile_make_the_plan_stale(
    server: Server, project: Project
) -> None:
    plan = project.plan()
    project.settings_file.write_text(project.settings_file.read_text() + "DEBUG = True\n")
    assert project.apply(plan).code == 4
    assert timeout_of(server) == 28_800


def test_another_server_at_the_same_address_is_refused(
    server: Server, project: Project, tmp_path: Path
) -> None:
    plan = project.plan()
    with lab.server("mariadb") as other:
        text = project.settings_file.read_text().replace(str(server.port), str(other.port))
        project.settings_file.write_text(text)
        other.create_account("app", "x", database="app")
        refused = project.unhang("apply", plan, "--yes", "--login", other.dsn())
    assert refused.code == 4
    assert "another server" in refused.text


@pytest.mark.every_engine
def test_without_the_privilege_nothing_is_touched_and_the_grant_is_named(
    server: Server, project: Project
) -> None:
    plan = project.plan()
    before = state(server, project)
    refused = project.unhang("apply", plan, "--yes")
    assert refused.code == 3
    wanted = "SUPER" if server.kind == "mariadb" else "SYSTEM_VARIABLES_ADMIN"
    assert f"GRANT {wanted} ON *.* TO 'app'@'%'" in refused.text
    assert state(server, project) == before


def test_without_a_terminal_nobody_can_say_yes(server: Server, project: Project) -> None:
    refused = project.unhang("apply", project.plan(), "--login", project.login)
    assert refused.code == 2
    assert "--yes" in refused.text
    assert timeout_of(server) == 28_800


def test_two_people_at_once_the_second_is_told_who(server: Server, project: Project) -> None:
    plan = project.plan()
    with journals.exclusive(project.directory / ".unhang", "ann@web1"):
        refused = project.apply(plan)
    assert refused.code == 4
    assert "ann@web1" in refused.text


def test_what_somebody_changed_after_apply_is_left_alone_by_rollback(
    server: Server, project: Project
) -> None:
    assert project.apply(project.plan()).code == 0
    server.execute("SET GLOBAL wait_timeout = 999")
    failed = project.rollback()
    assert failed.code == 7
    assert "changed it meanwhile" in failed.text
    assert "not tried" in failed.text
    assert timeout_of(server) == 999
    server.execute("SET GLOBAL wait_timeout = 300")
    assert project.rollback().code == 6


def test_a_server_that_goes_away_in_between_is_one_sentence_and_can_be_resumed(
    server: Server, project: Project
) -> None:
    plan = project.plan()
    server.stop()
    lost = project.apply(plan)
    assert lost.code == 3
    assert "Nobody answers" in lost.text
    server.start()
    assert project.apply(plan).code == 0


# -- settings that cannot be edited ---------------------------------------------------------------


def test_computed_settings_are_not_edited_but_waited_for(server: Server, project: Project) -> None:
    text = project.settings_file.read_text()
    project.settings_file.write_text(
        text.replace("DATABASES = {", "def databases():\n  return {", 1)
        + "\nimport os\nDATABASES = databases()\n"
        'DATABASES["default"]["CONN_MAX_AGE"] = int(os.environ.get("AGE", "0"))\n'
    )
    before = project.settings_file.read_bytes()
    plan = project.plan()
    waiting = project.apply(plan)
    assert waiting.code == 5
    assert 'DATABASES["default"]["CONN_MAX_AGE"] = 280' in waiting.text
    assert project.settings_file.read_bytes() == before
    assert timeout_of(server) == 28_800
    lines = 'DATABASES["default"] |= {"CONN_MAX_AGE": 280, "CONN_HEALTH_CHECKS": True}\n'
    project.settings_file.write_bytes(before + lines.encode())
    assert project.apply(plan).code == 0
    assert timeout_of(server) == 300


def test_an_edit_without_effect_is_taken_back(server: Server, project: Project) -> None:
    text = project.settings_file.read_text()
    project.settings_file.write_text(
        text + 'if True:\n    DATABASES["default"]["CONN_MAX_AGE"] = 0\n'
    )
    before = project.settings_file.read_bytes()
    failed = project.apply(project.plan())
    assert failed.code == 5
    assert "was taken back" in failed.text
    assert project.settings_file.read_bytes() == before


def test_split_settings_are_edited_where_the_dict_is(server: Server, project: Project) -> None:
    base = project.settings_file.with_name("base.py")
    project.settings_file.rename(base)
    project.settings_file.write_text("from .base import *\nDEBUG = False\n")
    assert project.apply(project.plan()).code == 0
    assert '"CONN_MAX_AGE": 280' in base.read_text()
    assert project.settings_file.read_text() == "from .base import *\nDEBUG = False\n"


def test_no_password_is_written_or_printed_anywhere(server: Server, project: Project) -> None:
    server.create_account("dba", "hunter2-%:@")
    login = server.dsn("dba", "hunter2-%:@")
    file = str(project.directory / "plan.json")
    printed = [
        project.unhang("diagnose", "--login", login, "--format", "json"),
        project.unhang("plan", "--login", login, "-o", file),
        project.unhang("apply", file, "--yes", "--login", login),
        project.unhang("verify", "--login", login),
        project.unhang("rollback", "--yes", "--login", login),
    ]
    assert [ran.code for ran in printed] == [1, 1, 0, 0, 6], printed
    written = [
        path.read_text(errors="replace")
        for path in project.directory.rglob("*")
        if path.is_file() and path != project.settings_file and path.suffix != ".pyc"
    ]
    for text in [*written, *(ran.out + ran.err for ran in printed)]:
        assert "hunter2" not in text
        assert "50%/of" not in text
