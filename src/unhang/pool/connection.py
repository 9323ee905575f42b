"""One physical connection, as the pool keeps book of it."""

from __future__ import annotations

import enum
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from unhang.pool.owners import Owner
    from unhang.pool.pool import Pool

LEASE_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper edges of the histogram of lease times, seconds."""


class State(enum.Enum):
    """Who may touch a connection: whoever brought it into its present state."""

    IDLE = "idle"
    LEASED = "leased"
    RESETTING = "resetting"
    GONE = "gone"


# Plain names: an attribute of an Enum class costs a lookup on the way of every statement.
IDLE: Final = State.IDLE
LEASED: Final = State.LEASED
RESETTING: Final = State.RESETTING
GONE: Final = State.GONE


class Holder(Protocol):
    """A borrower that keeps a connection for longer than one call."""

    def may_outlive_its_thread(self) -> bool:
        """Whether other threads share the lease, so that it goes on without the one that began."""


class PooledConnection:
    """A driver's connection with its place in the pool.

    Attributes:
        raw: The driver's connection.
        generation: The pool's generation that it belongs to; an older one is not lent again.
        opened_at, expires_at, idle_since, leased_at: On the pool's clock, seconds.
        idle_limit: Seconds after which the server may have ended it.
        owner: The thread or greenlet that leased it.
        holder: What the borrower put there to say whether the lease may outlive that thread.
        running: What its borrower runs on it now, for whoever watches; the pool never looks.
        uses: Leases so far; changes with each, so that a borrower can tell whether anybody else
            had it in between.
        lease_counts: How many leases fell into each bucket of `LEASE_SECONDS`, and above.
    """

    __slots__ = (
        "__weakref__",
        "expires_at",
        "generation",
        "holder",
        "idle_limit",
        "idle_since",
        "lease_counts",
        "lease_seconds",
        "leased_at",
        "opened_at",
        "owner",
        "pool",
        "raw",
        "running",
        "state",
        "uses",
    )

    def __init__(
        self,
        pool: Pool,
        raw: Any,
        *,
        generation: int,
        now: float,
        expires_at: float,
        idle_limit: float,
    ) -> None:
        self.pool = pool
        self.raw = raw
        self.generation = generation
        self.expires_at = expires_at
        self.idle_limit = idle_limit
        self.opened_at = now
        self.idle_since = now
        self.leased_at = now
        self.owner: Owner | None = None
        self.holder: weakref.ref[Holder] | None = None
        self.running: Any = None
        self.state = IDLE
        self.uses = 0
        self.lease_seconds = 0.0
        self.lease_counts = [0] * (len(LEASE_SECONDS) + 1)

    @property
    def is_gone(self) -> bool:
        """Closed, or left behind by a fork: nobody may use it any more."""
        return self.state is GONE


class Waiter:
    """A borrower in the queue. Everything but `wait` happens under the pool's lock.

    A connection counts as handed over once it is in `connection`: whoever leaves the queue looks
    there first, so a borrower that gives up at that moment cannot take it away with him.
    """

    __slots__ = ("_wake", "began", "connection", "error")

    def __init__(self, began: float = 0.0) -> None:
        self.began = began
        self.connection: PooledConnection | None = None
        self.error: BaseException | None = None
        self._wake = threading.Lock()
        self._wake.acquire()

    @property
    def is_served(self) -> bool:
        return self.connection is not None or self.error is not None

    def serve(
        self, connection: PooledConnection | None = None, error: BaseException | None = None
    ) -> None:
        """Wake the borrower with a connection, or with the reason why there is none."""
        self.connection, self.error = connection, error
        self._wake.release()

    def wait(self, seconds: float) -> None:
        """Until served, or for so long."""
        self._wake.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))
