"""Killed, cut off, full, interrupted: afterwards the status tells the truth and both ways are open.

The interpreter that loads the settings is asked once for each content of the file: it changes
nothing, and a thousand of them would take the time of all other tests together.
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support import walks
from support.kill_points import dies_at
from support.projects import RESTARTED, Project, make_project
from support.walks import Nobody, plan_for, walk
from unhang import lab
from unhang.change import journal as journals
from unhang.change import plan as plans
from unhang.change import targets as reaching
from unhang.change.apply import Walk
from unhang.change.control import Careful, check_stop_file, wait_while_paused
from unhang.change.hold import exclusive
from unhang.change.journal import Journal
from unhang.change.lead import Lead
from unhang.change.status import Status, status_of
from unhang.change.surroundings import Restart, Surroundings
from unhang.change.targets import Targets
from unhang.errors import NotVerified, Refused, UnhangError
from unhang.lab import Server
from unhang.survey import login as logins
from unhang.survey.project import Settings, load_settings

pytestmark = pytest.mark.slow

STRIDE = 1 if os.environ.get("UNHANG_EVERY_MOMENT") else 2
"""Every other moment of apply (192) and rollback (138 on MariaDB 10.11), which takes a minute; with
UNHANG_EVERY_MOMENT=1 each of them."""


@pytest.fixture
def server(any_engine: str) -> Iterator[Server]:
    with lab.server(any_engine) as server:
        yield server


@pytest.fixture
def project(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = make_project(tmp_path, server)
    # Over the socket: loading the system's certificates for each connection takes 50 ms.
    project = replace(made, login=f"mysql://root@localhost/?unix_socket={server.socket}")
    known: dict[bytes, Settings] = {}

    def load(where: Any) -> Settings:
        text = project.settings_file.read_bytes()
        if text not in known:
            known[text] = load_settings(where)
        return known[text]

    monkeypatch.setattr(walks, "load_settings", load)
    monkeypatch.setattr(reaching, "load_settings", load)
    return project


def world(server: Server, project: Project) -> dict[str, Any]:
    """Everything that a change may touch, and everything it may leave behind."""
    rows = server.execute("SHOW GLOBAL VARIABLES LIKE '%\\_timeout'")
    names = ("wait_timeout", "interactive_timeout")
    found: dict[str, Any] = {r["Variable_name"]: r["Value"] for r in rows}
    found = {name: found[name] for name in names}
    found["settings"] = project.settings_file.read_bytes()
    for folder in (server.option_dir, project.settings_file.parent):
        files = [p for p in folder.iterdir() if p.is_file()]
        found[str(folder)] = sorted((p.name, p.read_bytes()) for p in files)
    if server.kind == "mysql":
        sql = "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.persisted_variables"
        found["persisted"] = {r["VARIABLE_NAME"]: r["VARIABLE_VALUE"] for r in server.execute(sql)}
    return found


def journal_of(project: Project, plan_file: Path) -> Journal | None:
    path = journals.path_of(plans.load(plan_file), project.directory / ".unhang")
    return journals.read(path) if path.exists() else None


def status(project: Project, journal: Journal) -> Status:
    with Targets(journal.plan, logins.parse(project.login)) as targets:
        return status_of(journal, targets)


def check_truth(project: Project, plan_file: Path) -> None:
    """What the status says of each step agrees with a look at its object."""
    journal = journal_of(project, plan_file)
    if journal is None:
        return  # it died before the first entry; the caller sees that nothing was changed
    found = status(project, journal)
    assert not found.why_blind
    for step in found.steps:
        assert not step.drift, found
        if step.progress in ("done", "found done"):
            assert step.now == "after", found
        if step.progress in ("not begun", "undone") and found.whole != "rolled back":
            assert step.now == "before", found
    if found.whole == "applied":
        assert all(step.now == "after" for step in found.steps)
    if found.whole == "rolled back":
        assert all(step.now == "before" for step in found.steps)


def again(project: Project, first: Path, number: int) -> Path:
    """The same plan under another name."""
    plan = replace(plans.load(first), id=f"again-{number}")
    file = project.directory / "again.json"
    plans.save(plan, file)
    return file


def doing(project: Project, plan: Path, verb: str) -> Callable[[], None]:
    return lambda: walk(project, plan, verb)


def test_killed_at_every_moment_of_apply(server: Server, project: Project) -> None:
    before = world(server, project)
    after = world_after(server, project, before)
    first = plan_for(project, 60)
    for turn, moment in enumerate(itertools.count(1, STRIDE), 1):
        plan = again(project, first, moment)
        died = dies_at(moment, doing(project, plan, "apply"))
        check_truth(project, plan)
        if turn % 2:  # each of the two ways out is tried at every other moment
            walk(project, plan, "apply")
            assert world(server, project) == after, moment
            check_truth(project, plan)
        if journal_of(project, plan):
            walk(project, plan, "rollback")
        assert world(server, project) == before, moment
        if not died:
            break
    assert moment > 100, moment


def test_killed_at_every_moment_of_rollback(server: Server, project: Project) -> None:
    before = world(server, project)
    after = world_after(server, project, before)
    first = plan_for(project, 60)
    for turn, moment in enumerate(itertools.count(1, STRIDE), 1):
        plan = again(project, first, moment)
        walk(project, plan, "apply")
        died = dies_at(moment, doing(project, plan, "rollback"))
        check_truth(project, plan)
        rolled_back = died and journals.read(journal_path(project, plan)).rolled_back
        if turn % 2 and died and not rolled_back:
            walk(project, plan, "apply")
            assert world(server, project) == after, moment
        if died and not rolled_back:
            walk(project, plan, "rollback")
        assert world(server, project) == before, moment
        if not died:
            break
    assert moment > 100, moment


@pytest.mark.every_engine
def test_killed_at_some_moments_on_every_engine(server: Server, project: Project) -> None:
    """Each tenth; which moments there are depends on the engine's own statements."""
    before = world(server, project)
    first = plan_for(project, 60)
    for verb in ("apply", "rollback"):
        for moment in itertools.count(3, 10):
            plan = again(project, first, moment + (1000 if verb == "rollback" else 0))
            if verb == "rollback":
                walk(project, plan, "apply")
            died = dies_at(moment, doing(project, plan, verb))
            check_truth(project, plan)
            journal = journal_of(project, plan)
            if journal and not journal.rolled_back:
                walk(project, plan, "rollback")
            assert world(server, project) == before, (verb, moment)
            if not died:
                break


def journal_path(project: Project, plan_file: Path) -> Path:
    return journals.path_of(plans.load(plan_file), project.directory / ".unhang")


def world_after(server: Server, project: Project, before: dict[str, Any]) -> dict[str, Any]:
    plan = plan_for(project, 60)
    walk(project, plan, "apply")
    after = world(server, project)
    walk(project, plan, "rollback")
    assert world(server, project) == before != after
    return after


# -- other ways to be interrupted -----------------------------------------------------------------


def test_ctrl_c_at_many_moments(server: Server, project: Project) -> None:
    before = world(server, project)
    first = plan_for(project, 60)
    for moment in itertools.count(2, 7):
        plan = again(project, first, moment)
        interrupted = dies_at(moment, doing(project, plan, "apply"), signal.SIGINT)
        check_truth(project, plan)
        if journal_of(project, plan):
            walk(project, plan, "rollback")
        assert world(server, project) == before, moment
        if not interrupted:
            break
    assert moment > 50


def test_a_journal_cut_off_anywhere_still_leads_back(server: Server, project: Project) -> None:
    """As after a power failure on a disk that lied about having written."""
    before = world(server, project)
    first = plan_for(project, 60)
    plan = again(project, first, 0)
    walk(project, plan, "apply")
    path = journal_path(project, plan)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    lengths = list(itertools.accumulate(map(len, lines)))
    for entries in range(1, len(lines)):
        for rubbish in (b"", b'{"at": "20', b"\0" * 40):
            walk(project, plan, "apply")  # what is missing is found to be done
            path.write_bytes(whole[: lengths[entries - 1]] + rubbish)
            found = status(project, journals.read(path))
            # What the journal lost is in effect: that is said, not taken for nothing.
            lost = {step.number for step in found.steps if step.progress == "not begun"}
            assert lost == {s.number for s in found.steps if s.drift}, found
            assert found.whole in ("drifted", "partly applied", "applied")
            walk(project, plan, "apply")
            assert status(project, journals.read(path)).whole == "applied"
    path.write_bytes(whole)
    walk(project, plan, "rollback")
    assert world(server, project) == before


def test_a_full_disk_stops_before_the_step_and_leaves_no_half_entry(
    server: Server, project: Project
) -> None:
    before = world(server, project)
    plan = plan_for(project, 60)
    walk_until = journal_size_after_the_plan(project, plan)

    def with_little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (walk_until + 250, resource.RLIM_INFINITY))
        with pytest.raises(NotVerified, match=r"Failed: .*File too large"):
            walk(project, plan, "apply")

    assert not dies_at(-1, with_little_room)
    journal = journal_of(project, plan)
    assert journal is not None
    assert not journal.torn
    check_truth(project, plan)
    assert server.execute("SELECT @@global.wait_timeout AS v")[0]["v"] == 28_800
    walk(project, plan, "rollback")
    assert world(server, project) == before


def journal_size_after_the_plan(project: Project, plan_file: Path) -> int:
    return len(
        journals.open_for(plans.load(plan_file), project.directory / ".unhang").path.read_bytes()
    )


def test_a_connection_that_is_lost_between_two_steps_is_said_and_can_be_resumed(
    server: Server, project: Project
) -> None:
    before = world(server, project)
    plan = plan_for(project, 60)

    class Killing:
        """Ends the walk's session before the step that sets the server's value."""

        def before(self, _number: int, _count: int, text: str) -> None:
            if "interactive_timeout" in text:
                (connection,) = self.targets.connections.values()
                server.execute(f"KILL {connection.thread_id()}")

        def restarted(self) -> None: ...

    killing = Killing()
    loaded = plans.load(plan)
    with Targets(loaded, logins.parse(project.login)) as targets:
        killing.targets = targets  # type: ignore[attr-defined]
        journal = journals.open_for(loaded, project.directory / ".unhang")
        around = Surroundings(targets, Nobody(), Restart(run=lambda: None), killing)
        with pytest.raises(UnhangError, match="was lost during"):
            Walk(journal, around).forward()
    check_truth(project, plan)
    walk(project, plan, "apply")
    walk(project, plan, "rollback")
    assert world(server, project) == before


# -- two people, and one who wants to wait ---------------------------------------------------------


@pytest.mark.every_engine
def test_two_people_on_two_machines_the_second_is_told_who_and_where(
    server: Server, project: Project
) -> None:
    plan = project.plan()
    loaded = plans.load(Path(plan))
    with Targets(loaded, logins.parse(project.login)) as targets:
        lead = Lead(targets.connections)
        lead.take()
        lead.at(1)
        refused = project.apply(plan, "--state-dir", str(project.directory / "elsewhere"))
    assert refused.code == 4
    assert "root from localhost" in refused.text
    assert "at step 2" in refused.text
    assert server.execute("SELECT @@global.wait_timeout AS v")[0]["v"] == 28_800
    done = project.apply(plan, "--state-dir", str(project.directory / "elsewhere"))
    assert done.code == 0, done


def test_the_lead_is_taken_again_when_the_session_lost_it(server: Server, project: Project) -> None:
    loaded = plans.load(Path(project.plan()))
    with Targets(loaded, logins.parse(project.login)) as targets:
        (connection,) = targets.connections.values()
        lead = Lead(targets.connections)
        lead.take()
        connection.cursor().execute("SELECT RELEASE_ALL_LOCKS()")
        with server.connect() as other:
            other.cursor().execute("SELECT GET_LOCK('unhang:change', 0)")
            with pytest.raises(Refused, match="Somebody else changes"):
                lead.at(0)
        lead.at(0)
        assert server.execute("SELECT IS_USED_LOCK('unhang:change') AS id")[0]["id"]


def test_pause_holds_the_next_step_and_continue_lets_it_go(
    server: Server, project: Project
) -> None:
    plan = project.plan()
    folder = project.directory / ".unhang"
    lock = folder / "lock"
    assert "apply waits before its next step" in project.unhang("apply", "--pause").text
    running = in_background(project, plan)
    try:
        deadline = time.monotonic() + 20
        while not (lock.exists() and "step 1 of" in lock.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status_now = project.unhang("status", "--login", project.login)
        assert "It is being worked on now, by" in status_now.text
        assert "step 1 of" in status_now.text
        refused = project.apply(plan)
        assert refused.code == 4
        assert "step 1 of" in refused.text
        assert project.unhang("apply", "--continue").text.endswith("The pause is over.")
        assert running.wait(timeout=30) == 0
    finally:
        running.kill()
        running.wait()
    assert server.execute("SELECT @@global.wait_timeout AS v")[0]["v"] == 300
    assert "Nothing was paused" in project.unhang("apply", "--continue").text


def in_background(project: Project, plan: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "unhang", "apply", plan),
            *("--yes", *RESTARTED, "--login", project.login),
        ],
        cwd=project.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def test_a_stop_file_ends_it_between_two_steps(server: Server, project: Project) -> None:
    plan = project.plan()
    stop = project.directory / ".unhang" / "apply.stop"
    stop.parent.mkdir()
    stop.touch()
    refused = project.apply(plan)
    assert refused.code == 4
    assert "apply.stop is there" in refused.text
    stop.unlink()
    loaded = plans.load(Path(plan))

    class Stopping:
        """Creates the stop file while the first step is done."""

        def tell(self, _text: str) -> None:
            stop.touch()

        def show(self, _text: str) -> None: ...

        def ask(self, _text: str) -> bool:
            return False

    folder = project.directory / ".unhang"
    with exclusive(folder, "ann") as hold, Targets(loaded, logins.parse(project.login)) as targets:
        journal = journals.open_for(loaded, folder)
        careful = Careful(hold, Lead(targets.connections), folder, lambda _text: None)
        around = Surroundings(targets, Stopping(), Restart(run=lambda: None), careful)
        with pytest.raises(NotVerified, match=r"apply\.stop is there"):
            Walk(journal, around).forward()
    assert journal.settled(0)
    assert not journal.settled(1)
    assert server.execute("SELECT @@global.wait_timeout AS v")[0]["v"] == 28_800
    stop.unlink()
    resumed = project.unhang("apply", "--resume", "--yes", *RESTARTED, "--login", project.login)
    assert resumed.code == 0, resumed
    assert server.execute("SELECT @@global.wait_timeout AS v")[0]["v"] == 300


def test_a_pause_ends_when_a_stop_file_comes(project: Project) -> None:
    folder = project.directory / ".unhang"
    folder.mkdir(exist_ok=True)
    (folder / "apply.pause").touch()
    threading.Timer(0.5, (folder / "apply.stop").touch).start()
    wait_while_paused(folder, lambda _text: None)
    with pytest.raises(Refused):
        check_stop_file(folder)


# -- the status as people see it -------------------------------------------------------------------


def test_status_says_how_far_it_is_who_drifted_and_what_to_do(
    server: Server, project: Project
) -> None:
    assert project.unhang("status").code == 2, "nothing was applied from here"
    stopped = project.apply(project.plan(), restarted=False)
    assert stopped.code == 5
    login = ("--login", project.login)
    part = project.unhang("status", *login)
    assert part.code == 1
    assert "applied in part" in part.text
    assert "was not restarted since its settings were edited" in part.text
    assert "unhang apply --resume" in part.text
    resumed = project.unhang("apply", "--resume", "--yes", *RESTARTED, *login)
    assert resumed.code == 0, resumed
    whole = project.unhang("status", *login, "--format", "json")
    assert whole.code == 0
    assert whole.json()["status"]["whole"] == "applied"
    server.execute("SET GLOBAL wait_timeout = 999")
    drifted = project.unhang("status", *login)
    assert drifted.code == 1
    assert "somebody else changed something" in drifted.text
    assert "DRIFT" in drifted.text
    server.execute("SET GLOBAL wait_timeout = 300")
    assert project.rollback().code == 6
    back = project.unhang("status", *login)
    assert (back.code, "rolled back" in back.text) == (0, True)
    server.stop()
    # PyMySQL leaves a Unix socket that nobody listens at to the collector, which complains.
    blind = project.unhang("status", "--login", server.dsn())
    assert blind.code == 3
    assert "Not looked at" in blind.text


def test_status_may_be_asked_by_somebody_who_may_not_write(
    server: Server, project: Project
) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    assert project.apply(project.plan()).code == 0
    folder = project.directory / ".unhang" / "journal"
    folder.chmod(0o500)
    try:
        assert project.unhang("status", "--login", project.login).code == 0
    finally:
        folder.chmod(0o700)
