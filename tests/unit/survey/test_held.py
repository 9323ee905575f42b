"""Which processes have a session's connection, read from a `/proc` made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.surveys import a_sleeper
from unhang.survey.held import read_held
from unhang.survey.model import Held

PORT = 40_000
LINE = "  0: 0100007F:{port:04X} 0100007F:0CEA {state} 00:0 00:0 0 0 0 {inode} 1\n"
SESSION = replace(a_sleeper(7), host="127.0.0.1", port=PORT)
SAID = {7: {"_pid": "500", "_server_host": "127.0.0.1"}}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/tcp").write_text("head\n" + LINE.format(port=PORT, state="01", inode=99))
    return tmp_path


def add(
    proc: Path, pid: int, *, command: str = "gunicorn", inode: int = 99, inner: str = ""
) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "fd/0").symlink_to("/dev/null")
    (folder / "fd/3").symlink_to(f"socket:[{inode}]")
    (folder / "cmdline").write_text(command)
    (folder / "status").write_text(f"Name:\tx\nNSpid:\t{pid}\t{inner}\n")


def test_a_connection_of_one_process_is_not_listed(proc: Path) -> None:
    add(proc, 500)
    add(proc, 501, inode=98)
    assert read_held([SESSION], SAID, proc=proc) == ()


def test_a_forked_connection_has_several_processes(proc: Path) -> None:
    add(proc, 500)
    add(proc, 501)
    assert read_held([SESSION], {}, proc=proc) == (Held(7, (500, 501)),)


def test_another_program_that_inherited_it_does_not_count(proc: Path) -> None:
    add(proc, 500)
    add(proc, 501, command="sleep")
    assert read_held([SESSION], {}, proc=proc) == ()


def test_a_process_that_is_no_more_behind_a_proxy(proc: Path) -> None:
    add(proc, 600, command="haproxy")
    assert read_held([SESSION], SAID, proc=proc) == (Held(7, ()),)


def test_a_process_behind_a_proxy_that_lives(proc: Path) -> None:
    add(proc, 600, command="haproxy")
    add(proc, 500, inode=98)
    assert read_held([SESSION], SAID, proc=proc) == ()


def test_a_process_with_another_number_in_its_container_lives(proc: Path) -> None:
    add(proc, 600, inner="500")
    assert read_held([SESSION], SAID, proc=proc) == ()


@pytest.mark.parametrize(
    "said", [{}, {7: {"_pid": "500"}}, {7: {"_pid": "500", "_server_host": "db.example"}}]
)
def test_what_the_driver_did_not_say_is_unknown(
    proc: Path, said: dict[int, dict[str, str]]
) -> None:
    add(proc, 600, command="haproxy")
    assert read_held([SESSION], said, proc=proc) == ()


def test_nothing_is_told_of_other_hosts_sockets_or_processes_that_are_not_shown(
    proc: Path,
) -> None:
    assert read_held([SESSION], SAID, proc=proc) == ()
    add(proc, 600)
    assert read_held([replace(SESSION, host="10.0.0.7")], SAID, proc=proc) == ()
    assert read_held([replace(SESSION, port=None)], SAID, proc=proc) == ()
    assert read_held([SESSION], SAID, proc=proc / "nowhere") == ()
