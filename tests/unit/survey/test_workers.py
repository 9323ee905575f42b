"""How many workers the application has, from what is written or seen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unhang.errors import UsageProblem
from unhang.survey.workers import (
    explicit_processes,
    find_workers,
    gunicorn_workers,
    parse_workers,
)

# A master that has read how many workers it shall have from somewhere else.
_MASTER = """
import os, signal, sys
children = []
for _ in range(3):
    if not (pid := os.fork()):
        signal.pause()
    children.append(pid)
print("ready", flush=True)
sys.stdin.read()
for pid in children:
    os.kill(pid, signal.SIGKILL)
"""


@contextmanager
def a_gunicorn(folder: Path, *arguments: str) -> Iterator[None]:
    (folder / "gunicorn").write_text(_MASTER)
    with subprocess.Popen(
        [sys.executable, str(folder / "gunicorn"), *arguments],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as master:
        assert master.stdout is not None
        assert master.stdout.readline() == b"ready\n"
        yield


@pytest.mark.parametrize(
    ("text", "slots"), [("4x16", 64), ("4", 4), (" 2 x 8 ", 16), ("3*2", 6), ("1X1", 1)]
)
def test_processes_times_threads(text: str, slots: int) -> None:
    assert parse_workers(text).slots == slots


@pytest.mark.parametrize("text", ["", "x8", "4x", "many", "0x4", "-1"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageProblem, match="4x16"):
        parse_workers(text)


def test_the_option_wins_over_the_settings() -> None:
    found = find_workers("2x2", {"WORKERS": "9x9"}, None)
    assert found is not None
    assert (found.slots, found.source) == (4, "--workers")


def test_the_settings_are_named_as_the_source() -> None:
    found = find_workers(None, {"WORKERS": "9x9"}, None)
    assert found is not None
    assert (found.slots, found.source) == (81, 'UNHANG["WORKERS"]')


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gunicorn", "-w", "4", "--threads", "16", "x.wsgi"], (4, 16)),
        (["gunicorn", "--workers=3", "--threads=2", "x.wsgi"], (3, 2)),
        (["gunicorn", "-w4", "x.wsgi"], (4, 1)),
        (["gunicorn", "x.wsgi"], (None, 1)),
        (["--threads", "2", "gunicorn", "--threads", "8"], (None, 8)),
    ],
)
def test_a_gunicorn_command_line_is_understood(
    arguments: list[str], expected: tuple[int | None, int]
) -> None:
    assert gunicorn_workers(arguments) == expected


def test_workers_that_a_configuration_file_asks_for_are_counted(tmp_path: Path) -> None:
    with a_gunicorn(tmp_path, "-c", "gunicorn.conf.py", "--threads", "4", "x.wsgi"):
        found = find_workers(None, {}, tmp_path)
    assert found is not None
    assert (found.processes, found.threads) == (3, 4)


def test_workers_of_the_command_line_are_believed(tmp_path: Path) -> None:
    with a_gunicorn(tmp_path, "--workers", "5", "x.wsgi"):
        found = find_workers(None, {}, tmp_path)
    assert found is not None
    assert found.processes == 5


def test_only_what_somebody_wrote_down_is_explicit(tmp_path: Path) -> None:
    with a_gunicorn(tmp_path, "--workers", "5", "x.wsgi"):
        assert explicit_processes({}) is None
    assert explicit_processes({"WORKERS": "4x16"}) == 4
