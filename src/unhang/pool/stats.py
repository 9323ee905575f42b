"""A pool's numbers at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Gauges of now and counters since the pool was made.

    Attributes:
        allowance: Connections that it may have now, as full as the server is.
        size: Connections open: idle + leased + resetting.
        connecting: Being opened.
        waiting: Borrowers in the queue.
        lends: Leases that ended or run.
        waits, wait_seconds: Borrowers that had to queue, and for how long together.
        timeouts, overloads: Borrowers that got none in time; or were not let into the queue.
        connects, connect_errors: Connections opened; attempts that failed.
        closed: Connections closed or lost, whatever the reason.
        let_go: Connections closed as soon as they were open, since the server was full.
        found_dead: Of the closed, idle ones that the server had ended.
        resets: Times a connection was cleaned before somebody else got it.
        reclaimed: Leases taken from threads or greenlets that ended with them.
        pins: Leases that borrowers kept for the state of their session; counted by them.
        repeats: Statements that borrowers ran again on another connection; counted by them.
        ended: Reads that nobody waited for any more, ended on the server; counted by borrowers.
        lease_seconds: Time that connections were leased, together.
        lease_counts: Leases by duration, in the buckets of `connection.LEASE_SECONDS` and above.
    """

    name: str
    min_size: int
    max_size: int
    allowance: int
    size: int
    idle: int
    leased: int
    resetting: int
    connecting: int
    waiting: int
    lends: int
    waits: int
    wait_seconds: float
    timeouts: int
    overloads: int
    connects: int
    connect_errors: int
    closed: int
    let_go: int
    found_dead: int
    resets: int
    reclaimed: int
    pins: int
    repeats: int
    ended: int
    lease_seconds: float
    lease_counts: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"max_size {self.max_size}{self._narrower()}: {self.leased} leased, {self.idle} idle, "
            f"{self.resetting} resetting, {self.connecting} connecting, {self.waiting} waiting"
        )

    def _narrower(self) -> str:
        if self.allowance >= self.max_size:
            return ""
        return f" (now {self.allowance}, the server is nearly full)"
