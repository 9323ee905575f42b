"""The history keeps samples of the last days, for several processes at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from unhang.errors import UsageProblem
from unhang.latency import Counters
from unhang.monitor.history import History
from unhang.monitor.sample import Sample
from unit.monitor.monitor_data import at, sample


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def seconds(samples: list[Sample]) -> list[float]:
    return [(one.at - at(0)).total_seconds() for one in samples]


def test_samples_and_gaps_come_back_as_they_were(path: Path) -> None:
    kept = [sample(0), Sample(at(5), app=Counters(), gap="1040: full"), sample(10)]
    with History(path) as history:
        for one in kept:
            history.add(one)
    with History(path) as history:
        assert history.window() == kept


def test_a_window_has_its_start_and_not_its_end(path: Path) -> None:
    with History(path) as history:
        for i in range(5):
            history.add(sample(i))
        assert seconds(history.window(at(1), at(3))) == [1, 2]
        assert seconds(history.window(at(3))) == [3, 4]
        assert seconds(history.window(None, at(2))) == [0, 1]


def test_samples_come_back_in_the_order_of_time(path: Path) -> None:
    with History(path) as history:
        for i in (3, 0.5, 2):
            history.add(sample(i))
        assert seconds(history.window()) == [0.5, 2, 3]


def test_old_samples_and_marks_are_forgotten(path: Path) -> None:
    with History(path, keep=timedelta(hours=1)) as history:
        history.mark("before", at(0))
        for hour in range(4):
            history.add(sample(3600 * hour))
        assert seconds(history.window()) == [2 * 3600, 3 * 3600]
        assert history.marks() == []


def test_a_mark_begins_a_period_that_lasts_to_the_next(path: Path) -> None:
    with History(path) as history:
        for i in range(10):
            history.add(sample(i))
        history.mark("before", at(1))
        history.mark("after", at(5))
        history.mark("before", at(3))  # measured again: the latest counts
        assert seconds(history.marked("before")) == [3, 4]
        assert seconds(history.marked("after")) == [5, 6, 7, 8, 9]
        assert [mark.label for mark in history.marks()] == ["before", "before", "after"]


def test_a_mark_that_was_never_made_is_named_with_those_that_were(path: Path) -> None:
    with History(path) as history:
        history.mark("before", at(0))
        with pytest.raises(UsageProblem, match="after") as caught:
            history.marked("after")
    assert "before" in caught.value.cure


def test_a_mark_is_now_unless_said_otherwise(path: Path) -> None:
    with History(path) as history:
        assert history.marks() == []
        assert history.mark("before") == history.marks()[0]


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("dear diary, " * 200)
    with pytest.raises(UsageProblem, match=r"history\.db"):
        History(path)
    assert path.read_text().startswith("dear diary")


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.commit()
    db.close()
    content = path.read_bytes()
    with pytest.raises(UsageProblem, match="another program"):
        History(path)
    assert path.read_bytes() == content


def test_a_history_of_a_newer_unhang_is_refused(path: Path) -> None:
    History(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageProblem, match="99"):
        History(path)


def test_a_damaged_history_says_so(path: Path) -> None:
    with History(path) as history:
        for i in range(50):
            history.add(sample(i))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(UsageProblem, match=r"history\.db"), History(path) as history:
        history.window()


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="unable to open"):
        History(tmp_path / "nowhere" / "history.db")


def test_those_who_open_a_new_file_at_the_same_moment_share_it(tmp_path: Path) -> None:
    def work(path: Path, barrier: threading.Barrier) -> None:
        barrier.wait()
        with History(path) as history:
            history.add(sample())

    with ThreadPoolExecutor(6) as pool:
        for i in range(20):
            path, barrier = tmp_path / f"{i}.db", threading.Barrier(6)
            for done in [pool.submit(work, path, barrier) for _ in range(6)]:
                done.result()
            with History(path) as history:
                assert len(history.window()) == 6


WRITER = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from unhang.monitor.history import History
from unhang.monitor.sample import Sample
with History(sys.argv[1]) as history:
    for i in range(60):
        history.add(Sample(datetime.now(UTC), gap=f"{sys.argv[2]}-{i}"))
"""


def test_several_processes_write_and_read_at_once(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(i)]) for i in range(4)
    ]
    while any(writer.poll() is None for writer in writers):
        with History(path) as history:
            history.window()
    assert [writer.returncode for writer in writers] == [0] * 4
    with History(path) as history:
        assert len({one.gap for one in history.window()}) == 4 * 60
