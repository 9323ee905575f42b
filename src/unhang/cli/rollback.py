"""`unhang rollback`: back to the values of before, in the safe order of the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from unhang.change import journal as journals
from unhang.change.apply import Walk
from unhang.change.control import Careful
from unhang.change.hold import exclusive
from unhang.change.lead import Lead
from unhang.change.order import in_safe_order
from unhang.change.surroundings import Surroundings
from unhang.change.wording import describe
from unhang.cli import options
from unhang.cli.change_options import (
    RestartCommandOption,
    RestartedOption,
    StateDirOption,
    Terminal,
    YesOption,
    find_journal,
    reached,
    require_yes,
    restart_of,
    survive_signals,
    where_it_stands,
    who,
)
from unhang.cli.output import out
from unhang.cli.rolled_back import print_left, print_rolled_back
from unhang.i18n import _

ROLLED_BACK = 6


def rollback(
    which: Annotated[
        Path | None,
        typer.Argument(metavar="[PLAN|JOURNAL]", help="Default: what was applied last."),
    ] = None,
    login: options.LoginOption = None,
    restart_command: RestartCommandOption = None,
    restarted: RestartedOption = False,
    yes: YesOption = False,
    state_dir: StateDirOption = None,
) -> None:
    """Restore what was there before: server values, option file, settings file."""
    journal = find_journal(which, state_dir)
    survive_signals()
    with exclusive(journal.path.parent.parent, who()) as hold:
        journal = journals.read(journal.path)
        journal.by = who()
        if journal.rolled_back:
            out.print(_("The plan {id} is rolled back already.").format(id=journal.plan.id))
            return
        if not journal.ever_begun():
            out.print(_("Nothing of the plan {id} was done from here.").format(id=journal.plan.id))
            print_left(journal)
            return
        steps = in_safe_order(
            (journal.plan.steps[n].inverse() for n in journal.ever_begun()), back=True
        )
        for number, step in enumerate(steps, 1):
            out.print(f"[bold]{number}.[/] {escape(describe(step))}")
        if not yes:
            require_yes(_("Only 'yes' will be accepted to roll back"))
        with reached(journal.plan, login, lenient=True) as targets:
            terminal, lead = Terminal(), Lead(targets.connections)
            lead.take()
            careful = Careful(hold, lead, None, terminal.tell)
            restart = restart_of(restart_command, restarted)
            with where_it_stands(journal):
                Walk(journal, Surroundings(targets, terminal, restart, careful)).back()
    print_rolled_back(journal)
    raise typer.Exit(ROLLED_BACK)
