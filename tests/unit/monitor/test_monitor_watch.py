"""A watch keeps its pace and goes on through whatever the server does. Time is faked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql.err
import pytest

from unhang.errors import CannotConnect, NotPermitted
from unhang.latency import Recorder
from unhang.monitor import watch as module
from unhang.monitor.history import History
from unhang.monitor.sample import Sample
from unhang.monitor.watch import watch
from unit.monitor.monitor_data import sample


class Clock:
    """A clock that moves only when somebody sleeps, or when a sample takes its time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


class Connection:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


Answer = Callable[[], None]


class World:
    """A server that answers each look as told, and a record of when it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.asked: list[float] = []
        self.opened: list[float] = []
        self.connections: list[Connection] = []
        self.samples: list[Sample] = []
        self.connect: Answer = lambda: None
        self.answer: Answer = lambda: None
        monkeypatch.setattr(module, "take_sample", self._take)

    def _open(self) -> Connection:
        self.opened.append(self.clock.now - 100)
        self.connect()
        self.connections.append(Connection())
        return self.connections[-1]

    def _take(self, connection: Connection, **_options: Any) -> Sample:
        assert not connection.closed
        self.asked.append(self.clock.now - 100)
        self.answer()
        return sample(self.clock.now)

    def watch(self, **options: Any) -> int:
        return watch(
            self._open,
            on_sample=self.samples.append,
            clock=self.clock,
            sleep=self.clock.sleep,
            **options,
        )

    @property
    def gaps(self) -> list[str | None]:
        return [one.gap for one in self.samples]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def raising(*errors: Exception | None) -> Answer:
    """Raise these one after the other (`None`: all is well), then nothing any more."""
    left = list(errors)

    def answer() -> None:
        error = left.pop(0) if left else None
        if error is not None:
            raise error

    return answer


FULL = pymysql.err.OperationalError(1040, "Too many connections")
GONE = pymysql.err.OperationalError(2006, "gone away")
DOWN = pymysql.err.OperationalError(2003, "refused")


def test_it_takes_as_many_samples_as_asked(world: World) -> None:
    assert world.watch(interval=2, samples=3) == 3
    assert world.asked == [0, 2, 4]
    assert len(world.opened) == 1
    assert world.connections[0].closed


def test_it_ends_after_the_duration_with_a_sample_at_either_end(world: World) -> None:
    assert world.watch(interval=2, duration=6) == 4
    assert world.asked == [0, 2, 4, 6]


def test_slow_samples_do_not_make_it_drift(world: World) -> None:
    world.answer = lambda: world.clock.sleep(0.7)
    world.watch(interval=2, samples=4)
    assert world.asked == pytest.approx([0, 2, 4, 6])


def test_moments_that_were_missed_are_not_made_up_for(world: World) -> None:
    slow = iter([5.0, 0.0, 0.0])
    world.answer = lambda: world.clock.sleep(next(slow))
    world.watch(interval=2, samples=3)
    assert world.asked == pytest.approx([0, 6, 8])


def test_a_server_that_refuses_makes_gaps_with_a_reason(world: World) -> None:
    world.connect = raising(FULL)
    world.watch(interval=1, samples=2)
    assert world.gaps == ["1040: Too many connections", None]


@pytest.mark.parametrize(
    "error", [DOWN, CannotConnect("not there"), TimeoutError("timed out"), ConnectionResetError()]
)
def test_a_server_that_cannot_be_reached_makes_gaps(world: World, error: Exception) -> None:
    world.connect = raising(error)
    world.watch(interval=1, samples=2)
    assert [bool(gap) for gap in world.gaps] == [True, False]


def test_a_connection_that_was_lost_is_replaced_without_a_gap(world: World) -> None:
    world.answer = raising(None, GONE, None)
    world.watch(interval=1, samples=3)
    assert world.gaps == [None, None, None]
    assert len(world.opened) == 2
    assert world.connections[0].closed


def test_a_restart_is_a_gap_until_the_server_is_back(world: World) -> None:
    world.answer = raising(None, GONE)
    world.connect = raising(None, DOWN, DOWN)
    world.watch(interval=1, samples=5)
    assert world.gaps == [None, "2003: refused", "2003: refused", None, None]


def test_attempts_to_connect_become_rarer_while_gaps_keep_the_pace(world: World) -> None:
    world.connect = raising(*[DOWN] * 1000)
    assert world.watch(interval=1, samples=41) == 41
    assert set(world.gaps) == {"2003: refused"}
    assert world.opened == [0, 1, 2, 4, 8, 16, 26, 36]


def test_success_makes_the_next_attempts_frequent_again(world: World) -> None:
    world.connect = raising(DOWN, DOWN, DOWN, None, DOWN, None)
    world.answer = raising(None, GONE)
    world.watch(interval=1, samples=8)
    assert world.opened == [0, 1, 2, 4, 5, 6]


@pytest.mark.parametrize(
    "error",
    [
        pymysql.err.OperationalError(1045, "Access denied"),
        NotPermitted("no"),
        ZeroDivisionError(),
    ],
)
def test_what_waiting_cannot_cure_is_raised(world: World, error: Exception) -> None:
    world.connect = raising(error)
    with pytest.raises(type(error)):
        world.watch(interval=1, samples=3)


def test_an_error_in_the_statement_is_raised_and_the_connection_closed(world: World) -> None:
    world.answer = raising(pymysql.err.ProgrammingError(1064, "syntax"))
    with pytest.raises(pymysql.err.ProgrammingError):
        world.watch(interval=1, samples=3)
    assert world.connections[0].closed


def test_ctrl_c_ends_it_and_keeps_every_sample(world: World, tmp_path: Path) -> None:
    def sleep_twice() -> None:
        if len(world.asked) == 3:
            raise KeyboardInterrupt

    world.answer = sleep_twice
    with History(tmp_path / "history.db") as history:
        assert world.watch(interval=1, history=history) == 2
        assert history.window() == world.samples
    assert len(world.samples) == 2
    assert world.connections[0].closed


def test_a_gap_still_counts_the_application(world: World, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.begin()
    recorder.finish(0.1, database_error="refused")
    world.connect = raising(FULL)
    world.watch(interval=1, samples=1, run_dir=tmp_path)
    assert world.samples[0].server is None
    assert world.samples[0].app is not None
    assert world.samples[0].app.database_errors["refused"] == 1
