"""From samples to what happened between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from unhang.latency import Counters
from unhang.monitor.refused import refused_between
from unhang.monitor.sample import Sample


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two neighbouring samples.

    Attributes:
        seconds: Its length, above 0.
        refused: Clients refused for lack of a connection; `None` beside a gap.
        app: What the application counted; `None` when nothing is recorded, or when a count went
            back because files of ended workers were removed.
    """

    seconds: float
    refused: int | None
    app: Counters | None


def intervals(samples: Sequence[Sample]) -> list[Interval]:
    """The intervals between samples, in the order of time.

    Samples at the same time, or before their predecessor (a clock was set), make no interval.
    """
    found = []
    for before, after in pairwise(samples):
        seconds = (after.at - before.at).total_seconds()
        if seconds <= 0:
            continue
        refused = refused_between(before, after)
        app = after.app.since(before.app) if before.app and after.app else None
        found.append(Interval(seconds, refused.count if refused else None, app))
    return found
