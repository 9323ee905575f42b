"""What must have gone through before: one plan, or several, in a whole group."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.surveys import a_server, a_survey
from unhang.change import journal as journals
from unhang.change import promotion
from unhang.change.plan import Plan
from unhang.change.planner import Goal, Place, make_plan
from unhang.errors import Refused

_FILE = """
[targets.web]
host = "web"
user = "dba"
[targets.mail]
host = "mail"
user = "dba"
[targets.primary]
host = "primary"
user = "dba"
[groups]
staging = ["web", "mail"]
production = ["primary"]
[promotion]
production = "staging"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "unhang.toml").write_text(_FILE)
    return tmp_path


def a_plan(folder: Path, *names: str, wait: int = 300, promoted_from: Sequence[str] = ()) -> Plan:
    """Of one server with these names, which is at its goal."""
    first, *also = names
    # The identity is the name: each target is a server of its own.
    server = dataclasses.replace(
        a_server(version="9.7.4", wait_timeout=wait, interactive_timeout=wait), identity=first
    )
    server = dataclasses.replace(
        server,
        variables={
            n: dataclasses.replace(v, persisted=v.value) for n, v in server.variables.items()
        },
    )
    place = Place(a_survey(server, aliases=()), None, target=first, also=tuple(also))
    plan = make_plan([place], None, Goal.of(wait))
    assert not plan.steps
    return dataclasses.replace(
        plan, targets_file=str(folder / "unhang.toml"), promoted_from=tuple(promoted_from)
    )


def went_through(plan: Plan, folder: Path, verdict: str = promotion.CLEAN) -> str:
    journal = journals.open_for(plan, folder)
    if verdict:
        journal.write("watched", verdict=verdict, seconds=60)
    return plan.id


def test_a_group_of_two_projects_is_promoted_by_two_plans(folder: Path) -> None:
    web, mail = (went_through(a_plan(folder, name), folder) for name in ("web", "mail"))
    promotion.check(a_plan(folder, "primary", promoted_from=[web, mail]), folder)
    with pytest.raises(Refused, match="not for all targets of staging: mail is missing"):
        promotion.check(a_plan(folder, "primary", promoted_from=[web]), folder)


@pytest.mark.parametrize(
    ("wait", "verdict", "says"),
    [
        (300, "", "not watched to the end"),
        (300, "the site got slower", "not watched to the end"),
        (200, promotion.CLEAN, "is another change"),
    ],
)
def test_each_of_several_plans_has_to_prove_it(
    folder: Path, wait: int, verdict: str, says: str
) -> None:
    web = went_through(a_plan(folder, "web"), folder)
    mail = went_through(a_plan(folder, "mail", wait=wait), folder, verdict)
    with pytest.raises(Refused, match=says):
        promotion.check(a_plan(folder, "primary", promoted_from=[web, mail]), folder)


def test_two_names_of_one_server_are_both_there(folder: Path) -> None:
    both = went_through(a_plan(folder, "web", "mail"), folder)
    promotion.check(a_plan(folder, "primary", promoted_from=[both]), folder)


def test_a_second_name_does_not_evade_the_promotion(folder: Path) -> None:
    promotion.check(a_plan(folder, "web"), folder)
    with pytest.raises(Refused, match="was not applied and watched in staging before"):
        promotion.check(a_plan(folder, "web", "primary"), folder)
