"""Which lane the running code is in, if somebody named one.

with connection.lane("reports"):
    …

@lane("reports")
def nightly(): …

The name is kept in a context variable: it follows a request into `sync_to_async` and back, and
ends with the block. What is started in a thread of its own begins without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, Final, TypeVar, cast

from unhang.lanes.table import LANE_NAME_BYTES

NO_LANE: Final = ""
"""The name of no lane: what runs under it is never held back."""

_ALL: Final = None

_Function = TypeVar("_Function", bound=Callable[..., Any])

current: ContextVar[Mapping[str | None, str] | None] = ContextVar("unhang_lane", default=None)
"""The lane by alias; under `None` for every alias."""

_Token = Token[Mapping[str | None, str] | None]

# In a context of its own, too: one `lane` may be used by several threads or tasks at a time.
_begun: ContextVar[tuple[_Token, ...]] = ContextVar("unhang_lanes_begun", default=())

_default: str | None = None


def name_for(alias: str) -> str | None:
    """The lane that was named for what runs now on this alias; `None` if none was."""
    named = current.get()
    if named is None:
        return _default
    found = named.get(alias, named.get(_ALL))
    return _default if found is None else found


def enter(name: str | None, using: str | None = None) -> _Token:
    """From here on; `current.reset(token)` ends it."""
    outer = {} if using is None else current.get() or {}  # the innermost block decides
    return current.set({**outer, using: NO_LANE if name is None else name})


def enter_process(name: str | None) -> None:
    """For everything that this process does, unless a lane is named more closely."""
    global _default
    _default = name


class lane:  # noqa: N801 - used as a statement, like contextlib's
    """A block, or a function, whose statements run in a named lane.

    Args:
        name: A lane of `UNHANG["LANES"]`, or a new one with the slow lane's share and timeout. With
            `None` statements are never held back, not even slow ones: for what must run now.
        using: An alias of DATABASES; all of them if left out.
    """

    def __init__(self, name: str | None, using: str | None = None) -> None:
        if name is not None and not (
            isinstance(name, str) and 0 < len(name.encode()) <= LANE_NAME_BYTES
        ):
            raise ValueError(
                f"a lane's name must be a string of 1 to {LANE_NAME_BYTES} bytes, not {name!r}"
            )
        self._name = name
        self._using = using

    def __enter__(self) -> None:
        _begun.set((*_begun.get(), enter(self._name, self._using)))

    def __exit__(self, *_exc_info: object) -> None:
        *outer, token = _begun.get()
        current.reset(token)
        _begun.set(tuple(outer))

    def __call__(self, function: _Function) -> _Function:
        """As a decorator. Each call gets a block of its own, so calls may run side by side."""
        name, using = self._name, self._using
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise TypeError(
                f"{function!r} is a generator, which runs when others ask it to: use the block "
                "`with lane(…):` around what is asked"
            )
        if iscoroutinefunction(function):

            @functools.wraps(function)
            async def in_lane_later(*args: Any, **kwargs: Any) -> Any:
                with lane(name, using):
                    return await function(*args, **kwargs)

            return cast(_Function, in_lane_later)

        @functools.wraps(function)
        def in_lane(*args: Any, **kwargs: Any) -> Any:
            with lane(name, using):
                return function(*args, **kwargs)

        return cast(_Function, in_lane)
