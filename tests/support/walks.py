"""Planning, applying and rolling back without the command's start-up time."""

from __future__ import annotations

from pathlib import Path

from support.projects import Project
from unhang.change import journal as journals
from unhang.change import plan as plans
from unhang.change.apply import Walk
from unhang.change.option_file import find_drop_in
from unhang.change.planner import Goal, Place, make_plan
from unhang.change.surroundings import Restart, Surroundings
from unhang.change.targets import Targets
from unhang.survey import login as logins
from unhang.survey.collect import survey_over, targets_of
from unhang.survey.connect import connected
from unhang.survey.project import Project as Where
from unhang.survey.project import load_settings


class Nobody:
    """No person at the terminal; remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def tell(self, text: str) -> None:
        self.said.append(text)

    def show(self, text: str) -> None: ...

    def ask(self, text: str) -> bool:
        self.said.append(text)
        return False


def plan_for(project: Project, wait_timeout: int) -> Path:
    """A saved plan of the project."""
    settings = load_settings(Where(project.directory, "conf.settings"))
    (target,) = targets_of(settings, login=logins.parse(project.login))
    with connected(target.login) as connection:
        place = Place(survey_over(connection, target), find_drop_in(connection))
    plan = make_plan([place], settings, Goal.of(wait_timeout))
    file = project.directory / "plan.json"
    plans.save(plan, file)
    return file


def walk(project: Project, plan_file: Path, verb: str) -> None:
    """Apply or roll back in this process."""
    plan = plans.load(plan_file)
    with Targets(plan, logins.parse(project.login)) as targets:
        journal = journals.open_for(plan, project.directory / ".unhang")
        steps = Walk(journal, Surroundings(targets, Nobody(), Restart(run=lambda: None)))
        steps.forward() if verb == "apply" else steps.back()
