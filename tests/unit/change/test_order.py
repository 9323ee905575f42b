"""At no moment of any plan is Django's limit above the server's.

A model of the world walks through the steps: workers may run with the old settings or the new ones
from the moment the file is edited until the restart is over, and any prefix of the steps may be all
that happens (a crash), followed by a rollback.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from unhang import timeouts
from unhang.change.order import in_safe_order
from unhang.change.steps import (
    AliasChange,
    DjangoValues,
    EditSettings,
    RestartApplication,
    SetVariable,
    Step,
    WriteOptionFile,
)
from unhang.survey.model import Origin

waits = st.integers(timeouts.MIN_WAIT_TIMEOUT, 40_000)
ages = st.one_of(st.none(), st.integers(0, 40_000))


def a_change(age: int | None, wait: int, new_age: int, new_wait: int) -> list[Step]:
    steps: list[Step] = []
    if wait != new_wait:
        steps.append(SetVariable("db", "wait_timeout", wait, new_wait, Origin("set global")))
    steps.append(WriteOptionFile("db", "/x", None, "text", raises=new_wait > wait))
    if age != new_age:
        before, after = DjangoValues(age, True), DjangoValues(new_age, True)
        steps.append(EditSettings((AliasChange("default", before, after),), "/s", None))
    return steps


class World:
    """The server's limit, and every limit that some worker may run with."""

    def __init__(self, age: int | None, wait: int) -> None:
        self.wait = wait
        self.in_file = age
        self.running: set[int | None] = {age}

    def apply(self, step: Step) -> None:
        if isinstance(step, SetVariable):
            assert self.wait == step.before
            self.wait = step.after
        elif isinstance(step, EditSettings):
            self.in_file = step.changes[0].after.conn_max_age
            self.running.add(self.in_file)  # a worker may restart by itself at any time
        elif isinstance(step, RestartApplication) and step.required:
            self.running = {self.in_file}

    @property
    def safe(self) -> bool:
        return all(timeouts.lets_go_first(age, self.wait) for age in self.running)


def moments(world: World, steps: Iterable[Step]) -> Iterator[bool]:
    yield world.safe
    for step in steps:
        world.apply(step)
        yield world.safe


@given(ages, waits, waits, st.integers(0, 3), st.permutations(range(3)))
def test_a_plan_from_a_safe_start_is_safe_at_every_moment(
    age: int | None, wait: int, new_wait: int, below: int, shuffle: list[int]
) -> None:
    if not timeouts.lets_go_first(age, wait):
        age = timeouts.client_limit(wait)
    new_age = max(0, timeouts.client_limit(new_wait) - below)
    steps = a_change(age, wait, new_age, new_wait)
    shuffled = [steps[i] for i in shuffle if i < len(steps)]
    assert all(moments(World(age, wait), in_safe_order(shuffled)))


@given(ages, waits, waits)
def test_a_plan_from_an_unsafe_start_never_makes_it_worse_and_ends_safe(
    age: int | None, wait: int, new_wait: int
) -> None:
    new_age = timeouts.client_limit(new_wait)
    world = World(age, wait)
    seen = list(moments(world, in_safe_order(a_change(age, wait, new_age, new_wait))))
    first_safe = seen.index(True) if True in seen else len(seen)
    assert all(seen[first_safe:]), "once safe, it stays safe"
    world.running = {world.in_file}  # the last old worker ends some day
    assert world.safe


@given(ages, ages, waits, waits)
def test_workers_that_still_run_with_older_settings_than_the_file_are_safe_as_well(
    older: int | None, age: int | None, wait: int, new_wait: int
) -> None:
    if not timeouts.lets_go_first(older, wait):
        older = timeouts.client_limit(wait)
    if not timeouts.lets_go_first(age, wait):
        age = timeouts.client_limit(wait)
    world = World(age, wait)
    world.running.add(older)  # edited yesterday, never restarted
    steps = in_safe_order(a_change(age, wait, timeouts.client_limit(new_wait), new_wait))
    assert all(moments(world, steps))


@given(ages, waits, waits, st.lists(st.integers(0, 6), max_size=4))
def test_a_rollback_that_is_stopped_again_and_again_is_safe_at_every_moment(
    age: int | None, wait: int, new_wait: int, stops: list[int]
) -> None:
    if not timeouts.lets_go_first(age, wait):
        age = timeouts.client_limit(wait)
    steps = in_safe_order(a_change(age, wait, timeouts.client_limit(new_wait), new_wait))
    world = World(age, wait)
    assert all(moments(world, steps))
    undone: set[str] = set()
    for stop in [*stops, 99]:
        # As the walk does it: the order of all steps, and those that are undone are passed over.
        back = in_safe_order(step.inverse() for step in steps)
        for number, step in enumerate(back):
            if number >= stop:
                break
            kind = type(step).__name__
            if isinstance(step, RestartApplication) or kind not in undone:
                world.apply(step)
                undone.add(kind)
            assert world.safe
    assert (world.in_file, world.wait) == (age, wait)


@given(ages, waits, waits, st.data())
def test_a_crash_anywhere_and_a_rollback_are_safe_at_every_moment(
    age: int | None, wait: int, new_wait: int, data: st.DataObject
) -> None:
    if not timeouts.lets_go_first(age, wait):
        age = timeouts.client_limit(wait)
    steps = in_safe_order(a_change(age, wait, timeouts.client_limit(new_wait), new_wait))
    done = steps[: data.draw(st.integers(0, len(steps)))]
    world = World(age, wait)
    assert all(moments(world, done))
    back = in_safe_order(step.inverse() for step in done)
    assert all(moments(world, back))
    assert (world.in_file, world.wait) == (age, wait)


def test_lowering_goes_django_first_and_raising_goes_server_first() -> None:
    lower = in_safe_order(a_change(600, 28_800, 280, 300))
    assert [type(step).__name__ for step in lower] == [
        "EditSettings",
        "RestartApplication",
        "SetVariable",
        "WriteOptionFile",
    ]
    higher = in_safe_order(a_change(48, 60, 280, 300))
    assert [type(step).__name__ for step in higher] == [
        "SetVariable",
        "WriteOptionFile",
        "EditSettings",
        "RestartApplication",
    ]


def test_a_shorter_server_value_always_waits_for_the_application() -> None:
    for age in (0, 280, 300, None):
        steps = in_safe_order(a_change(age, 28_800, 280, 300))
        (restart,) = (step for step in steps if isinstance(step, RestartApplication))
        assert restart.required, age


def test_a_longer_server_value_does_not_wait() -> None:
    steps = in_safe_order(a_change(48, 60, 280, 300))
    (restart,) = (step for step in steps if isinstance(step, RestartApplication))
    assert not restart.required


def test_the_order_does_not_depend_on_how_the_steps_come() -> None:
    steps = a_change(None, 28_800, 280, 300)
    orders = {
        tuple(type(step).__name__ for step in in_safe_order(permuted))
        for permuted in itertools.permutations(steps)
    }
    # The variable and its option file may swap; nothing else may.
    assert len(orders) == 2
