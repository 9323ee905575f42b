"""Who may run: pure arithmetic on how full one process, or all of one host, are.

While there is room every statement runs. A level is crowded when half of its connections are in
use; then a lane may start another statement only up to its share. The half that slow statements may
take at most before they are held to their share is what the fast ones are left with.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Final

CROWDED_FROM: Final = 0.5
"""Share of the connections in use from which lanes are held to their shares."""

ALL_LANES: Final = 0.75
"""Of a crowded level's connections, all lanes together get so much at most, rounded up."""

WAITING_WORKERS: Final = 0.5
"""Of the workers that serve requests, so many may be busy with lanes, those included that wait."""


class Verdict(enum.Enum):
    RUN = "run"
    WAIT = "wait"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Level:
    """One process, or all processes of a host that use the same account of the same server.

    Attributes:
        capacity: Connections it may have.
        busy: Connections in use, or about to be.
        in_lane: Statements that run in the lane in question.
        in_lanes: Statements that run in any lane.
        workers: Threads or processes that serve requests; 0 where nothing does.
        occupied: Of these, how many run or wait for a statement of a lane.
    """

    capacity: int
    busy: float
    in_lane: int
    in_lanes: int
    workers: int
    occupied: int

    @property
    def is_crowded(self) -> bool:
        """Whether lanes are held to their shares."""
        return self.busy >= self.capacity * CROWDED_FROM

    def places(self, share: float) -> int:
        """How many statements a lane may run while it is crowded: one at least, so that no lane is
        closed for good."""
        return max(1, math.floor(self.capacity * share))

    def admits(self, share: float) -> bool:
        """Whether the lane may start one more statement."""
        return not self.is_crowded or (
            self.in_lane < self.places(share) and self._lanes_have_room()
        )

    def lets_scout(self) -> bool:
        """Whether it may start a statement that nobody knows, the first run of its kind."""
        return not self.is_crowded or self._lanes_have_room()

    def _lanes_have_room(self) -> bool:
        return self.in_lanes < math.ceil(self.capacity * ALL_LANES)

    def lets_wait(self, share: float) -> bool:
        """Whether one more request may wait: its worker waits with it, and does nothing else."""
        return self.occupied < max(self.places(share), math.floor(self.workers * WAITING_WORKERS))

    def lets_linger(self) -> bool:
        """Whether a stranger may wait whose like is under way: a worker must remain free. Of one or
        two workers none could."""
        return self.workers <= 2 or self.occupied + 1 < self.workers


def judge(
    levels: tuple[Level, ...],
    share: float,
    *,
    is_request: bool,
    is_stranger: bool = False,
    is_scout: bool = False,
) -> Verdict:
    """What a statement of a lane may do, by the fullest of the levels that it belongs to.

    Args:
        is_request: Somebody waits for it in front of a browser, and a worker with it.
        is_stranger: Nobody knows it.
        is_scout: Nor is another run of it under way from which to learn.
    """
    if all(level.lets_scout() if is_scout else level.admits(share) for level in levels):
        return Verdict.RUN
    if not is_request:
        return Verdict.WAIT
    may_wait = all(
        level.lets_linger() if is_stranger else level.lets_wait(share) for level in levels
    )
    return Verdict.WAIT if may_wait else Verdict.REFUSE
