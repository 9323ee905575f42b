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


def _whole(name: str, value: object, *, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise OptionError(f"{name} must be a whole number from {at_least} on, not {value!r}")


def _seconds(name: str, value: object) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(cast(float, value)) or cast(float, value) <= 0:
        raise OptionError(f"{name} must be a number of seconds above 0, not {value!r}")


def _share(name: str, value: object, *, may_be_none: bool = False) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    above = is_number and (cast(float, value) > 0 or (may_be_none and value == 0))
    if not above or not cast(float, value) < 1:
        raise OptionError(f"{name} must be a share between 0 and 1, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLane:
    """What slow statements may use while it is crowded. Reasons: `docs/explanation/lanes.md`.

    Attributes:
        share: Of the connections, between 0 and 1; one at least.
        threshold: Seconds from which a statement is slow.
        timeout: Seconds that a slow statement of a request waits for its place.
        workers: Requests that one process serves at a time; 0 to find out.

    Raises:
        OptionError: A value has the wrong type or is out of its range.
    """

    share: float = 0.25
    threshold: float = 1.0
    timeout: float = 10.0
    workers: int = 0

    def __post_init__(self) -> None:
        _share("slow_lane's share", self.share)
        for name in ("threshold", "timeout"):
            _seconds(f"slow_lane's {name}", getattr(self, name))
        _whole("slow_lane's workers", self.workers, at_least=0)


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
        slow_lane: What slow statements may use while it is crowded; `None` is everything.
        reserve: Share of the server's connections that the pool leaves to others.
        max_statement_seconds: After so long the server ends a statement that only reads; 0 is
            never.

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
    slow_lane: SlowLane | None = SlowLane()
    reserve: float = 0.1
    max_statement_seconds: float = 0.0

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
        if not isinstance(self.slow_lane, SlowLane | None):
            raise OptionError(f"slow_lane must be a dict, True or False, not {self.slow_lane!r}")
        if self.max_statement_seconds != 0:
            _seconds("max_statement_seconds", self.max_statement_seconds)
        _share("reserve", self.reserve, may_be_none=True)


NAMES: Final = tuple(field.name for field in fields(PoolOptions))
_SLOW_LANE_NAMES: Final = tuple(field.name for field in fields(SlowLane))


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
    _check_names(given, NAMES, "pool option")
    options = dict(cast(Mapping[str, Any], given))
    if "slow_lane" in options:
        options["slow_lane"] = _parse_slow_lane(options["slow_lane"])
    return PoolOptions(**options)


def _parse_slow_lane(given: object) -> SlowLane | None:
    if given is True:
        return SlowLane()
    if given is False or given is None:
        return None
    if not isinstance(given, Mapping):
        raise OptionError(f"slow_lane must be a dict, True or False, not {given!r}")
    _check_names(given, _SLOW_LANE_NAMES, "option of slow_lane")
    return SlowLane(**given)


def _check_names(given: Mapping[Any, Any], known: tuple[str, ...], kind: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            raise OptionError(f"there is no {kind} {name!r}; {hint}")
