"""Overload becomes 503: the database is well, there is just no place for this request now."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.signals import got_request_exception
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.template import TemplateDoesNotExist, loader

from unhang.lanes import SlowLaneFull
from unhang.pool import PoolOverloaded, PoolTimeout

logger = logging.getLogger("unhang.middleware")

_OVERLOAD: Final = (PoolTimeout, PoolOverloaded, SlowLaneFull)
_NOTED: Final = "_unhang_overload"
_RETRY_SECONDS: Final = (1, 3)
"""Spread, so that those who were turned away together do not come back together."""

_TEMPLATE: Final = "503.html"

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Busy</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body style="font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 20vh auto; \
padding: 0 1rem">
<h1>Busy right now</h1>
<p>This page cannot be shown at the moment. Please try again in a few seconds.</p>
</body></html>
"""


class ServiceUnavailable:
    """Turns `PoolTimeout`, `PoolOverloaded` and `SlowLaneFull` into 503 with `Retry-After`.

    API clients get JSON; others the project's template `503.html`, or a plain page. The exception's
    text goes to the log `unhang.middleware`, not to the client. Nothing else is touched: other
    database errors, and exceptions that the application makes of these, pass through.

    Works in sync and in async stacks, for views and for the middleware below it. A streaming
    response that fails half-way has sent its status already.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        # What other middleware raises never comes to process_exception: it is a 500 by then.
        got_request_exception.connect(_note, dispatch_uid="unhang.service_unavailable")

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Handle one request."""
        if self._is_async:
            return self._answer_later(request)
        return _corrected(request, cast(HttpResponseBase, self.get_response(request)))

    async def _answer_later(self, request: HttpRequest) -> HttpResponseBase:
        response = await cast(Awaitable[HttpResponseBase], self.get_response(request))
        return _corrected(request, response)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """503 if the view ended for want of a place, else nothing."""
        reason = overload_in(exception)
        return None if reason is None else unavailable(request, reason)


def overload_in(error: BaseException | None) -> BaseException | None:
    """The pool's error that this is, or that Django has wrapped in its own `OperationalError`."""
    if isinstance(error, _OVERLOAD):
        return error
    cause = error.__cause__ if isinstance(error, OperationalError) else None
    return cause if isinstance(cause, _OVERLOAD) else None


def unavailable(request: HttpRequest, reason: BaseException) -> HttpResponse:
    """The answer to a request that got no place."""
    seconds = random.randint(*_RETRY_SECONDS)  # noqa: S311 - jitter
    if isinstance(reason, SlowLaneFull):
        seconds = reason.retry_after
    logger.warning("503 for %s %s: %s", request.method, request.path, reason)
    response = _json(seconds) if _wants_json(request) else _page()
    response["Retry-After"] = str(seconds)
    response["Cache-Control"] = "no-store"
    return response


def _json(seconds: int) -> HttpResponse:
    body = {"error": "overloaded", "detail": "Busy right now.", "retry_after": seconds}
    return JsonResponse(body, status=503)


def _page() -> HttpResponse:
    try:
        # Without the request: what its context processors look up would wait for the database.
        text: str = loader.render_to_string(_TEMPLATE)
    except TemplateDoesNotExist:
        text = _PAGE
    except Exception:  # a template that needs the database, say
        logger.exception("the template %s failed", _TEMPLATE)
        text = _PAGE
    return HttpResponse(text, status=503)


def _wants_json(request: HttpRequest) -> bool:
    if request.content_type == "application/json":
        return True
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def _note(request: HttpRequest | None = None, **_kwargs: Any) -> None:
    if request is not None:  # the last exception counts: another one is somebody else's
        setattr(request, _NOTED, overload_in(sys.exc_info()[1]))


def _corrected(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    reason = getattr(request, _NOTED, None)
    if reason is None or response.status_code != 500:
        return response
    return unavailable(request, reason)
