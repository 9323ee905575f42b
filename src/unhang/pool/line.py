"""The line of borrowers: first come, first served, as long as everybody can be served in time.

A line that nobody can get through in time is controlled by its delay (CoDel, Nichols and Jacobson
2012; for servers: Maurer, "Fail at Scale", 2015). There the newest come first: their clients are
still there. The oldest, whose turn would come too late in any order, are let go early.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from unhang.pool.connection import Waiter

STANDING_SECONDS: Final = 1.0
"""So long without a break must the line be too long: a burst that it gets over is none."""

LET_GO_SHARE: Final = 0.5
"""Of the timeout: who has waited so long in a standing line is let go. He knows half a timeout
earlier, and those behind him get what he would have got too late."""

_WEIGHT: Final = 0.2


class Line:
    """Borrowers that wait. Every method is called under the pool's lock.

    Args:
        timeout: Seconds that a borrower waits at most.
    """

    def __init__(self, timeout: float) -> None:
        self.waiters: deque[Waiter] = deque()
        self._timeout = timeout
        self._gap = 0.0
        self._served_at = -math.inf
        self._too_long_since: float | None = None
        self._served = 0

    def __len__(self) -> int:
        return len(self.waiters)

    def join(self, waiter: Waiter, now: float, *, in_front: bool = False) -> None:
        """At its end; in front of it for one who was served in vain."""
        if not self.waiters:
            self._served_at = now  # from here on a pause is a pause in serving, not in asking
            self._served = 0
        if in_front and not self.is_standing(now):
            self.waiters.appendleft(waiter)
        else:
            self.waiters.append(waiter)
        self._look(now)

    def leave(self, waiter: Waiter, now: float) -> None:
        """Unserved.

        Raises:
            ValueError: It is not in the line.
        """
        self.waiters.remove(waiter)
        self._look(now)

    def next(self, now: float) -> Waiter:
        """Who is served now; there must be one."""
        waiter = self.waiters.pop() if self.is_standing(now) else self.waiters.popleft()
        self._gap += _WEIGHT * (now - self._served_at - self._gap)
        self._served_at = now
        self._served += 1
        self._look(now)
        return waiter

    def longest_wait(self, now: float) -> float:
        """Seconds that the one at the front has waited; 0 if there is none."""
        return now - self.waiters[0].began if self.waiters else 0.0

    def seconds(self, now: float) -> float:
        """How long it would take to serve everybody, at the pace of the last ones."""
        return len(self.waiters) * self.gap(now)

    def gap(self, now: float) -> float:
        """Seconds from one served to the next."""
        return max(self._gap, now - self._served_at)

    def is_standing(self, now: float) -> bool:
        """Whether it has been too long for everybody's timeout, all the time, for a while.

        Of a line in which nobody is served nobody knows the pace: what holds everything up may end
        within their timeouts.
        """
        self._look(now)
        since = self._too_long_since
        return since is not None and now - since >= STANDING_SECONDS and self._served > 0

    def let_go_seconds(self) -> float:
        """After how long in a standing line a borrower is let go."""
        return self._timeout * LET_GO_SHARE

    def _look(self, now: float) -> None:
        if self.seconds(now) <= self._timeout:
            self._too_long_since = None
        elif self._too_long_since is None:
            self._too_long_since = now
