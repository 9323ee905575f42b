"""`unhang verify`: is the change in effect, and has everybody got it?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from unhang.change import verify as verification
from unhang.change.drain import DrainingGroup
from unhang.change.verify import Verification
from unhang.cli import options
from unhang.cli.change_options import StateDirOption, find_journal, reached
from unhang.cli.output import Format, err, out, print_json, print_paste
from unhang.i18n import _, ngettext
from unhang.rules.text import seconds

NOT_VERIFIED = 5
_POLL_SECONDS = 1.0


def verify(
    which: Annotated[
        Path | None,
        typer.Argument(metavar="[PLAN|JOURNAL]", help="Default: what was applied last."),
    ] = None,
    wait: Annotated[
        float,
        typer.Option("--wait", metavar="S", help="Wait that long for the old sessions to end."),
    ] = 0.0,
    login: options.LoginOption = None,
    state_dir: StateDirOption = None,
    output: options.FormatOption = Format.TEXT,
) -> None:
    """Open a new connection, look at every value, and count the sessions from before."""
    journal = find_journal(which, state_dir)
    deadline = time.monotonic() + wait
    with reached(journal.plan, login) as targets:
        result = verification.verify(journal, targets)
        while not result.drained and time.monotonic() < deadline:
            time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
            result = verification.verify(journal, targets)
    if journal.rolled_back:
        err.print(
            _("The plan {id} was rolled back: this is not in effect any more.").format(
                id=journal.plan.id
            )
        )
    if output is Format.JSON:
        print_json("verify", {"plan": journal.plan.id, "verification": result.to_json()})
    else:
        print_verification(result)
    raise typer.Exit(0 if result.in_effect and result.drained else NOT_VERIFIED)


def print_verification(result: Verification) -> None:
    """What was looked at, and how many sessions live by the old value."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in (_("what"), _("expected"), _("found"), ""):
        table.add_column(title)
    for check in result.checks:
        mark = {
            True: f"[green]{_('ok')}[/]",
            False: f"[bold red]{_('NOT OK')}[/]",
            None: f"[yellow]{_('unknown')}[/]",
        }[check.ok]
        table.add_row(escape(check.what), check.expected, check.found, mark)
    out.print(table)
    for server in result.draining:
        if server.count:
            text = ngettext(
                "{name}: {n} session still lives by the old value (oldest asleep {oldest}).",
                "{name}: {n} sessions still live by the old value (oldest asleep {oldest}).",
                server.count,
            )
            out.print(
                f"[yellow]{text}[/]".format(
                    name=escape(server.server),
                    n=server.count,
                    oldest=seconds(round(server.oldest_seconds, 1)),
                )
            )
            left = _("If they stay asleep, the server ends the last of them in {left}.")
            out.print(left.format(left=seconds(round(server.gone_within_seconds))))
            _print_groups(server.groups)
        else:
            out.print(_("{name}: no session lives by the old value.").format(name=server.server))
        if not server.seen:
            out.print(
                _("Only sessions of this account are visible; PROCESS would show the others.")
            )
    seen = all(server.seen for server in result.draining)
    everybody = _("In effect for everybody.") if seen else _("In effect for all that is seen.")
    if any(check.ok is None for check in result.checks):
        everybody = _("In effect now; whether it outlives a restart of the server is not known.")
    verdict = (
        f"[green]{everybody}[/]"
        if result.in_effect and result.drained
        else f"[yellow]{_('In effect for new connections; not yet for all.')}[/]"
        if result.in_effect
        else f"[bold red]{_('Not in effect.')}[/]"
    )
    out.print(verdict)
    if not result.drained:
        out.print(
            _("Which of them nobody needs, and what protects the others, by the reaper's rules:")
        )
        print_paste("unhang reap --drain   # with --execute it ends the former")


def _print_groups(groups: Sequence[DrainingGroup]) -> None:
    """Whose they are."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in (_("sessions"), _("whose"), _("oldest asleep"), _("gone within"), _("busy")):
        table.add_column(title, overflow="fold")
    for group in groups:
        table.add_row(
            str(group.count),
            escape(group.owner),
            seconds(round(group.oldest_seconds, 1)),
            seconds(round(group.gone_within_seconds)),
            str(group.busy) if group.busy else "",
        )
    out.print(Padding(table, (0, 0, 0, 2)))
