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
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar, cast

NO_LANE: Final = ""
"""The name of no lane: what runs under it is never held back."""

_ALL: Final = None

_Function = TypeVar("_Function", bound=Callable[..., Any])

current: ContextVar[Mapping[str | None, str] | None] = ContextVar("unhang_lane", default=None)
"""The lane by alias; under `None` for every alias."""

_default: str | None = None


def name_for(alias: str) -> str | None:
    """The lane that was named for what runs now on this alias; `None` if none was."""
    named = current.get()
    if named is None:
        return _default
    found = named.get(alias, named.get(_ALL))
    return _default if found is None else found


def enter(name: str | None, using: str | None = None) -> Token[Mapping[str | None, str] | None]:
    """From here on; `current.reset(token)` ends it."""
    return current.set({**(current.get() or {}), using: NO_LANE if name is None else name})


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
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"a lane's name must be a string that is not empty, not {name!r}")
        self._name = name
        self._using = using
        self._tokens: list[Token[Mapping[str | None, str] | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(enter(self._name, self._using))

    def __exit__(self, *_exc_info: object) -> None:
        current.reset(self._tokens.pop())

    def __call__(self, function: _Function) -> _Function:
        """As a decorator. Each call gets a block of its own, so calls may run side by side."""
        name, using = self._name, self._using
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
