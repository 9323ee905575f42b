"""The pool's counters: what happened since the pool was made."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from unhang.pool.connection import LEASE_SECONDS, PooledConnection

NAMES: Final = (
    "waits",
    "timeouts",
    "overloads",
    "connects",
    "connect_errors",
    "closed",
    "let_go",
    "found_dead",
    "resets",
    "reclaimed",
    "pins",
    "repeats",
    "ended",
)


class Counters:
    """Counts. Leases are counted by their connection, which one borrower has at a time, so that the
    way of a lease needs no lock; `retire` takes the connection's counts over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(NAMES, 0)
        self._lends = 0
        self._wait_seconds = 0.0
        self._lease_seconds = 0.0
        self._lease_counts = [0] * (len(LEASE_SECONDS) + 1)

    def count(self, name: str) -> None:
        """One more."""
        with self._lock:
            self._counts[name] += 1

    def waited(self, seconds: float) -> None:
        """A borrower got his connection after waiting for so long."""
        with self._lock:
            self._wait_seconds += seconds

    def retire(self, connection: PooledConnection) -> None:
        """A connection is no more."""
        with self._lock:
            self._counts["closed"] += 1
            self._lends += connection.uses
            self._lease_seconds += connection.lease_seconds
            for bucket, count in enumerate(connection.lease_counts):
                self._lease_counts[bucket] += count

    def totals(self, living: Iterable[PooledConnection]) -> dict[str, int]:
        """The counters by name, with those of the connections that live."""
        return {**self._counts, "lends": self._lends + sum(c.uses for c in living)}

    def times(self, living: Iterable[PooledConnection]) -> tuple[float, float, tuple[int, ...]]:
        """Seconds waited, seconds leased, and leases by duration."""
        connections = list(living)
        counts = tuple(
            kept + sum(c.lease_counts[bucket] for c in connections)
            for bucket, kept in enumerate(self._lease_counts)
        )
        leased = self._lease_seconds + sum(c.lease_seconds for c in connections)
        return self._wait_seconds, leased, counts
