"""What a pool may do when the server fills: each rule alone, and a small fleet of them."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

from unhang.lanes.headroom import Headroom

LIMIT = 300
CEILING = 270


def make(max_size: int = 10, seed: int = 1) -> Headroom:
    return Headroom(max_size, rng=random.Random(seed))


def begun(max_size: int = 10, seed: int = 1) -> Headroom:
    """One that had its first connection."""
    headroom = make(max_size, seed)
    assert headroom.keeps(0, 0)
    return headroom


def after(sessions: int, seconds: int = 60, *, max_size: int = 10, seed: int = 1) -> Headroom:
    """One that saw the same number once a second, the last time at `seconds`."""
    headroom = begun(max_size, seed)
    for now in range(seconds + 1):
        headroom.saw(sessions, LIMIT, now)
    return headroom


@pytest.mark.parametrize(("limit", "ceiling"), [(3, 1), (10, 8), (300, 270), (3_000, 2_700)])
def test_a_tenth_of_the_limit_is_left_to_others_but_2_at_least(limit: int, ceiling: int) -> None:
    headroom = make()
    assert headroom.ceiling == 0
    headroom.saw(1, limit, 0)
    assert headroom.ceiling == ceiling


def test_nothing_holds_a_pool_back_that_knows_nothing() -> None:
    headroom = make()
    assert headroom.allowance(0) == 10
    assert headroom.pause(0, 0) == 0
    assert headroom.keeps(3, 0)
    assert headroom.idle_seconds(5, 0) == 5
    assert headroom.life_seconds(0) == math.inf
    assert headroom.next_look(0) == 0


def test_until_the_first_connection_shows_how_full_it_is_there_is_no_second() -> None:
    headroom = make()
    assert headroom.pause(0, 0) == 0
    assert headroom.pause(1, 0) == math.inf
    assert headroom.keeps(0, 0)
    assert headroom.pause(1, 0) == 0


def test_a_policy_made_for_a_pool_that_has_connections_does_not_wait_for_a_first() -> None:
    assert make().pause(3, 0) == 0  # as after Pool.resize


def test_with_room_a_pool_grows_at_once_to_its_size() -> None:
    headroom = after(20)
    assert all(headroom.pause(size, 60) < 0.05 for size in range(1, 10))
    assert headroom.pause(10, 60) == math.inf


def test_growth_slows_as_the_server_fills_and_stops_at_the_ceiling() -> None:
    waits = []
    for sessions in (100, 200, 255):
        found = []
        for seed in range(200):
            headroom = begun(seed=seed)
            headroom.saw(20, LIMIT, 0)
            headroom.saw(sessions, LIMIT, 0)
            assert headroom.pause(2, 0) == 0
            found.append(headroom.pause(2, 0))
        waits.append(sum(found) / len(found))
    assert 0 < waits[0] < waits[1] / 2 < waits[2] / 4
    headroom = begun()
    headroom.saw(20, LIMIT, 0)
    headroom.saw(CEILING, LIMIT, 0)
    assert headroom.pause(1, 0) == math.inf


def test_a_pause_ends_and_asking_again_does_not_prolong_it() -> None:
    headroom = begun()
    headroom.saw(20, LIMIT, 0)
    headroom.saw(200, LIMIT, 0)
    assert headroom.pause(2, 0) == 0
    wait = headroom.pause(2, 0)
    assert headroom.pause(2, wait / 2) == pytest.approx(wait / 2)
    assert headroom.pause(2, wait + 1e-9) == 0


def test_large_pools_grow_more_slowly_than_small_ones() -> None:
    headroom = begun()
    headroom.saw(20, LIMIT, 0)
    headroom.saw(200, LIMIT, 0)
    headroom.pause(1, 0)
    assert headroom.pause(6, 0) > headroom.pause(1, 0)


def test_a_pool_without_a_connection_may_always_try() -> None:
    assert after(CEILING + 5).pause(0, 60) == 0


def test_above_the_ceiling_only_a_first_connection_has_a_chance_that_ends_at_the_limit() -> None:
    def kept(sessions: int, size: int) -> int:
        total = 0
        for seed in range(200):
            headroom = make(seed=seed)
            headroom.saw(sessions, LIMIT, 0)
            total += headroom.keeps(size, 0)
        return total

    assert kept(CEILING, 5) == kept(CEILING, 0) == 200
    assert kept(CEILING + 1, 1) == 0
    assert 45 < kept(CEILING + 10, 0) < 75  # two thirds cubed
    assert kept(LIMIT, 0) == 0


def test_who_was_not_kept_waits_longer_each_time_with_full_jitter() -> None:
    def longest(times: int) -> float:
        found = []
        for seed in range(100):
            headroom = make(seed=seed)
            for _ in range(times):
                headroom.saw(20, LIMIT, 0)  # an unknown account limit: the server has room
                headroom.refused(0, 0)
            found.append(headroom.pause(0, 0))
        assert min(found) < max(found) / 10
        return max(found)

    assert longest(1) == pytest.approx(0.5, rel=0.1)
    assert longest(2) == pytest.approx(1.0, rel=0.1)
    assert longest(9) == pytest.approx(2.0, rel=0.1)


def test_a_kept_connection_ends_the_back_off() -> None:
    headroom = make()
    for _ in range(9):
        headroom.refused(0, 0)
    headroom.saw(20, LIMIT, 5)
    assert headroom.keeps(0, 5)
    headroom.refused(0, 5)
    assert headroom.pause(0, 5) <= 0.5


def test_a_refusal_teaches_the_size_even_if_the_sessions_cannot_be_read() -> None:
    headroom = make()
    headroom.refused(4, 100)
    assert headroom.allowance(100) == 4
    assert headroom.pause(4, 102) == math.inf
    assert headroom.life_seconds(101) < 10


def test_what_a_refusal_taught_fades_slowly() -> None:
    headroom = make()
    headroom.refused(4, 100)
    assert headroom.allowance(103) == 5
    assert headroom.allowance(130) == 10
    assert headroom.life_seconds(131) == math.inf


def test_a_refusal_with_room_on_the_server_is_the_accounts_own_limit() -> None:
    headroom = make()
    headroom.saw(20, LIMIT, 0)
    headroom.refused(3, 0.1)
    assert headroom.allowance(0.1) == 3
    assert headroom.idle_seconds(5, 0.1) == 5
    assert headroom.pause(1, 3) < math.inf


def test_a_refusal_after_a_while_means_that_the_server_is_full() -> None:
    headroom = after(20, 10)
    headroom.refused(3, 16)
    assert headroom.idle_seconds(5, 16) < 5
    assert headroom.pause(2, 19) == math.inf


def test_shares_meet_wherever_they_began() -> None:
    few, many = make(), make()
    few.saw(LIMIT, LIMIT, 0)
    many.saw(0, LIMIT, 0)
    assert few.allowance(0) < 3 < 10 == many.allowance(0)
    for now in range(1, 90):
        for headroom in (few, many):
            headroom.saw(245, LIMIT, now)
    assert abs(few.allowance(90) - many.allowance(90)) <= 1
    assert many.allowance(90) <= 2


def test_the_fuller_the_server_the_smaller_the_share() -> None:
    found = [after(sessions, max_size=50).allowance(60) for sessions in (202, 220, 240, 285)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 50
    assert found[-1] == 1


def test_a_share_does_not_depend_on_the_maximum_that_a_pool_asks_for() -> None:
    assert after(245, max_size=10).allowance(60) == after(245, max_size=100).allowance(60)


def test_shares_return_when_there_is_room_again() -> None:
    headroom = after(268)
    assert headroom.allowance(60) == 1
    for now in range(61, 80):
        headroom.saw(50, LIMIT, now)
    assert headroom.allowance(80) == 10


def test_idle_connections_go_earlier_as_the_server_fills() -> None:
    found = [after(sessions).idle_seconds(5, 60) for sessions in (100, 140, 200, 243)]
    assert found[0] == 5
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0.15
    assert after(CEILING).idle_seconds(5, 60) == 0


def test_one_look_alone_lets_no_idle_connection_go() -> None:
    headroom = after(20)
    headroom.saw(LIMIT, LIMIT, 60.1)
    assert headroom.idle_seconds(5, 60.1) == 5


def test_connections_rotate_when_the_server_is_crowded_and_only_then() -> None:
    assert after(202).life_seconds(60) == math.inf
    assert 0.6 < after(CEILING).life_seconds(60) < 1.5


def test_a_pool_with_less_than_one_leaves_the_time_between_to_others() -> None:
    def rests(sessions: int) -> float:
        found = []
        for seed in range(50):
            headroom = after(sessions, seed=seed)
            headroom.closed(0, 1.0, 60)
            found.append(headroom.pause(0, 60))
        return max(found)

    assert rests(235) == 0
    assert 2 < rests(CEILING + 5) <= 10


def test_closing_one_of_several_is_no_rest() -> None:
    headroom = after(CEILING + 5)
    headroom.closed(1, 1.0, 60)
    assert headroom.pause(0, 60) == 0


def test_looks_get_rarer_with_the_sessions_of_the_server() -> None:
    headroom = make()
    headroom.saw(200, LIMIT, 0)
    assert 0.75 <= headroom.next_look(0) <= 1.25
    assert headroom.next_look(2) == 0
    headroom.saw(5_000, 10_000, 0)
    assert 7.5 <= headroom.next_look(0) <= 12.5


def test_after_the_server_was_away_a_pool_begins_with_one_and_grows_in_seconds() -> None:
    headroom = after(20)
    headroom.failed(62)
    headroom.saw(20, LIMIT, 65)  # as empty as it is right after a restart
    assert headroom.allowance(65) < 3
    for now in range(66, 71):
        headroom.saw(20, LIMIT, now)
    assert headroom.allowance(70) == 10


def test_a_pool_that_rested_while_there_was_room_may_grow_at_once() -> None:
    headroom = after(20)
    headroom.saw(20, LIMIT, 80)
    assert headroom.allowance(80) == 10


def test_while_there_is_room_for_all_looks_are_rare() -> None:
    headroom = make()
    headroom.saw(20, LIMIT, 0)
    assert 1.5 <= headroom.next_look(0) <= 2.5


def test_a_pool_without_any_keeps_one_when_its_borrower_has_waited_for_long() -> None:
    headroom = make()
    headroom.saw(LIMIT, LIMIT, 0)
    assert not any(headroom.keeps(0, 0, 2.9) for _ in range(100))
    assert headroom.keeps(0, 0, 3.0)
    assert not headroom.keeps(1, 0, 3.0)


def test_who_is_kept_waiting_gets_what_is_free_below_the_ceiling() -> None:
    headroom = after(CEILING - 5)
    assert headroom.pause(4, 60) == math.inf
    assert headroom.pause(4, 60, 1.0) < 1
    assert headroom.allowance(60, 1.0) == 10
    headroom.saw(CEILING, LIMIT, 60)
    assert headroom.pause(4, 60, 1.0) == math.inf


def test_a_look_of_long_ago_keeps_nobody_waiting() -> None:
    headroom = after(LIMIT)
    assert headroom.pause(4, 61, 1.0) == math.inf
    assert headroom.pause(4, 65, 1.0) == 0, "one connect, to see"
    assert 0 < headroom.pause(5, 65, 1.0) < 3


def test_a_first_connect_that_takes_long_holds_up_nobody() -> None:
    headroom = make()
    assert headroom.pause(0, 0) == 0
    assert headroom.pause(1, 0.9) == math.inf
    assert headroom.pause(1, 1.0) == 0


def test_a_share_from_another_moment_of_a_storm_is_brought_near_at_once() -> None:
    headroom = after(20)
    assert headroom.allowance(60) == 10
    for tenth in range(1, 46):
        headroom.saw(LIMIT, LIMIT, 60 + tenth / 10)
    assert headroom.allowance(64.5) <= 5


def test_rare_looks_lead_to_the_same_share_as_frequent_ones() -> None:
    def share(seconds: int) -> int:
        headroom = begun(50)
        headroom.saw(7_020, 10_000, 0)
        for now in range(seconds, 61, seconds):
            headroom.saw(7_400, 10_000, now)
        return headroom.allowance(60)

    assert share(1) > 3
    assert abs(share(12) - share(1)) <= 1


def test_rare_looks_do_not_throw_a_share_from_end_to_end() -> None:
    headroom = begun(50)
    headroom.saw(7_020, 10_000, 0)
    found = []
    for now in range(15, 1_501, 15):
        headroom.saw(8_000, 10_000, now)
        found.append(headroom.allowance(now))
    assert max(found[10:]) <= 2


def test_old_knowledge_neither_binds_nor_lets_all_grow_at_once() -> None:
    headroom = after(LIMIT)
    assert headroom.allowance(89) == 1
    assert headroom.pause(1, 89) == math.inf
    assert 1 < headroom.allowance(100) < 10
    assert headroom.allowance(130) == 10
    assert headroom.idle_seconds(5, 130) == 5
    assert headroom.pause(1, 130) == 0
    assert headroom.pause(2, 130) > 0


@pytest.fixture(scope="module")
def model() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "fleet_model.py"
    spec = importlib.util.spec_from_file_location("fleet_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fleet_model"] = module  # where its dataclasses look up their types
    spec.loader.exec_module(module)
    return module


def test_a_fleet_that_wants_more_than_there_is_stays_below_the_limit(model: ModuleType) -> None:
    found = model.simulate("crowded", 30, limit=90)
    assert found.peak < 1
    assert found.refused == 0
    assert found.above_seconds < 2
    assert found.jain > 0.9
    assert found.settled_seconds < 15
    assert found.in_time == 1


def test_the_same_fleet_without_headroom_is_refused(model: ModuleType) -> None:
    found = model.simulate("crowded", 30, limit=90, policy="none")
    assert found.peak == 1
    assert found.refused > 10
