"""What a borrower is told who got no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from unhang.pool.connection import LEASED, PooledConnection
from unhang.pool.errors import PoolError, as_driver_error
from unhang.pool.owners import place

if TYPE_CHECKING:
    from unhang.pool.pool import Pool

_HOLDERS_SHOWN: Final = 3
_CURE: Final = (
    ". Shorten what holds connections, serve fewer requests at a time, or raise max_size if the "
    "server has room"
)


def error(pool: Pool, kind: type[PoolError], *args: object) -> Exception:
    """An error of the pool that is also the driver's `OperationalError`."""
    made: Exception = as_driver_error(kind, pool.driver.operational_error)(*args)
    return made


def timeout_args(pool: Pool, waited: float) -> tuple[object, ...]:
    """The arguments of a `PoolTimeout`: a text, and in front of it the driver's code if connecting
    is what failed, so that who looks at codes sees why there is no connection."""
    text = f"pool {pool.name!r}: no connection within {waited:.1f} s ({pool.stats()})"
    text += _held_by(pool)
    cause = pool.connect_error
    if cause is None:
        return (text + _CURE,)
    seconds, problem = cause
    text += f"; last connect error, {seconds:.1f} s ago: {type(problem).__name__}{problem.args}"
    code = problem.args[0] if problem.args else None
    return (code, text) if isinstance(code, int) else (text,)


def let_go(pool: Pool, waited: float) -> str:
    """For one who waited in a line that cannot be served in time."""
    text = (
        f"pool {pool.name!r}: let go after {waited:.1f} s, since {pool.waiting} wait and one is "
        f"served every {pool.seconds_between_leases:.2f} s: not all can be within the timeout of "
        f"{pool.options.timeout:g} s, and the newest come first ({pool.stats()})"
    )
    return text + _held_by(pool) + _CURE


def too_many(pool: Pool, waiting: int) -> str:
    """For one who is not let into the line."""
    text = (
        f"pool {pool.name!r}: {waiting} wait already, as many as max_waiting allows "
        f"({pool.stats()})"
    )
    return text + _held_by(pool) + _CURE


def _held_by(pool: Pool) -> str:
    holders = _holders(pool)
    return f"; longest leases: {'; '.join(holders)}" if holders else ""


def copy_of(problem: BaseException) -> BaseException:
    """An exception of its own for each borrower: raising one object twice mixes tracebacks."""
    try:
        copy = type(problem)(*problem.args)
    except Exception:  # noqa: BLE001 - an exception class with a signature of its own
        return problem
    copy.__cause__ = problem
    return copy


def _holders(pool: Pool) -> list[str]:
    now = pool.clock()
    leased = [c for c in pool.connections() if c.state is LEASED]
    leased.sort(key=lambda connection: connection.leased_at)
    return [_holder(connection, now) for connection in leased[:_HOLDERS_SHOWN]]


def _holder(connection: PooledConnection, now: float) -> str:
    seconds = f"{now - connection.leased_at:.1f} s"
    owner = connection.owner
    if owner is None:
        return seconds
    where = place(owner.frame())
    return f"{seconds} by {owner.name}" + (f" at {where}" if where else "")
