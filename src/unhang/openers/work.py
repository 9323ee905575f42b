"""What the code that runs now is part of: a request, a task, or a management command."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync

from unhang.openers.program import management_command

_LONGEST: Final = 120
# A part of a path that may be a secret: of a password's reset, of a shared link, of a session.
_TOKEN_LENGTH: Final = 24
_DIGIT: Final = re.compile(r"\d")


class Work:
    """One request or task. Copies of the context that outlive it see that it has ended."""

    __slots__ = ("told",)

    def __init__(self, told: str | Mapping[str, Any]) -> None:
        self.told: str | Mapping[str, Any] | None = told


_current: ContextVar[Work | None] = ContextVar("unhang_work", default=None)

# Django's ASGI handler sends `request_started` in a task of its own, whose context is thrown away.
# All of a request shares one ThreadSensitiveContext, which is gone with it.
_by_request: MutableMapping[Any, Work] = WeakKeyDictionary()
_request_context: Final[ContextVar[Any]] = SyncToAsync.thread_sensitive_context


def begin_request(
    environ: Mapping[str, Any] | None = None,
    scope: Mapping[str, Any] | None = None,
    **_kwargs: object,
) -> None:
    """Receiver of `request_started`: a request begins, with its WSGI environ or its ASGI scope."""
    work = Work(environ or scope or {})
    key = _request_context.get(None)
    if key is not None:
        _by_request[key] = work
    _current.set(work)


def end_request(**_kwargs: object) -> None:
    """Receiver of `request_finished`: it has ended."""
    key = _request_context.get(None)
    work = (_by_request.pop(key, None) if key is not None else None) or _current.get()
    if work is not None:
        work.told = None
        _current.set(None)


def enter_task(name: str) -> Work | None:
    """A task begins; returns what ran before it, for `leave_task`."""
    before = _current.get()
    _current.set(Work(f"task {name}"))
    return before


def leave_task(before: Work | None) -> None:
    """The task has ended."""
    work = _current.get()
    if work is not None:
        work.told = None
    _current.set(before)


def current_work() -> str:
    """`GET /product/7/`, `task shop.tasks.mail`, `command close_day`; empty if it is none."""
    work = _current.get()
    if work is None or work.told is None:
        key = _request_context.get(None)
        work = _by_request.get(key) if key is not None else None
    told = work.told if work is not None else None
    if told is None:
        return _command(*sys.argv)
    return told[:_LONGEST] if isinstance(told, str) else _request(told)


@lru_cache(maxsize=8)
def _command(*arguments: str) -> str:
    command = management_command(arguments)
    return f"command {command}"[:_LONGEST] if command else ""


def _request(told: Mapping[str, Any]) -> str:
    """Method and path; never the query string."""
    if "PATH_INFO" in told:
        method = str(told.get("REQUEST_METHOD", ""))
        raw = f"{told.get('SCRIPT_NAME', '')}{told['PATH_INFO']}"
        path = raw.encode("latin-1", "replace").decode("utf-8", "replace")
    else:
        method, path = str(told.get("method", "")), str(told.get("path", ""))
    return f"{method} {_without_tokens(path)}"[:_LONGEST].rstrip()


def _without_tokens(path: str) -> str:
    # Part by part: one expression for the whole takes a minute on a path of 64 kB without a digit,
    # and anybody may send one.
    parts = path.split("/")
    return "/".join("…" if _is_token(part) else part for part in parts)


def _is_token(part: str) -> bool:
    return len(part) >= _TOKEN_LENGTH and _DIGIT.search(part) is not None
