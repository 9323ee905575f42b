"""Rules about who takes the room, old timeouts, and pings; and the order of telling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.surveys import a_pooled_alias, a_server, a_sleeper, a_survey, an_alias
from unhang.rules import catalogue
from unhang.rules.model import ROLES, Finding
from unhang.survey.model import AccountLimit, Held, Survey
from unhang.survey.session import Session


def found(survey: Survey, rule: str) -> list[Finding]:
    return [finding for finding in catalogue.judge(survey) if finding.rule == rule]


def sleepers(count: int, seconds: float = 1.0, first: int = 1, **more: Any) -> tuple[Session, ...]:
    return tuple(a_sleeper(n, seconds, **more) for n in range(first, first + count))


def test_uh304_another_application() -> None:
    others = sleepers(50, user="reports")
    survey = a_survey(sessions=(*others, *sleepers(5, first=100)))
    (finding,) = catalogue.judge(survey)
    assert finding.rule == "UH304"
    assert "50 of the server's 100 connections, this application 5" in finding.sentence
    assert not found(replace(survey, sessions=others[1:]), "UH304")
    assert not found(replace(survey, aliases=()), "UH304")  # nobody said who we are


def test_uh304_needs_less_when_headroom_is_low_and_comes_before_it() -> None:
    full = a_server(status={"Threads_connected": 98})
    findings = catalogue.judge(a_survey(full, sessions=sleepers(30, user="reports")))
    assert [(f.rule, f.severity) for f in findings] == [
        ("UH304", "critical"),
        ("UH301", "critical"),
    ]


@pytest.mark.parametrize(
    ("count", "severity"), [(7, []), (8, ["warning"]), (9, ["warning"]), (10, ["critical"])]
)
def test_uh305_an_account_at_its_limit(count: int, severity: list[str]) -> None:
    survey = a_survey(sessions=sleepers(count), limits=(AccountLimit("shop", 10),))
    assert [f.severity for f in found(survey, "UH305")] == severity


def test_uh305_the_global_limit_and_none() -> None:
    survey = a_survey(a_server(max_user_connections=5), sessions=sleepers(5))
    (finding,) = found(survey, "UH305")
    assert "SET GLOBAL max_user_connections" in finding.cure
    wins = replace(survey, limits=(AccountLimit("shop", 50),))
    assert not found(wins, "UH305")
    none = a_survey(a_server(max_user_connections=0), sessions=sleepers(50))
    assert not found(none, "UH305")


def test_uh305_our_own_session_counts() -> None:
    survey = a_survey(sessions=sleepers(9), limits=(AccountLimit("shop", 10),))
    assert found(replace(survey, account="'shop'@'%'"), "UH305")[0].severity == "critical"


@pytest.mark.parametrize(
    ("seconds", "own", "count"),
    [
        (1.0, 28_800, 1),
        (1.0, 300, 0),
        (1.0, 30, 0),
        (1.0, None, 0),
        (304.0, None, 0),
        (306.0, None, 1),  # not shown, but it sleeps longer than it may
        (306.0, 300, 0),
    ],
)
def test_uh105_sessions_on_the_previous_wait_timeout(
    seconds: float, own: int | None, count: int
) -> None:
    survey = a_survey(sessions=sleepers(1, seconds, wait_timeout=own))
    assert len(found(survey, "UH105")) == count


def test_uh105_knows_the_init_command() -> None:
    alias = an_alias(conn_max_age=0, session_wait_timeout=3600)
    old = sleepers(1, 1.0, wait_timeout=3600)
    assert not found(a_survey(aliases=(alias,), sessions=old), "UH105")
    unseen = sleepers(1, 900.0)
    assert not found(a_survey(aliases=(alias,), sessions=unseen), "UH105")


def pinged(pings: int = 5000, questions: int = 100, uptime: int = 1000) -> Any:
    return a_server(status={"Com_admin_commands": pings, "Questions": questions, "Uptime": uptime})


def test_uh106_pings_that_defeat_wait_timeout() -> None:
    survey = a_survey(pinged(), sessions=sleepers(10))
    (finding,) = catalogue.judge(survey)
    assert finding.rule == "UH106"
    assert dict(finding.evidence)["each sleeper is pinged about every"] == "2 s"


@pytest.mark.parametrize(
    ("server", "sessions"),
    [
        (pinged(questions=5001), sleepers(10)),  # health checks ping at most once a request
        (pinged(pings=99, questions=1), sleepers(10)),
        (pinged(), sleepers(2)),
        (pinged(), (*sleepers(10), a_sleeper(99, 200.0))),  # nobody keeps that one awake
        (a_server(), sleepers(10)),
    ],
)
def test_uh106_leaves_alone(server: Any, sessions: tuple[Session, ...]) -> None:
    assert not found(a_survey(server, sessions=sessions), "UH106")
    assert not found(
        a_survey(pinged(), sessions=sleepers(10), aliases=(a_pooled_alias(),)), "UH106"
    )


def test_causes_are_told_before_effects_and_settings_of_the_same_severity() -> None:
    server = a_server(
        wait_timeout=28_800,
        interactive_timeout=28_800,
        status={"Threads_connected": 75},
    )
    few = sleepers(2, 60.0)
    survey = a_survey(server, sessions=few, aliases=(an_alias(conn_max_age=0),))
    assert [f.rule for f in catalogue.judge(survey)] == ["UH201", "UH301", "UH102"]


def test_among_causes_who_explains_more_is_told_first() -> None:
    others = sleepers(50, user="reports")
    survey = a_survey(
        sessions=(*others, *sleepers(2, 60.0, first=100)), aliases=(an_alias(conn_max_age=0),)
    )
    assert [f.rule for f in catalogue.judge(survey)] == ["UH304", "UH201"]


def test_every_rule_that_explains_single_sessions_is_known_and_a_cause() -> None:
    assert set(catalogue.SPECIFIC_FIRST) <= set(catalogue.RULES)
    assert all(rule.role == "cause" for rule in catalogue.SPECIFIC_FIRST)
    assert all(rule.role in ROLES for rule in catalogue.RULES)


def test_the_facts_for_these_rules_survive_json() -> None:
    survey = a_survey(
        sessions=sleepers(2, 60.0),
        limits=(AccountLimit("shop", 2),),
        logins=(0.5, 3.0),
        held=(Held(1, (411, 412)), Held(2, ())),
    )
    again = Survey.from_json(survey.to_json())
    assert again == survey
    assert [f.rule for f in catalogue.judge(again)] == ["UH305", "UH209", "UH210", "UH506"]


def test_uh105_ends_nobody_who_may_hold_a_transaction() -> None:
    sessions = (
        a_sleeper(1, 900.0),
        a_sleeper(2, 900.0, in_transaction=None),
        a_sleeper(3, 900.0, in_transaction=True),
    )
    (finding,) = found(a_survey(sessions=sessions), "UH105")
    assert "KILL 1;" in finding.cure
    assert "KILL 2;" not in finding.cure
    assert "KILL 3;" not in finding.cure
    assert "# 1 may hold a transaction" in finding.cure
