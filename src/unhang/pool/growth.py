"""What decides how far a pool may grow, beside its `max_size`."""

from __future__ import annotations

import math
from typing import Protocol


class Growth(Protocol):
    """A policy that knows how full the server is. Called under the pool's lock, or by the keeper;
    `now` is seconds on the pool's clock, `size` counts this pool's connections."""

    def saw(self, sessions: int, limit: int, now: float) -> None:
        """The server has so many sessions of so many."""

    def refused(self, size: int, now: float) -> None:
        """The server had no connection left."""

    def failed(self, now: float) -> None:
        """A connect failed because the server is away."""

    def closed(self, size: int, lived: float, now: float) -> None:
        """A connection was closed that was open for so many seconds; `size` are left."""

    def allowance(self, now: float, waited: float = 0.0) -> int:
        """Connections that the pool may have, 1 or more. `waited`: seconds that the first one in
        the line has."""

    def pause(self, size: int, now: float, waited: float = 0.0) -> float:
        """Seconds before one more may be opened; at 0 it is taken as opened; `inf`: not now."""

    def keeps(self, size: int, now: float, waited: float = 0.0) -> bool:
        """Whether to keep the connection just opened, or to close it at once."""

    def idle_seconds(self, max_idle: float, now: float) -> float:
        """How long an unused connection may stay."""

    def life_seconds(self, now: float) -> float:
        """How long a connection may live."""

    def next_look(self, now: float) -> float:
        """Seconds until asking the server again makes sense; `inf`: never."""


class Unlimited:
    """Room for everybody: the policy of a pool that is not told of the server."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size

    def saw(self, sessions: int, limit: int, now: float) -> None:
        """Of no interest."""

    def refused(self, size: int, now: float) -> None:
        """Of no interest."""

    def failed(self, now: float) -> None:
        """Of no interest."""

    def closed(self, size: int, lived: float, now: float) -> None:
        """Of no interest."""

    def allowance(self, now: float, waited: float = 0.0) -> int:  # noqa: ARG002 - the signature
        """As many as the options say."""
        return self._max_size

    def pause(self, size: int, now: float, waited: float = 0.0) -> float:  # noqa: ARG002
        """At once."""
        return 0.0

    def keeps(self, size: int, now: float, waited: float = 0.0) -> bool:  # noqa: ARG002
        """Always."""
        return True

    def idle_seconds(self, max_idle: float, now: float) -> float:  # noqa: ARG002
        """As long as the options say."""
        return max_idle

    def life_seconds(self, now: float) -> float:  # noqa: ARG002
        """For ever."""
        return math.inf

    def next_look(self, now: float) -> float:  # noqa: ARG002
        """Never."""
        return math.inf
