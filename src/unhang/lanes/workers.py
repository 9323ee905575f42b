"""How many requests this process can serve at a time, as far as can be found out."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

_serves_requests = False
_at_a_time = 0


def note_request(**signal: object) -> None:
    """This process serves requests: a receiver for Django's `request_started`."""
    global _serves_requests, _at_a_time
    environ = signal.get("environ")
    # Sent in the thread that serves the request, except under ASGI.
    if not isinstance(environ, Mapping):
        _serves_requests = True
        return
    if _serves_requests and (_at_a_time != 1 or _is_main_thread()):
        return
    _serves_requests = True
    at_a_time = count()
    # uWSGI's first thread is the main one, and has others beside it. Likewise, one request in the
    # main thread, to warm up, says nothing once another thread serves some.
    is_one_of_many = at_a_time == 1 and bool(environ.get("wsgi.multithread"))
    _at_a_time = 0 if is_one_of_many else at_a_time


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _forget() -> None:
    """In a forked child: what it will serve is its own business."""
    global _serves_requests, _at_a_time
    _serves_requests, _at_a_time = False, 0


os.register_at_fork(after_in_child=_forget)


def serves_requests() -> bool:
    """Whether it has begun to serve any. Tasks and commands do not: nobody waits in front of a
    browser for them, and their workers are meant to be busy."""
    return _serves_requests


def requests_at_a_time() -> int:
    """As many as it serves side by side; 0 if that cannot be known."""
    return _at_a_time


def count() -> int:
    """Requests at a time, judged by the running thread; 0 if it cannot be known.

    A request in the main thread is one of a worker that serves one at a time (gunicorn's sync). One
    in a pool of threads shares it with as many as the pool may have (gthread). asyncio's pool and
    those of one thread, which asgiref makes for each request, say nothing.
    """
    if _is_main_thread():
        return 1
    thread = threading.current_thread()
    # The executor is an argument of its threads, by weak reference (Python 3.11 to 3.14). If that
    # ever changes, the answer is 0, and the option `workers` can tell.
    reference, *_others = getattr(thread, "_args", None) or (None,)
    executor = reference() if callable(reference) else None
    if not isinstance(executor, ThreadPoolExecutor) or thread.name.startswith("asyncio"):
        return 0
    size = getattr(executor, "_max_workers", 0)
    return size if size > 1 else 0
