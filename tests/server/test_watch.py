"""`unhang watch` and `unhang compare` as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.projects import Project, make_project, run_unhang
from unhang import lab
from unhang.lab import Server


@pytest.fixture
def server(any_engine: str) -> Iterator[Server]:
    with lab.server(any_engine, max_connections=30) as server:
        yield server


@pytest.fixture
def project(server: Server, tmp_path: Path) -> Project:
    return make_project(tmp_path, server)


def watched(project: Project, mark: str) -> list[dict[str, object]]:
    login = ("--login", project.login)
    how = ("--interval", "0.1", "--for", "4", "--mark", mark, "--format", "json")
    ran = project.unhang("watch", *login, *how)
    assert ran.code == 0, ran
    assert "samples kept in" in ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


@pytest.mark.every_engine
def test_two_periods_are_kept_and_compared(server: Server, project: Project) -> None:
    sleepers = [server.connect() for _ in range(9)]
    before = watched(project, "before")
    for sleeper in sleepers:
        sleeper.close()
    time.sleep(0.3)
    after = watched(project, "after")
    assert len(before) > 30
    assert {sample["server"]["sleepers"] for sample in before} == {9}  # type: ignore[index]
    assert {sample["server"]["sleepers"] for sample in after} == {0}  # type: ignore[index]
    compared = project.unhang("compare", "before", "after", "--format", "json")
    assert compared.code == 0, compared
    rows = {row["metric"]: row for row in compared.json()["comparison"]["rows"]}
    assert (rows["idle_sleepers"]["before"], rows["idle_sleepers"]["after"]) == (9, 0)
    assert rows["idle_sleepers"]["verdict"] == "better"
    assert rows["response_p50"]["verdict"] == "too few samples", "no middleware, no times"
    back = run_unhang(
        "compare", "after", "before", "--project", str(project.directory), cwd=Path("/")
    )
    assert back.code == 1, "worse is a finding"
    assert "worse" in back.text


def test_response_times_of_a_site_are_shown(server: Server) -> None:
    with lab.site(server, processes=1, threads=2) as site:
        program = [sys.executable, "-m", "unhang", "watch", "--interval", "0.2"]
        with subprocess.Popen(
            [*program, "--login", server.dsn()],
            cwd=site.project_dir,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watch:
            from unhang.lab.arrivals import Arrival
            from unhang.lab.load import run_load

            run_load(site.url, [Arrival(n / 20, "product", "/product/1/") for n in range(60)])
            watch.send_signal(signal.SIGINT)
            shown, _err = watch.communicate(timeout=20)
    assert watch.returncode == 0, "Ctrl-C is how a watch ends"
    rows = [line for line in shown.splitlines() if "p95 ms" in line]
    assert rows, shown


def test_a_wrong_address_is_said_at_once(project: Project) -> None:
    ran = project.unhang("watch", "--dsn", "mysql://app@127.0.0.1:1/")
    assert ran.code == 3
    assert "Nobody answers" in ran.text


def test_what_cannot_be_compared_is_one_sentence(project: Project) -> None:
    nothing = project.unhang("compare", "before", "after")
    assert nothing.code == 2
    assert "There is no history" in nothing.text
    login = ("--login", project.login)
    assert project.unhang("watch", *login, "--for", "0.2", "--interval", "0.1").code == 0
    unknown = project.unhang("compare", "before", "after")
    assert unknown.code == 2
    assert "has no mark 'before'" in unknown.text
    times = project.unhang("compare", "yesterday/today", "after")
    assert times.code == 2
    assert "neither a mark nor START/END" in times.text
