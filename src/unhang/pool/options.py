"""The options of a pool: validated once, then sealed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, cast, get_args

Lease = Literal["transaction", "request"]


class OptionError(ValueError):
    """An option that does not exist, or a value that makes no sense; the text says what would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """How big a pool may be, how long things may take, and how long a borrower keeps a connection.

    Names are those of psycopg_pool, which Django's PostgreSQL backend uses under the same key.
    Every default is explained in `docs/reference/pool-options.md`.

    Attributes:
        min_size: Connections kept warm once the pool was used, until the server's `wait_timeout`
            comes near.
        max_size: Connections at most, of this process to this database.
        timeout: Seconds that a borrower waits at most: queue, connecting and checking together.
        max_waiting: Borrowers that may wait at a time; 0 is no limit.
        max_lifetime: Seconds after which a connection is replaced, less up to 10 % at random.
        max_idle: Seconds after which an unused connection beyond `min_size` is closed.
        lease: `transaction` gives a connection back after each statement or transaction,
            `request` at `close()`, which Django calls at the end of each request.

    Raises:
        OptionError: A value has the wrong type or is out of its range.
    """

    min_size: int = 1
    max_size: int = 10
    timeout: float = 20.0
    max_waiting: int = 0
    max_lifetime: float = 30 * 60.0
    max_idle: float = 5.0
    lease: Lease = "transaction"

    def __post_init__(self) -> None:
        _whole("min_size", self.min_size, at_least=0)
        _whole("max_size", self.max_size, at_least=1)
        _whole("max_waiting", self.max_waiting, at_least=0)
        for name in ("timeout", "max_lifetime", "max_idle"):
            _seconds(name, getattr(self, name))
        if self.min_size > self.max_size:
            raise OptionError(
                f"min_size ({self.min_size}) must not be above max_size ({self.max_size})"
            )
        if self.lease not in get_args(Lease):
            known = " or ".join(map(repr, get_args(Lease)))
            raise OptionError(f"lease must be {known}, not {self.lease!r}")


NAMES: Final = tuple(field.name for field in fields(PoolOptions))


def parse_options(given: object) -> PoolOptions:
    """The options that a settings file holds.

    Args:
        given: A mapping of options, or `True` for the defaults.

    Raises:
        OptionError: An unknown name (the nearest known one is named), or a value out of range.
    """
    if given is True or given is None:
        return PoolOptions()
    if not isinstance(given, Mapping):
        raise OptionError(f"the pool's options must be a dict, or True for defaults, not {given!r}")
    for name in given:
        if name not in NAMES:
            near = difflib.get_close_matches(str(name), NAMES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(NAMES)}."
            raise OptionError(f"there is no pool option {name!r}; {hint}")
    return PoolOptions(**cast(Mapping[str, Any], given))


def _whole(name: str, value: object, *, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise OptionError(f"{name} must be a whole number from {at_least} on, not {value!r}")


def _seconds(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(cast(float, value)) or cast(float, value) <= 0:
        raise OptionError(f"{name} must be a number of seconds above 0, not {value!r}")
