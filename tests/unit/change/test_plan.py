"""Plans: saved, hashed, and made only for goals that are safe."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from support.surveys import a_server, a_survey, an_alias
from unhang.change import plan as plans
from unhang.change.planner import Goal, Place, make_plan, refuse_unsafe
from unhang.change.steps import EditSettings, RestartApplication, SetVariable, WriteOptionFile
from unhang.change.targets import may_set_globals
from unhang.errors import NotPermitted, Refused, UsageProblem
from unhang.survey.model import Origin
from unhang.survey.project import Project, load_settings


def a_plan(drop_in: Path | None = None) -> plans.Plan:
    server = a_server(wait_timeout=28_800, interactive_timeout=28_800)
    return make_plan([Place(a_survey(server), drop_in)], None, Goal.of())


def test_the_defaults_come_from_the_rule() -> None:
    goal = Goal.of()
    assert (goal.wait_timeout, goal.conn_max_age, goal.conn_health_checks) == (300, 280, True)
    assert Goal.of(60).conn_max_age == 48


@pytest.mark.parametrize("wait", [0, -5, 40_000_000])
def test_a_wait_timeout_that_servers_misread_is_refused(wait: int) -> None:
    with pytest.raises(UsageProblem, match="cannot be set"):
        Goal.of(wait)


@pytest.mark.parametrize(("wait", "age"), [(300, 281), (300, -1), (60, 60)])
def test_a_client_limit_that_is_not_safe_is_refused(wait: int, age: int) -> None:
    with pytest.raises(Refused, match="not safe"):
        Goal.of(wait, age)


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = a_plan(tmp_path / "zz-unhang.cnf")
    plans.save(plan, tmp_path / "plan.json")
    assert plans.load(tmp_path / "plan.json") == plan
    assert (tmp_path / "plan.json").stat().st_mode & 0o777 == 0o600


def test_a_drop_in_that_is_not_utf8_survives_the_plan(tmp_path: Path) -> None:
    drop_in = tmp_path / "zz-unhang.cnf"
    drop_in.write_bytes(b"[mysqld]\n# f\xfcr Z\xfcrich\nwait_timeout = 600\n")
    plan = a_plan(drop_in)
    (step,) = (s for s in plan.steps if isinstance(s, WriteOptionFile))
    plans.save(plan, tmp_path / "plan.json")
    assert plans.load(tmp_path / "plan.json") == plan
    assert step.before is not None
    assert step.before.encode(errors="surrogateescape") == drop_in.read_bytes()
    assert step.after is not None
    assert b"# f\xfcr Z\xfcrich" in step.after.encode(errors="surrogateescape")


def test_a_drop_in_that_cannot_be_replaced_becomes_text_to_paste(tmp_path: Path) -> None:
    drop_in = tmp_path / "zz-unhang.cnf"
    drop_in.write_text("[mysqld]\nwait_timeout = 600\n")
    os.link(drop_in, tmp_path / "another.cnf")
    (step,) = (s for s in a_plan(drop_in).steps if isinstance(s, WriteOptionFile))
    assert step.path is None
    assert step.likely_folder == str(tmp_path)
    assert step.before == drop_in.read_text()


def test_settings_that_cannot_be_replaced_are_edited_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "shop_settings.py"
    file.write_text(
        'SECRET_KEY = "x"\nDATABASES = {"default": {"ENGINE": "django.db.backends.mysql", '
        '"NAME": "app", "HOST": "db"}}\n'
    )
    settings = load_settings(Project(tmp_path, "shop_settings"))
    places = [Place(a_survey(aliases=(settings.alias("default"),)), None)]
    plan = make_plan(places, settings, Goal.of())
    (step,) = (s for s in plan.steps if isinstance(s, EditSettings))
    assert step.path == str(file)

    os.link(file, tmp_path / "another_name.py")
    plan = make_plan(places, settings, Goal.of())
    (step,) = (s for s in plan.steps if isinstance(s, EditSettings))
    assert step.path is None
    assert "hard links" in step.why
    assert [change.alias for change in step.changes] == ["default"]


def test_the_plan_of_an_older_version_was_promoted_from_one() -> None:
    plain = {k: v for k, v in a_plan().to_json().items() if k != "hash"}
    for said, expected in (("", ()), ("one", ("one",)), (["one", "two"], ("one", "two"))):
        plain["promoted_from"] = said
        read = plans.Plan.from_json(plain | {"hash": plans._hash(plain)})
        assert read.promoted_from == expected
        assert plans.Plan.from_json(read.to_json()) == read


def test_a_plan_that_was_edited_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    plans.save(a_plan(), file)
    data = json.loads(file.read_text())
    data["steps"][1]["after"] = 1
    file.write_text(json.dumps(data))
    with pytest.raises(Refused, match="edited after it was made"):
        plans.load(file)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": 2}', "no json"])
def test_what_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(UsageProblem, match="is not a plan"):
        plans.load(file)


def test_a_reached_goal_needs_no_steps() -> None:
    drop_in_is_there = a_survey(a_server(), aliases=(an_alias(),))
    steps = make_plan([Place(drop_in_is_there, None)], None, Goal.of()).steps
    assert not [step for step in steps if isinstance(step, SetVariable)]


def test_mariadb_gets_a_drop_in_and_mysql_persists(tmp_path: Path) -> None:
    mariadb = a_plan(tmp_path / "zz.cnf").steps
    assert [type(step) for step in mariadb] == [
        RestartApplication,
        SetVariable,
        SetVariable,
        WriteOptionFile,
    ]
    server = a_server(version="9.7.4", wait_timeout=28_800, interactive_timeout=28_800)
    mysql = make_plan([Place(a_survey(server), tmp_path / "zz.cnf")], None, Goal.of()).steps
    assert [type(step) for step in mysql] == [RestartApplication, SetVariable, SetVariable]
    assert all(step.persists for step in mysql if isinstance(step, SetVariable))


def test_an_out_of_reach_option_file_becomes_text_to_paste() -> None:
    (step,) = (s for s in a_plan().steps if isinstance(s, WriteOptionFile))
    assert step.path is None
    assert step.after is not None
    assert "wait_timeout = 300" in step.after


def test_a_plan_without_a_project_says_what_nobody_checked() -> None:
    server = a_server(wait_timeout=28_800)
    plan = make_plan([Place(a_survey(server, aliases=()), None)], None, Goal.of())
    assert any("within 280 s" in warning for warning in plan.warnings)


def test_two_addresses_of_one_server_are_one_server() -> None:
    server = a_server(wait_timeout=28_800, interactive_timeout=28_800)
    places = [Place(a_survey(server, aliases=(an_alias(name),)), None) for name in ("a", "b")]
    plan = make_plan(places, None, Goal.of())
    assert [target.name for target in plan.servers] == ["a, b"]
    assert sum(isinstance(step, SetVariable) for step in plan.steps) == 2


def test_all_names_of_a_server_count() -> None:
    server = a_server(wait_timeout=28_800, interactive_timeout=28_800)
    places = [
        Place(a_survey(server, aliases=()), None, target=name)
        for name in ("staging", "primary", "staging")
    ]
    plan = make_plan(places, None, Goal.of())
    (target,) = plan.servers
    assert (target.target, target.also) == ("staging", ("primary",))
    assert plan.targets == {"staging", "primary"}
    assert plans.Plan.from_json(plan.to_json()) == plan


def test_what_cannot_be_put_back_is_not_changed() -> None:
    server = a_server(version="9.7.4", wait_timeout=28_800, interactive_timeout=28_800)
    hidden = {
        name: dataclasses.replace(variable, origin=Origin("unknown"))
        for name, variable in server.variables.items()
    }
    place = Place(a_survey(dataclasses.replace(server, variables=hidden)), None)
    with pytest.raises(NotPermitted, match="What db:3306 has persisted") as refused:
        refuse_unsafe([place], Goal.of())
    assert refused.value.cure == "GRANT SELECT ON performance_schema.* TO 'root'@'%';"
    managed = dataclasses.replace(place.around, service="rds")
    refuse_unsafe([dataclasses.replace(place, around=managed)], Goal.of())


def test_a_shorter_wait_timeout_from_an_init_command_is_not_overlooked() -> None:
    alias = an_alias(session_wait_timeout=30)
    with pytest.raises(Refused, match="wait_timeout of 30 s") as refused:
        refuse_unsafe([Place(a_survey(aliases=(alias,)), None)], Goal.of())
    assert "--conn-max-age 24" in refused.value.cure
    refuse_unsafe([Place(a_survey(aliases=(alias,)), None)], Goal.of(300, 24))


@pytest.mark.parametrize(
    ("line", "may"),
    [
        ("GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION", True),
        ("GRANT PROCESS, SUPER ON *.* TO `dba`@`%`", True),
        ("GRANT SYSTEM_VARIABLES_ADMIN,PERSIST_RO_VARIABLES_ADMIN ON *.* TO `dba`@`%`", True),
        ("GRANT `admins`@`%` TO `dba`@`%`", True),
        ("GRANT PROCESS ON *.* TO `SUPERVISOR`@`%`", False),
        ("GRANT ALL PRIVILEGES ON `SUPER`.* TO `app`@`%`", False),
        ("GRANT USAGE ON *.* TO `app`@`%`", False),
    ],
)
def test_who_may_set_global_variables(line: str, may: bool) -> None:
    assert may_set_globals([line]) is may
