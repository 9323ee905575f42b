"""A statement's way through the lanes of its pool: it runs, waits, or is refused."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.fake_driver import Clock, FakeDriver, FakeError, until
from unhang.lanes import Lanes, LaneStats, Running, SlowLaneFull, lane, naming, workers
from unhang.lanes.holders import holders
from unhang.lanes.table import Table
from unhang.pool import Pool, PooledConnection, PoolOptions, SlowLane, process

SLOW = "SELECT slow FROM t"
FAST = "SELECT fast FROM t"
NEW = "SELECT new FROM t"


@pytest.fixture(autouse=True)
def unkept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keeper looks by itself: each test says when."""
    monkeypatch.setattr(process, "register", lambda _one: None)


@pytest.fixture(autouse=True, params=["request"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A process that serves requests, unless a test is about one of tasks."""
    monkeypatch.setattr(naming, "_default", None)
    monkeypatch.setattr(workers, "_serves_requests", request.param == "request")
    monkeypatch.setattr(workers, "_at_a_time", 0)
    return str(request.param)


requests_only = pytest.mark.parametrize("kind", ["request"], indirect=True)
tasks_only = pytest.mark.parametrize("kind", ["task"], indirect=True)


class Worker:
    """One process: a pool of four connections, and its lanes."""

    def __init__(
        self,
        table: Table | None = None,
        clock: Clock | None = None,
        *,
        name: str = "default",
        max_size: int = 4,
        named: dict[str, SlowLane] | None = None,
        find_table: Callable[[str, str], Table] | None = None,
        **slow: Any,
    ) -> None:
        self.clock = clock or Clock()
        table = table or Table(None, "shop@db")
        options = SlowLane(**{"workers": 2 * max_size, **slow})
        self.pool = Pool(FakeDriver(), PoolOptions(max_size=max_size), name=name, clock=self.clock)
        self.lanes = Lanes(
            self.pool,
            options,
            identity="test",
            named=named,
            find_table=find_table or (lambda _identity, _label: table),
            clock=self.clock,
        )
        self._leases: dict[Running, PooledConnection] = {}

    def knows(self, text: str, *, slow: bool) -> Worker:
        entry = self.lanes.ledger.entry_of(text)
        (self.lanes.ledger.overran if slow else self.lanes.ledger.was_fast)(entry)
        return self

    def begin(self, text: str, **how: Any) -> Running:
        """Admitted, and sent to the server."""
        running = self.lanes.admit(text, **how)
        lease = self._leases[running] = self.pool.lend()
        running.since = self.clock()
        lease.running = running
        return running

    def end(self, running: Running, *, ok: bool = True) -> None:
        lease = self._leases.pop(running)
        lease.running = None
        self.lanes.done(running, ok=ok)
        self.pool.give_back(lease)

    def busy(self, count: int) -> list[PooledConnection]:
        """So many connections are used by statements that no lane sees."""
        return [self.pool.lend() for _ in range(count)]

    def stats(self, name: str = "slow") -> LaneStats:
        return next(stats for stats in self.lanes.stats() if stats.lane == name)

    def is_untouched(self) -> bool:
        """Nobody runs or waits, here or in the table."""
        row = self.lanes.row
        columns = row.table.columns
        return (
            not any(row.running)
            and row.waiting == 0
            and not any(self.lanes._lines.values())
            and not any(row.table.cells[::3])
            and not any(sum(column) for column in row.table.lanes)
            and sum(columns["waiting"]) == 0
        )


class Call:
    """A statement that a thread of its own asks for."""

    def __init__(self, worker: Worker, text: str, **how: Any) -> None:
        self.running: Running | None = None
        self.error: BaseException | None = None
        self._how = lambda: worker.lanes.admit(text, **how)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.running = self._how()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Running | BaseException:
        self._thread.join(5)
        found = self.running if self.running is not None else self.error
        assert found is not None, "it still waits"
        return found


def waits(worker: Worker, text: str, **how: Any) -> Call:
    """A call that has begun to wait."""
    before = worker.lanes.row.waiting
    call = Call(worker, text, **how)
    until(lambda: worker.lanes.row.waiting == before + 1 or call.is_over)
    assert not call.is_over, call.result()
    return call


def crowded(**options: Any) -> tuple[Worker, Running]:
    """A worker that knows both statements, is crowded, and whose one slow place is taken."""
    worker = Worker(**options).knows(SLOW, slow=True).knows(FAST, slow=False)
    running = worker.begin(SLOW)
    worker.busy(2)
    return worker, running


# ---- runs ----


def test_while_there_is_room_there_is_no_limit() -> None:
    worker = Worker(max_size=20).knows(SLOW, slow=True)
    for _ in range(10):
        worker.begin(SLOW)
    assert worker.stats().running == worker.stats().admitted == 10


def test_a_fast_statement_takes_no_ticket_however_crowded_it_is() -> None:
    worker, _ = crowded()
    running = worker.lanes.admit(FAST)
    assert running.is_proven
    assert running.ticket is None
    worker.lanes.done(running)


def test_a_place_given_back_is_free() -> None:
    worker, first = crowded()
    worker.end(first)
    second = worker.lanes.admit(SLOW)
    worker.lanes.done(second, ok=False)
    assert worker.is_untouched()


def test_what_failed_at_once_was_not_fast() -> None:
    worker = Worker()
    worker.end(worker.begin(NEW), ok=False)
    assert worker.lanes.ledger.is_unknown(worker.lanes.ledger.entry_of(NEW))
    worker.end(worker.begin(NEW))
    assert not worker.lanes.ledger.is_unknown(worker.lanes.ledger.entry_of(NEW))


def test_what_did_not_begin_is_neither_fast_nor_slow() -> None:
    worker = Worker()
    running = worker.lanes.admit(NEW)
    worker.clock.now += 100
    worker.lanes.done(running, ok=False)
    assert worker.lanes.ledger.is_unknown(worker.lanes.ledger.entry_of(NEW))
    assert worker.is_untouched()


def test_what_failed_late_was_slow_all_the_same() -> None:
    worker = Worker()
    running = worker.begin(NEW)
    worker.clock.now += 5
    worker.end(running, ok=False)
    assert worker.lanes.ledger.is_slow(worker.lanes.ledger.entry_of(NEW))
    assert worker.lanes.ledger.mean_seconds(running.entry) == 5


# ---- waits ----


def test_who_waits_is_served_when_a_place_is_given_back() -> None:
    worker, first = crowded()
    call = waits(worker, SLOW)
    assert (worker.stats().waiting, worker.stats().running) == (1, 1)
    worker.clock.now += 0.5
    worker.end(first)
    second = call.result()
    assert isinstance(second, Running)
    stats = worker.stats()
    assert (stats.admitted, stats.waits, stats.wait_seconds) == (2, 1, 0.5)
    assert (stats.refused, stats.timeouts, stats.waiting) == (0, 0, 0)
    worker.lanes.done(second)
    assert worker.is_untouched()


def test_a_release_wakes_the_one_who_waits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unhang.lanes.lanes.NAP_SECONDS", 60.0)
    worker, first = crowded(timeout=120.0)
    call = waits(worker, SLOW)
    worker.end(first)
    assert isinstance(call.result(), Running)


def test_who_came_first_is_served_first() -> None:
    worker, first = crowded()
    one = waits(worker, SLOW)
    other = waits(worker, SLOW)
    worker.end(first)
    running = one.result()
    assert isinstance(running, Running)
    assert not other.is_over
    worker.lanes.done(running)
    assert isinstance(other.result(), Running)


def test_who_waits_is_served_when_it_is_no_longer_crowded() -> None:
    worker = Worker().knows(SLOW, slow=True)
    worker.begin(SLOW)
    others = worker.busy(2)
    call = waits(worker, SLOW)
    for lease in others:
        worker.pool.give_back(lease)
    assert isinstance(call.result(), Running)


def test_what_need_not_be_held_is_let_go_before_waiting_and_only_then() -> None:
    worker, first = crowded()
    held = worker.busy(1)
    let_go = lambda: worker.pool.give_back(held.pop())  # noqa: E731 - as the backend passes it
    worker.lanes.done(worker.lanes.admit(FAST, let_go=let_go))
    assert held
    call = waits(worker, SLOW, let_go=let_go)
    assert not held
    assert worker.pool.stats().leased == 3
    worker.end(first)
    call.result()


@requests_only
def test_a_request_waits_for_the_timeout(kind: str) -> None:
    worker, _ = crowded()
    call = waits(worker, SLOW)
    worker.clock.now += 9.9
    assert not call.is_over
    worker.clock.now += 0.1
    assert isinstance(call.result(), SlowLaneFull)
    assert (worker.stats().timeouts, worker.stats().refused, worker.stats().waiting) == (1, 0, 0)


@tasks_only
def test_a_task_in_a_named_lane_waits_six_times_as_long(kind: str) -> None:
    worker, _ = crowded()
    naming.enter_process("slow")
    call = waits(worker, SLOW)
    worker.clock.now += 59.9
    until(lambda: worker.lanes.row.waiting == 1)
    assert not call.is_over
    worker.clock.now += 0.1
    assert isinstance(call.result(), SlowLaneFull)


def test_inside_a_transaction_it_waits_a_tenth_of_the_time(kind: str) -> None:
    worker, _ = crowded()
    call = waits(worker, SLOW, holds=True)
    worker.clock.now += (1.0 if kind == "request" else 6.0) - 0.1
    assert not call.is_over
    worker.clock.now += 0.1
    assert isinstance(call.result(), SlowLaneFull)


# ---- is refused ----


@requests_only
def test_who_would_take_the_last_free_workers_is_refused_at_once(kind: str) -> None:
    worker, first = crowded(workers=4)
    call = waits(worker, SLOW)
    with pytest.raises(SlowLaneFull):
        worker.lanes.admit(SLOW)
    stats = worker.stats()
    assert (stats.running, stats.waiting, stats.refused, stats.timeouts) == (1, 1, 1, 0)
    worker.end(first)
    call.result()


@tasks_only
def test_a_task_is_not_held_back_but_counted_and_shown(kind: str) -> None:
    worker, _ = crowded(workers=2)
    runs = [worker.lanes.admit(SLOW) for _ in range(4)]
    assert worker.stats().running == 5
    for running in runs:
        worker.lanes.done(running)
    assert worker.stats().running == 1


@tasks_only
def test_a_task_in_a_named_lane_is_not_refused_for_want_of_workers(kind: str) -> None:
    worker, first = crowded(workers=2)
    naming.enter_process("slow")
    calls = [waits(worker, SLOW) for _ in range(4)]
    worker.end(first)
    for call in calls:
        running = call.result()
        assert isinstance(running, Running)
        worker.lanes.done(running)


@requests_only
def test_what_is_refused_says_what_was_full_who_holds_it_and_what_to_change(kind: str) -> None:
    worker, _ = crowded(workers=1, max_size=10)
    worker.clock.now += 3
    with pytest.raises(SlowLaneFull) as caught:
        worker.lanes.admit(SLOW)
    error, text = caught.value, str(caught.value)
    assert isinstance(error, FakeError), "the driver's own, so Django makes OperationalError of it"
    assert text.startswith("pool 'default': no place in the lane 'slow' for 'SELECT slow FROM t'")
    assert "this process is crowded (3 of 1 connections in use)" in text
    assert "the lane has 1 and 1 run" in text
    assert f"held by process {os.getpid()} (this one) for 3.0 s ('SELECT slow FROM t')" in text
    assert "option slow_lane: share, timeout" in text
    assert "unhang lanes" in text


@requests_only
def test_asking_again_makes_sense_when_a_place_may_be_free(kind: str) -> None:
    worker, _ = crowded(workers=1)
    entry = worker.lanes.ledger.entry_of(SLOW)
    seen = set()
    for seconds, least, most in [(8.0, 4, 12), (10_000.0, 15, 45)]:
        worker.lanes.ledger.took(entry, seconds)
        for _ in range(50):
            with pytest.raises(SlowLaneFull) as caught:
                worker.lanes.admit(SLOW)
            assert least <= caught.value.retry_after <= most
            seen.add(caught.value.retry_after)
    assert len(seen) > 5, "those who were refused together must not come back together"


# ---- strangers ----


def test_a_stranger_goes_ahead_as_a_scout_and_its_like_wait() -> None:
    worker, _ = crowded()
    scout = worker.begin(NEW)
    assert (worker.stats("new").running, worker.stats().running) == (1, 1)
    call = waits(worker, NEW)
    assert worker.stats("new").waiting == 1
    worker.end(scout)
    assert isinstance(call.result(), Running)


def test_strangers_with_different_texts_are_scouts_each_within_what_all_lanes_may_have() -> None:
    worker = Worker(max_size=8, workers=80)
    worker.busy(4)
    for number in range(6):
        worker.lanes.admit(f"SELECT new{number} FROM t")
    waits(worker, "SELECT another FROM t")
    assert worker.stats("new").running == 6


def test_a_stranger_in_a_transaction_does_not_wait_for_what_others_find_out() -> None:
    worker, _ = crowded()
    worker.begin(NEW)
    assert worker.lanes.admit(NEW, holds=True).ticket is not None


@pytest.mark.parametrize("timeout", [10.0, 0.5])
def test_a_stranger_runs_after_one_and_a_half_thresholds(timeout: float) -> None:
    """With a short timeout, too, where the lane's patience ends before."""
    worker, _ = crowded(timeout=timeout)
    worker.begin(NEW)
    call = waits(worker, NEW)
    for _ in range(15):
        worker.clock.now += 0.1
        threading.Event().wait(0.03)
    assert isinstance(call.result(), Running)
    assert worker.stats("new").timeouts == worker.stats("new").refused == 0


@requests_only
def test_a_stranger_is_refused_for_want_of_workers_once_its_scout_looks_slow(kind: str) -> None:
    worker = Worker(workers=4)
    worker.busy(2)
    worker.begin(NEW)
    calls = [waits(worker, NEW) for _ in range(3)]
    worker.clock.now += 0.09
    threading.Event().wait(0.1)
    assert not any(call.is_over for call in calls)
    worker.clock.now += 0.01
    until(lambda: sum(call.is_over for call in calls) == 1)
    found = [call.error for call in calls if call.is_over]
    assert all(isinstance(error, SlowLaneFull) for error in found)
    assert worker.lanes.row.waiting == 2, "one worker of four is left"
    with pytest.raises(SlowLaneFull):
        worker.lanes.admit(NEW)


def test_a_stranger_that_turns_out_fast_while_waiting_runs_at_once() -> None:
    worker, _ = crowded()
    first = worker.begin(NEW)
    call = waits(worker, NEW)
    worker.end(first)
    running = call.result()
    assert isinstance(running, Running)
    assert running.ticket is None


@requests_only
def test_a_stranger_that_turns_out_slow_while_waiting_goes_on_in_the_slow_lane(kind: str) -> None:
    worker, slow = crowded()
    worker.begin(NEW)
    call = waits(worker, NEW)
    worker.clock.now += 1.0
    worker.lanes.keep()
    until(lambda: worker.stats().waiting == 1)
    assert worker.stats("new").waiting == 0
    worker.clock.now += 2.0
    assert not call.is_over, "strangers would run now"
    worker.end(slow)
    worker.clock.now += 7.0
    assert isinstance(call.result(), SlowLaneFull), "the other run of it has the lane's one place"


@requests_only
def test_a_stranger_that_turns_out_slow_is_refused_if_others_wait_already(kind: str) -> None:
    worker, _ = crowded(workers=4)
    worker.begin(NEW)
    call = waits(worker, NEW)
    worker.knows(NEW, slow=True)
    assert isinstance(call.result(), SlowLaneFull)
    assert worker.lanes.row.waiting == 0


# ---- what runs for too long ----


def test_a_run_counts_as_slow_as_soon_as_it_is_over_the_threshold() -> None:
    worker = Worker(threshold=2.0)
    running = worker.begin(NEW)
    assert worker.stats("new").running == 1
    worker.clock.now += 1.9
    worker.lanes.keep()
    assert not running.is_over
    worker.clock.now += 0.1
    worker.lanes.keep()
    assert running.is_over
    assert worker.lanes.ledger.is_slow(running.entry)
    assert (worker.stats("new").running, worker.stats().running) == (0, 1)
    worker.clock.now += 3
    worker.end(running)
    assert worker.is_untouched()
    assert worker.lanes.ledger.mean_seconds(running.entry) == 5
    assert worker.lanes.ledger.learned == 1, "it is counted once"


def test_a_fast_statement_that_hangs_is_charged_to_the_slow_lane_while_it_does() -> None:
    worker = Worker().knows(FAST, slow=False)
    running = worker.begin(FAST)
    assert running.ticket is None
    worker.clock.now += 1
    worker.lanes.keep()
    worker.lanes.keep()
    assert worker.stats().running == 1
    assert not worker.lanes.ledger.is_slow(running.entry), "one hiccup condemns nothing"
    worker.end(running)
    assert worker.is_untouched()


def test_nothing_that_waits_for_a_connection_is_over_its_threshold() -> None:
    worker = Worker().knows(FAST, slow=False)
    running = worker.lanes.admit(FAST)
    lease = worker.pool.lend()
    lease.running = running  # not sent yet
    worker.clock.now += 100
    worker.lanes.keep()
    assert not running.is_over


@pytest.mark.parametrize("borrower_is_first", [True, False])
def test_a_ticket_is_given_back_once_whoever_sees_the_end_first(borrower_is_first: bool) -> None:
    """The keeper charges a run while its borrower says that it is over."""
    worker = Worker().knows(FAST, slow=False)
    running = worker.begin(FAST)
    lease = worker._leases.pop(running)
    worker.clock.now += 1
    gives = worker.lanes._give_ticket

    def give_late(late: Running, number: int) -> None:
        lease.running = None
        if borrower_is_first:  # he waits for our lock, and gets it when we are through
            threading.Thread(target=worker.lanes.done, args=(running,)).start()
        gives(late, number)

    worker.lanes._give_ticket = give_late  # type: ignore[method-assign]
    worker.lanes.keep()
    if not borrower_is_first:
        worker.lanes.done(running)
    until(worker.is_untouched)
    assert running.ticket is None


def test_a_run_that_ended_between_two_looks_is_not_charged() -> None:
    worker = Worker().knows(FAST, slow=False)
    running = worker.begin(FAST)
    lease = worker._leases[running]
    worker.clock.now += 1
    worker.end(running)
    worker.lanes._count_as_slow(lease, running)
    assert worker.is_untouched()


# ---- interrupts ----


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interrupt_while_waiting_leaves_no_trace(
    monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException]
) -> None:
    worker, first = crowded()

    def wait(_seconds: float) -> bool:
        raise interrupt

    monkeypatch.setattr(worker.lanes._changed, "wait", wait)
    with pytest.raises(interrupt):
        worker.lanes.admit(SLOW)
    worker.end(first)
    assert worker.is_untouched()


def test_an_interrupt_just_after_a_place_was_found_gives_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task's soft time limit is raised anywhere; a place lost for good would close the lane."""
    worker, first = crowded()
    says = worker.lanes._log

    def interrupted(what: str, *rest: Any) -> None:
        if what.startswith("waited"):
            raise KeyboardInterrupt
        says(what, *rest)

    monkeypatch.setattr(worker.lanes, "_log", interrupted)
    call = waits(worker, SLOW)
    worker.end(first)
    assert isinstance(call.result(), KeyboardInterrupt)
    assert worker.is_untouched()


def test_an_error_in_letting_go_leaves_no_trace() -> None:
    worker, first = crowded()

    def fails() -> None:
        raise FakeError("gone")

    with pytest.raises(FakeError, match="gone"):
        worker.lanes.admit(SLOW, let_go=fails)
    worker.end(first)
    assert worker.is_untouched()


# ---- named lanes ----


def test_in_a_named_lane_strangers_and_slow_ones_take_its_tickets_and_fast_ones_none() -> None:
    named = {"reports": SlowLane(share=0.5, timeout=3)}
    worker = Worker(named=named).knows(FAST, slow=False).knows(SLOW, slow=True)
    with lane("reports"):
        runs = [worker.begin(NEW), worker.begin(SLOW)]
        assert worker.lanes.admit(FAST).ticket is None
    assert worker.stats("reports").running == 2
    assert worker.stats().running == 0
    for running in runs:
        worker.end(running)
    assert worker.is_untouched()


@requests_only
def test_a_named_lane_has_its_own_share_and_timeout(kind: str) -> None:
    worker = Worker(max_size=10, named={"reports": SlowLane(share=0.3, timeout=3)})
    worker.busy(5)
    with lane("reports"):
        for _ in range(3):
            worker.begin(FAST)
    reports = lane("reports")(lambda: worker.lanes.admit(FAST))
    problems: list[BaseException] = []

    def ask() -> None:
        try:
            reports()
        except SlowLaneFull as problem:
            problems.append(problem)

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: worker.lanes.row.waiting == 1)
    worker.clock.now += 3
    thread.join(5)
    assert "lane 'reports' after 3.0 s" in str(problems[0])


def test_a_lane_that_the_settings_do_not_name_has_the_slow_ones_limits() -> None:
    worker = Worker(share=0.4, timeout=7)
    with lane("by hand"):
        worker.begin(FAST)
    assert worker.stats("by hand").running == 1
    assert worker.lanes.share_of("by hand").timeout == 7


def test_a_lane_of_another_alias_does_not_count() -> None:
    worker = Worker(name="replica").knows(FAST, slow=False)
    with lane("reports", "default"):
        worker.lanes.admit(NEW)
    assert worker.stats("new").running == 1
    with lane("reports", "replica"):
        worker.lanes.admit(NEW)
    assert worker.stats("reports").running == 1


def test_what_is_in_no_lane_is_never_held_back() -> None:
    worker, _ = crowded(workers=1)
    with lane(None):
        for text in (SLOW, NEW, FAST):
            running = worker.lanes.admit(text, holds=True)
            assert running.ticket is None
            worker.lanes.done(running, ok=False)


def test_what_is_in_no_lane_is_counted_when_it_is_slow_so_that_others_wait() -> None:
    worker = Worker().knows(SLOW, slow=True)
    with lane(None):
        running = worker.begin(SLOW)
    worker.clock.now += 1
    worker.lanes.keep()
    assert worker.stats().running == 1
    worker.end(running)
    assert worker.is_untouched()


def test_a_lane_too_many_shares_the_slow_one_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker(max_size=40)
    for number in range(8):
        with lane(f"lane{number}"):
            worker.begin(FAST)
    assert worker.stats("lane5").running == 1
    assert worker.stats("slow").running == 2
    assert "there are 8 lanes on this host already; 'lane6' shares the slow lane" in caplog.text


def test_all_lanes_together_leave_a_quarter_to_the_others() -> None:
    worker = Worker(max_size=8, workers=80)
    worker.busy(4)
    for number in range(6):
        with lane(f"lane{number}"):
            worker.lanes.admit(FAST)
    waits(worker, NEW)
    assert sum(worker.lanes.row.running) == 6


# ---- several processes ----


@pytest.fixture
def host(tmp_path: Path) -> Callable[..., list[Worker]]:
    """Processes that share a table; here they are pools of one process."""
    table, clock = Table(tmp_path / "host.lanes"), Clock()

    def start(count: int, **options: Any) -> list[Worker]:
        values = {"max_size": 1, "workers": 1, **options}
        made = [Worker(table, clock, **values).knows(SLOW, slow=True) for _ in range(count)]
        for worker in made:
            worker.lanes.keep()
        return made

    return start


@requests_only
def test_four_sync_workers_run_two_slow_ones_and_refuse_the_third(
    kind: str, host: Callable[..., list[Worker]]
) -> None:
    a, b, c, d = host(4)
    first = a.begin(SLOW)
    b.begin(SLOW)
    for worker in (c, d):
        with pytest.raises(SlowLaneFull, match="this host is crowded"):
            worker.lanes.admit(SLOW)
    a.end(first)
    c.begin(SLOW)
    assert c.lanes.row.table.total("lane0") == 2


@requests_only
def test_two_workers_that_begin_at_the_same_moment_see_each_other(
    kind: str, host: Callable[..., list[Worker]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second decides after the first has looked, and before it shows what it runs."""
    a, b, c, _ = host(4)
    c.begin(SLOW)
    row, refused = a.lanes.row, []
    shows = row.show

    def show_late(*how: Any, **more: Any) -> None:
        monkeypatch.setattr(row, "show", shows)
        try:
            b.lanes.admit(SLOW)
        except SlowLaneFull as error:
            refused.append(error)
        shows(*how, **more)

    monkeypatch.setattr(row, "show", show_late)
    try:
        a.lanes.admit(SLOW)
    except SlowLaneFull as error:
        refused.append(error)
    assert a.lanes.row.table.total("lane0") == 2
    assert len(refused) == 1


@requests_only
def test_a_worker_that_served_only_known_statements_so_far_counts_as_one_worker(
    kind: str, host: Callable[..., list[Worker]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker of gunicorn that was replaced finds everything in the ledger already."""
    monkeypatch.setattr(workers, "_serves_requests", False)
    from django.core.signals import request_started

    import unhang.backends.mysql.laning  # noqa: F401 - connects the receiver

    (worker,) = host(1, max_size=10, workers=0)
    worker.knows(FAST, slow=False)
    # In the main thread, as in a sync worker.
    request_started.send(sender=None, environ={})
    worker.lanes.done(worker.lanes.admit(FAST))
    keeper = threading.Thread(target=worker.lanes.keep)
    keeper.start()
    keeper.join()
    columns = worker.lanes.row.table.columns
    assert (columns["capacity"][0], columns["workers"][0]) == (1, 1)


@tasks_only
def test_tasks_are_not_judged_by_the_host(kind: str, host: Callable[..., list[Worker]]) -> None:
    for worker in host(4):
        worker.begin(SLOW)


@requests_only
def test_fast_statements_of_other_processes_count_on_average(
    kind: str, host: Callable[..., list[Worker]]
) -> None:
    a, b = host(2, max_size=10, workers=10)
    a.busy(9)
    for _ in range(30):
        a.lanes.keep()
    for _ in range(4):
        b.begin(SLOW)
    assert b.stats().running == 4, "busy are 4 + 9 of 20: its own level has room, the host has none"


@requests_only
def test_who_waits_sees_within_a_nap_that_another_process_gave_its_place_back(
    kind: str, host: Callable[..., list[Worker]]
) -> None:
    a, b = host(2, max_size=4, workers=8)
    a.busy(3)
    first, second = a.begin(SLOW), b.begin(SLOW)
    for _ in range(40):
        a.lanes.keep()
    call = waits(b, SLOW)
    assert b.lanes.row.table.total("waiting") == 1
    a.end(first)
    b.end(second)
    assert isinstance(call.result(), Running)


@requests_only
def test_who_holds_and_who_waits_is_seen_by_all(
    kind: str, host: Callable[..., list[Worker]]
) -> None:
    a, b = host(2, max_size=2, workers=4)
    a.begin(SLOW)
    b.begin(SLOW)
    call = waits(a, SLOW)
    a.clock.now += 2
    seen = sorted(holders(b.lanes.row.table, b.clock()), key=lambda h: h.waits)
    assert [(h.lane, h.waits, h.seconds, h.text) for h in seen] == [
        ("slow", False, 2.0, SLOW),
        ("slow", False, 2.0, SLOW),
        ("slow", True, 2.0, SLOW),
    ]
    a.clock.now += 8
    assert isinstance(call.result(), SlowLaneFull)


def test_more_statements_than_can_be_shown_are_counted_all_the_same() -> None:
    worker = Worker(max_size=100)
    runs = [worker.begin(NEW) for _ in range(20)]
    assert worker.stats("new").running == 20
    assert len(holders(worker.lanes.row.table, worker.clock())) == 16
    for running in runs:
        worker.end(running)
    assert worker.is_untouched()
    assert len(worker.lanes.row._free_cells) == 16


def test_a_process_without_a_row_goes_on_alone(tmp_path: Path) -> None:
    table = Table(tmp_path / "host.lanes")
    while table.take_row() is not None:
        pass
    worker = Worker(table)
    assert not worker.lanes.row.table.is_shared
    worker.end(worker.begin(NEW))
    assert worker.is_untouched()


# ---- the file goes ----


@requests_only
def test_a_file_that_was_removed_is_followed_with_what_runs(kind: str, tmp_path: Path) -> None:
    path, clock = tmp_path / "host.lanes", Clock()
    tables = [Table(path)]

    def find(_identity: str, _label: str) -> Table:
        if tables[-1].is_replaced():
            tables.append(Table(path))
        return tables[-1]

    worker = Worker(clock=clock, find_table=find, max_size=4).knows(SLOW, slow=True)
    running = worker.begin(SLOW)
    path.unlink()
    worker.lanes.keep()
    assert len(tables) == 1, "it looks once a second"
    clock.now += 1
    worker.lanes.keep()
    old, new = tables
    assert worker.lanes.row.table is new
    assert (old.total("lane0"), new.total("lane0")) == (0, 1)
    assert worker.stats().running == 1
    worker.end(running)
    assert worker.is_untouched()
    worker.begin(NEW)
    assert worker.stats("new").running == 1


@requests_only
def test_a_file_is_followed_even_with_more_lanes_than_there_can_be(
    kind: str, tmp_path: Path
) -> None:
    path, clock = tmp_path / "host.lanes", Clock()
    worker = Worker(clock=clock, find_table=lambda *_: Table(path), max_size=40)
    for number in range(8):
        with lane(f"lane{number}"):
            worker.end(worker.begin(FAST))
    old = worker.lanes.row.table
    path.unlink()
    clock.now += 1
    worker.lanes.keep()
    assert worker.lanes.row.table is not old


# ---- forks, and the end ----


def test_two_threads_of_a_forked_child_begin_on_the_same_new_row() -> None:
    """The child of a fork takes its row with its first statement; the second must wait for that."""
    gate, asked = threading.Event(), threading.Event()
    gate.set()

    def find(_identity: str, _label: str) -> Table:
        asked.set()
        gate.wait(5)
        return Table(None)

    worker = Worker(find_table=find)
    worker.lanes.start_over_in_child()
    gate.clear()
    asked.clear()
    first = Call(worker, NEW)
    assert asked.wait(5)
    second = Call(worker, NEW + "2")
    threading.Event().wait(0.05)
    gate.set()
    for call in (first, second):
        running = call.result()
        assert isinstance(running, Running)
        worker.lanes.done(running)
    assert worker.is_untouched()


FORK = """
import json, os
from support.fake_driver import FakeDriver
from unhang.lanes import Lanes, workers
from unhang.pool import Pool, PoolOptions, SlowLane

workers.note_request()
pool = Pool(FakeDriver(), PoolOptions(max_size=4))
lanes = Lanes(pool, SlowLane(workers=4), identity="fork", label="shop")
lanes.ledger.overran(lanes.ledger.entry_of("SELECT slow"))
held = lanes.admit("SELECT slow")
held.since = lanes.clock()
table = lanes.row.table
inside, outside = os.pipe()
if os.fork() == 0:
    workers.note_request()
    running = lanes.admit("SELECT slow")
    own = lanes.row.table
    saw = {
        "pids": [pid == os.getpid() for pid in own.columns["pid"][:2]],
        "running": list(lanes.row.running)[:2],
        "in_lanes": list(own.columns["lane0"][:2]),
    }
    os.write(outside, json.dumps(saw).encode())
    os._exit(0)
os.wait()
saw = json.loads(os.read(inside, 10_000))
with table.alone():
    saw["swept"] = table.sweep()
saw["parent"] = [table.rows(), table.total("lane0")]
lanes.done(held)
saw["end"] = table.total("lane0")
print(json.dumps(saw))
"""


def test_a_forked_child_has_a_row_of_its_own_and_the_parents_tickets_stay(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env=os.environ
        | {"UNHANG_LANES_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "pids": [False, True],
        "running": [1, 0],
        "in_lanes": [1, 1],
        "swept": 1,
        "parent": [[0], 1],
        "end": 0,
    }


def test_at_exit_the_row_is_given_back(tmp_path: Path) -> None:
    table = Table(tmp_path / "host.lanes")
    worker = Worker(table)
    assert table.rows() == [0]
    worker.lanes.close()
    assert table.rows() == []


@requests_only
def test_a_pool_that_was_closed_no_longer_counts(kind: str, tmp_path: Path) -> None:
    table = Table(tmp_path / "host.lanes")
    worker = Worker(table)
    worker.lanes.keep()
    assert table.total("capacity") == 4
    worker.pool.close()
    worker.lanes.keep()
    assert table.total("capacity") == 0


# ---- what people see ----


def test_every_decision_is_a_line_that_begins_with_the_pool_and_ends_in_its_counters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker, first = crowded(name="replica")
    with caplog.at_level(logging.DEBUG, "unhang.lanes"):
        call = waits(worker, SLOW)
        worker.clock.now += 0.5
        worker.end(first)
        running = call.result()
        assert isinstance(running, Running)
        other = waits(worker, SLOW)
        worker.clock.now += 60
        assert isinstance(other.result(), SlowLaneFull)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    said = [line.removeprefix("pool 'replica': lane slow: ") for line in lines]
    assert [line.split(":")[0] for line in said] == ["waits", "waited 0.50 s", "waits", "refused"]
    for line in said:
        assert "SELECT slow FROM t (" in line
        assert line.endswith(f"{line[line.index('max_size 4') :]}")
        assert "; max_size 4: " in line
        assert line.endswith(" waiting)")
        assert " admitted, " in line


def test_what_was_learned_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    with caplog.at_level(logging.INFO, "unhang.lanes"):
        running = worker.begin(NEW)
        worker.clock.now += 1
        worker.lanes.keep()
        worker.lanes.keep()
        worker.end(running)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("pool 'default': slow from now on, over 1 s: SELECT new FROM t (max_s")


def test_it_is_looked_after_as_long_as_there_are_connections() -> None:
    worker = Worker()
    assert worker.lanes.keep() == float("inf")
    worker.pool.lend()
    assert worker.lanes.keep() == 0.25
    assert not worker.lanes.needs_keeper


class Storing(logging.Handler):
    """Writes each record to the database, as some handlers do."""

    def __init__(self, lanes: Lanes) -> None:
        super().__init__()
        self.lanes = lanes
        self.stored = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lanes.done(self.lanes.admit(f"INSERT INTO log{self.stored} VALUES (%s)"))
        self.stored += 1


def test_a_log_handler_may_use_the_database(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    handler, logger = Storing(worker.lanes), logging.getLogger("unhang.lanes")
    caplog.set_level(logging.DEBUG, "unhang.lanes")
    logger.addHandler(handler)
    try:
        running = worker.begin(SLOW)
        worker.clock.now += 2
        worker.lanes.keep()
        worker.end(running)
    finally:
        logger.removeHandler(handler)
    assert handler.stored >= 1


def test_counts_that_an_interrupt_left_wrong_are_made_right() -> None:
    worker = Worker()
    running = worker.begin(SLOW)
    worker.lanes.row.running[0] += 3
    worker.lanes.row.waiting += 1
    worker.lanes.keep()
    assert worker.lanes.row.waiting == 0
    assert sum(worker.lanes.row.running) == 1
    worker.end(running)
    assert worker.is_untouched()
