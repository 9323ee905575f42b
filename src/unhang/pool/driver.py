"""What a pool needs to know of a database driver."""

from __future__ import annotations

from typing import Any, Protocol


class Driver(Protocol):
    """How to open, look at, clean and close the connections of one database.

    Every method but `is_alive` may do I/O, and is never called with a lock held. A method that
    raises anything costs the connection, never the pool.
    """

    operational_error: type[Exception]
    """Base of the pool's own errors, so that code that catches the driver's catches them too."""

    def connect(self) -> Any:
        """Open a connection and set it up; ready for a borrower."""

    def is_alive(self, raw: Any) -> bool:
        """Whether the peer still seems to be there: without a round trip, in microseconds."""

    def ping(self, raw: Any, timeout: float) -> bool:
        """Whether the peer answers within `timeout` seconds."""

    def reset(self, raw: Any) -> None:
        """Make a connection as good as new: no transaction, no session state of its borrower."""

    def close(self, raw: Any) -> None:
        """Say goodbye and close."""

    def abandon(self, raw: Any) -> None:
        """Let go in a forked child without sending a byte: the parent goes on using it."""

    def idle_limit(self, raw: Any) -> float:
        """Seconds after which it must not be used any more when idle; `math.inf` for ever."""

    def look(self, raw: Any) -> tuple[int, int] | None:
        """How many sessions the server has, and how many it can have; `None` if it does not say."""

    def is_refusal(self, error: BaseException) -> bool:
        """Whether `connect` failed since the server, or the account, has no connection left."""

    def is_transient(self, error: BaseException) -> bool:
        """Whether a failed `connect` may succeed later, so that waiting makes sense."""
