"""`unhang apply`: do what a plan says, in its order, and watch what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from unhang.change import control, promotion, steps
from unhang.change import journal as journals
from unhang.change.apply import Walk
from unhang.change.hold import exclusive
from unhang.change.lead import Lead
from unhang.change.plan import Plan, load
from unhang.change.surroundings import Surroundings
from unhang.change.targets import Targets, check_may_change
from unhang.cli import options
from unhang.cli.change_options import (
    ByHandDoneOption,
    RestartCommandOption,
    RestartedOption,
    StateDirOption,
    Terminal,
    YesOption,
    home_of,
    reached,
    require_yes,
    restart_of,
    state_folder,
    survive_signals,
    where_it_stands,
    who,
)
from unhang.cli.durations import seconds_of
from unhang.cli.output import out
from unhang.cli.plan_text import print_plan
from unhang.cli.watched import ROLLED_BACK, Watched
from unhang.errors import Refused, UsageProblem
from unhang.i18n import _

SHORTEST_WATCH: Final = 60.0
_FEWEST_WORDS: Final = 2


def apply(
    plan_file: Annotated[
        Path | None, typer.Argument(metavar="[PLAN]", help="A file that plan saved.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what was interrupted; needs no PLAN.")
    ] = False,
    watch: Annotated[
        str | None,
        typer.Option(
            "--watch", metavar="TIME", help="Watch so long afterwards; roll back if it does harm."
        ),
    ] = None,
    baseline: Annotated[
        str, typer.Option("--baseline", metavar="TIME", help="How long to look before the steps.")
    ] = "2m",
    settle: Annotated[
        str,
        typer.Option(
            "--settle", metavar="TIME", help="After a restart, slow answers prove nothing so long."
        ),
    ] = "30s",
    force: Annotated[
        str | None,
        typer.Option(
            "--force", metavar="REASON", help="Apply without the group that goes first; kept."
        ),
    ] = None,
    pause: Annotated[
        bool, typer.Option("--pause", help="Hold a running apply before its next step.")
    ] = False,
    go_on: Annotated[bool, typer.Option("--continue", help="End such a pause.")] = False,
    login: options.LoginOption = None,
    restart_command: RestartCommandOption = None,
    restarted: RestartedOption = False,
    by_hand_done: ByHandDoneOption = False,
    yes: YesOption = False,
    state_dir: StateDirOption = None,
) -> None:
    """Make the change. After an interruption: --resume goes on where it stopped."""
    if pause or go_on:
        _pause_or_go_on(pause, go_on, _folder_of(plan_file, state_dir))
        return
    if force is not None and len(force.split()) < _FEWEST_WORDS:
        raise UsageProblem(_("--force needs a reason in words: it is kept in the journal."))
    plan, folder = _plan(plan_file, resume, state_dir)
    watching = _watching(watch, baseline, settle)
    survive_signals()
    with exclusive(folder, who()) as hold, reached(plan, login) as targets:
        journals.refuse_if_rolled_back(plan, folder)
        control.check_stop_file(folder)
        if force is None and not journals.was_forced(plan, folder):
            promotion.check(plan, folder)
        _check_permissions(targets)
        print_plan(plan)
        out.print()
        if not yes:
            require_yes(_("Only 'yes' will be accepted to make this change"))
        lead = Lead(targets.connections)
        lead.take()
        journal = journals.open_for(plan, folder, who())
        if watching and journal.finished and plan.steps:
            raise Refused(
                _("The plan is applied already: a watch would have nothing to compare with."),
                cure=_("Look with unhang verify, or roll back and apply again with --watch."),
            )
        if force is not None:
            journal.write("forced", reason=force)
        terminal = Terminal()
        careful = control.Careful(hold, lead, folder, terminal.tell)
        restart = restart_of(restart_command, restarted)
        around = Surroundings(targets, terminal, restart, careful, by_hand_done=by_hand_done)
        with where_it_stands(journal):
            if watching:
                watching.run(Walk(journal, around), careful)
            else:
                Walk(journal, around).forward()
    if watching and watching.harm:
        raise typer.Exit(ROLLED_BACK)
    out.print(f"\n[green]{_('Applied.')}[/] " + _("Now: unhang verify · back: unhang rollback"))


def _folder_of(plan_file: Path | None, state_dir: Path | None) -> Path:
    plan = load(plan_file) if plan_file else None
    return state_folder(state_dir, _project(plan))


def _project(plan: Plan | None) -> Path | None:
    return home_of(plan) if plan else None


def _plan(plan_file: Path | None, resume: bool, state_dir: Path | None) -> tuple[Plan, Path]:
    """The plan to apply, and the folder of its journal."""
    if plan_file is not None:
        plan = load(plan_file)
        return plan, state_folder(state_dir, _project(plan))
    if not resume:
        raise UsageProblem(
            _("Which plan?"),
            cure=_("unhang plan saves one; unhang apply --resume goes on with the last one."),
        )
    journal = journals.newest(state_folder(state_dir))
    return journal.plan, journal.path.parent.parent


def _pause_or_go_on(pause: bool, go_on: bool, folder: Path) -> None:
    if pause and go_on:
        raise UsageProblem(_("--pause and --continue cannot be used together."))
    if pause:
        path = control.pause(folder, who())
        out.print(
            _("apply waits before its next step as long as {path} is there.").format(
                path=escape(str(path))
            )
        )
    elif control.go_on(folder):
        out.print(_("The pause is over."))
    else:
        out.print(_("Nothing was paused."))


def _watching(watch: str | None, baseline: str, settle: str) -> Watched | None:
    if watch is None:
        return None
    seconds, before = seconds_of(watch), seconds_of(baseline)
    if seconds < SHORTEST_WATCH or before < Watched.SHORTEST_BASELINE:
        raise UsageProblem(
            _("A watch of {watch:g} s after a baseline of {before:g} s proves nothing.").format(
                watch=seconds, before=before
            ),
            cure=_("The least are --watch {watch:g}s and --baseline {before:g}s.").format(
                watch=SHORTEST_WATCH, before=Watched.SHORTEST_BASELINE
            ),
        )
    return Watched(seconds, before, seconds_of(settle))


def _check_permissions(targets: Targets) -> None:
    changes = [step for step in targets.plan.steps if isinstance(step, steps.SetVariable)]
    for name in {step.server for step in changes}:
        # The way back must be open before the first step is taken.
        back = any(s.inverse().persists_another for s in changes if s.server == name)
        check_may_change(targets.connections[name], persist_only=back)
