"""`unhang status`: how far a change is, by its journal and by a look at the world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from unhang.change.hold import holder_of
from unhang.change.journal import Journal
from unhang.change.promotion import HARM
from unhang.change.status import Status, status_of
from unhang.cli import options
from unhang.cli.change_options import StateDirOption, find_journal, reached
from unhang.cli.output import Format, out, print_json, print_paste
from unhang.errors import CannotConnect, NotPermitted, StalePlan, UsageProblem
from unhang.i18n import _

UNFINISHED: Final = 1
BLIND: Final = 3


def status(
    which: Annotated[
        Path | None,
        typer.Argument(metavar="[PLAN|JOURNAL]", help="Default: what was applied last."),
    ] = None,
    login: options.LoginOption = None,
    state_dir: StateDirOption = None,
    output: options.FormatOption = Format.TEXT,
) -> None:
    """Say how far a change is, whether somebody else changed something, and what to do next."""
    journal = find_journal(which, state_dir)
    found = _look(journal, login)
    holder = holder_of(journal.path.parent.parent)
    if output is Format.JSON:
        print_json("status", {"status": found.to_json(), "holder": holder})
    else:
        _print(found, holder)
    if found.why_blind:
        raise typer.Exit(BLIND)
    raise typer.Exit(0 if found.clean else UNFINISHED)


def _look(journal: Journal, login: str | None) -> Status:
    try:
        with reached(journal.plan, login, lenient=True) as targets:
            return status_of(journal, targets)
    except (CannotConnect, NotPermitted, StalePlan, UsageProblem) as error:
        return status_of(journal, None, error.message)


def _print(found: Status, holder: str | None) -> None:
    out.print(_("Plan {id}: {whole}").format(id=found.plan, whole=_words(found)), style="bold")
    last = _("Last entry: {at}{by}").format(at=found.at, by=f", {found.by}" if found.by else "")
    out.print(escape(last), style="dim")
    if holder:
        out.print(_("It is being worked on now, by {holder}.").format(holder=escape(holder)))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", _("step"), _("journal"), _("now"), ""):
        table.add_column(title, overflow="fold")
    for step in found.steps:
        mark = f"[bold red]{_('DRIFT')}[/]" if step.drift else ""
        now = {"before": _("as before"), "after": _("as planned"), "other": _("neither")}
        seen = step.found or (now[step.now] if step.now else _("not looked at"))
        table.add_row(str(step.number), escape(step.text), _progress(step.progress), seen, mark)
    out.print(table)
    if found.torn:
        out.print(_("A crash cost an entry of the journal; what is there now was looked at."))
    if found.restarted is False:
        out.print(_("The application was not restarted since its settings were edited."))
    if found.paused:
        out.print(_("Paused by {path}.").format(path=escape(found.paused)))
    if found.watch_is_open:
        out.print(_("A watch was begun and did not end: nobody knows what it would have found."))
    if found.watched:
        out.print(_("Watched after the steps: {what}").format(what=escape(found.watched)))
    lost = [s for s in found.steps if s.drift and s.number in found.restarted_servers]
    if lost:
        numbers = ", ".join(str(step.number) for step in lost)
        text = _("The server was started again since, and lost step {n}: it was not durable there.")
        out.print(text.format(n=numbers))
    if found.why_blind:
        out.print(f"[yellow]{_('Not looked at:')}[/] {escape(found.why_blind)}")
    for line in _next(found):
        print_paste(line)


def _words(found: Status) -> str:
    return {
        "not begun": _("nothing was done"),
        "partly applied": _("applied in part"),
        "applied": _("applied"),
        "partly rolled back": _("rolled back in part"),
        "rolled back": _("rolled back"),
        "drifted": _("somebody else changed something since"),
    }[found.whole]


def _progress(progress: str) -> str:
    return {
        "not begun": _("not begun"),
        "begun": _("begun"),
        "done": _("done"),
        "found done": _("was so already"),
        "undo begun": _("undo begun"),
        "undone": _("undone"),
    }[progress]


def _next(found: Status) -> list[str]:
    """Commands to paste."""
    resume, back = "unhang apply --resume", "unhang rollback"
    if found.whole == "applied" and found.watched.startswith(HARM):
        return [f"{back}   # {_('it did harm, and is still in effect')}"]
    if found.whole == "drifted" and {s.number for s in found.steps if s.drift} <= set(
        found.restarted_servers
    ):
        return [f"{resume}   # {_('sets it again')}", f"{back}   # {_('or back')}"]
    return {
        "not begun": [resume],
        "partly applied": [f"{resume}   # {_('go on')}", f"{back}   # {_('or back')}"],
        "applied": [f"unhang verify   # {_('is it in effect for everybody?')}"],
        "partly rolled back": [f"{back}   # {_('finish it')}"],
        "rolled back": [],
        "drifted": [f"{back}   # {_('leaves alone what others changed')}", "unhang plan"],
    }[found.whole]
