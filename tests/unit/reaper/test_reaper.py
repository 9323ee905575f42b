"""A round in which something goes wrong half-way: it stops, and nothing is ended unrecorded."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pymysql
import pytest

from unhang.mysql.engine import identify
from unhang.reaper import reaper as module
from unhang.reaper.audit import Audit
from unhang.reaper.ending import Outcome, Result
from unhang.reaper.policy import Policy
from unhang.reaper.reaper import Reaper
from unhang.survey.session import Session


class World:
    """A server made of lists: who is there, who was ended, and what happens on the way."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **policy: Any) -> None:
        self.now = 100.0
        self.there = dict.fromkeys(range(1, 9), 400.0)
        self.ended: list[int] = []
        self.before_kill: Callable[[], None] = lambda: None
        self.before_asking: Callable[[], None] = lambda: None
        self.leads = True
        self.running = 3
        self.batch = 1
        self.how = ""
        monkeypatch.setattr(module, "read_sessions", lambda *_a, **_k: self)
        monkeypatch.setattr(module, "fetch_rows", self.ask)
        monkeypatch.setattr(module, "leads", lambda _connection: self.asked(self.leads))
        monkeypatch.setattr(module, "ender_for", lambda *_a, **_k: self)
        connection: Any = self
        self.stop_file = tmp_path / "stop"
        self.path = tmp_path / "reaped.jsonl"
        self.audit = Audit(self.path, {})
        given = {"keep": 0, "most": 99, "rate": 2.0} | policy
        self.reaper = Reaper(
            inspector=connection,
            killers={"app": connection},
            engine=identify("10.11.19-MariaDB"),
            account="",
            policy=Policy(frozenset({"app"}), idle_seconds=300, **given),
            stop_file=self.stop_file,
            audit=self.audit,
            pause=self.pass_time,
            clock=lambda: self.now,
        )

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.there = {id_: idle + seconds for id_, idle in self.there.items()}

    def asked(self, answer: Any) -> Any:
        self.before_asking()
        return answer

    def ask(self, _connection: Any, sql: str) -> tuple[tuple[Any, ...], ...]:
        self.before_asking()
        if "Uptime" in sql:
            return (("Uptime", int(self.now + 5_000)),)
        if "Threads_running" in sql:
            return (("Threads_running", self.running),)
        return tuple((id_,) for id_ in self.there)

    unique: frozenset[int] = frozenset()

    def thread_id(self) -> int:
        return 1000

    def ping(self, reconnect: bool) -> None:
        assert not reconnect

    @property
    def sessions(self) -> Sequence[Session]:
        known: dict[str, Any] = {
            "activity": 5,
            "in_transaction": False,
            "empty_transaction": False,
            "xa": False,
            "locks": (),
            "temporary_tables": False,
            "is_client": True,
        }
        return [Session(n, "app", "h", None, "Sleep", s, **known) for n, s in self.there.items()]

    def end(self, sessions: Sequence[Session]) -> list[Outcome]:
        for session in sessions:
            self.before_kill()
            recorded = self.path.read_text()
            assert f'"id": {session.id},' in recorded, "ended without a record"
            self.ended.append(session.id)
            self.there.pop(session.id, None)
        return [Outcome(session, Result.ENDED) for session in sessions]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    with made.audit:
        yield made


def test_all_that_are_harmless_are_ended_and_recorded_before(world: World) -> None:
    found = world.reaper.round()
    assert len(world.ended) == len(found.ended) == 8
    assert not found.surprise
    assert not found.still_there
    assert '"proof"' in world.path.read_text().splitlines()[-1]


def test_a_stop_file_that_appears_stops_before_the_next_one(world: World) -> None:
    world.before_kill = world.stop_file.touch
    found = world.reaper.round()
    assert len(world.ended) == 1
    assert "stop file" in found.surprise


def test_a_lead_that_is_lost_stops_it(world: World) -> None:
    def lose() -> None:
        world.leads = False

    world.before_kill = lose
    assert "only reaper" in world.reaper.round().surprise
    assert len(world.ended) == 1


def test_a_server_that_gets_busy_stops_it(world: World) -> None:
    def get_busy() -> None:
        world.running = 100

    world.before_kill = get_busy
    assert "100 statements run at once" in world.reaper.round().surprise
    assert len(world.ended) == 1


def test_a_disk_that_is_full_stops_it_before_the_first_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        world.reaper.round()
    assert not world.ended


def test_a_ctrl_c_in_a_batch_is_heard_and_what_it_may_have_ended_is_looked_at(
    world: World,
) -> None:
    def interrupt() -> None:
        if len(world.ended) == 2:
            raise KeyboardInterrupt

    world.before_kill = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.reaper.round()
    last = world.path.read_text().splitlines()[-1]
    assert '"gone": [7, 8], "still_there": [6]' in last


def test_a_ctrl_c_is_heard_although_it_broke_the_inspectors_connection(world: World) -> None:
    """PyMySQL closes the connection whose answer was interrupted."""

    def interrupt() -> None:
        if world.ended:
            world.before_asking = broken
            raise KeyboardInterrupt

    def broken() -> None:
        raise pymysql.err.InterfaceError(0, "")

    world.before_asking = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.reaper.round()
    assert len(world.ended) == 1


def test_an_inspector_that_is_lost_stops_it(world: World) -> None:
    def lost() -> None:
        raise pymysql.err.OperationalError(2013, "Lost connection")

    def lose() -> None:
        world.before_asking = lost

    world.before_kill = lose
    with pytest.raises(pymysql.err.OperationalError):
        world.reaper.round()
    assert len(world.ended) == 1


def test_a_session_that_stays_is_a_surprise(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: Callable[[Sequence[Session]], list[Outcome]] = lambda found: [  # noqa: E731 - short
        Outcome(session, Result.ENDED) for session in found
    ]
    monkeypatch.setattr(world, "end", outcomes)
    found = world.reaper.round()
    assert "still there" in found.surprise
    assert len(found.still_there) == 8


def test_a_clock_that_jumps_between_the_looks_spares_everybody(world: World) -> None:
    world.reaper.pause = lambda _seconds: setattr(world, "now", world.now + 3_600)
    assert not world.reaper.round().choice.victims
    assert not world.ended


def test_one_that_is_named_twice_is_ended_once(world: World) -> None:
    found = world.reaper.end_named([3, 3])
    assert [outcome.session.id for outcome in found.outcomes] == [3]
