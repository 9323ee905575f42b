"""How many requests a process serves at a time, seen from the thread that asks."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async
from django.core.signals import request_started

from unhang.lanes import workers


def test_the_main_thread_is_a_worker_that_serves_one_at_a_time() -> None:
    assert workers.count() == 1


def test_a_pool_of_threads_serves_as_many_as_it_may_have() -> None:
    with ThreadPoolExecutor(7) as pool:
        assert pool.submit(workers.count).result() == 7


def test_a_pool_of_one_thread_says_nothing() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(workers.count).result() == 0


def test_a_thread_of_its_own_says_nothing() -> None:
    seen: list[int] = []
    for args in ((), (5,), (lambda: None,)):
        thread = threading.Thread(target=lambda *_: seen.append(workers.count()), args=args)
        thread.start()
        thread.join()
    assert seen == [0, 0, 0]


def test_threads_of_asyncio_say_nothing() -> None:
    async def main() -> list[int]:
        sensitive = await sync_to_async(workers.count)()
        free = await sync_to_async(workers.count, thread_sensitive=False)()
        loops = await asyncio.to_thread(workers.count)
        return [sensitive, free, loops]

    assert asyncio.run(main())[1:] == [0, 0]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has served nothing yet."""
    import unhang.backends.mysql.laning  # noqa: F401 - connects the receiver

    monkeypatch.setattr(workers, "_serves_requests", False)
    monkeypatch.setattr(workers, "_at_a_time", 0)


def test_a_process_serves_requests_from_its_first_one_on(fresh: None) -> None:
    assert not workers.serves_requests()
    request_started.send(sender=None, environ={})
    assert workers.serves_requests()


def test_how_many_at_a_time_is_seen_with_the_first_request(fresh: None) -> None:
    with ThreadPoolExecutor(7) as pool:
        pool.submit(request_started.send, sender=None, environ={}).result()
    assert workers.requests_at_a_time() == 7
    request_started.send(sender=None, environ={})
    assert workers.requests_at_a_time() == 7


def test_a_request_of_an_asgi_server_says_nothing(fresh: None) -> None:
    request_started.send(sender=None, scope={})
    assert workers.serves_requests()
    assert workers.requests_at_a_time() == 0
