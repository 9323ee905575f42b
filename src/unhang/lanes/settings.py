"""The lanes that a project names in its settings: what they may use, and who is in them.

UNHANG = {"LANES": {"reports": {"share": 0.1, "timeout": 30, "urls": ["/reports/*"]}}}
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Final, cast

from unhang.lanes.table import LANE_NAME_BYTES, LANES
from unhang.pool import OptionError, SlowLane

_BUILT_IN: Final = ("slow", "new")
MOST: Final = LANES - len(_BUILT_IN)
"""Lanes that a project can name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLane:
    """One entry of `UNHANG["LANES"]`.

    Attributes:
        share: Of the connections, while it is crowded; `None` is the slow lane's.
        timeout: Seconds that a request waits for its place; `None` is the slow lane's.
        urls: Paths with `*` and `?`, or names of views such as `shop:report`.
        tasks: Names of Celery tasks, with `*` and `?`.
        commands: Names of management commands.

    Raises:
        OptionError: A value has the wrong type or is out of its range.
    """

    share: float | None = None
    timeout: float | None = None
    urls: Sequence[str] = field(default=())
    tasks: Sequence[str] = field(default=())
    commands: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        self.limits(SlowLane())  # checks both numbers
        for name in ("urls", "tasks", "commands"):
            value = getattr(self, name)
            is_list = isinstance(value, list | tuple | set | frozenset)
            if not is_list or not all(isinstance(part, str) and part for part in value):
                raise OptionError(f"{name} must be a list of strings, not {value!r}")

    def limits(self, slow: SlowLane) -> SlowLane:
        """Its share and timeout; the slow lane's where it has none of its own."""
        return SlowLane(
            share=slow.share if self.share is None else self.share,
            timeout=slow.timeout if self.timeout is None else self.timeout,
        )


_NAMES: Final = tuple(part.name for part in fields(NamedLane))


def parse_lanes(given: object) -> dict[str, NamedLane]:
    """The lanes of `UNHANG["LANES"]`, by name.

    Raises:
        OptionError: Too many, an unknown name (the nearest known one is named), or a value that
            makes no sense.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise OptionError(f"it must be a dict of lanes by name, not {given!r}")
    if len(given) > MOST:
        raise OptionError(f"there are {len(given)} lanes; {MOST} at most can be named")
    return {name: _parse(name, options) for name, options in given.items()}


def _parse(name: object, options: object) -> NamedLane:
    fits = isinstance(name, str) and 0 < len(name.encode()) <= LANE_NAME_BYTES
    if not fits or name in _BUILT_IN:
        raise OptionError(
            f"a lane cannot be called {name!r}: a name is a string of up to {LANE_NAME_BYTES} "
            f"bytes; {' and '.join(map(repr, _BUILT_IN))} are taken"
        )
    if not isinstance(options, Mapping):
        raise OptionError(f"lane {name!r}: its options must be a dict, not {options!r}")
    for option in options:
        if option not in _NAMES:
            near = difflib.get_close_matches(str(option), _NAMES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(_NAMES)}."
            raise OptionError(f"lane {name!r}: there is no option {option!r}; {hint}")
    try:
        return NamedLane(**cast(Mapping[str, Any], options))
    except OptionError as error:
        raise OptionError(f"lane {name!r}: {error}") from error


def matching(lanes: Mapping[str, NamedLane], kind: str, name: str) -> str | None:
    """The first lane whose `urls`, `tasks` or `commands` has a pattern for this name."""
    for lane, options in lanes.items():
        if any(fnmatchcase(name, pattern) for pattern in getattr(options, kind)):
            return lane
    return None
