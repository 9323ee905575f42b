"""The table that processes share: rows, locks, the file, and what happens when a process dies."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.fake_driver import until
from unhang.lanes import tables
from unhang.lanes.table import _MUTEX, LANES, PROCESSES, Table, key_of

CHILD = """
import json, os, sys
from pathlib import Path
from unhang.lanes.table import Table

table = Table(Path(sys.argv[1]))
for line in sys.stdin:
    answer = eval(line, globals())
    print(json.dumps(answer), flush=True)
"""


class Process:
    """Another process that has the table open."""

    def __init__(self, path: Path) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._popen.pid

    def ask(self, expression: str) -> Any:
        """What an expression is there."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(expression + "\n")
        self._popen.stdin.flush()
        return json.loads(self._popen.stdout.readline())

    def end(self, how: int = signal.SIGKILL) -> None:
        self._popen.send_signal(how)
        self._popen.communicate()

    def stop(self) -> None:
        """Not ended: it just does nothing for a while."""
        self._popen.send_signal(signal.SIGSTOP)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "host.lanes"


@pytest.fixture
def start(path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def one() -> Process:
        started.append(Process(path))
        return started[-1]

    yield one
    for process in started:
        with contextlib.suppress(ValueError):  # its pipes are closed: it was ended before
            process.end()


# ---- several processes ----


def test_processes_have_a_row_each_and_see_each_others(
    path: Path, start: Callable[[], Process]
) -> None:
    table, other = Table(path), start()
    assert (table.take_row(), other.ask("table.take_row()")) == (0, 1)
    table.columns["capacity"][0] = 10
    other.ask("table.columns['capacity'].__setitem__(1, 7)")
    assert table.total("capacity") == other.ask("table.total('capacity')") == 17
    assert table.columns["pid"][1] == other.pid
    assert other.ask("table.rows()") == [0, 1]


def test_a_process_that_is_killed_gives_its_row_back_at_once(
    path: Path, start: Callable[[], Process]
) -> None:
    table, other, third = Table(path), start(), start()
    table.take_row()
    other.ask("table.take_row()")
    third.ask("table.take_row()")
    other.ask("table.columns['lane0'].__setitem__(1, 3)")
    other.ask("table.cells.__setitem__(3 * 16, 8)")
    with table.alone():
        assert table.sweep() == 0, "it lives"
    other.end(signal.SIGKILL)
    with table.alone():
        assert table.sweep() == 1
    assert table.total("lane0") == 0
    assert table.cells[3 * 16] == 0
    assert table.rows() == [0, 2]
    assert start().ask("table.take_row()") == 1, "the row can be had again"


def test_a_process_that_is_stopped_keeps_its_row(path: Path, start: Callable[[], Process]) -> None:
    table, other = Table(path), start()
    other.ask("table.take_row()")
    other.stop()
    with table.alone():
        assert table.sweep() == 0
    assert table.rows() == [0]


def test_only_one_process_at_a_time_looks_at_several_rows(
    path: Path, start: Callable[[], Process]
) -> None:
    """Each adds one three hundred times, in two steps; nothing is lost between them."""
    processes, table = [start() for _ in range(3)], Table(path)
    add = (
        "[None for _ in range(300) if [c := table.alone(), c.__enter__(), n := table.counts[0], "
        "table.counts.__setitem__(0, n + 1), c.__exit__(None, None, None)] is None]"
    )
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda process: process.ask(add), processes))
    assert answers == [[], [], []]
    assert table.counts[0] == 900


def test_a_process_that_is_stopped_inside_the_lock_does_not_stop_the_others(
    path: Path, start: Callable[[], Process]
) -> None:
    table, other = Table(path), start()
    other.ask("[globals().__setitem__('held', table.alone()), held.__enter__()] and 1")
    other.stop()
    with table.alone():
        assert table.take_row is not None
    other.end(signal.SIGKILL)
    with table.alone():
        assert table.sweep() == 0


def test_a_process_that_is_killed_inside_the_lock_gives_it_back(
    path: Path, start: Callable[[], Process]
) -> None:
    table, other = Table(path), start()
    other.ask("[globals().__setitem__('held', table.alone()), held.__enter__()] and 1")
    assert not table._lock(_MUTEX)
    other.end(signal.SIGKILL)
    assert table._lock(_MUTEX)


def test_every_process_knows_a_lane_by_the_same_number(
    path: Path, start: Callable[[], Process]
) -> None:
    table, other = Table(path), start()
    assert [table.lane_number(name) for name in ("slow", "new", "a")] == [0, 1, 2]
    assert other.ask("[table.lane_number(name) for name in ('slow', 'b', 'a', 'new')]") == [
        0,
        3,
        2,
        1,
    ]
    assert table.lane_names() == ["slow", "new", "a", "b", *[""] * 4]


def test_what_was_learned_outlives_every_process(path: Path, start: Callable[[], Process]) -> None:
    other = start()
    other.ask("table.scores.__setitem__(3, 0.75)")
    other.end()
    assert Table(path).scores[3] == 0.75


# ---- one process ----


def test_a_row_given_back_is_free_and_empty(path: Path, start: Callable[[], Process]) -> None:
    table = Table(path)
    table.take_row()
    table.columns["lane0"][0] = 2
    table.give_row(0)
    assert table.total("lane0") == 0
    assert table.rows() == []
    assert start().ask("table.take_row()") == 0


def test_two_pools_of_one_process_have_rows_of_their_own_that_no_sweep_takes(path: Path) -> None:
    table = Table(path)
    assert (table.take_row(), table.take_row()) == (0, 1)
    with table.alone():
        assert table.sweep() == 0
    assert table.rows() == [0, 1]


def test_a_full_table_has_no_row_left(path: Path) -> None:
    table = Table(path)
    assert [table.take_row() for _ in range(PROCESSES)] == list(range(PROCESSES))
    assert table.take_row() is None
    table.give_row(100)
    assert table.take_row() == 100


def test_there_are_only_so_many_lanes(path: Path) -> None:
    table = Table(path)
    assert [table.lane_number(f"lane{n}") for n in range(LANES)] == list(range(LANES))
    assert table.lane_number("another") is None
    assert table.lane_number("lane3") == 3


def test_a_long_name_of_a_lane_is_one_lane(path: Path) -> None:
    """`connection.lane(…)` takes any name, not only those of the settings."""
    table = Table(path)
    assert table.lane_number("report " * 10) == table.lane_number("report " * 10)


def test_names_of_lanes_that_no_process_uses_any_more_make_room(
    path: Path, start: Callable[[], Process]
) -> None:
    """The file outlives a deployment that renames its lanes."""
    old = start()
    old.ask("[table.take_row()] + [table.lane_number(f'old{n}') for n in range(8)]")
    old.end()
    table = Table(path)
    table.take_row()
    assert table.lane_number("slow") is not None


def test_texts_are_cut_to_their_room_and_replaced(path: Path) -> None:
    table = Table(path)
    table.set_text(5, "a" * 1000)
    assert table.text(5) == "a" * 200
    table.set_text(5, "é")
    assert table.text(5) == "é"
    assert table.text(4) == table.text(6) == ""


def test_a_key_is_never_none_and_the_same_everywhere() -> None:
    assert key_of("SELECT 1") == key_of("SELECT 1") != key_of("SELECT 2")
    assert all(key_of(str(n)) for n in range(1000))


def test_private_memory_does_as_well_for_one_process() -> None:
    table = Table(None, "shop@db")
    assert not table.is_shared
    assert not table.is_replaced()
    assert (table.take_row(), table.take_row()) == (0, 1)
    with table.alone():
        assert table.sweep() == 0
    assert table.label == "shop@db"
    assert table.lane_number("slow") == 0


# ---- the file ----


def test_the_file_is_for_its_user_alone_and_says_whose_lanes_they_are(path: Path) -> None:
    table = Table(path, "shop@db/shop")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Table(path).label == table.label == "shop@db/shop"


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    Table(path)
    path.chmod(0o666)
    Table(path, make=False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        Table(path)
    assert victim.read_text() == "precious"


def test_a_file_with_a_second_name_is_refused(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, path)
    with pytest.raises(PermissionError, match="of this user alone"):
        Table(path)
    assert victim.read_text() == "precious"


def test_a_pipe_and_a_directory_are_refused(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(PermissionError, match="of this user alone"):
        Table(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        Table(path)


def test_a_file_of_somebody_else_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Table(path)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    with pytest.raises(PermissionError, match="of this user alone"):
        Table(path)


def test_who_only_looks_makes_no_file_and_takes_none_that_is_cut(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Table(path, make=False)
    path.write_bytes(b"x" * 100)
    with pytest.raises(OSError, match="not complete"):
        Table(path, make=False)
    assert path.stat().st_size == 100


def test_a_refused_file_leaves_no_handle_open(path: Path) -> None:
    path.write_bytes(b"x" * 100)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="not complete"):
        Table(path, make=False)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_that_was_removed_or_replaced_is_noticed(path: Path) -> None:
    table = Table(path)
    assert not table.is_replaced()
    path.unlink()
    assert table.is_replaced()
    Table(path)
    assert table.is_replaced()


# ---- where it lies ----


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for the files of this test alone."""
    monkeypatch.setenv("UNHANG_LANES_DIR", str(tmp_path))
    yield tmp_path
    for identity in [name for name in tables._tables if name.startswith("test")]:
        del tables._tables[identity]


def test_without_the_variable_it_is_memory_then_the_temporary_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("UNHANG_LANES_DIR")
    assert tables.directories()[0] == Path("/dev/shm")  # noqa: S108
    assert len(tables.directories()) == 2


def test_a_process_has_one_table_for_an_account_and_follows_its_file(here: Path) -> None:
    table = tables.shared("test one", "a")
    assert tables.shared("test one", "a") is table
    assert tables.shared("test two", "b") is not table
    assert table.path is not None
    assert table.path.parent == here
    table.path.unlink()
    again = tables.shared("test one", "a")
    assert again is not table
    assert again.path == table.path
    assert again.path.exists()


def test_the_name_of_the_file_tells_nothing_of_the_account(here: Path) -> None:
    name = tables.file_name("db\x00shop\x00secret")
    assert name.startswith("unhang-2-")
    assert "secret" not in name
    assert name != tables.file_name("db\x00shop\x00other")


def test_without_a_directory_to_write_to_lanes_hold_for_one_process_and_the_log_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("UNHANG_LANES_DIR", str(here / "missing"))
    with caplog.at_level(logging.WARNING, "unhang.lanes"):
        table = tables.shared("test none", "shop@db")
    assert not table.is_shared
    assert table.label == "shop@db"
    assert "for this process alone" in caplog.text
    assert "UNHANG_LANES_DIR" in caplog.text
    assert "missing" in caplog.text


def test_the_second_directory_is_taken_when_the_first_cannot_be(
    here: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tables, "directories", lambda: [here / "missing", here])
    assert tables.shared("test second", "").is_shared
    assert caplog.text == ""


def test_files_that_nobody_opened_for_a_week_are_removed(here: Path) -> None:
    old, young = (here / tables.file_name(name) for name in ("test old", "test young"))
    other = here / "unhang-notes.txt"
    for file in (old, young, other):
        file.touch()
    week = 7 * 86400
    for file in (old, other):
        os.utime(file, (file.stat().st_atime - week - 60, file.stat().st_mtime - week - 60))
    tables.shared("test new", "")
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def test_opening_a_file_makes_it_young(here: Path) -> None:
    table = tables.shared("test used", "")
    assert table.path is not None
    os.utime(table.path, (0, 0))
    del tables._tables["test used"]
    again = tables.shared("test used", "")
    assert again.path == table.path
    assert table.path.stat().st_mtime > 1e9


# ---- fork ----

FORK = """
import json, os, sys
from unhang.lanes import tables

table = tables.shared("one", "shop")
row = table.take_row()
table.columns["capacity"][row] = 5
inside, outside = os.pipe()
child = os.fork()
if child == 0:
    own = tables.shared("one", "shop")
    saw = {"is_another": own is not table, "row": own.take_row(), "rows": own.rows()}
    with own.alone():
        saw["swept"] = own.sweep()
    os.write(outside, json.dumps(saw).encode())
    os._exit(0)
os.waitpid(child, 0)
saw = json.loads(os.read(inside, 10_000))
with table.alone():
    saw["swept by the parent"] = table.sweep()
saw["parent"] = [row, table.rows(), table.total("capacity")]
print(json.dumps(saw))
"""


def test_a_forked_child_takes_a_row_of_its_own_and_the_parent_keeps_its(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env=os.environ | {"UNHANG_LANES_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "is_another": True,
        "row": 1,
        "rows": [0, 1],
        "swept": 0,
        "swept by the parent": 1,
        "parent": [0, [0], 5],
    }


def test_a_child_that_ends_without_a_word_costs_the_parent_nothing(
    path: Path, start: Callable[[], Process]
) -> None:
    """Its handles of the file are closed then; the parent's locks must survive that."""
    parent, other = start(), Table(path)
    assert parent.ask("table.take_row()") == 0
    fork = "(lambda pid: os._exit(0) if pid == 0 else os.waitpid(pid, 0)[1])(os.fork())"
    assert parent.ask(fork) == 0
    with other.alone():
        assert other.sweep() == 0
    until(lambda: other.rows() == [0])
