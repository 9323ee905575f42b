"""Each rule: what it finds, what it leaves alone, and the numbers it shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from support.surveys import a_server, a_sleeper, a_survey, an_alias
from unhang.rules import catalogue
from unhang.rules.model import Finding
from unhang.survey.model import PoolFacts, Survey, Workers
from unhang.survey.session import Session


def found(survey: Survey, rule: str) -> list[Finding]:
    return [finding for finding in catalogue.judge(survey) if finding.rule == rule]


def test_a_healthy_setup_has_no_findings() -> None:
    sleepers = tuple(a_sleeper(n, seconds=n * 20.0) for n in range(1, 6))
    assert catalogue.judge(a_survey(sessions=sleepers)) == ()


@pytest.mark.parametrize(
    ("age", "checks", "severity"),
    [
        (None, False, "critical"),
        (600, False, "critical"),
        (300, False, "critical"),
        (300, True, "warning"),
        (290, True, "notice"),
    ],
)
def test_uh101_conn_max_age_that_is_not_below(age: int | None, checks: bool, severity: str) -> None:
    alias = an_alias(conn_max_age=age, conn_health_checks=checks)
    (finding,) = found(a_survey(aliases=(alias,)), "UH101")
    assert finding.severity == severity
    assert '["CONN_MAX_AGE"] = 280' in finding.cure


@pytest.mark.parametrize("age", [0, 1, 280])
def test_uh101_is_silent_when_the_client_lets_go_first(age: int) -> None:
    assert not found(a_survey(aliases=(an_alias(conn_max_age=age),)), "UH101")


def test_uh101_judges_by_the_wait_timeout_of_the_init_command() -> None:
    alias = an_alias(conn_max_age=280, session_wait_timeout=30)
    (finding,) = found(a_survey(aliases=(alias,)), "UH101")
    assert dict(finding.evidence)["wait_timeout by init_command"] == "30 s"
    assert '["CONN_MAX_AGE"] = 24' in finding.cure
    longer = an_alias(conn_max_age=600, session_wait_timeout=3600)
    assert not found(a_survey(aliases=(longer,)), "UH101")


def test_uh102_names_value_origin_and_oldest_sleeper() -> None:
    server = a_server(wait_timeout=28_800, interactive_timeout=28_800)
    (finding,) = found(a_survey(server, sessions=(a_sleeper(seconds=7200),)), "UH102")
    evidence = dict(finding.evidence)
    assert evidence["wait_timeout"] == "28800 s (8 h)"
    assert evidence["its origin"] == "compiled default"
    assert evidence["oldest sleeper"] == "7200 s (2 h)"


@pytest.mark.parametrize(("wait", "count"), [(3600, 0), (3601, 1)])
def test_uh102_begins_above_an_hour(wait: int, count: int) -> None:
    server = a_server(wait_timeout=wait, interactive_timeout=wait)
    assert len(found(a_survey(server), "UH102")) == count


def test_uh103_shows_both_timeouts() -> None:
    server = a_server(interactive_timeout=28_800)
    (finding,) = found(a_survey(server), "UH103")
    assert "SET GLOBAL interactive_timeout = 300" in finding.cure


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({"conn_max_age": 280, "conn_health_checks": False}, 1),
        ({"conn_max_age": None, "conn_health_checks": False}, 1),
        ({"conn_max_age": 0, "conn_health_checks": False}, 0),
        ({"conn_max_age": 280, "conn_health_checks": True}, 0),
        ({"conn_max_age": 280, "conn_health_checks": False, "pool": PoolFacts(ours=False)}, 0),
    ],
)
def test_uh104_persistent_without_checks(values: dict[str, Any], count: int) -> None:
    assert len(found(a_survey(aliases=(an_alias(**values),)), "UH104")) == count


def sleepers_of(ages: Sequence[float], **values: Any) -> tuple[Session, ...]:
    return tuple(a_sleeper(n, age, **values) for n, age in enumerate(ages, 1))


def test_uh201_old_sleepers_with_conn_max_age_0() -> None:
    survey = a_survey(
        aliases=(an_alias(conn_max_age=0),), sessions=sleepers_of([4.9, 5.0, 60.0, 7200.0])
    )
    (finding,) = found(survey, "UH201")
    assert "3 sleepers of shop up to 7200 s (2 h) old" in finding.sentence
    assert finding.severity == "warning"


def test_uh201_is_critical_when_they_take_half_of_the_server() -> None:
    survey = a_survey(aliases=(an_alias(conn_max_age=0),), sessions=sleepers_of([60.0] * 50))
    assert found(survey, "UH201")[0].severity == "critical"


@pytest.mark.parametrize(
    ("age", "sessions"),
    [
        (280, sleepers_of([60.0] * 9)),  # workers keep these on purpose
        (0, sleepers_of([60.0])),  # may be a request that calls somebody
        (0, sleepers_of([1.0] * 30)),
        (0, sleepers_of([60.0] * 9, user="somebody else")),
    ],
)
def test_uh201_leaves_ordinary_sleepers_alone(age: int, sessions: tuple[Session, ...]) -> None:
    assert not found(a_survey(aliases=(an_alias(conn_max_age=age),), sessions=sessions), "UH201")


def test_uh202_tells_idle_in_transaction_from_idle() -> None:
    held = a_sleeper(
        7, 60.0, in_transaction=True, transaction_seconds=61.0, rows_locked=3, rows_modified=1
    )
    (finding,) = found(a_survey(sessions=(held, a_sleeper(8, 60.0))), "UH202")
    assert finding.severity == "critical"
    assert dict(finding.evidence).keys() == {"session 7"}


def test_uh202_does_not_guess_when_transactions_are_unseen() -> None:
    assert not found(a_survey(sessions=(a_sleeper(7, 60.0, in_transaction=None),)), "UH202")


@pytest.mark.parametrize(
    ("connected", "sentence", "severity"),
    [
        (90, "11 more slow queries and this server refuses connections.", "warning"),
        (91, "10 more slow queries and this server refuses connections.", "critical"),
        (100, "1 more slow query and this server refuses connections.", "critical"),
        (101, "no connection left", "critical"),
    ],
)
def test_uh301_counts_the_slow_queries_that_are_survived(
    connected: int, sentence: str, severity: str
) -> None:
    survey = a_survey(a_server(status={"Threads_connected": connected}))
    (finding,) = found(survey, "UH301")
    assert sentence in finding.sentence
    assert finding.severity == severity


def test_uh301_is_silent_with_room() -> None:
    assert not found(a_survey(a_server(status={"Threads_connected": 60})), "UH301")


def test_uh302_multiplies_processes_threads_and_aliases() -> None:
    aliases = (an_alias("default"), an_alias("replica"))
    survey = a_survey(aliases=aliases, workers=Workers(4, 16, "--workers"))
    (finding,) = found(survey, "UH302")
    assert "4 processes × 16 threads × 2 aliases can open 128 connections" in finding.sentence
    assert not found(a_survey(aliases=aliases, workers=Workers(2, 16, "--workers")), "UH302")


def test_uh303_trusts_the_counter_of_mysql() -> None:
    server = a_server(version="9.7.4", status={"Connection_errors_max_connections": 11})
    (finding,) = found(a_survey(server), "UH303")
    assert "11 clients were refused" in finding.sentence


@pytest.mark.parametrize(
    ("uptime", "connected", "severity"),
    [(3599, 5, "critical"), (7200, 90, "critical"), (7200, 5, "warning")],
)
def test_uh303_is_critical_while_it_may_go_on(uptime: int, connected: int, severity: str) -> None:
    status = {
        "Connection_errors_max_connections": 1,
        "Uptime": uptime,
        "Threads_connected": connected,
    }
    (finding,) = found(a_survey(a_server(version="9.7.4", status=status)), "UH303")
    assert finding.severity == severity
    assert "since the server started, " in finding.sentence


def test_uh303_does_not_wait_for_the_counter_that_mariadb_leaves_at_0() -> None:
    status = {
        "Connection_errors_max_connections": 0,
        "Max_used_connections": 101,
        "Aborted_connects": 25,
        "Access_denied_errors": 4,
        "Aborted_connects_preauth": 5,
    }
    (finding,) = found(a_survey(a_server(status=status)), "UH303")
    assert "up to 16 clients" in finding.sentence


@pytest.mark.parametrize(
    "status",
    [
        {"Max_used_connections": 100, "Aborted_connects": 20},  # the limit was never reached
        {"Max_used_connections": 101, "Aborted_connects": 4, "Access_denied_errors": 4},
    ],
)
def test_uh303_is_silent_when_failures_have_another_reason(status: dict[str, int]) -> None:
    assert not found(a_survey(a_server(status=status)), "UH303")


def test_findings_come_worst_first() -> None:
    survey = a_survey(
        a_server(wait_timeout=28_800, status={"Threads_connected": 99}),
        aliases=(an_alias(conn_max_age=None, conn_health_checks=False),),
    )
    severities = [finding.severity for finding in catalogue.judge(survey)]
    assert severities == sorted(severities, key=["critical", "warning", "notice"].index)
    assert len(set(severities)) == 3


def test_ids_are_unique_and_every_rule_has_a_story() -> None:
    ids = [rule.id for rule in catalogue.RULES]
    assert len(set(ids)) == len(ids)
    assert all(len(rule.story()) > 200 and rule.title for rule in catalogue.RULES)


def test_without_django_settings_only_the_server_is_judged() -> None:
    survey = a_survey(a_server(wait_timeout=28_800), aliases=(), sessions=sleepers_of([7200.0] * 9))
    assert {finding.rule for finding in catalogue.judge(survey)} == {"UH102", "UH103"}


def test_a_survey_survives_json_and_is_judged_alike() -> None:
    survey = a_survey(
        a_server(wait_timeout=28_800),
        sessions=sleepers_of([60.0]),
        workers=Workers(40, 40, "--workers"),
    )
    again = Survey.from_json(survey.to_json())
    assert again == survey
    assert catalogue.judge(again) == catalogue.judge(survey)
