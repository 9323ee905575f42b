"""What an operator allows, and what is too short to be allowed."""

from __future__ import annotations

from typing import Any

import pytest

from support.surveys import a_pooled_alias, an_alias
from unhang.errors import Refused, UsageProblem
from unhang.reaper.policy import (
    HARD_FLOOR_SECONDS,
    UNKNOWNS,
    USUAL_IDLE_SECONDS,
    Policy,
    check_floor,
    unknowns,
    usual_idle,
)
from unhang.survey.model import PoolFacts


@pytest.mark.parametrize(
    ("user", "protected"),
    [
        ("root", True),
        ("Root", False),
        ("root2", False),
        ("roo", False),
        ("repl", True),
        ("repl_1", True),
        ("rep", False),
        ("Repl", False),
        ("", True),
        ("*", False),
        ("root*", False),
    ],
)
def test_a_star_protects_a_prefix_and_nothing_else(user: str, protected: bool) -> None:
    policy = Policy(frozenset({user}), protected=frozenset({"root", "repl*"}))
    assert policy.protects(user) == protected


def test_a_star_alone_protects_everybody() -> None:
    assert Policy(frozenset({"app"}), protected=frozenset({"*"})).protects("app")


def test_nothing_unknown_is_accepted_unless_it_is_said() -> None:
    assert not Policy(frozenset({"app"})).accepted
    assert unknowns([]) == frozenset()
    assert unknowns(["locks", "locks", "threads"]) == {"locks", "threads"}


@pytest.mark.parametrize("name", ["foo", "Locks", "locks,threads", "", "all", "*"])
def test_only_what_can_be_unknown_is_accepted(name: str) -> None:
    with pytest.raises(UsageProblem) as raised:
        unknowns(["locks", name])
    assert all(known in raised.value.cure for known in UNKNOWNS)


def test_the_usual_idle_time_outlasts_what_django_keeps() -> None:
    assert usual_idle([]) == USUAL_IDLE_SECONDS
    assert usual_idle([an_alias(conn_max_age=0)]) == USUAL_IDLE_SECONDS
    assert usual_idle([an_alias(conn_max_age=None)]) == USUAL_IDLE_SECONDS
    assert usual_idle([an_alias(conn_max_age=3600), an_alias("b", conn_max_age=0)]) > 3600
    assert usual_idle([a_pooled_alias(max_idle=900.0)]) >= 900


@pytest.mark.parametrize(
    "aliases",
    [
        (),
        (an_alias(conn_max_age=0),),
        (an_alias(conn_max_age=10),),
        (an_alias(conn_max_age=600),),
        (an_alias(conn_max_age=None, conn_health_checks=True),),
        (a_pooled_alias(max_idle=900.0),),
    ],
)
def test_the_usual_idle_time_is_never_refused(aliases: Any) -> None:
    check_floor(usual_idle(aliases), aliases)


def test_the_hard_floor_is_allowed_and_less_is_not() -> None:
    check_floor(HARD_FLOOR_SECONDS, [an_alias(conn_max_age=0)])
    with pytest.raises(Refused, match=r"59\.9 s idle is too short.* 60 s is the least"):
        check_floor(59.9, [an_alias(conn_max_age=0)])
    with pytest.raises(Refused):
        check_floor(5, [])


def test_what_an_alias_keeps_is_named_as_the_reason() -> None:
    aliases = [an_alias(conn_max_age=0), an_alias("slow", conn_max_age=3600)]
    with pytest.raises(Refused, match="CONN_MAX_AGE of slow is 3600 s"):
        check_floor(3600, aliases)
    with pytest.raises(Refused, match="the pool of pooled keeps connections"):
        check_floor(60, [a_pooled_alias("pooled", max_idle=900.0)])


def test_connections_that_are_kept_for_ever_and_not_tested_are_refused_at_any_time() -> None:
    with pytest.raises(Refused, match="default keeps connections for ever"):
        check_floor(1e9, [an_alias(conn_max_age=None, conn_health_checks=False)])
    check_floor(300, [an_alias(conn_max_age=None, conn_health_checks=True)])
    pooled = an_alias(conn_max_age=None, conn_health_checks=False, pool=PoolFacts(ours=False))
    check_floor(300, [pooled])
