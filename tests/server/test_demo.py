"""The demo itself, with short acts: it tells the truth, leaves its report, and nothing running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


KINDS = ("active", "idle", "idle_in_transaction")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "unhang", "demo", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "150", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_running(folder: Path) -> list[list[str]]:
    """Processes that have anything to do with the demo's temporary folder."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if any(str(folder) in part for part in command):
            found.append(command)
    return found


def wait_until_gone(folder: Path) -> list[list[str]]:
    deadline = time.monotonic() + 10
    while (left := left_running(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def wait_until_up(folder: Path) -> None:
    """The server and the site: several processes, for a moment."""
    deadline = time.monotonic() + 30
    while len(left_running(folder)) < 3:
        assert time.monotonic() < deadline, "it never came up"
        time.sleep(0.2)
    time.sleep(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The demo's TMPDIR: what is left in it was left behind."""
    return tmp_path


@pytest.mark.demo  # it measures, so it runs alone
def test_the_whole_story_from_hang_to_rollback(folder: Path) -> None:
    demo = start(folder, "--seconds", "16", "--run-in", "10")
    peak = 0
    while demo.poll() is None:
        peak = max(peak, memory_of(demo.pid))
        time.sleep(0.5)
    told, _err = demo.communicate()
    assert demo.returncode == 0, told
    for chapter in ("Act one", "unhang diagnose", "unhang plan", "unhang apply", "unhang verify"):
        assert chapter in told
    for chapter in ("Act two", "unhang rollback", "Act three", "The three acts side by side"):
        assert chapter in told
    assert wait_until_gone(folder) == []
    assert peak < 1_000_000_000, "bounded memory, all processes together"
    check_facts(json.loads((folder / "report.json").read_text()))
    html = (folder / "report.html").read_text()
    assert "When many open a slow report at once" in html
    assert "What settings alone did not cure" in html
    assert "What the backend did not cure" in html
    assert len(html) < 500_000


def memory_of(pid: int) -> int:
    """Proportional set size of the demo and everything below it, bytes."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def check_facts(facts: dict[str, Any]) -> None:
    before, after, backend = facts["acts"]
    asleep = before["sessions"]["idle"]
    assert max(asleep[len(asleep) // 2 :]) > 20, "threads leaked connections"
    assert len({act["waits"]["all"]["requests"] for act in facts["acts"]}) == 1
    assert after["waits"]["pages"]["product"]["failed"] == 0
    assert {f["rule"] for f in facts["findings"]} >= {"UH102", "UH204", "UH301"}
    assert facts["verification"]["in_effect"]
    assert facts["verification"]["drained"]
    assert facts["restored"] == {
        "wait_timeout": "28800 s",
        "interactive_timeout": "28800 s",
        "CONN_MAX_AGE": "0 s",
        "CONN_HEALTH_CHECKS": "False",
        "ENGINE": "django.db.backends.mysql",
    }
    verdicts = {row["metric"]: row["verdict"] for row in facts["comparison"]["rows"]}
    assert verdicts["requests"] == "not judged"
    assert set(verdicts) == {row["metric"] for row in facts["comparison"]["rows"]}
    assert facts["not_cured"], "settings alone do not cure leaking threads"
    check_backend(facts, backend)
    check_bursts(*facts["bursts"])


def check_backend(facts: dict[str, Any], act: dict[str, Any]) -> None:
    assert act["waits"]["all"]["failed"] == 0
    assert act["lost_connections"] == 0
    together = [sum(kinds) for kinds in zip(*(act["sessions"][n] for n in KINDS), strict=True)]
    assert max(together) <= 2 * 10, "two processes of max_size 10"
    # Acts this short are not enough for a verdict, but the numbers are there.
    (idle,) = (
        row for row in facts["backend_against_before"]["rows"] if row["metric"] == "idle_sleepers"
    )
    assert idle["after"] < idle["before"] / 2
    assert facts["not_cured_by_backend"], "a slow query is as slow as ever"
    # The server is as it was in act one, and diagnose goes on saying so.
    assert "UH102" in {finding["rule"] for finding in facts["findings_backend"]}
    leaks = {"UH201", "UH204"}
    assert not leaks & {finding["rule"] for finding in facts["findings_backend"]}


def check_bursts(backend: dict[str, Any], stock: dict[str, Any]) -> None:
    assert [backend["name"], stock["name"]] == ["backend", "stock"]
    assert backend["in_time"] / backend["pages"] > 0.9
    assert backend["in_time"] > stock["in_time"], "threads ran out without lanes"
    assert backend["reports"]["answered"] > 0
    assert backend["reports"]["told_to_come_again"] > 0
    assert backend["reports"]["failed"] == 0


def test_ctrl_c_leaves_nothing_running(folder: Path) -> None:
    demo = start(folder, "--seconds", "60")
    wait_until_up(folder)
    demo.send_signal(signal.SIGINT)
    told, _err = demo.communicate(timeout=60)
    assert demo.returncode == 130, told
    assert wait_until_gone(folder) == []
    assert list(folder.iterdir()) == []


def test_a_killed_demo_leaves_nothing_running(folder: Path) -> None:
    demo = start(folder, "--seconds", "60")
    wait_until_up(folder)
    demo.kill()
    demo.communicate()
    assert wait_until_gone(folder) == []


def test_without_locust_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    from unhang.errors import UsageProblem
    from unhang.lab.load import run_load

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageProblem, match=r"unhang\[rehearse\]"):
        run_load("http://127.0.0.1:1", [])
