"""`unhang lanes`: which statements are slow, and who holds or waits for a place now."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from unhang.cli import options
from unhang.cli.output import Format, out, print_json
from unhang.i18n import _
from unhang.lanes.view import View, views

_SHOWN: Final = 10
_TEXT: Final = 90


def lanes(
    all_statements: Annotated[
        bool, typer.Option("--all", help="Every statement of the ledger, not the first ten.")
    ] = False,
    output: options.FormatOption = Format.TEXT,
) -> None:
    """Show the lanes of this host: the ledger of slow statements, and who holds a place now."""
    found = list(views())
    if output is Format.JSON:
        print_json("lanes", {"lanes": [view.to_json() for view in found]})
        return
    if not found:
        out.print(
            _(
                "No process of this user shares lanes on this host. They begin with the first "
                "statement of an application whose ENGINE is unhang.backends.mysql; the variable "
                "UNHANG_LANES_DIR must be the application's."
            )
        )
    for number, view in enumerate(found):
        if number:
            out.print()
        print_view(view, all_statements=all_statements)


def print_view(view: View, *, all_statements: bool) -> None:
    """One server's lanes."""
    crowded = f"[bold red]{_('crowded')}[/]" if view.is_crowded else f"[green]{_('room')}[/]"
    out.print(f"[bold]{escape(view.label)}[/]  {crowded}")
    out.print(
        _(
            "{processes} processes; {busy:.1f} of {capacity} connections in use; {waiting} of "
            "{workers} workers wait for a lane"
        ).format(
            processes=view.processes,
            busy=view.busy,
            capacity=view.capacity,
            workers=view.workers,
            waiting=view.waiting,
        )
    )
    if view.holders:
        out.print(_holders(view))
    shown = view.statements if all_statements else view.statements[:_SHOWN]
    if shown:
        out.print(_ledger(view, len(shown)))
    if len(shown) < len(view.statements):
        more = _("{n} more statements: unhang lanes --all")
        out.print(more.format(n=len(view.statements) - len(shown)), style="dim")


def _holders(view: View) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(_("lane"))
    table.add_column(_("now"))
    table.add_column(_("for"), justify="right")
    table.add_column(_("process"), justify="right")
    table.add_column(_("statement"), overflow="ellipsis", no_wrap=True, max_width=_TEXT)
    for holder in view.holders:
        now = f"[yellow]{_('waits')}[/]" if holder.waits else _("runs")
        seconds = f"{holder.seconds:.1f} s"
        table.add_row(escape(holder.lane), now, seconds, str(holder.pid), escape(holder.text))
    return table


def _ledger(view: View, count: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(_("ledger"))
    for title in (_("slow runs"), _("mean"), _("last")):
        table.add_column(title, justify="right")
    table.add_column(_("statement"), overflow="ellipsis", no_wrap=True, max_width=_TEXT)
    for statement in view.statements[:count]:
        if statement.score is None:
            word = f"[dim]{_('unknown')}[/]"
        else:
            word = f"[bold yellow]{_('slow')}[/]" if statement.is_slow else _("fast")
        table.add_row(
            word,
            str(statement.slow_runs),
            f"{statement.mean_seconds:.1f} s" if statement.slow_runs else "–",
            _("{n:.0f} s ago").format(n=statement.idle_seconds),
            escape(statement.text),
        )
    return table
