"""What a lane costs a statement while there is room: known to be fast, slow, and with the rows of
many processes in the shared table. CPU time of one process, in interleaved rounds.

    make bench ARGS=lanes
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lending import Nothing
from tables import console, median, show, spread

from unhang.lanes import Lanes, workers
from unhang.lanes.table import Table
from unhang.pool import Pool, PoolOptions, SlowLane

ROUNDS, TIMES = 15, 3_000
PROCESSES = (1, 4, 64)
TARGET_MICROSECONDS = 10.0

FAST = (
    "SELECT `shop_product`.`id`, `shop_product`.`name`, `shop_product`.`price` "
    "FROM `shop_product` WHERE `shop_product`.`id` = %s LIMIT 21"
)
SLOW = "SELECT `category`, COUNT(*) FROM `shop_orderline` GROUP BY `category`"


def made(folder: str, processes: int) -> Lanes:
    """Lanes that know one fast and one slow statement, beside the rows of other processes."""
    path = Path(folder) / f"{processes}.lanes"
    others = Table(path)
    for _other in range(processes - 1):
        row = others.take_row()
        if row is None:
            raise RuntimeError("no row left")
        others.columns["capacity"][row] = others.columns["workers"][row] = 10
    pool = Pool(Nothing(), PoolOptions(), name=str(processes))
    # The same object: a second handle of the file would cost its process all its locks.
    lanes = Lanes(pool, SlowLane(), identity="bench", find_table=lambda _i, _l: others)
    fast, slow = lanes.admit(FAST), lanes.admit(SLOW)
    fast.since, slow.since = time.monotonic(), time.monotonic() - 5
    lanes.done(fast)
    lanes.done(slow)
    return lanes


def cost(statement: str, lanes: Lanes) -> float:
    """Microseconds of CPU from the question whether it may run to the report that it has."""

    def once() -> None:
        running = lanes.admit(statement)
        lanes.done(running, ok=False)

    return per_call(once)


def per_call(call: Callable[[], None]) -> float:
    began = time.process_time()
    for _turn in range(TIMES):
        call()
    return (time.process_time() - began) / TIMES * 1e6


def main() -> int:
    """Print the table; 1 if a lane costs more than it may."""
    console.rule("lanes, while there is room")
    workers.note_request(environ={})
    with tempfile.TemporaryDirectory() as folder:
        all_lanes = {processes: made(folder, processes) for processes in PROCESSES}
        found: dict[str, list[float]] = {}
        for _round in range(ROUNDS):
            for processes, lanes in all_lanes.items():
                for kind, statement in (("fast", FAST), ("slow", SLOW)):
                    name = f"{kind}, {processes} process{'es' if processes > 1 else ''}"
                    found.setdefault(name, []).append(cost(statement, lanes))
    show(
        f"µs of CPU a statement ({ROUNDS} rounds of {TIMES}): median (min … max)",
        {name: {"µs": spread(times)} for name, times in found.items()},
        {name: median(times) for name, times in found.items()},
    )
    worst = max(median(times) for times in found.values())
    word = "met   " if worst < TARGET_MICROSECONDS else "MISSED"
    console.print(f"{word} a free lane: {worst:.1f} µs (target below {TARGET_MICROSECONDS:g})")
    return 0 if worst < TARGET_MICROSECONDS else 1


if __name__ == "__main__":
    code = main()
    # The rows of the table are memory that is gone with its folder.
    os._exit(code)
