"""The rule: the client lets go of a connection before the server does.

Everything that needs a number for `CONN_MAX_AGE`, `wait_timeout` or a pool's idle limit asks here.
Pure arithmetic, no I/O. All values are seconds.

A session that the server ends first turns into "MySQL server has gone away" in the application,
so Django's limit must lie below the server's `wait_timeout` by a margin that covers a request in
progress and clocks that are not in step. The worked example is 300 s at the server and 280 s in
Django.
"""

from __future__ import annotations

import math
from typing import Final

MIN_WAIT_TIMEOUT: Final = 1
"""The server takes 0 as 1, with only a warning (MariaDB 10.11, MySQL 9.7)."""

MAX_WAIT_TIMEOUT: Final = 31_536_000
"""One year; larger values are cut silently by MySQL and with warning 1292 by MariaDB."""

RECOMMENDED_WAIT_TIMEOUT: Final = 300
"""Long enough for any pause inside a request, short enough that leaked sessions do not pile up."""

DEFAULT_WAIT_TIMEOUT: Final = 28_800
"""What MySQL and MariaDB compile in: eight hours."""

_LARGEST_MARGIN: Final = 20.0


def margin(wait_timeout: float) -> float:
    """How many seconds earlier than the server the client must let go."""
    return min(_LARGEST_MARGIN, max(1.0, wait_timeout / 5))


def client_limit(wait_timeout: float) -> int:
    """The longest time a client may keep an idle connection under this `wait_timeout`.

    Args:
        wait_timeout: The server's limit in seconds, from 1 to 31,536,000.

    Returns:
        Whole seconds, rounded down; 0 means "do not keep connections at all".

    Raises:
        ValueError: `wait_timeout` is outside the range that servers accept.
    """
    if not MIN_WAIT_TIMEOUT <= wait_timeout <= MAX_WAIT_TIMEOUT:
        raise ValueError(
            f"wait_timeout must be from {MIN_WAIT_TIMEOUT} to {MAX_WAIT_TIMEOUT} s, "
            f"not {wait_timeout}"
        )
    return max(0, math.floor(wait_timeout - margin(wait_timeout)))


def required_wait_timeout(limit: int) -> int:
    """The smallest `wait_timeout` that is safe for a client that keeps connections `limit` s.

    The inverse of `client_limit`: `client_limit(required_wait_timeout(n)) >= n`.

    Raises:
        ValueError: No `wait_timeout` that a server accepts is long enough.
    """
    if limit <= 0:
        return MIN_WAIT_TIMEOUT
    # Three pieces: margin 1 s up to 5 s of wait_timeout, a fifth up to 100 s, 20 s above.
    guess = limit + 1 if limit <= 4 else math.ceil(limit * 5 / 4) if limit <= 80 else limit + 20
    if guess > MAX_WAIT_TIMEOUT:
        raise ValueError(f"no wait_timeout is long enough for a client limit of {limit} s")
    return guess


def lets_go_first(limit: int | None, wait_timeout: float) -> bool:
    """Whether a client with this limit lets go strictly before the server does.

    Args:
        limit: Django's `CONN_MAX_AGE`; `None` means for ever, 0 means not kept between requests.
        wait_timeout: The server's limit in seconds.
    """
    return limit is not None and limit < wait_timeout
