"""The numbers of one lane."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Tally:
    """What happened in a lane since the pool was made."""

    admitted: int = 0
    waits: int = 0
    wait_seconds: float = 0.0
    refused: int = 0
    timeouts: int = 0

    def __str__(self) -> str:
        return (
            f"{self.admitted} admitted, {self.waits} waited {self.wait_seconds:.1f} s, "
            f"{self.refused} refused, {self.timeouts} timed out"
        )


@dataclass(frozen=True, slots=True)
class LaneStats:
    """Gauges of now and counters since the pool was made, of this process.

    Attributes:
        running, waiting: Statements now.
        admitted: Statements that got a place, at once or after waiting.
        waits, wait_seconds: Statements that had to wait; how long those waited that got a place.
        refused: Told at once that the lane is full.
        timeouts: Waited for a place in vain.
    """

    pool: str
    lane: str
    running: int
    waiting: int
    admitted: int
    waits: int
    wait_seconds: float
    refused: int
    timeouts: int

    @classmethod
    def of(cls, pool: str, lane: str, tally: Tally, *, running: int, waiting: int) -> LaneStats:
        """Now's numbers with the counters so far."""
        return cls(pool=pool, lane=lane, running=running, waiting=waiting, **asdict(tally))
