"""Files of who opened what: written by the application, read by the command."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unhang.openers import Opening, read_all, recorder
from unhang.openers.program import program_of
from unhang.openers.reader import FOLDER, by_number
from unhang.openers.recorder import MAX_BYTES, Recorder


class Connection:
    open = True


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def make(run_dir: Path) -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def one(**options: Any) -> Recorder:
        made.append(Recorder(run_dir, **options))
        return made[-1]

    yield one
    for own in made:
        own.close()


def note(own: Recorder, session_id: int = 7, held: object = None, **values: Any) -> object:
    held = held or Connection()
    own.note(held, **({"session_id": session_id, "alias": "default", "port": 0} | values))
    return held


def read(run_dir: Path) -> tuple[Opening, ...]:
    return read_all(run_dir)[0]


def files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / FOLDER).iterdir())


def test_what_is_written_is_read(make: Callable[..., Recorder], run_dir: Path) -> None:
    told = {
        "port": 40_001,
        "thread": "MainThread",
        "code": "shop/views.py:88",
        "work": "GET /product/7/",
        "pool": "default",
    }
    before = time.time() - 0.01
    note(make(), 12, alias="replica", **told)
    (opening,) = read(run_dir)
    assert {name: getattr(opening, name) for name in told} == told
    assert (opening.id, opening.alias, opening.pid) == (12, "replica", os.getpid())
    assert before <= opening.at <= time.time()
    assert opening.program == program_of(sys.orig_argv)


def test_nobody_else_can_read_it(make: Callable[..., Recorder], run_dir: Path) -> None:
    (run_dir / FOLDER).mkdir(parents=True, mode=0o755)
    note(make())
    assert stat.S_IMODE((run_dir / FOLDER).stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in files(run_dir)] == [0o600]


def test_a_file_goes_with_its_process(make: Callable[..., Recorder], run_dir: Path) -> None:
    own = make()
    note(own)
    assert len(files(run_dir)) == 1
    own.close()
    assert files(run_dir) == []


_CHILD = """
import os, sys, time
from unhang.openers.recorder import Recorder
class Connection: pass
held = Connection()
own = Recorder(sys.argv[1])
own.note(held, session_id=1, alias="default", port=0)
if sys.argv[2] == "fork" and os.fork() != 0:
    time.sleep(60)  # the child says when it runs
print("ready", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def child(run_dir: Path, what: str = "") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _CHILD, str(run_dir), what]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_killed_process_owns_nothing_and_the_next_one_cleans_up(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    with child(run_dir) as process:
        assert [opening.pid for opening in read(run_dir)] == [process.pid]
        process.kill()
        process.wait()
        assert read(run_dir) == ()
        assert len(files(run_dir)) == 1
        note(make(), 2)
    assert [opening.id for opening in read(run_dir)] == [2]
    assert len(files(run_dir)) == 1


def test_a_forked_child_does_not_keep_its_parents_file_alive(run_dir: Path) -> None:
    with child(run_dir, "fork") as process:
        assert len(read(run_dir)) == 1
        process.kill()
        process.wait()
        assert read(run_dir) == ()


def test_a_forked_child_has_a_file_of_its_own_even_with_the_lock_held(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    own = make()
    note(own, 1)
    file = own._files[os.getpid()]
    go, done = os.pipe(), os.pipe()
    with file._lock:  # as if another thread was writing
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            note(own, 2)
            os.write(done[1], b".")
            os.read(go[0], 1)
            os._exit(0)
    os.read(done[0], 1)
    found = {opening.id: opening.pid for opening in read(run_dir)}
    os.write(go[1], b".")
    os.waitpid(pid, 0)
    assert found == {1: os.getpid(), 2: pid}
    assert [opening.id for opening in read(run_dir)] == [1]


def test_the_file_stays_small_and_keeps_what_is_open(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    own, gone = make(), Connection()
    leaked = note(own, 1)
    note(own, 2, gone)
    gone.open = False
    for number in range(3, 6_000):
        note(own, number, thread="ThreadPoolExecutor-3_0", work="GET /product/7/")
    (file,) = files(run_dir)
    assert file.stat().st_size <= MAX_BYTES
    ids = [opening.id for opening in read(run_dir)]
    assert ids[0] == 1
    assert 2 not in ids
    assert ids[-1] == 5_999
    assert leaked is not None


def test_of_too_many_open_ones_the_newest_are_kept(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    own = make()
    held = [note(own, number, work="GET /product/7/") for number in range(5_000)]
    (file,) = files(run_dir)
    assert file.stat().st_size <= MAX_BYTES
    ids = [opening.id for opening in read(run_dir)]
    assert ids == list(range(5_000 - len(ids), 5_000))
    assert len(held) == 5_000


def test_threads_do_not_tear_each_others_lines(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    own = make()
    held: list[object] = []

    def many(first: int) -> None:
        held.extend(note(own, first + number) for number in range(200))

    threads = [threading.Thread(target=many, args=(1000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {o.id for o in read(run_dir)} == {1000 * n + m for n in range(4) for m in range(200)}


# -- folders that somebody else prepared ----------------------------------------------------------


def test_a_link_is_not_followed(
    make: Callable[..., Recorder], run_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    run_dir.mkdir()
    (run_dir / FOLDER).symlink_to(tmp_path / "elsewhere")
    note(make())
    assert list((tmp_path / "elsewhere").iterdir()) == []
    # There is a place for each user beside it.
    assert [opening.id for opening in read(run_dir)] == [7]


def test_a_folder_that_others_may_write_is_not_used(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    run_dir.mkdir()
    run_dir.chmod(0o777)
    note(make())
    assert not (run_dir / FOLDER).exists()
    assert len(read(run_dir)) == 1


def test_what_cannot_be_written_is_told_once(
    make: Callable[..., Recorder], run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir.write_text("a file")
    run_dir.with_name(f"run-{os.geteuid()}").write_text("another")
    own = make()
    with caplog.at_level(logging.WARNING):
        note(own)
        note(own)
    assert [record.name for record in caplog.records] == ["unhang.openers"]
    assert "Requests are not affected" in caplog.text


def test_a_log_that_opens_a_connection_does_not_wait_for_itself(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    run_dir.write_text("a file")
    run_dir.with_name(f"run-{os.geteuid()}").write_text("another")
    own = make()
    told = []

    class IntoADatabase(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record)
            note(own)

    handler = IntoADatabase()
    recorder.logger.addHandler(handler)
    try:
        note(own)
    finally:
        recorder.logger.removeHandler(handler)
    assert len(told) == 1


def test_a_full_disk_is_told_once(
    make: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    own = make()
    note(own)

    def full(*_arguments: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder.os, "write", full)
    note(own)
    note(own)
    assert len(caplog.records) == 1


def test_a_command_never_takes_the_run_directory(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    """Run by root, say, it would keep the application out of it."""
    note(make(is_command=True))
    assert not run_dir.exists()
    assert len(read(run_dir)) == 1


def test_a_missing_folder_holds_nothing(run_dir: Path) -> None:
    assert read_all(run_dir) == ((), ())


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
def test_a_file_of_another_user_is_not_believed(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    note(make())
    (file,) = files(run_dir)
    os.chown(file, 12345, -1)
    assert read(run_dir) == ()


def test_what_is_no_line_of_ours_is_passed_over(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    note(make())
    (file,) = files(run_dir)
    with file.open("a") as stream:
        stream.write('[]\n{"id": "x"}\n\x00\n{"id": 9, "alias": "default", "po')
    assert [opening.id for opening in read(run_dir)] == [7]


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"id": 1e999, "alias": "default", "port": 0, "at": 1}']
)
def test_nobody_can_write_a_line_that_ends_the_reader(
    make: Callable[..., Recorder], run_dir: Path, line: str
) -> None:
    """The folder may be another user's, and root reads it."""
    note(make())
    (file,) = files(run_dir)
    with file.open("a") as stream:
        stream.write(f"{line}\n")
    assert [opening.id for opening in read(run_dir)] == [7]


def test_what_would_move_a_terminals_cursor_is_not_shown(
    make: Callable[..., Recorder], run_dir: Path
) -> None:
    note(make(), work="GET /\x1b[2J")
    assert [opening.work for opening in read(run_dir)] == ["GET /?[2J"]


def test_the_newest_of_one_number_comes_first() -> None:
    header = {"version": 1, "pid": 5}
    lines = [{"id": 3, "alias": "a", "port": 0, "at": at, "code": f"v.py:{at}"} for at in (2, 1)]
    content = "\n".join(json.dumps(line) for line in (header, *lines)).encode()
    from unhang.openers.reader import _openings

    found = by_number(list(_openings(content)))["a", 3]
    assert [opening.code for opening in found] == ["v.py:2", "v.py:1"]
