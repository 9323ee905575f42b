"""What the rules say of aliases with unhang's own backend, and what they leave alone."""

from __future__ import annotations

from typing import Any

import pytest

from support.surveys import a_pooled_alias, a_server, a_sleeper, a_survey, an_alias
from unhang.rules import catalogue
from unhang.rules.model import Finding
from unhang.survey.model import PoolFacts, Survey, Workers
from unhang.survey.session import Session


def found(survey: Survey, rule: str) -> list[Finding]:
    return [finding for finding in catalogue.judge(survey) if finding.rule == rule]


def sleepers(count: int, seconds: float = 60.0, **values: Any) -> tuple[Session, ...]:
    return tuple(a_sleeper(number, seconds, **values) for number in range(1, count + 1))


def test_a_pool_with_its_defaults_has_no_findings() -> None:
    survey = a_survey(
        aliases=(a_pooled_alias(),), sessions=sleepers(4), workers=Workers(4, 16, "--workers")
    )
    assert catalogue.judge(survey) == ()


def test_a_long_wait_timeout_is_still_the_servers() -> None:
    server = a_server(wait_timeout=28_800, interactive_timeout=28_800)
    survey = a_survey(server, aliases=(a_pooled_alias(),))
    (finding,) = catalogue.judge(survey)
    assert finding.rule == "UH102"
    assert "CONN_MAX_AGE" not in finding.cure


def test_uh401_refused_options_are_told_in_the_backends_words() -> None:
    problem = "there is no pool option 'max_sise'; did you mean 'max_size'?"
    (finding,) = catalogue.judge(a_survey(aliases=(a_pooled_alias(problem=problem),)))
    assert (finding.rule, finding.severity) == ("UH401", "critical")
    assert finding.sentence.endswith(problem)
    assert "max_size" in finding.cure


@pytest.mark.parametrize("age", [280, None])
def test_uh401_a_conn_max_age_beside_the_pool_is_refused_once(age: int | None) -> None:
    alias = a_pooled_alias(alias={"conn_max_age": age})
    (finding,) = catalogue.judge(a_survey(aliases=(alias,)))
    assert finding.rule == "UH401"
    assert finding.cure == 'DATABASES["default"]["CONN_MAX_AGE"] = 0'


def test_uh401_a_pool_for_djangos_own_backend_is_refused_by_the_driver() -> None:
    alias = an_alias(pool=PoolFacts(ours=False))
    (finding,) = found(a_survey(aliases=(alias,)), "UH401")
    assert "unhang.backends.mysql" in finding.cure
    others = an_alias(pool=PoolFacts(ours=False), engine="shop.db.mysql")
    assert not found(a_survey(aliases=(others,)), "UH401")


def test_uh402_adds_up_the_pools_of_all_processes() -> None:
    aliases = (a_pooled_alias("default", max_size=20), a_pooled_alias("replica", max_size=10))
    survey = a_survey(aliases=aliases, workers=Workers(4, 2, "--workers"))
    (finding,) = found(survey, "UH402")
    assert "4 processes can open 120 connections together; 95 of the 100" in finding.sentence
    assert dict(finding.evidence)["largest max_size that fits"] == "11"
    assert finding.cure == '# DATABASES["default"]["OPTIONS"]:\n"pool": {"max_size": 11},'
    fitting = (a_pooled_alias("default", max_size=11), a_pooled_alias("replica", max_size=11))
    assert not found(a_survey(aliases=fitting, workers=Workers(4, 2, "--workers")), "UH402")


def test_uh402_leaves_room_for_others_who_are_there() -> None:
    def survey(others: int) -> Survey:
        return a_survey(
            aliases=(a_pooled_alias(max_size=20),),
            sessions=sleepers(others, user="cron"),
            workers=Workers(4, 1, "--workers"),
        )

    assert not found(survey(20), "UH402")
    (finding,) = found(survey(21), "UH402")
    assert dict(finding.evidence)["largest max_size that fits"] == "19"


def test_uh402_counts_a_thread_for_each_alias_without_a_pool() -> None:
    aliases = (a_pooled_alias("default", max_size=16), an_alias("legacy"))
    survey = a_survey(aliases=aliases, workers=Workers(4, 8, "--workers"))
    (finding,) = found(survey, "UH402")
    assert dict(finding.evidence)["largest max_size that fits"] == "15"


def test_uh402_says_so_when_it_assumes_one_process() -> None:
    (finding,) = found(a_survey(aliases=(a_pooled_alias(max_size=96),)), "UH402")
    assert "1 (assumed" in dict(finding.evidence)["processes"]
    assert not found(a_survey(aliases=(a_pooled_alias(max_size=95),)), "UH402")


def test_uh402_looks_at_the_limit_of_each_account_as_well() -> None:
    aliases = (a_pooled_alias("default"), a_pooled_alias("log", max_size=4))
    survey = a_survey(
        a_server(max_user_connections=20), aliases=aliases, workers=Workers(2, 1, "--workers")
    )
    (finding,) = found(survey, "UH402")
    assert "can open 28 connections together; 20 of the 20 max_user_connections" in finding.sentence
    assert '"max_size": 5' in finding.cure


def test_uh402_a_smaller_max_size_brings_min_size_along() -> None:
    alias = a_pooled_alias(max_size=50, min_size=40)
    (finding,) = found(a_survey(aliases=(alias,), workers=Workers(4, 1, "--workers")), "UH402")
    assert '{"max_size": 23, "min_size": 23}' in finding.cure


def test_uh402_more_processes_than_connections() -> None:
    survey = a_survey(aliases=(a_pooled_alias(max_size=2),), workers=Workers(96, 1, "--workers"))
    (finding,) = found(survey, "UH402")
    assert "SET GLOBAL max_connections = 197" in finding.cure


def test_uh302_counts_no_more_of_a_pool_than_its_size() -> None:
    aliases = (a_pooled_alias("default", max_size=5), an_alias("legacy"))
    assert not found(a_survey(aliases=aliases, workers=Workers(4, 16, "--workers")), "UH302")
    (finding,) = found(a_survey(aliases=aliases, workers=Workers(5, 16, "--workers")), "UH302")
    assert "5 processes of 16 threads can open 105 connections" in finding.sentence


def test_uh302_leaves_aliases_that_are_all_pooled_to_uh402() -> None:
    survey = a_survey(aliases=(a_pooled_alias(),), workers=Workers(40, 40, "--workers"))
    assert {finding.rule for finding in catalogue.judge(survey)} == {"UH402"}


def test_uh403_more_threads_than_connections_for_whole_requests() -> None:
    alias = a_pooled_alias(lease="request", max_size=4)
    survey = a_survey(aliases=(alias,), workers=Workers(1, 8, "--workers"))
    (finding,) = found(survey, "UH403")
    assert finding.severity == "notice"
    assert "8 threads share 4 connections" in finding.sentence
    assert not found(a_survey(aliases=(alias,), workers=Workers(1, 4, "--workers")), "UH403")


def test_uh403_sleepers_that_no_pool_keeps() -> None:
    alias = a_pooled_alias(lease="request")
    workers = Workers(4, 2, "--workers")
    (finding,) = found(a_survey(aliases=(alias,), sessions=sleepers(7), workers=workers), "UH403")
    assert dict(finding.evidence)["sleepers beyond what the pools keep"] == "3"
    assert "3 connections sleep in the hands of code" in finding.sentence
    kept = a_survey(aliases=(alias,), sessions=sleepers(4), workers=workers)
    assert not found(kept, "UH403")
    nobody_knows = a_survey(aliases=(alias,), sessions=sleepers(7))
    assert not found(nobody_knows, "UH403")


def test_uh403_is_silent_about_the_default() -> None:
    survey = a_survey(
        aliases=(a_pooled_alias(max_size=2),),
        sessions=sleepers(9),
        workers=Workers(1, 8, "--workers"),
    )
    assert not found(survey, "UH403")


@pytest.mark.parametrize(
    ("alias", "severity", "text"),
    [
        ({"init_conflicts": ("autocommit = 0",)}, "warning", "autocommit = 0"),
        ({"session_wait_timeout": 4}, "warning", "lets go after 3 s instead of 5 s"),
        ({"session_wait_timeout": 28_800}, "notice", "instead of 300 s"),
    ],
)
def test_uh404_an_init_command_against_the_pool(
    alias: dict[str, Any], severity: str, text: str
) -> None:
    (finding,) = catalogue.judge(a_survey(aliases=(a_pooled_alias(alias=alias),)))
    assert (finding.rule, finding.severity) == ("UH404", severity)
    assert text in finding.sentence


def test_uh404_is_about_the_pool_only() -> None:
    assert not found(a_survey(aliases=(a_pooled_alias(),)), "UH404")
    alias = an_alias(init_conflicts=("autocommit = 0",))
    assert not found(a_survey(aliases=(alias,)), "UH404")


def test_a_survey_with_pools_survives_json_and_is_judged_alike() -> None:
    aliases = (a_pooled_alias(alias={"init_conflicts": ("BEGIN",)}), an_alias("plain"))
    survey = a_survey(aliases=aliases, workers=Workers(40, 1, "--workers"))
    again = Survey.from_json(survey.to_json())
    assert again == survey
    assert catalogue.judge(again) == catalogue.judge(survey)


@pytest.mark.parametrize(("old", "new"), [(True, PoolFacts(ours=False)), (False, None)])
def test_a_survey_saved_before_pools_had_facts_is_read(old: bool, new: PoolFacts | None) -> None:
    saved = a_survey().to_json()
    saved["aliases"][0]["pool"] = old
    del saved["aliases"][0]["init_conflicts"]
    assert Survey.from_json(saved).aliases[0].pool == new
