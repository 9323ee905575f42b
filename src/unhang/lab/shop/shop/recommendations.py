"""Recommendations, looked up in parallel threads.

Django closes a connection when the request that opened it is over, in that request's own thread.
These threads serve no request, so nobody ever closes theirs.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from django.db.models import Count

from .models import Product

Found = dict[int, list[str]]

_THREADS: Final = 8
_BEST: Final = 5

_shared: Final = ThreadPoolExecutor(_THREADS, thread_name_prefix="recommend")

_recent: Final[deque[ThreadPoolExecutor]] = deque(maxlen=100)
"""Executors of the last requests. While they are kept, the garbage collector cannot end their
threads and so close the connections now and then, which would hide the leak."""


def with_shared_pool(ids: Iterable[int]) -> Found:
    """One executor for the process: as many connections stay open as it has threads."""
    return _look_up(_shared, ids)


def with_pool_per_request(ids: Iterable[int]) -> Found:
    """A new executor for each request, never shut down: every request leaves connections behind."""
    wanted = list(ids)
    executor = ThreadPoolExecutor(max_workers=len(wanted), thread_name_prefix="recommend")
    _recent.append(executor)
    return _look_up(executor, wanted)


POOLS: Final[Mapping[str, Callable[[Iterable[int]], Found]]] = {
    "shared": with_shared_pool,
    "request": with_pool_per_request,
}


def _look_up(executor: ThreadPoolExecutor, ids: Iterable[int]) -> Found:
    wanted = list(ids)
    return dict(zip(wanted, executor.map(_bought_together, wanted), strict=True))


def _bought_together(product_id: int) -> list[str]:
    others = (
        Product.objects.filter(lines__order__lines__product_id=product_id)
        .exclude(pk=product_id)
        .annotate(times=Count("pk"))
        .order_by("-times", "pk")
    )
    return list(others.values_list("name", flat=True)[:_BEST])
