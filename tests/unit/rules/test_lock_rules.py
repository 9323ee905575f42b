"""Rules about what sleepers hold and who waits, about slow queries, and about logins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.surveys import a_server, a_sleeper, a_survey, an_alias
from unhang.rules import catalogue
from unhang.rules.model import Finding
from unhang.survey.model import Survey, Workers
from unhang.survey.session import Lock, Session

TABLE = "Waiting for table metadata lock"
OPEN: dict[str, Any] = {
    "in_transaction": True,
    "transaction_seconds": 61.0,
    "rows_locked": 0,
    "rows_modified": 0,
}


def found(survey: Survey, rule: str) -> list[Finding]:
    return [finding for finding in catalogue.judge(survey) if finding.rule == rule]


def a_query(session_id: int, seconds: float = 3.0, **values: Any) -> Session:
    return replace(a_sleeper(session_id, seconds), command="Query", **values)


def test_uh501_follows_the_chain_to_the_sleeper() -> None:
    sessions = (
        a_sleeper(1, 60.0, blocks=(2,), **OPEN),
        a_query(2, 50.0, state=TABLE, blocks=(3, 4)),
        a_query(3, 40.0, state=TABLE, blocks=()),
        a_query(4, 30.0, state=TABLE, blocks=()),
        a_sleeper(5, 60.0),
    )
    findings = catalogue.judge(a_survey(sessions=sessions))
    assert [f.rule for f in findings] == ["UH501"]  # UH504 does not repeat the sleeper
    assert "3 sessions wait behind one sleeper, the longest for 50 s" in findings[0].sentence
    assert findings[0].sessions == (1, 2, 3, 4)
    assert "KILL 1;" in findings[0].cure


def test_uh501_does_not_lose_itself_in_a_circle() -> None:
    sessions = (a_sleeper(1, 60.0, blocks=(2,)), a_query(2, blocks=(1, 2)))
    assert found(a_survey(sessions=sessions), "UH501")[0].sessions == (1, 2)


def test_uh501_tells_sleepers_that_hold_up_the_same_sessions_together() -> None:
    sessions = (
        a_sleeper(1, 60.0, blocks=(4,), **OPEN),
        a_sleeper(2, 60.0, blocks=(4,), **OPEN | {"transaction_seconds": 99.0}),
        a_sleeper(3, 60.0, blocks=(4,), **OPEN),
        a_query(4, 50.0, state=TABLE, blocks=(5,)),
        a_query(5, 40.0, state=TABLE, blocks=()),
        a_sleeper(6, 60.0, blocks=(7,), **OPEN),
        a_query(7, 10.0),
    )
    several, one = found(a_survey(sessions=sessions), "UH501")
    assert "2 sessions wait behind 3 sleepers" in several.sentence
    assert "the oldest, session 2 " in several.sentence
    assert [f"KILL {n};" in several.cure for n in (1, 2, 3, 6)] == [True, True, True, False]
    assert sorted(several.sessions) == [1, 2, 3, 4, 5]
    assert one.sessions == (6, 7)


def test_uh501_follows_a_long_queue_in_no_time() -> None:
    """Each of 1,500 blocks all behind it: with a list this took minutes."""
    last = 1501
    queue = [a_query(n, state=TABLE, blocks=tuple(range(n + 1, last))) for n in range(1, last)]
    head = a_sleeper(0, 60.0, blocks=tuple(range(1, last)), **OPEN)
    (finding,) = found(a_survey(sessions=(head, *queue)), "UH501")
    assert len(finding.sessions) == last


def test_uh501_tells_many_chains_in_a_few_findings() -> None:
    holders = [a_sleeper(2 * n, 60.0, blocks=(2 * n + 1,), **OPEN) for n in range(40)]
    waiters = [a_query(2 * n + 1) for n in range(40)]
    findings = found(a_survey(sessions=(*holders, *waiters)), "UH501")
    assert len(findings) == 5
    assert {number for f in findings for number in f.sessions} == set(range(80))
    assert all(len(f.cure.splitlines()) < 30 for f in findings)


def test_uh501_suspects_where_the_server_does_not_show_it() -> None:
    sessions = (a_sleeper(1, 60.0, **OPEN), a_query(2, state=TABLE), a_sleeper(3, 60.0))
    (finding,) = found(a_survey(sessions=sessions), "UH501")
    assert "does not show for whom" in finding.sentence
    assert finding.sessions == (1, 2)
    assert "metadata_lock_info" in finding.cure


@pytest.mark.parametrize(
    "sessions",
    [
        (a_sleeper(1, 60.0, blocks=()), a_query(2)),
        (a_query(1, 60.0, blocks=(2,)), a_query(2, state=TABLE)),  # behind one that works
        (a_sleeper(1, 60.0, in_transaction=None), a_query(2, state=TABLE)),
    ],
)
def test_uh501_leaves_alone(sessions: tuple[Session, ...]) -> None:
    assert not found(a_survey(sessions=sessions), "UH501")


LOCKED = (Lock("user", "EXCLUSIVE", "close_day"),)
TABLES = (Lock("table", "SHARED_NO_READ_WRITE", "shop.item"),)


@pytest.mark.parametrize(
    ("rule", "locks", "name", "state"),
    [("UH502", LOCKED, "close_day", "User lock"), ("UH503", TABLES, "shop.item", TABLE)],
)
def test_a_sleeper_that_holds_a_lock(
    rule: str, locks: tuple[Lock, ...], name: str, state: str
) -> None:
    holder = a_sleeper(1, 60.0, locks=locks, blocks=())
    (finding,) = catalogue.judge(a_survey(sessions=(holder,)))
    assert (finding.rule, finding.severity, finding.sessions) == (rule, "warning", (1,))
    assert name in finding.sentence
    waited_for = (replace(holder, blocks=(2,)), a_query(2, state=state))
    (finding,) = catalogue.judge(a_survey(sessions=waited_for))
    assert (finding.rule, finding.severity, finding.sessions) == (rule, "critical", (1, 2))


@pytest.mark.parametrize("locks", [None, (), (Lock("metadata", "SHARED_READ", "shop.item"),)])
def test_no_lock_and_unknown_locks_are_no_finding(locks: tuple[Lock, ...] | None) -> None:
    assert not catalogue.judge(a_survey(sessions=(a_sleeper(1, 60.0, locks=locks),)))


def test_a_lock_that_was_just_taken_is_no_finding() -> None:
    assert not catalogue.judge(a_survey(sessions=(a_sleeper(1, 4.0, locks=LOCKED),)))


def test_uh502_tells_who_waits_when_nobody_sees_the_holder() -> None:
    (finding,) = catalogue.judge(
        a_survey(sessions=(a_query(1, state="User lock"), a_sleeper(2, 9)))
    )
    assert finding.rule == "UH502"
    assert "IS_USED_LOCK" in finding.cure


def test_uh502_leaves_a_holder_at_work_alone() -> None:
    sessions = (a_query(1, locks=LOCKED, blocks=(2,)), a_query(2, state="User lock", locks=()))
    assert not catalogue.judge(a_survey(sessions=sessions))


def test_uh504_names_autocommit_where_the_settings_switch_it_off() -> None:
    survey = a_survey(sessions=(a_sleeper(1, 60.0, **OPEN),), aliases=(an_alias(autocommit=False),))
    (finding,) = catalogue.judge(survey)
    assert finding.rule == "UH504"
    assert "AUTOCOMMIT is off for default" in finding.sentence
    assert finding.cure == 'DATABASES["default"]["AUTOCOMMIT"] = True'
    (finding,) = catalogue.judge(replace(survey, aliases=(an_alias(),)))
    assert "the server shows both alike" in finding.sentence


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"rows_modified": 1}, ["UH202"]),
        ({"rows_locked": 1}, ["UH202"]),
        ({"rows_modified": None}, ["UH202"]),  # unknown is not no
        ({"in_transaction": None}, []),
        ({"in_transaction": False}, []),
        ({"seconds": 4.0}, []),
    ],
)
def test_uh504_leaves_alone(change: dict[str, Any], rules: list[str]) -> None:
    session = replace(a_sleeper(1, 60.0, **OPEN), **change)
    assert [f.rule for f in catalogue.judge(a_survey(sessions=(session,)))] == rules


def test_uh505_slow_queries_on_all_workers() -> None:
    queries = tuple(a_query(n, statement="SELECT …") for n in range(1, 5))
    survey = a_survey(sessions=queries, workers=Workers(1, 4, "--workers"))
    (finding,) = catalogue.judge(survey)
    assert (finding.rule, finding.severity) == ("UH505", "critical")
    assert dict(finding.evidence)["SELECT …"] == "4 times"
    half = replace(survey, sessions=queries[:2])
    assert [f.severity for f in catalogue.judge(half)] == ["warning"]


@pytest.mark.parametrize(
    ("sessions", "workers"),
    [
        ([a_query(1)], Workers(1, 4, "")),
        ([a_query(n, 1.9) for n in range(4)], Workers(1, 4, "")),
        ([a_query(n, state=TABLE) for n in range(4)], Workers(1, 4, "")),
        ([replace(a_query(n), user="backup") for n in range(4)], Workers(1, 4, "")),
        ([a_query(n) for n in range(7)], None),
    ],
)
def test_uh505_leaves_alone(sessions: list[Session], workers: Workers | None) -> None:
    assert not found(a_survey(sessions=tuple(sessions), workers=workers), "UH505")


def test_uh505_without_a_number_of_workers() -> None:
    survey = a_survey(sessions=tuple(a_query(n) for n in range(8)))
    assert [f.severity for f in found(survey, "UH505")] == ["warning"]


@pytest.mark.parametrize(("skips", "words"), [(0, "slow DNS"), (1, "not for DNS")])
def test_uh506_clients_that_hang_while_they_connect(skips: int, words: str) -> None:
    survey = a_survey(a_server(skip_name_resolve=skips), logins=(0.1, 3.0, 4.0))
    (finding,) = catalogue.judge(survey)
    assert (finding.rule, finding.severity) == ("UH506", "warning")
    assert words in finding.sentence
    more = replace(survey, logins=(3.0, 4.0, 5.0))
    assert catalogue.judge(more)[0].severity == "critical"


@pytest.mark.parametrize("logins", [None, (), (0.9, 0.1)])
def test_uh506_leaves_alone(logins: tuple[float, ...] | None) -> None:
    assert not catalogue.judge(a_survey(logins=logins))
