"""The whole change on real servers: plan, apply, verify, roll back, and how it can go wrong."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import apply_and_die
from support.projects import PASSWORD, RESTARTED, Project, make_project, run_unhang
from support.walks import Nobody, plan_for
from unhang import lab
from unhang.change import journal as journals
from unhang.change import option_file, restart
from unhang.change import plan as plans
from unhang.change import targets as reaching
from unhang.change.apply import Walk
from unhang.change.hold import exclusive
from unhang.change.option_file import DROP_IN
from unhang.change.steps import EditSettings
from unhang.change.surroundings import Restart, Surroundings
from unhang.lab import Server
from unhang.reaper.policy import UNKNOWNS
from unhang.survey import login as logins

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


def test_what_still_drains_is_told_by_owner_and_only_that_is_hastened(
    server: Server, project: Project
) -> None:
    login = ("--login", project.login)
    none = project.unhang("reap", "--drain", *login)
    assert none.code == 2, none
    accepting = [w for n in UNKNOWNS for w in ("--accept-unknown", n)]
    reap = ("reap", "--drain", "--i-know", "--idle", "1s", "--gap", "1s", "--keep", "0", *login)
    with contextlib.ExitStack() as stack:
        server.execute("CREATE TABLE app.t (id INT PRIMARY KEY) ENGINE = InnoDB")
        old = [stack.enter_context(server.connect("app", PASSWORD)) for _ in range(3)]
        busy = old.pop()
        busy.begin()
        busy.cursor().execute("INSERT INTO app.t VALUES (1)")
        assert project.apply(project.plan()).code == 0
        new = stack.enter_context(server.connect("app", PASSWORD))
        verified = project.unhang("verify", *login)
        assert "3 sessions still live by the old value" in verified.text
        assert "unhang reap --drain" in verified.text
        document = project.unhang("verify", *login, "--format", "json").json()
        (draining,) = document["verification"]["draining"]
        assert [(g["count"], g["busy"]) for g in draining["groups"]] == [(3, 1)]
        time.sleep(1.5)
        shown = project.unhang(*reap, *accepting, "--format", "json")
        assert shown.code == 1, shown
        round_ = shown.json()["rounds"][0] if "rounds" in shown.json() else shown.json()
        assert {v["id"] for v in round_["victims"]} == {c.thread_id() for c in old}
        spared = {s["id"]: s["rule"] for s in round_["spared"]}
        assert spared[new.thread_id()] == "old-timeout"
        ended = project.unhang(*reap, *accepting, "--execute")
        assert ended.code == 0, ended
        document = project.unhang("verify", *login, "--format", "json").json()
        assert document["verification"]["draining"][0]["count"] == 1, "the one in a transaction"
        new.ping(reconnect=False)
        busy.ping(reconnect=False)
    assert project.unhang(*reap, "--every", "5s").code == 2


# -- the safe order -----------------------------------------------------------------------------


@pytest.mark.parametrize("age", ['"CONN_MAX_AGE": None,', '"CONN_MAX_AGE": 0,'])
def test_lowering_waits_for_the_application(server: Server, tmp_path: Path, age: str) -> None:
    project = make_project(tmp_path, server, age)
    plan = project.plan()
    stopped = project.apply(plan, restarted=False)
    assert stopped.code == 5
    assert "must be restarted first" in stopped.text
    assert '"CONN_MAX_AGE": 280,' in project.settings_file.read_text()
    assert timeout_of(server) == 28_800, "the server comes last"
    assert project.apply(plan).code == 0
    assert timeout_of(server) == 300


def test_a_new_plan_after_a_stopped_one_waits_as_well(server: Server, tmp_path: Path) -> None:
    server.execute("SET GLOBAL wait_timeout = 100")
    project = make_project(tmp_path, server, '"CONN_MAX_AGE": 90,')
    assert project.apply(project.plan("--wait-timeout", "50"), restarted=False).code == 5
    # The settings say 40 s by now, and the workers still run with 90.
    again = project.apply(project.plan("--wait-timeout", "50"), restarted=False)
    assert again.code == 5
    assert timeout_of(server) == 100


def test_a_rollback_waits_every_time_until_the_application_runs_with_the_old_settings(
    server: Server, tmp_path: Path
) -> None:
    server.execute("SET GLOBAL wait_timeout = 100")
    project = make_project(tmp_path, server, '"CONN_MAX_AGE": 60,\n"CONN_HEALTH_CHECKS": True,')
    assert project.apply(project.plan()).code == 0
    for _attempt in range(2):
        stopped = project.rollback(restarted=False)
        assert stopped.code == 7
        assert "must be restarted first" in stopped.text
        assert timeout_of(server) == 300, "workers may still keep connections for 280 s"
    assert project.rollback().code == 6
    assert timeout_of(server) == 100


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
    command = f"{sys.executable} {witness}"
    done = project.apply(project.plan(), "--restart-command", command, restarted=False)
    assert done.code == 0, done
    assert (tmp_path / "seen").read_text() == "28800 True"


def test_a_restart_command_that_fails_stops_before_the_server(
    server: Server, tmp_path: Path
) -> None:
    project = make_project(tmp_path, server, '"CONN_MAX_AGE": None,')
    failed = project.apply(project.plan(), "--restart-command", "false", restarted=False)
    assert failed.code == 5
    assert timeout_of(server) == 28_800
    assert project.rollback().code == 6


def test_what_is_not_safe_any_more_is_refused_at_the_last_moment(
    server: Server, tmp_path: Path
) -> None:
    project = make_project(tmp_path, server, '"CONN_MAX_AGE": 3600,')
    plan = project.plan()
    server.execute("SET GLOBAL wait_timeout = 300, interactive_timeout = 300")
    assert project.apply(plan).code == 0, "the server's steps were done by somebody else"
    back = project.rollback()
    assert back.code == 7
    assert "keep connections of default 3600 s while default ends them after 300 s" in back.text
    assert '"CONN_MAX_AGE": 280' in project.settings_file.read_text()
    server.execute("SET GLOBAL wait_timeout = 28800")
    assert project.rollback().code == 6


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


def test_a_crash_before_its_entry_does_not_hide_the_sessions_from_before(
    server: Server, project: Project
) -> None:
    plan = plan_for(project, 60)
    with server.connect() as old:
        # The settings have three moments, the restart two, and the variable's deed is its second.
        assert die_at(project, "apply", plan, 3 + 2 + 2)
        assert timeout_of(server) == 60, "died right after the deed"
        assert project.apply(str(plan)).code == 0
        verified = project.unhang("verify", "--login", project.login)
        assert verified.code == 5
        assert "1 session still lives by the old value" in verified.text
        assert old.open


def test_after_a_restart_of_the_server_no_session_is_old(server: Server, project: Project) -> None:
    assert project.apply(project.plan()).code == 0
    time.sleep(4)  # uptime is counted in whole seconds
    server.restart()
    with server.connect():
        assert project.unhang("verify", "--login", project.login).code == 0


def test_mysql_killed_between_its_two_statements_can_be_rolled_back(tmp_path: Path) -> None:
    if "mysql97" not in lab.available_engines():
        pytest.skip("no mysql97 server here: make servers")
    with lab.server("mysql97") as server:
        project = make_project(tmp_path, server)
        before = state(server, project)
        assert project.apply(project.plan()).code == 0
        server.execute("RESET PERSIST wait_timeout")  # and the crash came before SET GLOBAL
        assert project.rollback().code == 6
        assert state(server, project) == before


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
    with exclusive(project.directory / ".unhang", "ann@web1"):
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


@pytest.mark.parametrize(
    "rest",
    [
        'globals()["DATABASES"]["default"]["CONN_MAX_AGE"] = 0\n',
        'assert globals()["DATABASES"]["default"].get("CONN_MAX_AGE", 0) < 60, "too long"\n',
    ],
)
def test_an_edit_without_the_effect_is_taken_back(
    server: Server, project: Project, rest: str
) -> None:
    project.settings_file.write_text(project.settings_file.read_text() + rest)
    before = project.settings_file.read_bytes()
    failed = project.apply(project.plan())
    assert failed.code == 5
    assert "was taken back" in failed.text
    assert project.settings_file.read_bytes() == before
    assert project.rollback().code == 6


def test_settings_that_no_longer_load_are_put_back_all_the_same(
    server: Server, project: Project
) -> None:
    before = project.settings_file.read_bytes()
    assert project.apply(project.plan()).code == 0
    (project.directory / "conf" / "__init__.py").write_text("raise RuntimeError('broken')\n")
    login = project.unhang("rollback", "--yes", *RESTARTED, "--login", project.login)
    assert login.code != 0, "without settings nobody knows the server's address"
    (project.directory / "conf" / "__init__.py").write_text("")
    assert project.rollback().code == 6
    assert project.settings_file.read_bytes() == before


def test_an_unrelated_edit_afterwards_hinders_neither_verify_nor_rollback(
    server: Server, project: Project
) -> None:
    before = project.settings_file.read_text()
    assert project.apply(project.plan()).code == 0
    with project.settings_file.open("a") as file:
        file.write('LANGUAGE_CODE = "ko"\n')
    verified = project.unhang("verify", "--login", project.login)
    assert verified.code == 0, verified
    assert project.rollback().code == 6
    assert project.settings_file.read_text() == before + 'LANGUAGE_CODE = "ko"\n'


def test_split_settings_are_edited_where_the_dict_is(server: Server, project: Project) -> None:
    base = project.settings_file.with_name("base.py")
    project.settings_file.rename(base)
    project.settings_file.write_text("from .base import *\nDEBUG = False\n")
    assert project.apply(project.plan()).code == 0
    assert '"CONN_MAX_AGE": 280' in base.read_text()
    assert project.settings_file.read_text() == "from .base import *\nDEBUG = False\n"


# -- which server ---------------------------------------------------------------------------------


def two_servers(tmp_path: Path, server: Server, other: Server) -> Project:
    project = make_project(tmp_path, server)
    other.create_account("app", PASSWORD, database="app")
    with project.settings_file.open("a") as file:
        file.write(f'DATABASES["other"] = {{**DATABASES["default"], "PORT": {other.port}}}\n')
    return project


def test_a_login_with_an_address_does_not_stand_for_two_servers(
    server: Server, tmp_path: Path
) -> None:
    with lab.server("mariadb") as other:
        project = two_servers(tmp_path, server, other)
        refused = project.unhang("plan", "--login", server.dsn())
        assert refused.code == 2
        assert "on 2 servers" in refused.text


def test_a_login_that_leads_to_another_server_is_refused(server: Server, project: Project) -> None:
    with lab.server("mariadb") as other:
        refused = project.unhang("plan", "--login", other.dsn())
    assert refused.code == 4
    assert "is another server than the application's" in refused.text


def test_the_socket_of_the_same_server_is_taken_for_what_it_is(
    server: Server, project: Project
) -> None:
    login = f"mysql://root@localhost/?unix_socket={server.socket}"
    assert project.unhang("plan", "--login", login).code == 1


def test_an_alias_brings_its_neighbours_on_the_same_server(server: Server, tmp_path: Path) -> None:
    project = make_project(tmp_path, server)
    with project.settings_file.open("a") as file:
        file.write(
            'DATABASES["reports"] = {\n    **DATABASES["default"],\n    "CONN_MAX_AGE": 90,\n}\n'
            'DATABASES["by_socket"] = {\n    **DATABASES["default"],\n    "CONN_MAX_AGE": 90,\n'
            f'    "HOST": {server.socket!r},\n}}\n'
        )
    plan = project.unhang("plan", "--alias", "default", "--wait-timeout", "50", "--format", "json")
    assert plan.code == 1, plan
    made = plan.json()["plan"]
    changed = {c["alias"] for s in made["steps"] for c in s.get("changes", ())}
    assert changed == {"default", "reports", "by_socket"}
    assert len(made["servers"]) == 1


def test_more_threads_than_connections_are_not_given_connections_to_keep(
    server: Server, project: Project
) -> None:
    login = ("--login", project.login)
    refused = project.unhang("plan", *login, "--workers", "4x64")
    assert refused.code == 4
    assert "--conn-max-age 0" in refused.text
    kept = project.unhang("plan", *login, "--workers", "4x64", "--conn-max-age", "0")
    assert kept.code == 1
    told = project.unhang("plan", *login, "--workers", "2x8")
    assert "CONN_MAX_AGE of default goes from 0 to 280 s" in told.text


def test_what_is_to_be_copied_is_not_broken_to_fit_the_terminal(
    server: Server, project: Project, tmp_path: Path
) -> None:
    server.option_dir.chmod(0o700)
    text = server.option_file.read_text()
    server.option_file.write_text(text.replace("!includedir", "# includedir"))
    plan = project.plan()
    arguments = ("apply", plan, "--yes", *RESTARTED, "--login", project.login)
    applied = run_unhang(*arguments, cwd=project.directory, COLUMNS="40")
    assert applied.code == 0
    lines = applied.out.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("    # Written by"))
    pasted = tmp_path / "pasted.cnf"
    pasted.write_text("\n".join(lines[first : first + 5]) + "\n")
    daemon = lab.available_engines()["mariadb"].daemon
    checked = subprocess.run(
        [daemon, f"--defaults-file={pasted}", "--help", "--verbose"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    found = dict(
        x.split(None, 1) for x in checked.stdout.splitlines() if x[:5] in ("wait-", "inter")
    )
    assert found["wait-timeout"] == "300"


def test_no_password_is_written_or_printed_anywhere(server: Server, project: Project) -> None:
    server.create_account("dba", "hunter2-%:@")
    login = server.dsn("dba", "hunter2-%:@")
    file = str(project.directory / "plan.json")
    printed = [
        project.unhang("diagnose", "--login", login, "--format", "json"),
        project.unhang("plan", "--login", login, "-o", file),
        project.unhang("apply", file, "--yes", *RESTARTED, "--login", login),
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


# -- with which settings the application runs -----------------------------------------------------


def worker(project: Project, age: str) -> subprocess.Popen[bytes]:
    """A process of the application that keeps a connection, with this CONN_MAX_AGE."""
    code = (
        "import django, sys\n"
        "django.setup()\n"
        "from django.db import connection\n"
        f"connection.settings_dict['CONN_MAX_AGE'] = {age}\n"
        "connection.ensure_connection()\n"
        "print('there', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project.directory,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "conf.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    return process


def ended(process: subprocess.Popen[bytes]) -> None:
    process.communicate(timeout=20)


@pytest.fixture
def written_down(project: Project) -> Project:
    """The application writes down who opens its connections."""
    (project.directory / "run").mkdir(mode=0o700)
    with project.settings_file.open("a") as file:
        file.write(f'UNHANG = {{"RUN_DIR": {str(project.directory / "run")!r}, "WORKERS": "1"}}\n')
    return project


@pytest.mark.slow
def test_a_worker_that_was_not_restarted_contradicts_who_says_so(
    server: Server, written_down: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart, "GRACE_SECONDS", 1.0)
    plan = written_down.plan()
    old = worker(written_down, "None")
    try:
        refused = written_down.apply(plan)
        assert refused.code == 5, refused
        assert "Still running with older settings" in refused.text
        assert f"process {old.pid}: CONN_MAX_AGE None" in refused.text
        assert timeout_of(server) == 28_800
    finally:
        ended(old)
    assert written_down.apply(plan).code == 0
    assert timeout_of(server) == 300


@pytest.mark.slow
def test_nobody_is_asked_when_every_process_is_seen_to_run_with_the_new_settings(
    server: Server, written_down: Project
) -> None:
    plan = written_down.plan()
    new = worker(written_down, "280")
    try:
        done = written_down.apply(plan, restarted=False)
        assert done.code == 0, done
        assert "Seen: 1 processes run with the new settings" in done.text
    finally:
        ended(new)


@pytest.mark.slow
def test_a_session_of_unknown_settings_proves_nothing(
    server: Server, written_down: Project
) -> None:
    plan = written_down.plan()
    new = worker(written_down, "280")
    try:
        with server.connect("app", PASSWORD):
            assert written_down.apply(plan, restarted=False).code == 5
        assert timeout_of(server) == 28_800
    finally:
        ended(new)


# -- where the value comes from, and who may set it ------------------------------------------------


@pytest.mark.every_engine
def test_a_default_goes_back_to_the_default_and_nothing_durable_stays(
    server: Server, project: Project
) -> None:
    plan = project.unhang("plan", "--login", project.login)
    assert "from: compiled default" in plan.text
    assert "undo: default: wait_timeout 300 → 28800 (the default" in plan.text
    assert project.apply(project.plan()).code == 0
    assert project.rollback().code == 6
    server.restart()
    if server.kind == "mysql":
        sql = (
            "SELECT VARIABLE_SOURCE AS origin FROM performance_schema.variables_info"
            " WHERE VARIABLE_NAME = 'wait_timeout'"
        )
        assert server.execute(sql)[0]["origin"] == "COMPILED"
    else:
        sql = (
            "SELECT GLOBAL_VALUE_ORIGIN AS origin FROM information_schema.SYSTEM_VARIABLES"
            " WHERE VARIABLE_NAME = 'wait_timeout'"
        )
        assert server.execute(sql)[0]["origin"] == "COMPILE-TIME"


def test_a_drop_in_that_does_not_have_the_last_word_is_told(
    server: Server, project: Project
) -> None:
    assert project.apply(project.plan()).code == 0
    assert after_a_restart(project) == (0, "300 s")
    (server.option_dir / "zzz-later.cnf").write_text("[mysqld]\nwait-timeout = 9999\n")
    assert after_a_restart(project) == (5, "9999 s")


def after_a_restart(project: Project) -> tuple[int, str]:
    ran = project.unhang("verify", "--login", project.login, "--format", "json")
    checks = {check["what"]: check for check in ran.json()["verification"]["checks"]}
    check = checks["default: wait_timeout after a restart of the server"]
    assert check["ok"] == (check["found"] == "300 s")
    return ran.code, check["found"]


def test_a_mysql_that_does_not_read_what_is_persisted_gets_a_file(tmp_path: Path) -> None:
    if "mysql97" not in lab.available_engines():
        pytest.skip("no mysql97 server here: make servers")
    with lab.server("mysql97", persisted_globals_load="OFF") as server:
        project = make_project(tmp_path, server)
        before = state(server, project)
        assert project.apply(project.plan()).code == 0
        assert (server.option_dir / DROP_IN).exists()
        server.restart()
        assert timeout_of(server) == 300
        assert project.rollback().code == 6
        assert state(server, project) == before


@pytest.mark.every_engine
def test_a_read_only_server_is_explained_before_and_can_be_changed(
    server: Server, project: Project
) -> None:
    server.execute("SET GLOBAL read_only = 1")
    plan = project.unhang("plan", "--login", project.login)
    assert "default is read-only. Timeouts can be changed there all the same" in plan.text
    assert project.apply(project.plan()).code == 0
    assert project.rollback().code == 6


@pytest.mark.parametrize("value", ["0", "31536001", "-1"])
def test_a_value_that_the_server_would_bend_is_refused_before_anything_happens(
    server: Server, project: Project, value: str
) -> None:
    refused = project.unhang("plan", "--login", project.login, f"--wait-timeout={value}")
    assert refused.code == 2
    assert "cannot be set" in refused.text
    assert not (project.directory / ".unhang").exists()


@pytest.mark.every_engine
def test_a_managed_service_is_waited_for_and_verified_like_any_other(
    server: Server, project: Project
) -> None:
    """`SET GLOBAL` by hand stands for the service's own tools."""
    plan = project.plan("--service", "rds")
    shown = project.unhang("plan", "--login", project.login, "--service", "rds")
    assert "aws rds modify-db-parameter-group" in shown.text
    assert "aws rds reset-db-parameter-group" in shown.text
    waiting = project.apply(plan)
    assert waiting.code == 5
    assert "does not show the new values yet" in waiting.text
    assert "unhang apply --resume" in waiting.text
    assert timeout_of(server) == 28_800
    server.execute("SET GLOBAL wait_timeout = 300")
    server.execute("SET GLOBAL interactive_timeout = 300")
    with server.connect() as fresh:
        assert project.unhang("status", "--login", project.login).code == 1
        arguments = ("apply", "--resume", "--yes", *RESTARTED, "--login", project.login)
        assert project.unhang(*arguments).code == 0
        verified = project.unhang("verify", "--login", project.login)
        assert "wait_timeout of a new connection 300 s 300 s ok" in verified.text
        assert fresh.open
    stopped = project.rollback()
    assert stopped.code == 7
    assert "does not show the new values yet" in stopped.text
    server.execute("SET GLOBAL wait_timeout = DEFAULT")
    server.execute("SET GLOBAL interactive_timeout = DEFAULT")
    assert project.rollback().code == 6
    assert not list(server.option_dir.iterdir())


def test_a_service_that_nobody_knows_is_a_slip(server: Server, project: Project) -> None:
    refused = project.unhang("plan", "--login", project.login, "--service", "heroku")
    assert refused.code == 2
    assert "rds, aurora, cloudsql, azure, none" in refused.text


def test_the_engine_is_switched_on_request_and_back(server: Server, project: Project) -> None:
    before = project.settings_file.read_bytes()
    plan = project.plan("--pool")
    assert project.apply(plan).code == 0
    assert b'"ENGINE": "unhang.backends.mysql"' in project.settings_file.read_bytes()
    assert b"CONN_MAX_AGE" not in project.settings_file.read_bytes()
    assert timeout_of(server) == 300
    refused = project.unhang("plan", "--pool", "--login", project.login)
    assert refused.code == 4, "there is no stock ENGINE left"
    assert project.rollback().code == 6
    assert project.settings_file.read_bytes() == before


# -- what others did meanwhile ---------------------------------------------------------------------


def test_what_somebody_set_back_is_not_set_again_silently(server: Server, project: Project) -> None:
    plan = project.plan()
    assert project.apply(plan).code == 0
    server.execute("SET GLOBAL wait_timeout = 28800")
    refused = project.apply(plan)
    assert refused.code == 4, refused
    assert "wait_timeout 28800 → 300, but now: 28800" in refused.text
    assert timeout_of(server) == 28_800


def test_what_a_restart_of_the_server_took_can_be_set_again(
    server: Server, project: Project
) -> None:
    """Nobody put the file there that was printed for them."""
    text = server.option_file.read_text()
    server.option_file.write_text(text.replace("!includedir", "# includedir"))
    plan = project.plan()
    assert project.apply(plan).code == 0
    time.sleep(4)  # uptime is counted in whole seconds
    server.restart()
    assert timeout_of(server) == 28_800
    login = ("--login", project.login)
    status = project.unhang("status", *login)
    assert status.code == 1
    assert "The server was started again since, and lost step" in status.text
    assert "unhang apply --resume # sets it again" in status.text
    again = project.unhang("apply", "--resume", "--yes", *RESTARTED, *login)
    assert again.code == 0, again
    assert timeout_of(server) == 300
    assert project.rollback().code == 6
    assert timeout_of(server) == 28_800


def test_a_colleague_who_sets_something_while_apply_waits_is_not_overwritten(
    server: Server, project: Project
) -> None:
    """The restart question may stand there for an hour."""
    plan = project.plan()
    colleague = project.directory / "colleague.py"
    colleague.write_text(
        "import pymysql\n"
        f"c = pymysql.connect(host={server.host!r}, port={server.port}, user='root')\n"
        "c.cursor().execute('SET GLOBAL wait_timeout = 5000')\n"
        "c.close()\n"
    )
    command = ("--restart-command", f"{sys.executable} {colleague}")
    refused = project.apply(plan, *command, restarted=False)
    assert refused.code == 5, refused
    assert "but now: 5000" in refused.text
    assert timeout_of(server) == 5000


def test_that_it_was_restarted_cannot_be_said_before_the_settings_are_edited(
    server: Server, project: Project
) -> None:
    login = ("--yes", "--restarted", "--login", project.login)
    plan = project.plan()
    assert project.unhang("apply", plan, *login).code == 5
    assert timeout_of(server) == 28_800
    assert project.unhang("apply", "--resume", *login).code == 0
    assert timeout_of(server) == 300


def test_an_edit_without_effect_whose_taking_back_was_cut_off_is_taken_back(
    server: Server, project: Project
) -> None:
    with project.settings_file.open("a") as file:
        file.write('globals()["DATABASES"]["default"]["CONN_MAX_AGE"] = 0\n')
    before = project.settings_file.read_bytes()
    plan = project.plan()
    loaded = plans.load(Path(plan))
    number, step = next((n, s) for n, s in enumerate(loaded.steps) if isinstance(s, EditSettings))
    assert step.patch is not None
    # As kill -9 leaves it between the edit and its being taken back.
    journals.open_for(loaded, project.directory / ".unhang").write("begun", number)
    project.settings_file.write_text(step.patch.applied_to(before.decode()))
    assert project.rollback().code == 6
    assert project.settings_file.read_bytes() == before


def test_a_rollback_of_nothing_says_so_and_changes_nothing(
    server: Server, project: Project
) -> None:
    plan = project.plan()
    assert project.apply(plan).code == 0
    elsewhere = ("--state-dir", str(project.directory / "elsewhere"))
    assert project.apply(plan, *elsewhere).code == 0, "everything is done already"
    nothing = project.rollback(*elsewhere)
    assert nothing.code == 0
    assert "Nothing of the plan" in nothing.text
    assert "Left as it is, since it was so before" in nothing.text
    assert timeout_of(server) == 300


def test_mysql_goes_back_to_a_persisted_value_that_never_runs(tmp_path: Path) -> None:
    if "mysql97" not in lab.available_engines():
        pytest.skip("no mysql97 server here: make servers")
    with lab.server("mysql97") as server:
        server.execute("SET PERSIST wait_timeout = 100")
        server.execute("SET GLOBAL wait_timeout = 28800")
        project = make_project(tmp_path, server)
        before = state(server, project)
        assert project.apply(project.plan()).code == 0
        server.execute("SET GLOBAL general_log = 1, log_output = 'TABLE'")
        assert project.rollback().code == 6
        assert state(server, project) == before
        log = server.execute(
            "SELECT CONVERT(argument USING utf8mb4) AS said FROM mysql.general_log"
            " WHERE argument LIKE 'SET PERSIST%wait_timeout%' AND command_type = 'Query'"
        )
        said = [row["said"] for row in log]
        assert said == ["SET PERSIST_ONLY wait_timeout = 100"]


def test_a_drop_in_that_was_edited_since_keeps_django_below_it(
    server: Server, project: Project
) -> None:
    text = project.settings_file.read_text().replace(
        '        "PORT"', '        "CONN_MAX_AGE": 3600,\n        "PORT"'
    )
    project.settings_file.write_text(text)
    assert project.apply(project.plan()).code == 0
    drop_in = server.option_dir / DROP_IN
    drop_in.write_text("# mine\n" + drop_in.read_text())
    failed = project.rollback()
    assert failed.code == 7
    assert '"CONN_MAX_AGE": 280' in project.settings_file.read_text(), "the file still says 300"


@pytest.mark.parametrize("kill", [False, True])
def test_the_way_back_survives_a_connection_that_was_closed_meanwhile(
    server: Server, project: Project, kill: bool
) -> None:
    plan = project.plan()
    loaded = plans.load(Path(plan))
    with reaching.Targets(loaded, logins.parse(project.login)) as targets:
        journal = journals.open_for(loaded, project.directory / ".unhang")
        around = Surroundings(targets, Nobody(), Restart(run=lambda: None))
        Walk(journal, around).forward()
        (connection,) = targets.connections.values()
        if kill:
            server.execute(f"KILL {connection.thread_id()}")  # type: ignore[no-untyped-call]
        else:
            server.restart()
        Walk(journal, around).back()
    assert timeout_of(server) == 28_800


def test_a_file_that_nobody_can_see_is_not_called_durable(
    server: Server, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a server on another machine: the file is printed, and raising waits for a word."""
    server.execute("SET GLOBAL wait_timeout = 60, interactive_timeout = 60")
    text = server.option_file.read_text()
    server.option_file.write_text(text.replace("!includedir", "# includedir"))
    monkeypatch.setattr(option_file, "after_a_restart", lambda *_arguments: None)
    plan = project.plan()
    waiting = project.apply(plan)
    assert waiting.code == 5
    assert "tee /etc/mysql/mariadb.conf.d/zz-unhang.cnf" in waiting.text
    assert "unhang apply --resume --by-hand-done" in waiting.text
    assert "CONN_MAX_AGE" not in project.settings_file.read_text(), "the next restart brings 60"
    done = project.unhang(
        "apply", "--resume", "--by-hand-done", "--yes", *RESTARTED, "--login", project.login
    )
    assert done.code == 0, done
    verified = project.unhang("verify", "--login", project.login)
    assert "whether it outlives a restart of the server is not known" in verified.text
    back = project.rollback()
    assert back.code == 6
    assert "Left to you, since it cannot be done from here" in back.text
