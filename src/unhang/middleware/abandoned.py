"""Reads that nobody waits for any more: the client of an ASGI request has left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from unhang.backends.mysql import ending

_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})


class EndAbandonedReads:
    """Ends, on the server, what a GET or HEAD request reads when its client has left.

    Django cancels such a request under ASGI, but a statement that runs in a thread runs on, and
    keeps its connection. Only statements that merely read, outside of transactions, are ended; the
    view's thread gets error 1317. Under WSGI nobody learns that a client has left.

    Raises:
        MiddlewareNotUsed: The stack is not an asynchronous one.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        if not iscoroutinefunction(get_response):
            raise MiddlewareNotUsed("only under ASGI is a request that nobody waits for cancelled")
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Handle one request."""
        answer = cast(Awaitable[HttpResponseBase], self.get_response(request))
        if request.method not in _SAFE_METHODS:
            return await answer
        token = object()
        before = ending.request.set(token)
        try:
            return await answer
        except asyncio.CancelledError:
            ending.end_reads_of(token)
            raise
        finally:
            ending.request.reset(before)
