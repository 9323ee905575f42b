"""Each answer says which process made it, for who gets a slow query is left to chance."""

import os
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware


# In both kinds, so that what is measured under uvicorn is not our own change of threads.
@sync_and_async_middleware
def tell_process(get_response: Any) -> Any:
    """The process's id in a header."""

    def told(response: HttpResponseBase) -> HttpResponseBase:
        response["X-Process"] = str(os.getpid())
        return response

    async def answer_later(request: HttpRequest) -> HttpResponseBase:
        return told(await get_response(request))

    def answer(request: HttpRequest) -> HttpResponseBase:
        return told(get_response(request))

    return answer_later if iscoroutinefunction(get_response) else answer
