"""Counters that survive killed workers, and add up over threads, forks and processes."""

from __future__ import annotations

import errno
import logging
import os
import random
import signal
import stat
import statistics
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unhang.latency import (
    KINDS,
    Counters,
    Recorder,
    default_run_dir,
    delta,
    project_dir,
    read_all,
    run_dir_from,
)
from unhang.latency.counters import (
    MAX_SECONDS,
    N_BUCKETS,
    bucket_of,
    bucket_start,
    quantile_of,
)


def total(run_dir: Path) -> Counters:
    return Counters.merge(read_all(run_dir).values())


def record(recorder: Recorder, seconds: float = 0.01, **kwargs: object) -> None:
    recorder.begin()
    recorder.finish(seconds, **kwargs)  # type: ignore[arg-type]  # the tests' shorthand


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / "run"


# -- the histogram


@given(st.floats(min_value=1e-4, max_value=MAX_SECONDS * 0.999))
def test_a_bucket_holds_its_times_and_is_at_most_3_2_percent_wide(seconds: float) -> None:
    index = bucket_of(seconds)
    start, end = bucket_start(index), bucket_start(index + 1)
    assert start <= seconds * (1 + 1e-9)
    assert seconds < end * (1 + 1e-9)
    assert (end - start) / start <= 1 / 32 + 1e-9


def test_buckets_leave_no_gap() -> None:
    starts = [bucket_start(i) for i in range(N_BUCKETS)]
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] == pytest.approx(MAX_SECONDS)
    assert [bucket_of(s * (1 + 1e-9)) for s in starts] == list(range(N_BUCKETS))


@pytest.mark.parametrize(("seconds", "index"), [(-1.0, 0), (0.0, 0), (1e9, N_BUCKETS - 1)])
def test_times_out_of_range_go_to_the_outermost_buckets(seconds: float, index: int) -> None:
    assert bucket_of(seconds) == index


@pytest.mark.parametrize("q", [0.01, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_within_the_stated_error(run_dir: Path, q: float) -> None:
    rng = random.Random(q)
    times = [rng.lognormvariate(-4, 1.2) for _ in range(5000)]
    recorder = Recorder(run_dir)
    for seconds in times:
        record(recorder, seconds)
    truth = sorted(times)[max(0, round(q * len(times)) - 1)]
    assert total(run_dir).quantile(q) == pytest.approx(truth, rel=1 / 32)


def test_a_quantile_of_nothing_is_unknown() -> None:
    assert Counters().quantile(0.5) is None


def test_a_quantile_above_the_range_is_the_end_of_the_range() -> None:
    assert quantile_of([0] * (N_BUCKETS - 1) + [3], 0.5) == MAX_SECONDS


def test_the_lowest_quantile_is_that_of_the_first_time_counted(run_dir: Path) -> None:
    record(Recorder(run_dir), 1.0)
    assert total(run_dir).quantile(0.0) == pytest.approx(1.0, rel=1 / 32)


# -- counting


def test_everything_recorded_is_read_back(run_dir: Path) -> None:
    recorder = Recorder(run_dir)
    record(recorder, 0.5)
    record(recorder, 1.5, server_error=True)
    for kind in KINDS:
        record(recorder, 0.1, database_error=kind)
    record(recorder, 0.1, database_error="refused")
    recorder.begin()
    counters = total(run_dir)
    assert counters.requests == 7
    assert counters.in_flight == 1
    assert counters.server_errors == 1
    assert counters.database_errors == dict.fromkeys(KINDS, 1) | {"refused": 2}
    assert counters.total_seconds == pytest.approx(1.0)


def test_a_server_error_counts_as_a_request_but_not_as_a_response_time(run_dir: Path) -> None:
    recorder = Recorder(run_dir)
    record(recorder, 2.0)
    for _ in range(99):
        record(recorder, 0.005, server_error=True)
    counters = total(run_dir)
    assert (counters.requests, counters.in_flight) == (100, 0)
    assert counters.quantile(0.5) == pytest.approx(2.0, rel=1 / 32)


def test_counters_survive_json(run_dir: Path) -> None:
    record(Recorder(run_dir), 0.25, server_error=True, database_error="gone_away")
    counters = total(run_dir)
    assert Counters.from_json(counters.to_json()) == counters
    assert counters.to_json()["schema"] == 1


def test_a_difference_counts_new_files_from_zero_and_vanished_ones_not_at_all(
    run_dir: Path,
) -> None:
    old = Recorder(run_dir)
    record(old)
    before = {**read_all(run_dir), "vanished": total(run_dir)}
    record(old)
    new = Recorder(run_dir)
    record(new)
    record(new)
    assert delta(before, read_all(run_dir)).requests == 3


def test_a_count_that_went_back_has_no_difference(run_dir: Path) -> None:
    record(Recorder(run_dir))
    assert Counters().since(total(run_dir)) is None


# -- threads, processes, forks

WORKER = """
import sys, threading, time
from unhang.latency import Recorder
recorder = Recorder(sys.argv[1])
def work():
    for _ in range(int(sys.argv[2])):
        recorder.begin()
        recorder.finish(0.02, server_error=True, database_error="refused")
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
recorder.begin()
print("done", flush=True)
sys.stdin.read()
"""


def test_four_processes_of_three_threads_lose_nothing_though_one_is_killed(run_dir: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(run_dir), "2000"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"done\n"
        assert total(run_dir).in_flight == 4
        workers[0].send_signal(signal.SIGKILL)
        workers[0].wait()
        counters = total(run_dir)
    finally:
        for worker in workers:
            worker.communicate()
    assert counters.requests == 4 * 3 * 2000
    assert counters.server_errors == 4 * 3 * 2000
    assert counters.database_errors["refused"] == 4 * 3 * 2000
    assert counters.in_flight == 3
    assert len(read_all(run_dir)) == 4


def test_a_worker_killed_while_it_counts_leaves_a_readable_file(run_dir: Path) -> None:
    worker = subprocess.Popen([sys.executable, "-c", WORKER, str(run_dir), "10000000"])
    try:
        deadline = time.monotonic() + 60
        while total(run_dir).requests < 1000 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        worker.kill()
        worker.wait()
    counters = total(run_dir)
    assert counters.requests >= 1000
    assert counters.in_flight == 0
    assert abs(counters.requests - counters.server_errors) <= 3


def in_child(work: object) -> int:
    """Run `work` in a forked child; its exit status."""
    with warnings.catch_warnings():
        # Python 3.12+ warns when any thread runs, and another test may have left one.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()  # type: ignore[operator]  # a callable
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_writes_a_file_of_its_own(run_dir: Path) -> None:
    recorder = Recorder(run_dir)
    record(recorder)
    before = read_all(run_dir)

    def work() -> None:
        for _ in range(5):
            record(recorder)

    assert in_child(work) == 0
    record(recorder)
    after = read_all(run_dir)
    assert len(after) == 2
    (parents,) = before
    assert after[parents].requests == 2
    assert Counters.merge(after.values()).requests == 7


def test_a_child_forked_while_a_thread_counts_is_not_blocked(run_dir: Path) -> None:
    recorder = Recorder(run_dir)
    record(recorder)
    file = recorder._files[os.getpid()]
    with file.lock:  # as another thread of the parent might hold it at the moment of the fork
        assert in_child(lambda: record(recorder)) == 0
    assert total(run_dir).requests == 2


def test_a_child_that_lives_on_does_not_make_its_dead_parent_look_alive(run_dir: Path) -> None:
    code = (
        "import os, sys\n"
        "from unhang.latency import Recorder\n"
        "recorder = Recorder(sys.argv[1])\n"
        "recorder.begin()\n"
        "if os.fork() == 0:\n"
        "    recorder.begin()\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
        "os._exit(0)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        parent.wait()
        assert len(read_all(run_dir)) == 2
        assert total(run_dir).in_flight == 1
    finally:
        parent.communicate()


def test_threads_that_start_together_share_one_file(run_dir: Path) -> None:
    recorder = Recorder(run_dir)
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        record(recorder)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [c.requests for c in read_all(run_dir).values()] == [8]


class Dawdling:
    """Words between whose reading and writing other threads get their turn.

    CPython 3.11 does not switch inside `words[i] += 1` by itself; other builds may.
    """

    def __init__(self, words: memoryview) -> None:
        self.words = words

    def __getitem__(self, index: int) -> int:
        value = self.words[index]
        time.sleep(0)
        return value

    def __setitem__(self, index: int, value: int) -> None:
        self.words[index] = value


def test_threads_lose_no_count_wherever_they_are_interrupted(run_dir: Path) -> None:
    recorder = Recorder(run_dir)
    record(recorder)
    file = recorder._files[os.getpid()]
    assert file.words is not None
    file.words = Dawdling(file.words)  # type: ignore[assignment]  # all that is used of it

    def work() -> None:
        for _ in range(200):
            record(recorder, server_error=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counters = total(run_dir)
    assert (counters.requests, counters.server_errors, counters.in_flight) == (801, 800, 0)


def test_a_closed_recorder_stays_silent_and_its_counts_stay_readable(run_dir: Path) -> None:
    recorder = Recorder(run_dir)
    record(recorder)
    recorder.close()
    recorder.close()
    record(recorder)
    assert total(run_dir).requests == 1


# -- the folder


def test_the_folder_is_made_for_all_to_read_and_us_to_write(run_dir: Path) -> None:
    record(Recorder(run_dir / "below"))
    assert stat.S_IMODE((run_dir / "below").stat().st_mode) & 0o022 == 0
    assert total(run_dir / "below").requests == 1


def refuses(run_dir: Path, caplog: pytest.LogCaptureFixture) -> str:
    """Record into `run_dir`; the one warning that says why nothing was recorded."""
    recorder = Recorder(run_dir)
    with caplog.at_level(logging.WARNING):
        record(recorder)
        record(recorder)
    (warning,) = caplog.records
    return warning.getMessage()


def test_a_folder_that_others_may_write_is_refused(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir.mkdir()
    run_dir.chmod(0o777)
    assert "others may write" in refuses(run_dir, caplog)
    assert list(run_dir.iterdir()) == []


def test_a_folder_of_another_user_is_refused(
    run_dir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert "belongs to user" in refuses(run_dir, caplog)
    assert list(run_dir.iterdir()) == []


def test_a_symbolic_link_in_place_of_the_folder_is_refused(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    run_dir.symlink_to(target)
    assert "not recorded" in refuses(run_dir, caplog)
    assert list(target.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_refused(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir.write_text("")
    assert "not recorded" in refuses(run_dir, caplog)


def test_a_full_disk_turns_recording_off_and_leaves_no_file(
    run_dir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert "No space left" in refuses(run_dir, caplog)
    assert list(run_dir.iterdir()) == []


def test_files_of_ended_processes_are_removed_after_a_day_and_live_ones_never(
    run_dir: Path,
) -> None:
    living = Recorder(run_dir)
    record(living)
    (living_file,) = run_dir.iterdir()
    ended = Recorder(run_dir)
    record(ended)
    ended.close()
    (ended_file,) = set(run_dir.iterdir()) - {living_file}
    stranger = run_dir / "notes.txt"
    stranger.write_text("keep me")
    two_days_ago = time.time() - 2 * 24 * 3600
    for path in (living_file, ended_file, stranger):
        os.utime(path, (two_days_ago, two_days_ago))
    record(Recorder(run_dir))
    names = set(run_dir.iterdir())
    assert living_file in names
    assert stranger in names
    assert ended_file not in names


def test_only_so_many_files_of_ended_processes_are_kept(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unhang.latency.recorder.KEEP_FILES", 3)
    for _ in range(6):
        recorder = Recorder(run_dir)
        record(recorder)
        recorder.close()
    assert len(read_all(run_dir)) == 4  # three ended ones, and the last


def test_a_missing_folder_holds_no_counters(run_dir: Path) -> None:
    assert read_all(run_dir) == {}


def test_strange_files_are_passed_over(run_dir: Path, tmp_path: Path) -> None:
    record(Recorder(run_dir))
    (run_dir / "short.counters").write_bytes(b"UNHANG")
    (run_dir / "other.counters").write_bytes(os.urandom(10000))
    (run_dir / "folder.counters").mkdir()
    (run_dir / "link.counters").symlink_to(tmp_path / "nowhere")
    os.mkfifo(run_dir / "pipe.counters")
    assert total(run_dir).requests == 1
    assert len(read_all(run_dir)) == 1


def test_the_default_folder_depends_on_project_and_settings(tmp_path: Path) -> None:
    one = default_run_dir(tmp_path, "shop.settings")
    assert one == default_run_dir(str(tmp_path), "shop.settings")
    assert one != default_run_dir(tmp_path, "shop.other")
    assert one != default_run_dir(tmp_path / "b", "shop.settings")
    assert one.name.startswith("unhang-")
    assert len(one.name) == len("unhang-") + 12


def test_the_setting_wins_over_the_default(tmp_path: Path) -> None:
    default = default_run_dir(tmp_path, "s")
    place = {"project_dir": tmp_path, "settings_module": "s"}
    assert run_dir_from({}, **place) == default  # type: ignore[arg-type]  # kwargs by dict
    options = {"RUN_DIR": "/run/shop"}
    assert run_dir_from(options, **place) == Path("/run/shop")  # type: ignore[arg-type]  # same


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("settings", "settings.py"),
        ("shop.settings", "shop/settings.py"),
        ("shop.settings.live", "shop/settings/live.py"),
        ("shop.settings", "shop/settings/__init__.py"),
    ],
)
def test_the_project_is_where_the_settings_are_imported_from(
    tmp_path: Path, module: str, file: str
) -> None:
    assert project_dir(module, tmp_path / file) == tmp_path.resolve()


def test_a_settings_module_deeper_than_its_file_keeps_its_folder() -> None:
    assert project_dir("a.b.c.d.settings", "/etc/settings.py") == Path("/etc").resolve()


def test_a_settings_file_that_is_a_link_counts_from_the_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "live.py"
    target.touch()
    (tmp_path / "shop" / "conf").mkdir(parents=True)
    link = tmp_path / "shop" / "conf" / "settings.py"
    link.symlink_to(target)
    assert project_dir("conf.settings", link) == (tmp_path / "shop").resolve()


def test_without_a_temporary_folder_there_is_still_a_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_usable() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none_usable)
    assert default_run_dir(tmp_path, "shop.settings").name.startswith("unhang-")


def test_the_mean_can_be_had_from_the_sum(run_dir: Path) -> None:
    recorder = Recorder(run_dir)
    times = [0.001, 0.01, 0.1]
    for seconds in times:
        record(recorder, seconds)
    counters = total(run_dir)
    assert counters.total_seconds / counters.requests == pytest.approx(statistics.mean(times))
