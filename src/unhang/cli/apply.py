"""`unhang apply`: do what a plan says, in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unhang.change import journal as journals
from unhang.change.actions import Surroundings
from unhang.change.apply import Walk
from unhang.change.plan import load
from unhang.change.steps import SetVariable
from unhang.change.targets import Targets, check_may_change
from unhang.cli import options
from unhang.cli.change_options import (
    RestartCommandOption,
    RestartedOption,
    StateDirOption,
    Terminal,
    YesOption,
    reached,
    require_yes,
    restart_of,
    state_folder,
    who,
)
from unhang.cli.output import out
from unhang.cli.plan_text import print_plan
from unhang.i18n import _


def apply(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="A file that plan saved.")],
    login: options.LoginOption = None,
    restart_command: RestartCommandOption = None,
    restarted: RestartedOption = False,
    yes: YesOption = False,
    state_dir: StateDirOption = None,
) -> None:
    """Make the change. Run it again after an interruption: it goes on where it stopped."""
    plan = load(plan_file)
    project = Path(plan.project.directory) if plan.project else None
    folder = state_folder(state_dir, project)
    with journals.exclusive(folder, who()), reached(plan, login) as targets:
        journals.refuse_if_rolled_back(plan, folder)
        _check_permissions(targets)
        print_plan(plan)
        out.print()
        if not yes:
            require_yes(_("Only 'yes' will be accepted to make this change"))
        journal = journals.open_for(plan, folder)
        around = Surroundings(targets, Terminal(), restart_of(restart_command, restarted))
        Walk(journal, around).forward()
    out.print(f"\n[green]{_('Applied.')}[/] " + _("Now: unhang verify · back: unhang rollback"))


def _check_permissions(targets: Targets) -> None:
    for name in {s.server for s in targets.plan.steps if isinstance(s, SetVariable)}:
        check_may_change(targets.connections[name])
