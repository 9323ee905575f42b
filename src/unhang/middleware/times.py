"""Response times, recorded for `unhang watch` to show before and after."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import got_request_exception
from django.db import Error as DjangoDatabaseError
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from unhang.latency import Recorder, project_dir, run_dir_from
from unhang.mysql import errorcodes

_EXCHANGE = "_unhang_exchange"


class _Exchange:
    """What is known of one request while it runs."""

    __slots__ = ("began", "database_error")

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.database_error: str | None = None


class ResponseTimes:
    """Records how long each request takes, and whether a server or a database error ended it.

    The time runs until the response object is ready: for a streaming response that is before its
    content is sent. Requests are passed through unchanged, and so are exceptions.

    Works in sync and in async stacks. Put it first in MIDDLEWARE.

    Raises:
        ImproperlyConfigured: At start, when the setting `UNHANG` or its `RUN_DIR` has a wrong type.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response = get_response
        self.recorder = Recorder(run_dir())
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        # Errors outside the view (say, in the session middleware) never reach process_exception.
        got_request_exception.connect(_note_uncaught, dispatch_uid="unhang.response_times")

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Handle one request."""
        return self._answer_later(request) if self._is_async else self._answer(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Note which database error, if any, ended the view; Django goes on as if we were not here.

        Needed beside the signal: another middleware may turn the exception into a response.
        """
        _note(request, exception)

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        exchange = self._begin(request)
        try:
            response = cast(HttpResponseBase, self.get_response(request))
        except BaseException as error:
            self._finish_failed(exchange, error)
            raise
        self._finish(exchange, server_error=response.status_code >= 500)
        return response

    async def _answer_later(self, request: HttpRequest) -> HttpResponseBase:
        exchange = self._begin(request)
        try:
            response = await cast(Awaitable[HttpResponseBase], self.get_response(request))
        except BaseException as error:
            self._finish_failed(exchange, error)
            raise
        self._finish(exchange, server_error=response.status_code >= 500)
        return response

    def _begin(self, request: HttpRequest) -> _Exchange:
        exchange = _Exchange()
        setattr(request, _EXCHANGE, exchange)
        self.recorder.begin()
        return exchange

    def _finish_failed(self, exchange: _Exchange, error: BaseException) -> None:
        # Django has turned ordinary exceptions into responses already. What still comes here:
        # DEBUG_PROPAGATE_EXCEPTIONS, gunicorn ending a worker that hangs (SystemExit), and a
        # client of an ASGI server that left (CancelledError), which is no error of ours.
        exchange.database_error = exchange.database_error or database_error_kind(error)
        self._finish(exchange, server_error=not isinstance(error, asyncio.CancelledError))

    def _finish(self, exchange: _Exchange, *, server_error: bool) -> None:
        self.recorder.finish(
            time.perf_counter() - exchange.began,
            server_error=server_error,
            database_error=exchange.database_error,
        )


def database_error_kind(error: BaseException) -> str | None:
    """Which of `unhang.latency.KINDS` an exception is, or `None` when no database is to blame.

    Looks along `__cause__`, and decides by the driver's code, never by text.
    """
    links = list(_causes(error))
    if any(_is_pool_timeout(link) for link in links):
        return "pool_timeout"
    database_errors = [link for link in links if isinstance(link, DjangoDatabaseError)]
    if not database_errors:
        return None
    codes = {errorcodes.code_of(link) for link in database_errors}
    if codes & errorcodes.REFUSED_FOR_LOAD:
        return "refused"
    # 0 is PyMySQL's InterfaceError(0, ''): a second use of a connection that was lost.
    if codes & errorcodes.LOST or 0 in codes:
        return "gone_away"
    return "other_database"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:  # a chain may be tied into a ring
        seen.add(id(link))
        yield link
        link = link.__cause__


def _is_pool_timeout(error: BaseException) -> bool:
    # By name, so that no pool has to be imported: PoolTimeout is unhang's and psycopg_pool's,
    # the last is what the SQLAlchemy pools below Django raise.
    return any(
        cls.__name__ in ("PoolTimeout", "PoolOverloaded", "SlowLaneFull")
        or (cls.__name__ == "TimeoutError" and cls.__module__ == "sqlalchemy.exc")
        for cls in type(error).__mro__
    )


def _note(request: HttpRequest | None, error: BaseException | None) -> None:
    exchange = getattr(request, _EXCHANGE, None)
    if exchange is not None and error is not None:
        exchange.database_error = database_error_kind(error) or exchange.database_error


def _note_uncaught(request: HttpRequest | None = None, **_kwargs: Any) -> None:
    _note(request, sys.exc_info()[1])


def run_dir() -> Path:
    """The run directory of this application.

    Raises:
        ImproperlyConfigured: The setting `UNHANG` or its `RUN_DIR` has a wrong type.
    """
    options = getattr(settings, "UNHANG", {})
    if not isinstance(options, Mapping):
        raise ImproperlyConfigured('UNHANG must be a dict, such as {"RUN_DIR": "/run/shop"}.')
    try:
        return run_dir_from(
            options,
            project_dir=project_folder(),
            settings_module=getattr(settings, "SETTINGS_MODULE", None) or "",
        )
    except TypeError as error:
        raise ImproperlyConfigured('UNHANG["RUN_DIR"] must be the path of a folder.') from error


def project_folder() -> Path:
    """The folder that the settings module is imported from."""
    # settings.configure() leaves no module behind, hence no place but the current one.
    name = getattr(settings, "SETTINGS_MODULE", None) or ""
    file = getattr(sys.modules.get(name), "__file__", None)
    try:
        return project_dir(name, file) if file else Path.cwd()
    except OSError:  # the current folder was removed: no reason to keep the site from starting
        return Path(os.sep)
