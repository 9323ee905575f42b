"""The demo's last act: many open a slow report at the same time. Who else still gets a page?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from unhang.lab.arrivals import Arrival, Page, schedule
from unhang.lab.load import Answer, Waits

IN_TIME_SECONDS: Final = 0.5
"""A page that is there by then has come in time."""

LEAD_SECONDS: Final = 3.0
"""Visitors before the first report, as on any day."""

REPORT_SECONDS: Final = 6.0
REPORTS_AT_ONCE: Final = 24
"""In the first second; as many come again in each time that one takes, so it stays so many."""


@dataclass(frozen=True, slots=True)
class Burst:
    """One run of the burst.

    Attributes:
        name: `stock` or `backend`.
        begins, ends: Seconds between which reports are asked for.
    """

    name: str
    title: str
    begins: float
    ends: float
    answers: tuple[Answer, ...]

    @property
    def pages(self) -> tuple[Answer, ...]:
        """Answers to those who wanted a quick page while the burst was on."""
        return tuple(
            a for a in self.answers if a.name != "report" and self.begins <= a.due < self.ends
        )

    @property
    def in_time(self) -> int:
        """How many of these had it in time."""
        return sum(a.ok and a.seconds <= IN_TIME_SECONDS for a in self.pages)

    @property
    def reports(self) -> tuple[int, int, int]:
        """Reports that were answered, that were told to come again (503), and that failed."""
        found = [a for a in self.answers if a.name == "report"]
        answered = sum(a.ok for a in found)
        refused = sum(a.status == 503 for a in found)
        return answered, refused, len(found) - answered - refused

    @property
    def waits(self) -> Waits:
        """What those saw who wanted a quick page."""
        return Waits.of(self.pages)


def arrivals(seconds: float, seed: int) -> list[Arrival]:
    """Who comes when, for a burst of so many seconds."""
    end = LEAD_SECONDS + seconds
    products = tuple(f"/product/{number}/" for number in range(1, 400))
    quick = schedule([Page("product", products, per_second=30.0)], end + LEAD_SECONDS, seed)
    path = f"/report/?seconds={REPORT_SECONDS:g}"
    first = [
        Arrival(LEAD_SECONDS + number / REPORTS_AT_ONCE, "report", path)
        for number in range(REPORTS_AT_ONCE)
    ]
    rate = REPORTS_AT_ONCE / REPORT_SECONDS
    later = schedule([Page("report", (path,), per_second=rate)], max(0.0, seconds - 1), seed)
    moved = [Arrival(LEAD_SECONDS + 1 + one.due, one.name, one.path) for one in later]
    return sorted([*quick, *first, *moved], key=lambda one: one.due)
