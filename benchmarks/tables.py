"""How results are shown: a table, and the same numbers as bars."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from rich.bar import Bar
from rich.console import Console
from rich.table import Table

_TERMINAL = Console()
console = _TERMINAL if _TERMINAL.width >= 120 else Console(width=120)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all lies below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def spread(values: Sequence[float]) -> str:
    """Median, smallest and largest."""
    return f"{median(values):.2f} ({min(values):.2f} … {max(values):.2f})"


def show(title: str, rows: Mapping[str, Mapping[str, str]], bars: Mapping[str, float]) -> None:
    """One line for each contender.

    Args:
        rows: Columns by contender.
        bars: What the bar of each contender shows.
    """
    table = Table(title=title, title_justify="left", title_style="bold")
    columns = list(next(iter(rows.values())))
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("", width=30)
    longest = max(bars.values()) or 1
    for name, cells in rows.items():
        table.add_row(name, *(cells[c] for c in columns), Bar(longest, 0, bars[name], width=30))
    console.print(table)
    console.print()
