"""What a statement is told that may not run."""

from __future__ import annotations

import math
import os
import random
from typing import TYPE_CHECKING, Final

from unhang.lanes.errors import SlowLaneFull
from unhang.lanes.holders import holders
from unhang.lanes.ledger import Entry
from unhang.lanes.rules import Level
from unhang.pool.messages import error

if TYPE_CHECKING:
    from unhang.lanes.lanes import Lanes

_HOLDERS_SHOWN: Final = 3
_TEXT_SHOWN: Final = 60
_LONGEST_RETRY_SECONDS: Final = 30


def refusal(
    lanes: Lanes, entry: Entry, lane: str, levels: tuple[Level, ...], waited: float
) -> Exception:
    """A `SlowLaneFull` that says what was full, who holds it, and what to change."""
    share = lanes.share_of(lane).share
    narrow = next((level for level in levels if not level.admits(share)), levels[-1])
    where = "this process" if narrow is levels[0] else "this host"
    after = f"after {waited:.1f} s " if waited else ""
    text = (
        f"pool {lanes.pool.name!r}: no place in the lane {lane!r} {after}for "
        f"{entry.shape[:_TEXT_SHOWN]!r}: {where} is crowded ({narrow.busy:.0f} of "
        f"{narrow.capacity} connections in use), so the lane has {narrow.places(share)} and "
        f"{narrow.in_lane} run; {narrow.occupied} of {narrow.workers} workers run or wait for lanes"
    )
    if shown := _holders(lanes):
        text += f"; held by {'; '.join(shown)}"
    text += (
        ". Make the statement faster, run it where nobody waits (a task), give it more (option "
        "slow_lane: share, timeout), or name its lane; `unhang lanes` shows the rest."
    )
    made = error(lanes.pool, SlowLaneFull, text)
    made.retry_after = _retry_after(lanes, entry, narrow.places(share))  # type: ignore[attr-defined]  # the class is made by as_driver_error
    return made


def _retry_after(lanes: Lanes, entry: Entry, places: int) -> int:
    """About when a place will be free, spread out: who was refused together must not come back
    together."""
    mean = min(lanes.ledger.mean_seconds(entry) / places, _LONGEST_RETRY_SECONDS)
    return math.ceil(random.uniform(0.5, 1.5) * max(1.0, mean))  # noqa: S311 - jitter


def _holders(lanes: Lanes) -> list[str]:
    now = lanes.clock()
    running = [holder for holder in holders(lanes.row.table, now) if not holder.waits]
    running.sort(key=lambda holder: -holder.seconds)
    return [
        f"process {h.pid}{' (this one)' if h.pid == os.getpid() else ''} for {h.seconds:.1f} s "
        f"({h.text[:_TEXT_SHOWN]!r})"
        for h in running[:_HOLDERS_SHOWN]
    ]
