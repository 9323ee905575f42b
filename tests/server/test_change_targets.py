"""Several databases under names: a group at once, staging before production, and no secret kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.projects import PASSWORD, RESTARTED, Project, Ran, call_unhang, make_project
from unhang import lab
from unhang.change import journal as journals
from unhang.change import plan as plans
from unhang.cli import watched
from unhang.lab import Server

SECRET = "hunter2-%:@"


@dataclass(frozen=True)
class Fleet:
    """A Django project on staging; a primary and a replica for production, each its own server."""

    project: Project
    staging: Server
    primary: Server
    replica: Server

    @property
    def directory(self) -> Path:
        return self.project.directory

    def unhang(self, *arguments: str) -> Ran:
        return call_unhang(*arguments, cwd=self.directory)

    def plan(self, *arguments: str) -> Path:
        file = self.directory / f"plan{len(list(self.directory.glob('plan*')))}.json"
        ran = self.unhang("plan", "-o", str(file), *arguments)
        assert ran.code == 1, ran
        return file


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with ExitStack() as stack:
        staging, primary, replica = (stack.enter_context(lab.server("mariadb")) for _ in range(3))
        project = make_project(tmp_path, staging)
        for server in (staging, primary, replica):
            server.create_account("dba", SECRET)
        (tmp_path / "dba.cnf").write_text(f'[client]\nuser = dba\npassword = "{SECRET}"\n')
        (tmp_path / "secret.sh").write_text(f"#!/bin/sh\necho '{SECRET}'\n")
        (tmp_path / "secret.sh").chmod(0o700)
        (tmp_path / "unhang.toml").write_text(f"""
[targets.staging]
settings = "conf.settings"
login = {{ option_file = "dba.cnf" }}

[targets.primary]
host = "{primary.host}"
port = {primary.port}
user = "dba"
password_command = ["./secret.sh"]

[targets.replica]
dsn_env = "REPLICA_DSN"

[groups]
production = ["primary", "replica"]
staging = ["staging"]

[promotion]
production = "staging"
""")
        # `call_unhang` keeps no variable of ours but this one.
        monkeypatch.setitem(os.environ, "REPLICA_DSN", replica.dsn("dba", SECRET))
        yield Fleet(project, staging, primary, replica)


def timeout_of(server: Server) -> int:
    return int(server.execute("SELECT @@global.wait_timeout AS v")[0]["v"])


def watched_for_a_moment(monkeypatch: pytest.MonkeyPatch, verdict: str = "nothing worse") -> None:
    """The watch itself is tested elsewhere; here it takes no time."""

    def run(self: watched.Watched, walk: watched.Walk, _careful: object) -> None:
        walk.forward()
        walk.journal.write("watched", verdict=verdict, seconds=self.seconds)

    monkeypatch.setattr(watched.Watched, "run", run)


def test_a_group_is_changed_at_once_and_back(fleet: Fleet) -> None:
    plan = fleet.plan("--group", "production", "--wait-timeout", "120")
    applied = fleet.unhang("apply", str(plan), "--yes", *RESTARTED, "--force", "no staging yet")
    assert applied.code == 0, applied
    assert (timeout_of(fleet.primary), timeout_of(fleet.replica)) == (120, 120)
    assert timeout_of(fleet.staging) == 28_800
    status = fleet.unhang("status")
    assert status.code == 0, status
    assert "primary: wait_timeout 28800 → 120" in status.text
    assert fleet.unhang("rollback", "--yes", *RESTARTED).code == 6
    assert (timeout_of(fleet.primary), timeout_of(fleet.replica)) == (28_800, 28_800)


def test_a_server_that_is_gone_does_not_keep_the_others_from_going_back(fleet: Fleet) -> None:
    plan = fleet.plan("--group", "production", "--wait-timeout", "120")
    apply = ("apply", str(plan), "--yes", *RESTARTED, "--force", "no staging yet")
    assert fleet.unhang(*apply).code == 0
    fleet.replica.stop()
    status = fleet.unhang("status")
    assert status.code == 3
    assert "Nobody answers" in status.text
    half = fleet.unhang("rollback", "--yes", *RESTARTED)
    assert half.code == 7, half
    assert "Nobody answers" in half.text
    assert timeout_of(fleet.primary) == 28_800
    fleet.replica.start()
    whole = fleet.unhang("rollback", "--yes", *RESTARTED)
    assert whole.code == 6, whole
    assert timeout_of(fleet.replica) == 28_800


def test_a_target_that_was_renamed_can_be_rolled_back_with_a_login(fleet: Fleet) -> None:
    plan = fleet.plan("--target", "primary", "--wait-timeout", "120")
    assert fleet.unhang("apply", str(plan), "--yes", *RESTARTED, "--force", "for a test").code == 0
    file = fleet.directory / "unhang.toml"
    file.write_text(file.read_text().replace("primary", "db1"))
    assert fleet.unhang("rollback", "--yes").code == 2
    login = ("--login", fleet.primary.dsn("dba", SECRET))
    assert fleet.unhang("rollback", "--yes", *RESTARTED, *login).code == 6
    assert timeout_of(fleet.primary) == 28_800


def test_production_asks_for_a_plan_that_went_through_staging(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = ("apply", "--yes", *RESTARTED)
    direct = fleet.plan("--group", "production")
    refused = fleet.unhang(*apply, str(direct))
    assert refused.code == 4
    assert "was not applied and watched in staging before" in refused.text
    alone = fleet.plan("--target", "primary")
    assert fleet.unhang(*apply, str(alone)).code == 4, "naming the target evades nothing"

    first = fleet.plan("--group", "staging")
    early = fleet.plan("--group", "production", "--promote", str(first))
    assert "There is no journal" in fleet.unhang(*apply, str(early)).text

    assert fleet.unhang(*apply, str(first)).code == 0
    unwatched = fleet.unhang(*apply, str(early))
    assert unwatched.code == 4
    assert "not watched to the end" in unwatched.text
    late = fleet.unhang(*apply, str(first), "--watch", "10m")
    assert late.code == 4
    assert "nothing to compare with" in late.text
    assert fleet.unhang("rollback", "--yes", *RESTARTED).code == 6
    assert "was rolled back" in fleet.unhang(*apply, str(early)).text

    again = fleet.plan("--group", "staging", "--wait-timeout", "200")
    watched_for_a_moment(monkeypatch)
    assert fleet.unhang(*apply, str(again), "--watch", "10m").code == 0
    promoted = fleet.plan("--group", "production", "--promote", str(again))
    done = fleet.unhang(*apply, str(promoted))
    assert done.code == 0, done
    assert {timeout_of(s) for s in (fleet.staging, fleet.primary, fleet.replica)} == {200}
    mixed = fleet.unhang("plan", "--group", "production", "--promote", str(again), "--pool")
    assert mixed.code == 2
    both = ("--promote", str(first), "--promote", str(again))
    different = fleet.unhang("plan", "--group", "production", *both)
    assert different.code == 2
    assert "are different changes" in different.text
    twice = ("--promote", str(again), "--promote", str(again), "--format", "json")
    found = fleet.unhang("plan", "--group", "production", *twice).json()["plan"]
    assert found["promoted_from"] == [plans.load(again).id]


def test_who_overrules_it_says_why_and_that_is_kept(fleet: Fleet) -> None:
    plan = fleet.plan("--group", "production")
    apply = ("apply", str(plan), "--yes", *RESTARTED, "--force")
    assert fleet.unhang(*apply, "").code == 2
    done = fleet.unhang(*apply, "incident 4711, staging is down")
    assert done.code == 0, done
    journal = journals.newest(fleet.directory / ".unhang")
    (forced,) = [entry for entry in journal.entries if entry["event"] == "forced"]
    assert forced["reason"] == "incident 4711, staging is down"
    assert "@" in forced["by"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--group", "prod"), "has no group prod; it has: production, staging"),
        (("--target", "primry"), "has no target primry; it has: staging, primary, replica"),
        (("--group", "staging", "--dsn", "mysql://x@y/"), "--dsn does not go with"),
        (("--group", "staging", "--promote", "nowhere.json"), "nowhere.json is not a plan"),
    ],
)
def test_slips_are_said_in_one_sentence(
    fleet: Fleet, arguments: tuple[str, ...], says: str
) -> None:
    ran = fleet.unhang("plan", *arguments)
    assert ran.code == 2
    assert says in ran.text


def test_no_secret_is_written_printed_or_logged(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    watched_for_a_moment(monkeypatch)
    kept = {path for path in fleet.directory.rglob("*") if path.is_file()}
    printed = []
    for group in ("staging", "production"):
        plan = fleet.directory / f"plan-{group}.json"
        printed.append(fleet.unhang("plan", "--group", group, "-o", str(plan)))
        for verb in (
            ("apply", str(plan), "--yes", *RESTARTED, "--force", "for the test"),
            ("status", str(plan)),
            ("verify", str(plan), "--format", "json"),
            ("status", str(plan), "--format", "json"),
            ("rollback", str(plan), "--yes", *RESTARTED),
        ):
            printed += [fleet.unhang(*verb)]
    monkeypatch.setitem(os.environ, "REPLICA_DSN", fleet.replica.dsn("dba", SECRET + "wrong"))
    printed.append(fleet.unhang("plan", "--group", "production"))
    assert [ran.code for ran in printed] == [1, 0, 0, 0, 0, 6] * 2 + [3], printed
    texts = [ran.out + ran.err for ran in printed] + [caplog.text]
    made = {path for path in fleet.directory.rglob("*") if path.is_file()} - kept
    texts += [path.read_text(errors="replace") for path in made if path.suffix != ".pyc"]
    assert len(texts) > len(printed) + 4, "plans and journals are among them"
    for text in texts:
        for secret in (SECRET, "hunter2", PASSWORD):
            assert secret not in text
