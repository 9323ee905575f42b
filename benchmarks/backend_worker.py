"""One contender of `backend.py`: does what it is told on standard input.

Each line asks `[what, times]`; the answer to a kind of request is the CPU time of one, in
microseconds.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def main() -> None:
    import django
    from django.conf import settings

    settings.configure(
        DATABASES={"default": json.loads(sys.argv[1])},
        INSTALLED_APPS=["django.contrib.contenttypes"],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    for line in sys.stdin:
        what, times = json.loads(line)
        print(json.dumps(ACTIONS[what](times)), flush=True)


def in_requests(view: Any, times: int) -> float:
    """CPU microseconds of a request: the view between Django's two signals."""
    from django.core.signals import request_finished, request_started

    began = time.process_time()
    for number in range(times):
        request_started.send(sender=None)
        view(number % 100 + 1)
        request_finished.send(sender=None)
    return 1e6 * (time.process_time() - began) / times


def read(key: int) -> None:
    """One row by its key."""
    from django.contrib.contenttypes.models import ContentType

    ContentType.objects.get(pk=key)


def transact(key: int) -> None:
    """A read and two writes in a transaction."""
    from django.contrib.contenttypes.models import ContentType
    from django.db import transaction

    with transaction.atomic():
        found = ContentType.objects.get(pk=key)
        ContentType.objects.filter(pk=key).update(model=found.model)
        ContentType.objects.filter(pk=key + 1).update(app_label="shop")


_kept: list[Any] = []


def threads(_times: int) -> int:
    """64 threads that serve requests and stay, and an executor of 16 that nobody shuts down.

    Returns how many of them got an error instead of an answer.
    """
    from django.db import Error

    served = threading.Barrier(65)
    stay = threading.Event()
    failed: list[Exception] = []

    def serve() -> None:
        try:
            in_requests(read, 3)
        except Exception as error:  # noqa: BLE001 - counted
            failed.append(error)
        served.wait(100)
        stay.wait()

    def look(key: int) -> None:
        try:
            read(key)
        except Error as error:
            failed.append(error)

    for _ in range(64):
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        _kept.append(thread)
    served.wait(100)
    executor = ThreadPoolExecutor(16)
    list(executor.map(look, range(1, 65)))
    _kept.append(executor)
    return len(failed)


def size(_times: int) -> float:
    """Bytes of a virtual connection that holds nothing."""
    from django.db import connection

    connection.ensure_connection()
    params = connection.get_connection_params()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [connection.get_new_connection(params) for _ in range(500)]
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / len(kept)


ACTIONS = {
    "read by key": lambda times: in_requests(read, times),
    "transaction of 3": lambda times: in_requests(transact, times),
    "threads": threads,
    "size": size,
}

if __name__ == "__main__":
    main()
