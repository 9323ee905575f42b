"""What one pool of one process has in its lanes, in the table where the others see it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final

from unhang.lanes import workers
from unhang.lanes.ledger import Entry
from unhang.lanes.rules import CROWDED_FROM, Level
from unhang.lanes.table import CELLS, LANES, WAITS, Table
from unhang.pool import Pool

_CAPACITY_SECONDS: Final = 0.1


class Ticket:
    """A place in a lane, taken or waited for."""

    __slots__ = ("cell", "lane", "since")

    def __init__(self, lane: int, since: float) -> None:
        self.lane = lane
        self.since = since
        self.cell: int | None = None
        """Where it is shown; `None` if it is not, since all cells are taken."""


class Row:
    """Counts of one pool, and of all that share its table. Used under the lanes' lock.

    Only processes that serve requests share the host's places: the others are judged by their own
    level, and are merely shown.

    Args:
        workers: Requests that the process serves at a time; 0 to find out.
    """

    def __init__(self, pool: Pool, find_table: Callable[[], Table], workers: int) -> None:
        self.running = [0] * LANES
        self.waiting = 0
        self.fast = 0.0
        """Connections that statements without a ticket use, on average."""
        self._pool = pool
        self._workers = workers
        self._is_published = False
        self._free_cells = list(range(CELLS))
        self.table = find_table()
        number = self.table.take_row()
        if number is None:  # more processes than rows: this one is on its own
            self.table = Table(None, self.table.label)
            number = self.table.take_row() or 0
        self._use(number)

    def _use(self, number: int) -> None:
        self._number = number
        self._busy = self.table.columns["busy_milli"]
        self._lane_columns = self.table.lanes
        self._capacity_until, self._known_capacity = -math.inf, 0

    # ---- counting ----

    def take(self, ticket: Ticket, entry: Entry) -> None:
        """A statement begins to run."""
        self.count(ticket.lane, 1)
        self.show(ticket, entry)

    def give(self, ticket: Ticket) -> None:
        """It is over."""
        self.count(ticket.lane, -1)
        self.hide(ticket)

    def move(self, ticket: Ticket, lane: int, entry: Entry) -> None:
        """It goes on in another lane."""
        self.count(ticket.lane, -1)
        self.count(lane, 1)
        ticket.lane = lane
        self.show(ticket, entry)

    def count(self, lane: int, by: int) -> None:
        """So many more."""
        self.running[lane] += by
        self._pool.long_leases += by
        if self._is_published:
            self._lane_columns[lane][self._number] += by
            self._busy[self._number] += 1000 * by

    def wait(self, by: int) -> None:
        """So many more wait."""
        self.waiting += by
        if self._is_published:
            self.table.columns["waiting"][self._number] += by

    def recount(self, tickets: Iterable[Ticket], waiting: int) -> None:
        """Make the counts what they should be: an interrupt between two lines may have left them
        wrong."""
        running = [0] * LANES
        for ticket in tickets:
            running[ticket.lane] += 1
        self._pool.long_leases += sum(running) - sum(self.running)
        self.running, self.waiting = running, waiting

    def show(self, ticket: Ticket, entry: Entry, *, waits: bool = False) -> None:
        """What a place is held, or waited, for."""
        if ticket.cell is None:
            if not self._free_cells:
                return
            ticket.cell = self._free_cells.pop()
        begin = 3 * (CELLS * self._number + ticket.cell)
        cells = self.table.cells
        cells[begin + 1] = ticket.lane | (WAITS if waits else 0)
        cells[begin + 2] = int(1e9 * ticket.since)
        cells[begin] = entry.index + 1

    def hide(self, ticket: Ticket) -> None:
        """It is over."""
        if ticket.cell is not None:
            self.table.cells[3 * (CELLS * self._number + ticket.cell)] = 0
            self._free_cells.append(ticket.cell)
            ticket.cell = None

    def runs_since(self, entry: Entry) -> float | None:
        """When the oldest run of this statement began that holds a place now, here or in another
        process; `None` if there is none."""
        cells, top = self.table.cells, self.table.top()
        shown = cells[0 : 3 * CELLS * top : 3].tolist()
        wanted = entry.index + 1
        if wanted not in shown:
            return None
        begun = [
            cells[3 * place + 2] / 1e9
            for place, found in enumerate(shown)
            if found == wanted and cells[3 * place + 1] < WAITS
        ]
        return min(begun, default=None)

    def publish(self) -> None:
        """Write all of it down."""
        if not workers.serves_requests():
            return
        self._is_published = True
        columns, number = self.table.columns, self._number
        for lane in range(LANES):
            self.table.lanes[lane][number] = self.running[lane]
        own = self.process_level(0)
        columns["busy_milli"][number] = int(1000 * (own.in_lanes + self.fast))
        columns["waiting"][number] = self.waiting
        columns["capacity"][number] = own.capacity
        columns["workers"][number] = own.workers

    def publish_once(self) -> None:
        """As soon as the process serves requests."""
        if not self._is_published:
            self.publish()

    # ---- how full it is ----

    @property
    def is_shared(self) -> bool:
        """Whether the places of the whole host count."""
        return self._is_published and self.table.is_shared

    def take_if_roomy(self, ticket: Ticket, entry: Entry, now: float) -> bool:
        """Begin to run, if it is so far from crowded that looking closer is of no use.

        Counts first and looks then, without a lock: of two processes that do this at the same time
        one at least sees the other.
        """
        busy = max(self._pool.in_use, sum(self.running))
        if busy >= self._capacity() * CROWDED_FROM:
            return False
        self.count(ticket.lane, 1)
        if self.is_shared:
            others = sum(self._busy[: self.table.top()]) - self._busy[self._number]
            if busy + others / 1000 >= self._host_capacity(now) * CROWDED_FROM:
                self.count(ticket.lane, -1)
                return False
        self.show(ticket, entry)
        return True

    def _host_capacity(self, now: float) -> int:
        """Connections of the host; processes come and go slowly."""
        if now >= self._capacity_until:
            self._capacity_until = now + _CAPACITY_SECONDS
            self._known_capacity = self.table.total("capacity")
        return self._known_capacity

    def levels(self, lane: int) -> tuple[Level, ...]:
        """The process, and the host where that counts."""
        own = self.process_level(lane)
        if not self.is_shared:
            return (own,)
        table, number = self.table, self._number

        def others(column: str) -> int:
            return table.total(column) - int(table.columns[column][number])

        in_lanes = sum(others(f"lane{each}") for each in range(LANES))
        return own, Level(
            capacity=own.capacity + others("capacity"),
            busy=own.busy + others("busy_milli") / 1000,
            in_lane=own.in_lane + others(f"lane{lane}"),
            in_lanes=own.in_lanes + in_lanes,
            workers=own.workers + others("workers"),
            occupied=own.occupied + in_lanes + others("waiting"),
        )

    def process_level(self, lane: int) -> Level:
        """This process alone."""
        in_lanes = sum(self.running)
        capacity = self._capacity()
        return Level(
            capacity=capacity,
            busy=max(self._pool.in_use, in_lanes),
            in_lane=self.running[lane],
            in_lanes=in_lanes,
            workers=self._at_a_time() or 2 * capacity,
            occupied=in_lanes + self.waiting,
        )

    def _capacity(self) -> int:
        allowance = self._pool.allowance
        at_a_time = self._at_a_time()
        return min(allowance, at_a_time) if at_a_time else allowance

    def _at_a_time(self) -> int:
        return self._workers or (workers.requests_at_a_time() if self._is_published else 0)

    # ---- moving ----

    def go_to(self, new: Table, names: dict[int, str]) -> bool:
        """Go on in another table, unless lanes have other numbers there."""
        number = new.take_row()
        if number is None:
            return False
        if any(new.lane_number(name) != lane for lane, name in names.items()):
            new.give_row(number)
            return False
        old, old_number = self.table, self._number
        self.table = new
        self._use(number)
        self.publish()
        old.give_row(old_number)
        return True

    def leave(self) -> None:
        """Give the row back. What still runs is booked where nobody looks."""
        old, number = self.table, self._number
        self._is_published = False
        self.table = Table(None)
        self._use(self.table.take_row() or 0)
        old.give_row(number)

    def forget(self) -> None:
        """In a forked child: the row is the parent's."""
        self._is_published = False
        self.table.forget()
