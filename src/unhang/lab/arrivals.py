"""When each request of a load is due: an open loop, decided before the first one is sent.

Visitors do not wait for each other. So the load does not slow down when the site does, and a
request's time counts from when it was due, not from when a free client got round to sending it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Page:
    """A kind of request.

    Attributes:
        name: What the statistics call it.
        paths: One is picked for each request.
        per_second: Mean rate; arrivals are a Poisson process unless `every` is set.
        every: Seconds between arrivals, exactly; the first is due after one such pause.
        body: Sent as JSON with POST.
    """

    name: str
    paths: tuple[str, ...]
    per_second: float = 0.0
    every: float = 0.0
    body: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: seconds after the start, and what is asked."""

    due: float
    name: str
    path: str
    body: dict[str, Any] | None = None


def schedule(pages: Sequence[Page], seconds: float, seed: int) -> list[Arrival]:
    """All arrivals of a load, in the order in which they are due; the same for the same seed."""
    arrivals: list[Arrival] = []
    for number, page in enumerate(pages):
        # A generator for each page: changing one page's rate leaves the others as they were.
        generator = random.Random(f"{seed}/{number}/{page.name}")  # noqa: S311 - no secret
        due = page.every or generator.expovariate(page.per_second)
        while due < seconds:
            arrivals.append(Arrival(due, page.name, generator.choice(page.paths), page.body))
            due += page.every or generator.expovariate(page.per_second)
    return sorted(arrivals, key=lambda arrival: arrival.due)
