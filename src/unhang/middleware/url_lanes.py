"""Lanes by URL: what `UNHANG["LANES"]` says of paths and views."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import resolve

from unhang.backends.mysql.laning import named_lanes
from unhang.lanes import lane


class UrlLanes:
    """Runs a request in the lane that has a pattern for its path, or for the name of its view.

    A pattern that begins with `/` is one of paths, with `*` and `?`; any other is one of views'
    names, such as `shop:report`.

    Raises:
        MiddlewareNotUsed: No lane names a URL.
        ImproperlyConfigured: The lanes in the settings make no sense.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self._lanes = named_lanes()
        patterns = [pattern for options in self._lanes.values() for pattern in options.urls]
        if not patterns:
            raise MiddlewareNotUsed('no lane in UNHANG["LANES"] has urls')
        self._names_views = any(not pattern.startswith("/") for pattern in patterns)
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Handle one request."""
        name = self._lane_of(request)
        if self._is_async:
            return self._answer_later(request, name)
        if name is None:
            return self.get_response(request)
        with lane(name):
            return self.get_response(request)

    async def _answer_later(self, request: HttpRequest, name: str | None) -> HttpResponseBase:
        if name is None:
            return await cast(Awaitable[HttpResponseBase], self.get_response(request))
        with lane(name):
            return await cast(Awaitable[HttpResponseBase], self.get_response(request))

    def _lane_of(self, request: HttpRequest) -> str | None:
        path, view = request.path_info, ""
        if self._names_views:
            with contextlib.suppress(Http404):
                view = resolve(path).view_name
        for name, options in self._lanes.items():
            for pattern in options.urls:
                if fnmatchcase(path if pattern.startswith("/") else view, pattern):
                    return name
        return None
