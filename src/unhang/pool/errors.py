"""What a borrower may get instead of a connection.

Each is also the driver's own `OperationalError`, so that code that catches that one, Django's
wrapping of database errors included, catches these too.
"""

from __future__ import annotations

from typing import Any


class PoolError(Exception):
    """Base of the pool's errors."""


class PoolTimeout(PoolError):
    """No connection within the borrower's deadline. The text says who holds them."""


class PoolOverloaded(PoolError):
    """As many borrowers wait already as `max_waiting` allows."""


class PoolClosed(PoolError):
    """The pool was closed."""


_made: dict[tuple[type[PoolError], type[Exception]], Any] = {}


def as_driver_error(kind: type[PoolError], base: type[Exception]) -> Any:
    """The class that is both this error and the driver's."""
    if (kind, base) not in _made:
        names = {"__module__": kind.__module__, "__doc__": kind.__doc__}
        _made[kind, base] = type(kind.__name__, (kind, base), names)
    return _made[kind, base]
