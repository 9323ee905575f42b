"""The lanes of this host as people and programs see them: what `unhang lanes` shows.

Reads the tables that the processes share; asks no server and no process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unhang.lanes import tables
from unhang.lanes.holders import Holder, holders
from unhang.lanes.ledger import Known, known
from unhang.lanes.rules import CROWDED_FROM
from unhang.lanes.table import Table


@dataclass(frozen=True, slots=True)
class View:
    """One table at one moment.

    Attributes:
        label: Account, server and database.
        processes: Those that have it open now.
        capacity: Connections that the processes which serve requests may have together.
        busy: Of these, in use.
        workers, waiting: Their workers; those of them that wait for a lane.
        running: Statements that run, by lane; of processes that serve requests.
        holders: Statements that run or wait now, of all processes.
        statements: The ledger, the slowest first.
    """

    path: str
    label: str
    processes: int
    capacity: int
    busy: float
    workers: int
    waiting: int
    running: dict[str, int]
    holders: tuple[Holder, ...]
    statements: tuple[Known, ...]

    @property
    def is_crowded(self) -> bool:
        """Whether the lanes of this host are held to their shares."""
        return self.capacity > 0 and self.busy >= self.capacity * CROWDED_FROM

    def to_json(self) -> dict[str, Any]:
        """As a document; see `docs/reference/json.md`."""
        slow = [statement.is_slow for statement in self.statements]
        document = asdict(self) | {"is_crowded": self.is_crowded}
        for statement, is_slow in zip(document["statements"], slow, strict=True):
            statement["is_slow"] = is_slow
        return document


def views() -> Iterator[View]:
    """Every table of this user on this host."""
    for path in tables.found():
        if own := tables.own(path):
            yield view(own)
            continue
        try:
            table = Table(path, make=False)
        except OSError:  # removed, or not for us
            continue
        try:
            yield view(table)
        finally:
            table.forget()


def view(table: Table, now: float | None = None) -> View:
    """One table now."""
    moment = time.monotonic() if now is None else now
    with table.alone():
        table.sweep()
        names = table.lane_names()
        return View(
            path=str(table.path or Path()),
            label=table.label,
            processes=len({table.columns["pid"][row] for row in table.rows()}),
            capacity=table.total("capacity"),
            busy=table.total("busy_milli") / 1000,
            workers=table.total("workers"),
            waiting=table.total("waiting"),
            running={
                name: table.total(f"lane{number}") for number, name in enumerate(names) if name
            },
            holders=tuple(sorted(holders(table, moment), key=lambda h: (h.waits, -h.seconds))),
            statements=tuple(known(table, moment)),
        )
