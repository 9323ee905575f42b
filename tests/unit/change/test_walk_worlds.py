"""Whatever crashes, resumes and rollbacks come in whatever order: Django's limit stays below.

The real walk with its real journal goes through a made-up world of several servers and aliases,
dies at random moments, and is sent on or back again. The last look of `guard` is left out: the
order alone has to be safe.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unhang import timeouts
from unhang.change import apply as walking
from unhang.change import journal as journals
from unhang.change.apply import Walk
from unhang.change.order import in_safe_order
from unhang.change.plan import Plan
from unhang.change.steps import (
    AliasChange,
    ChangeParameters,
    DjangoValues,
    EditSettings,
    RestartApplication,
    SetVariable,
    Step,
    lowers_wait_timeout,
    wait_timeout_change,
)
from unhang.change.surroundings import Surroundings
from unhang.survey.model import Origin

waits = st.integers(timeouts.MIN_WAIT_TIMEOUT, 40_000)


class Crash(BaseException):
    """The process dies."""


class World:
    """Servers with their limits, aliases with all limits that some worker may run with."""

    def __init__(self, servers: Mapping[str, int], aliases: Mapping[str, tuple[str, int]]) -> None:
        self.wait = dict(servers)
        self.server_of = {alias: server for alias, (server, _age) in aliases.items()}
        self.in_file = {alias: age for alias, (_server, age) in aliases.items()}
        self.running = {alias: {age} for alias, age in self.in_file.items()}

    def apply(self, step: Step) -> None:
        change = wait_timeout_change(step)
        if isinstance(step, EditSettings):
            for one in step.changes:
                assert one.after.conn_max_age is not None
                self.in_file[one.alias] = one.after.conn_max_age
                self.running[one.alias].add(one.after.conn_max_age)  # some worker starts by itself
        elif isinstance(step, RestartApplication):
            if step.required:
                self.running = {alias: {age} for alias, age in self.in_file.items()}
        elif change is not None and isinstance(step, SetVariable | ChangeParameters):
            self.wait[step.server] = change[1]
        self.check(step)

    def check(self, step: Step) -> None:
        for alias, ages in self.running.items():
            wait = self.wait[self.server_of[alias]]
            assert all(timeouts.lets_go_first(age, wait) for age in ages), (step, alias, ages, wait)

    def state_of(self, step: Step, _targets: object, **_exact: object) -> str | None:
        if isinstance(step, RestartApplication):
            return None
        if isinstance(step, EditSettings):
            parts = {self._which(self.in_file[c.alias], c.after.conn_max_age) for c in step.changes}
            return "before" if "before" in parts else "after"
        change = wait_timeout_change(step)
        assert change is not None
        assert isinstance(step, SetVariable | ChangeParameters)
        return self._which(self.wait[step.server], change[1])

    @staticmethod
    def _which(now: object, after: object) -> str:
        return "after" if now == after else "before"


@st.composite
def changes(draw: st.DrawFn) -> tuple[World, list[Step]]:
    """A safe world, and the steps to another safe one."""
    servers = {f"db{n}": draw(waits) for n in range(draw(st.integers(1, 3)))}
    goals = {server: draw(waits) for server in servers}
    aliases: dict[str, tuple[str, int]] = {}
    edits: dict[str, list[AliasChange]] = {}
    for number in range(draw(st.integers(1, 3))):
        server = draw(st.sampled_from(sorted(servers)))
        limit = timeouts.client_limit(servers[server])
        age = draw(st.integers(0, limit))
        aliases[f"a{number}"] = (server, age)
        new = draw(st.integers(0, timeouts.client_limit(goals[server])))
        if new != age:
            change = AliasChange(f"a{number}", DjangoValues(age, True), DjangoValues(new, True))
            edits.setdefault(draw(st.sampled_from(["base.py", "prod.py"])), []).append(change)
    steps: list[Step] = [EditSettings(tuple(group), path, None) for path, group in edits.items()]
    for server, before in servers.items():
        after = goals[server]
        if after != before:
            steps.append(
                SetVariable(server, "wait_timeout", before, after, Origin("set global"))
                if draw(st.booleans())
                else ChangeParameters(
                    server, "RDS", {"wait_timeout": before}, {"wait_timeout": after}, ("x",), ("y",)
                )
            )
    return World(servers, aliases), draw(st.permutations(steps))


@settings(max_examples=100, deadline=None)
@given(changes(), st.lists(st.tuples(st.booleans(), st.integers(1, 25)), max_size=6), st.booleans())
def test_no_crash_and_no_way_out_puts_django_above_the_server(
    change: tuple[World, list[Step]], crashes: list[tuple[bool, int]], ends_forward: bool
) -> None:
    world, steps = change
    start = (dict(world.wait), dict(world.in_file))
    plan = Plan("p", "2026", "test", (), None, in_safe_order(steps))
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(walking, "state_of", world.state_of),
        mock.patch.object(walking, "facts_of", lambda _step, _targets: {}),
        mock.patch.object(walking.guard, "check", lambda *_a, **_n: None),
        mock.patch.object(os, "fsync", lambda _fd: None),
    ):
        for forward, moment in crashes:
            journal = journals.open_for(plan, Path(folder)) if not _is_back(plan, folder) else None
            if journal is None:
                break
            try:
                _go(journal, world, forward, moment)
            except Crash:
                continue
        if _is_back(plan, folder):
            ends_forward = False
        else:
            _go(journals.open_for(plan, Path(folder)), world, ends_forward, -1)
    if not ends_forward:
        assert (world.wait, world.in_file) == start
    else:
        assert all(world.state_of(s, None) == "after" for s in _doing(plan.steps))


def _is_back(plan: Plan, folder: str) -> bool:
    path = journals.path_of(plan, Path(folder))
    return path.exists() and journals.read(path).rolled_back


def _doing(steps: tuple[Step, ...]) -> list[Step]:
    return [step for step in steps if not isinstance(step, RestartApplication)]


def _go(journal: journals.Journal, world: World, forward: bool, moment: int) -> None:
    left = moment

    def tick() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crash

    def do(step: Step, _around: object) -> dict[str, Any]:
        tick()
        world.apply(step)
        tick()
        return {}

    walk = Walk(journal, _around(), after_entry=tick)
    with mock.patch.object(walking, "do", do):
        walk.forward() if forward else walk.back()


def _around() -> Any:
    return Surroundings(mock.Mock(), mock.Mock())


def edit(before: int, after: int) -> EditSettings:
    change = AliasChange("a", DjangoValues(before, True), DjangoValues(after, True))
    return EditSettings((change,), "settings.py", None)


def test_the_worlds_find_a_wrong_order() -> None:
    """The test above can fail: with the server always first it does."""

    def server_first(steps: Any) -> tuple[Step, ...]:
        return tuple(sorted(steps, key=lambda step: isinstance(step, EditSettings)))

    world = World({"db": 28_800}, {"a": ("db", 3600)})
    steps: list[Step] = [
        SetVariable("db", "wait_timeout", 28_800, 300, Origin("set global")),
        EditSettings(
            (AliasChange("a", DjangoValues(3600, True), DjangoValues(280, True)),), "s", None
        ),
    ]
    with pytest.raises(AssertionError):
        for step in server_first(steps):
            world.apply(step)
    fresh = World({"db": 28_800}, {"a": ("db", 3600)})
    for step in in_safe_order(steps):
        fresh.apply(step)


def test_a_server_that_gets_longer_and_one_that_gets_shorter_stand_at_either_end() -> None:
    steps: list[Step] = [
        ChangeParameters("up", "RDS", {"wait_timeout": 60}, {"wait_timeout": 300}, (), ()),
        SetVariable("down", "wait_timeout", 28_800, 300, Origin("set global")),
        EditSettings(
            (AliasChange("a", DjangoValues(40, True), DjangoValues(280, True)),), "s", None
        ),
    ]
    ordered = in_safe_order(reversed(steps))
    assert ordered[0] is steps[0]
    assert ordered[-1] is steps[1]
    (restart,) = (step for step in ordered if isinstance(step, RestartApplication))
    assert restart.wait_timeouts == {"down": 300}
    assert lowers_wait_timeout(ordered[-1])
