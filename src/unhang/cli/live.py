"""The live picture of a server: its connections as a bar, and the last samples as rows."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unhang.i18n import _
from unhang.latency import Counters
from unhang.monitor.intervals import intervals
from unhang.monitor.refused import refused_between
from unhang.monitor.sample import Sample, Server

BAR_WIDTH: Final = 50
ROWS: Final = 12

_COLOURS: Final = (
    ("active", "green"),
    ("idle", "yellow"),
    ("held", "red"),
    ("free", "bright_black"),
)


def bar(server: Server) -> Text:
    """max_connections as a bar: active, idle, idle in transaction, free; letters beside colours."""
    held = server.idle_in_transaction or 0
    counts = {"active": server.active, "idle": server.sleepers - held, "held": held}
    counts["free"] = max(0, server.max_connections - sum(counts.values()))
    signs = {"active": "A", "idle": "s", "held": "T", "free": "·"}
    text = Text()
    for name, colour in _COLOURS:
        width = round(counts[name] * BAR_WIDTH / max(1, sum(counts.values())))
        text.append(signs[name] * (width or (1 if counts[name] else 0)), style=colour)
    return text


def legend() -> Text:
    """What the bar's letters mean."""
    return Text.assemble(
        ("A", "green"),
        f" {_('active')}  ",
        ("s", "yellow"),
        f" {_('asleep')}  ",
        ("T", "red"),
        f" {_('asleep in a transaction')}  ",
        ("·", "bright_black"),
        f" {_('free')}",
    )


class LiveTable:
    """The last samples, and what happened between them."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=ROWS + 1)

    def add(self, sample: Sample) -> None:
        """One more sample; the oldest one goes."""
        self._samples.append(sample)

    def render(self) -> RenderableType:
        """The bar, and a table of the last samples, the newest last."""
        newest = self._samples[-1]
        top: RenderableType = Text(newest.gap or "", style="red")
        if newest.server:
            used = _("{n} of {max} connections").format(
                n=newest.server.sessions, max=newest.server.max_connections
            )
            top = Text.assemble(bar(newest.server), "  ", used)
        return Group(top, legend(), self._table())

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in _titles():
            table.add_column(title, justify="right")
        known = list(self._samples)
        for before, after in pairwise(known):
            table.add_row(*_cells(before, after))
        return table

    def line(self) -> str:
        """The newest sample as one line, for logs."""
        known = list(self._samples)
        cells = _cells(known[-2] if len(known) > 1 else known[-1], known[-1])
        return "  ".join(f"{t} {c}" for t, c in zip(_titles(), cells, strict=True) if c != "–")


def _titles() -> tuple[str, ...]:
    return (
        _("time"),
        _("active"),
        _("asleep"),
        _("in trx"),
        _(">60 s"),
        _("running"),
        _("refused"),
        _("req/s"),
        "p50 ms",
        "p95 ms",
        _("errors"),
    )


def _cells(before: Sample, after: Sample) -> tuple[str, ...]:
    time = f"{after.at.astimezone():%H:%M:%S}"
    return (time, *_server_cells(before, after), *_app_cells(before, after))


def _server_cells(before: Sample, after: Sample) -> tuple[str, ...]:
    server = after.server
    if server is None:
        return (after.gap or "–", "–", "–", "–", "–", "–")
    refused = refused_between(before, after)
    held = server.idle_in_transaction
    return (
        str(server.active),
        str(server.sleepers),
        "?" if held is None else str(held),
        str(sum(server.sleepers_by_age[2:])),
        str(server.threads_running),
        "–" if refused is None else f"{'' if refused.exact else '≤'}{refused.count}",
    )


def _app_cells(before: Sample, after: Sample) -> tuple[str, ...]:
    between = intervals([before, after])
    app: Counters | None = between[0].app if between else None
    if app is None:
        return ("–", "–", "–", "–")
    seconds = max(0.001, (after.at - before.at).total_seconds())
    quantiles = (app.quantile(q) for q in (0.50, 0.95))
    return (
        f"{app.requests / seconds:.0f}",
        *("–" if q is None else f"{1000 * q:.0f}" for q in quantiles),
        str(app.server_errors),
    )
