"""What a statement gets that may not run now."""

from __future__ import annotations

from unhang.pool.errors import PoolError


class SlowLaneFull(PoolError):
    """The statement's lane is full, on a host that is crowded. Nothing was sent to the server.

    Attributes:
        retry_after: Seconds after which asking again makes sense.
    """

    retry_after = 1
