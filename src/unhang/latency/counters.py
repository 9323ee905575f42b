"""The histogram of response times, and what else is counted of an application's requests.

Log-linear, as in HdrHistogram: `SUB_BUCKETS` equal steps in each doubling, so any quantile from
0.1 ms to `MAX_SECONDS` is off by at most 1/32 (3.2 %) of its value. Below 0.1 ms the error is at
most 3.2 µs; times above `MAX_SECONDS` count as `MAX_SECONDS`. Pure functions, no I/O.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from operator import add, sub
from typing import Any, Final

KINDS: Final = ("refused", "gone_away", "pool_timeout", "other_database")
"""Database errors that are told apart: no connection left, one lost, the pool empty, the rest."""

SUB_BUCKETS: Final = 32
_UNIT_SECONDS: Final = 1e-4 / SUB_BUCKETS
_DOUBLINGS: Final = 21
MAX_SECONDS: Final = 1e-4 * 2**_DOUBLINGS
"""About 210 s: longer than any proxy waits for a response."""

N_BUCKETS: Final = (_DOUBLINGS + 1) * SUB_BUCKETS + 1
"""The last one holds everything from `MAX_SECONDS` up."""


def bucket_of(seconds: float) -> int:
    """The index of the bucket that counts a time of `seconds`."""
    units = int(seconds / _UNIT_SECONDS)
    if units < SUB_BUCKETS:
        return max(0, units)
    shift = units.bit_length() - SUB_BUCKETS.bit_length()
    return min(N_BUCKETS - 1, shift * SUB_BUCKETS + (units >> shift))


def bucket_start(index: int) -> float:
    """The smallest time in seconds that bucket `index` counts; its end is the next one's start."""
    shift = max(0, index // SUB_BUCKETS - 1)
    return ((index - shift * SUB_BUCKETS) << shift) * _UNIT_SECONDS


def quantile_of(buckets: Iterable[int], q: float) -> float | None:
    """The `q` quantile (0 to 1) of a histogram in seconds; `None` when it is empty.

    Inside a bucket the times are taken as evenly spread, so the answer moves smoothly.
    """
    cumulative = list(accumulate(buckets))
    if not cumulative or cumulative[-1] == 0:
        return None
    rank = max(q * cumulative[-1], 1e-9)  # above 0, so that no empty bucket answers for q = 0
    index = bisect_left(cumulative, rank)
    if index == N_BUCKETS - 1:
        return MAX_SECONDS
    below = cumulative[index - 1] if index else 0
    start, end = bucket_start(index), bucket_start(index + 1)
    return start + (end - start) * (rank - below) / (cumulative[index] - below)


@dataclass(frozen=True, slots=True)
class Counters:
    """What one process, or several together, counted since they started.

    Attributes:
        buckets: The histogram of response times, server errors left out; `len == N_BUCKETS`.
        total_seconds: The same times added up.
        server_errors: Responses with a status of 500 or more, and exceptions.
        database_errors: Requests that failed with a database error, by kind (see `KINDS`).
        in_flight: Requests in progress; those of a process that was killed do not count.
    """

    buckets: tuple[int, ...] = (0,) * N_BUCKETS
    total_seconds: float = 0.0
    server_errors: int = 0
    database_errors: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    in_flight: int = 0

    @property
    def requests(self) -> int:
        """Finished requests, server errors included."""
        return sum(self.buckets) + self.server_errors

    def quantile(self, q: float) -> float | None:
        """The `q` quantile (0 to 1) of the response times in seconds; `None` without any."""
        return quantile_of(self.buckets, q)

    @classmethod
    def merge(cls, many: Iterable[Counters]) -> Counters:
        """The sum over several processes, or intervals."""
        total = cls()
        for one in many:
            total = cls(
                tuple(map(add, total.buckets, one.buckets)),
                total.total_seconds + one.total_seconds,
                total.server_errors + one.server_errors,
                {k: total.database_errors[k] + one.database_errors[k] for k in KINDS},
                total.in_flight + one.in_flight,
            )
        return total

    def since(self, earlier: Counters) -> Counters | None:
        """What was added after `earlier`; `None` when a count went back (a file was removed)."""
        buckets = tuple(map(sub, self.buckets, earlier.buckets))
        kinds = {k: self.database_errors[k] - earlier.database_errors[k] for k in KINDS}
        errors = self.server_errors - earlier.server_errors
        if min(errors, *buckets, *kinds.values()) < 0:
            return None
        seconds = max(0.0, self.total_seconds - earlier.total_seconds)
        return Counters(buckets, seconds, errors, kinds, self.in_flight)

    def to_json(self) -> dict[str, Any]:
        """A plain dict; the histogram is written as `[index, count]` pairs."""
        return {
            "schema": 1,
            "buckets": [[i, n] for i, n in enumerate(self.buckets) if n],
            "total_seconds": self.total_seconds,
            "server_errors": self.server_errors,
            "database_errors": dict(self.database_errors),
            "in_flight": self.in_flight,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Counters:
        """The inverse of `to_json`."""
        buckets = [0] * N_BUCKETS
        for index, count in data["buckets"]:
            buckets[index] = count
        return cls(
            tuple(buckets),
            data["total_seconds"],
            data["server_errors"],
            {k: data["database_errors"].get(k, 0) for k in KINDS},
            data["in_flight"],
        )


def delta(before: Mapping[str, Counters], after: Mapping[str, Counters]) -> Counters:
    """What all processes together counted between two `read_all`.

    A file that appeared counts from zero; one that vanished counts nothing.
    """
    return Counters.merge(
        (now.since(before[name]) or now) if name in before else now for name, now in after.items()
    )
