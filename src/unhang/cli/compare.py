"""`unhang compare`: two periods of the history side by side, with a verdict that knows noise."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from unhang.cli import options
from unhang.cli.change_options import StateDirOption, state_folder
from unhang.cli.output import Format, out, print_json
from unhang.cli.watch import HISTORY
from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.monitor import compare as comparing
from unhang.monitor.compare import Comparison, Row
from unhang.monitor.history import History
from unhang.monitor.metrics import METRICS, label
from unhang.monitor.sample import Sample

_STYLES: Final = {"better": "green", "worse": "bold red"}


def compare(
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="A mark, or START/END as ISO 8601 times.")
    ],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The same.")],
    history_file: Annotated[
        Path | None, typer.Option("--history", metavar="FILE", help="Default: in the state folder.")
    ] = None,
    project: options.ProjectOption = None,
    state_dir: StateDirOption = None,
    output: options.FormatOption = Format.TEXT,
) -> None:
    """Compare two periods: what changed, how sure that is, better or worse."""
    path = history_file or state_folder(state_dir, project) / HISTORY
    if not path.is_file():
        raise UsageProblem(
            _("There is no history {path}.").format(path=path),
            cure="unhang watch --mark before --for 300",
        )
    with History(path) as history:
        result = comparing.compare(_period(history, before), _period(history, after))
    if output is Format.JSON:
        print_json("compare", {"comparison": result.to_json()})
    else:
        print_comparison(result)
    raise typer.Exit(1 if any(row.verdict == "worse" for row in result.rows) else 0)


def _period(history: History, text: str) -> list[Sample]:
    start, slash, end = text.partition("/")
    if not slash:
        return history.marked(text)
    try:
        times = [datetime.fromisoformat(part).astimezone() for part in (start, end)]
    except ValueError:
        raise UsageProblem(
            _("{text} is neither a mark nor START/END.").format(text=text),
            cure=_("Example: 2026-03-01T10:00/2026-03-01T11:00"),
        ) from None
    return history.window(*times)


def print_comparison(result: Comparison) -> None:
    """The table, and what its words mean."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for title in (_("before"), _("after"), _("difference"), _("95 % interval")):
        table.add_column(title, justify="right")
    table.add_column(_("verdict"))
    for row in result.rows:
        style = _STYLES.get(row.verdict, "dim")
        table.add_row(label(row.metric), *_numbers(row), f"[{style}]{escape(_(row.verdict))}[/]")
    out.print(table)
    sides = ((_("before"), result.before), (_("after"), result.after))
    out.print(
        " · ".join(
            _("{side}: {n} samples").format(side=side, n=period.samples)
            + (_(", {n} gaps").format(n=period.gaps) if period.gaps else "")
            for side, period in sides
        ),
        style="dim",
    )


def _numbers(row: Row) -> tuple[str, str, str, str]:
    low, high = row.interval or (None, None)
    between = "–" if row.interval is None else f"{_value(row, low)} … {_value(row, high)}"
    return _value(row, row.before), _value(row, row.after), _value(row, row.difference), between


def _value(row: Row, value: float | None) -> str:
    if value is None:
        return "–"
    if METRICS[row.metric].unit == "seconds":
        return f"{1000 * value:.1f} ms"
    return f"{value:.1f}"
