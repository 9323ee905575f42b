"""Who may run when it is crowded: the arithmetic."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unhang.lanes.rules import Level, Verdict, judge

RUN, WAIT, REFUSE = Verdict.RUN, Verdict.WAIT, Verdict.REFUSE


def level(**changes: Any) -> Level:
    """Ten connections, twenty workers; nobody there."""
    values = {"capacity": 10, "busy": 0, "in_lane": 0, "in_lanes": 0, "workers": 20, "occupied": 0}
    return Level(**{**values, **changes})


@pytest.mark.parametrize(
    ("capacity", "busy", "crowded"),
    [(10, 4.9, False), (10, 5, True), (1, 0, False), (1, 1, True), (4, 2, True), (3, 1, False)],
)
def test_half_of_the_connections_in_use_is_crowded(
    capacity: int, busy: float, crowded: bool
) -> None:
    assert level(capacity=capacity, busy=busy).is_crowded == crowded


@pytest.mark.parametrize(
    ("capacity", "share", "places"),
    [(10, 0.25, 2), (10, 0.3, 3), (4, 0.25, 1), (1, 0.25, 1), (0, 0.25, 1), (100, 0.001, 1)],
)
def test_a_share_is_rounded_down_and_one_place_at_least(
    capacity: int, share: float, places: int
) -> None:
    assert level(capacity=capacity).places(share) == places


@pytest.mark.parametrize(
    ("of", "verdict"),
    [
        # while there is room there is no limit at all
        ({"busy": 4, "in_lane": 4, "in_lanes": 4, "occupied": 4}, RUN),
        ({"busy": 4, "in_lane": 4, "in_lanes": 4, "occupied": 20}, RUN),
        # crowded: up to the lane's share of 2
        ({"busy": 5, "in_lane": 0, "in_lanes": 0, "occupied": 0}, RUN),
        ({"busy": 9, "in_lane": 1, "in_lanes": 1, "occupied": 1}, RUN),
        ({"busy": 5, "in_lane": 2, "in_lanes": 2, "occupied": 2}, WAIT),
        # all lanes together: 8 of 10
        ({"busy": 9, "in_lane": 0, "in_lanes": 6, "occupied": 6}, RUN),
        ({"busy": 9, "in_lane": 0, "in_lanes": 8, "occupied": 8}, WAIT),
        # half of the workers wait or run already
        ({"busy": 9, "in_lane": 2, "in_lanes": 2, "occupied": 9}, WAIT),
        ({"busy": 9, "in_lane": 2, "in_lanes": 2, "occupied": 10}, REFUSE),
        # the lane's own places may be waited for even where workers are few
        ({"busy": 9, "in_lane": 2, "in_lanes": 2, "workers": 2, "occupied": 1}, WAIT),
        ({"busy": 9, "in_lane": 2, "in_lanes": 2, "workers": 2, "occupied": 2}, REFUSE),
        # one sync worker with one connection
        ({"capacity": 1, "busy": 1, "workers": 1}, RUN),
        (
            {"capacity": 1, "busy": 1, "in_lane": 1, "in_lanes": 1, "workers": 1, "occupied": 1},
            REFUSE,
        ),
    ],
)
def test_what_a_request_may_do(of: dict[str, Any], verdict: Verdict) -> None:
    assert judge((level(**of),), 0.25, is_request=True) is verdict


def test_the_fuller_level_decides() -> None:
    empty, full = level(), level(busy=9, in_lane=2, in_lanes=2, occupied=2)
    packed = level(busy=9, in_lane=2, in_lanes=2, occupied=10)
    assert judge((empty, full), 0.25, is_request=True) is WAIT
    assert judge((full, empty), 0.25, is_request=True) is WAIT
    assert judge((full, packed), 0.25, is_request=True) is REFUSE
    assert judge((empty, empty), 0.25, is_request=True) is RUN


def test_tasks_and_commands_wait_where_a_request_is_refused() -> None:
    packed = level(busy=9, in_lane=2, in_lanes=2, occupied=20)
    assert judge((packed,), 0.25, is_request=False) is WAIT


@pytest.mark.parametrize(
    ("of", "verdict"),
    [
        ({"busy": 4, "in_lane": 4, "in_lanes": 4}, RUN),
        ({"busy": 9, "in_lane": 6, "in_lanes": 6, "occupied": 6}, RUN),
        ({"busy": 9, "in_lane": 8, "in_lanes": 8, "occupied": 8}, WAIT),
        ({"busy": 9, "in_lane": 8, "in_lanes": 8, "occupied": 10}, REFUSE),
    ],
)
def test_a_scout_may_take_what_all_lanes_together_may(of: dict[str, Any], verdict: Verdict) -> None:
    assert judge((level(**of),), 0.25, is_request=True, is_scout=True) is verdict


levels = st.builds(
    Level,
    capacity=st.integers(1, 200),
    busy=st.floats(0, 250),
    in_lane=st.integers(0, 200),
    in_lanes=st.integers(0, 200),
    workers=st.integers(0, 400),
    occupied=st.integers(0, 400),
)
shares = st.floats(0.001, 0.999)


@given(found=st.lists(levels, min_size=1, max_size=3), share=shares, is_request=st.booleans())
def test_crowded_nothing_starts_beyond_a_share(
    found: list[Level], share: float, is_request: bool
) -> None:
    verdict = judge(tuple(found), share, is_request=is_request)
    for one in found:
        if verdict is RUN and one.is_crowded:
            assert one.in_lane + 1 <= max(1, math.floor(one.capacity * share))
            assert one.in_lanes + 1 <= math.ceil(one.capacity * 0.75)


@given(found=levels, share=shares, is_request=st.booleans())
def test_uncrowded_everything_runs(found: Level, share: float, is_request: bool) -> None:
    if not found.is_crowded:
        assert judge((found,), share, is_request=is_request) is RUN


@given(
    capacity=st.integers(1, 200),
    busy=st.floats(0, 250),
    workers=st.integers(0, 400),
    share=shares,
    is_request=st.booleans(),
)
def test_one_place_is_always_there(
    capacity: int, busy: float, workers: int, share: float, is_request: bool
) -> None:
    alone = level(capacity=capacity, busy=busy, workers=workers)
    assert judge((alone,), share, is_request=is_request) is RUN


@settings(max_examples=100)
@given(
    capacity=st.integers(1, 30),
    share=shares,
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 30)), max_size=80),
)
def test_slow_ones_alone_never_take_more_than_half_or_their_share(
    capacity: int, share: float, steps: list[tuple[bool, float]]
) -> None:
    """Whatever the fast ones do meanwhile, and in whatever order slow ones come and go."""
    running = 0
    for comes, fast in steps:
        if not comes:
            running = max(0, running - 1)
            continue
        now = level(
            capacity=capacity, busy=fast + running, in_lane=running, in_lanes=running, occupied=0
        )
        if judge((now,), share, is_request=True) is RUN:
            running += 1
        assert running <= max(1, math.ceil(capacity / 2), math.floor(capacity * share))
