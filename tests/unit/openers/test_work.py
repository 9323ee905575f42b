"""What the code that runs now is part of."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.core.signals import request_finished, request_started

from unhang.openers import signals, work
from unhang.openers.work import current_work

if not settings.configured:
    settings.configure()

ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "/shop",
    "PATH_INFO": "/caf\xc3\xa9/7/",  # as WSGI wants it: UTF-8 taken for Latin-1
    "QUERY_STRING": "token=hush",
}


@pytest.fixture(autouse=True)
def connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    signals.connect(tmp_path / "run", tmp_path)
    yield
    signals.disconnect()
    work._current.set(None)


def test_a_request_is_told_by_method_and_path_until_it_has_ended() -> None:
    work.begin_request(environ=ENVIRON)
    assert current_work() == "GET /shop/café/7/"
    work.end_request()
    assert current_work() == ""


def test_what_may_be_a_secret_in_a_path_is_not_told() -> None:
    work.begin_request(
        environ={"REQUEST_METHOD": "GET", "PATH_INFO": f"/reset/MQ/c3k2-{'0a9f' * 8}/"}
    )
    assert current_work() == "GET /reset/MQ/…/"


def test_nobody_can_send_a_path_that_takes_long() -> None:
    """The time grew with the square of a part's length: a minute for 64 kB."""
    work.begin_request(scope={"method": "GET", "path": f"/{'a' * 1_000_000}/7"})
    assert current_work().startswith("GET /aaaa")


def test_a_copy_of_the_context_does_not_outlive_the_request() -> None:
    work.begin_request(environ=ENVIRON)
    copied = contextvars.copy_context()
    assert copied.run(current_work) == "GET /shop/café/7/"
    work.end_request()
    assert copied.run(current_work) == ""


def test_a_thread_that_a_request_started_has_no_request() -> None:
    work.begin_request(environ=ENVIRON)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(current_work()))
    thread.start()
    thread.join()
    assert found == [""]


def test_requests_of_an_event_loop_are_told_apart() -> None:
    """As Django's ASGI handler does it: the receiver's own context is thrown away."""

    async def answer(path: str, both: asyncio.Barrier) -> list[str]:
        async with ThreadSensitiveContext():
            await request_started.asend(None, scope={"method": "GET", "path": path})
            await both.wait()
            during = await sync_to_async(current_work)()
            await both.wait()
            await sync_to_async(request_finished.send)(None)
            return [during, await sync_to_async(current_work)()]

    async def two() -> list[list[str]]:
        both = asyncio.Barrier(2)
        return await asyncio.gather(answer("/a/", both), answer("/b/", both))

    assert asyncio.run(two()) == [["GET /a/", ""], ["GET /b/", ""]]


def test_a_task_within_a_request_is_told_while_it_runs() -> None:
    work.begin_request(environ=ENVIRON)
    before = work.enter_task("shop.tasks.mail")
    assert current_work() == "task shop.tasks.mail"
    work.leave_task(before)
    assert current_work() == "GET /shop/café/7/"


def test_a_management_command_is_told_where_nothing_else_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["/srv/manage.py", "close_day", "--token=hush"])
    assert current_work() == "command close_day"


_TASK = """
import sys
from pathlib import Path
from django.conf import settings
settings.configure()
import celery
from unhang.openers import signals
from unhang.openers.work import current_work
signals.connect(Path(sys.argv[1]), Path.cwd())
app = celery.Celery("shop", set_as_current=False)
@app.task(name="shop.tasks.mail")
def mail():
    return current_work()
print([mail.apply().get(), current_work()])
"""


def test_celery_says_which_task_runs(tmp_path: Path) -> None:
    pytest.importorskip("celery")
    done = subprocess.run(
        [sys.executable, "-c", _TASK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['task shop.tasks.mail', '']"


def test_nobody_gets_celery_from_us() -> None:
    program = "import sys, unhang.openers.signals; print('celery' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
