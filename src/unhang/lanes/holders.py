"""Who holds a place in a lane now, and who waits for one."""

from __future__ import annotations

from dataclasses import dataclass

from unhang.lanes.table import CELLS, ENTRIES, WAITS, Table


@dataclass(frozen=True, slots=True)
class Holder:
    """A statement that runs, or waits, in a lane.

    Attributes:
        pid: Of its process, as that process sees itself; in a container it has another outside.
        seconds: How long it has run or waited.
    """

    pid: int
    lane: str
    waits: bool
    seconds: float
    text: str


def holders(table: Table, now: float) -> list[Holder]:
    """Of all processes of the host. A process shows 16 at most; the counters count all."""
    names = table.lane_names()
    pids, cells = table.columns["pid"], table.cells
    found = []
    for row in table.rows():
        for cell in range(CELLS):
            begin = 3 * (CELLS * row + cell)
            entry, lane, since = cells[begin] - 1, cells[begin + 1], cells[begin + 2]
            if 0 <= entry < ENTRIES:
                name = names[lane % WAITS] if lane % WAITS < len(names) else "?"
                seconds = max(0.0, now - since / 1e9)
                found.append(Holder(pids[row], name, lane >= WAITS, seconds, table.text(entry)))
    return found
