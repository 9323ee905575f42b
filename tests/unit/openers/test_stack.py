"""Which line of the application is behind a call."""

from __future__ import annotations

import sys
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import django
import pytest

import unhang
from unhang.openers.stack import Places, thread_name

SITE = "/venv/lib/python3.11/site-packages"
DJANGO = f"{Path(django.__file__).parent}/db/utils.py"
UNHANG = f"{Path(unhang.__file__).parent}/apps.py"
STDLIB = f"{sysconfig.get_path('stdlib')}/threading.py"


def through(*files: str, then: Callable[[FrameType], Any]) -> Any:
    """Call `then` with the innermost frame of a stack of such files, the outermost first."""
    function: Callable[[], Any] = lambda: then(sys._getframe(1))  # noqa: E731 - its caller's frame
    for file in reversed(files):
        namespace: dict[str, Any] = {"call": function}
        exec(compile("\n\ndef run():\n    return call()\n", file, "exec"), namespace)  # noqa: S102
        function = namespace["run"]
    return function()


def code(*files: str) -> str:
    places = Places(Path("/srv/shop"))
    places._seen[__file__] = ("plumbing", "")  # or these tests would be the application
    return str(through(*files, then=places.code_of))


@pytest.mark.parametrize(
    "inner",
    [
        DJANGO,
        UNHANG,
        STDLIB,
        f"{SITE}/MySQLdb/connections.py",
        f"{SITE}/sqlalchemy/pool/base.py",
        f"{SITE}/rest_framework/views.py",
        f"{SITE}/asgiref/sync.py",
        "<string>",
    ],
)
def test_the_line_is_the_innermost_one_of_the_application(inner: str) -> None:
    assert code("/srv/shop/manage.py", "/srv/shop/web/views.py", inner) == "web/views.py:4"


def test_without_one_it_is_the_innermost_of_a_package_that_is_no_plumbing() -> None:
    outer, inner = f"{SITE}/gunicorn/workers/sync.py", f"{SITE}/rest_framework/views.py"
    assert code(outer, inner, f"{SITE}/rest_framework/fields.py", DJANGO) == (
        "rest_framework/fields.py:4"
    )


def test_files_that_every_stack_begins_with_say_nothing() -> None:
    told = code("/srv/shop/manage.py", "/srv/shop/shop/wsgi.py", DJANGO)
    assert "manage" not in told
    assert "wsgi" not in told


def test_an_executor_thread_of_another_ones_is_told_apart() -> None:
    with ThreadPoolExecutor(1) as executor:
        own = executor.submit(lambda: thread_name(sys._getframe())).result()
        asgi = executor.submit(
            lambda: through(f"{SITE}/asgiref/sync.py", then=thread_name)
        ).result()
    with ThreadPoolExecutor(1, thread_name_prefix="mailer") as executor:
        named = executor.submit(lambda: thread_name(sys._getframe())).result()
    assert named == "mailer_0 (executor)"
    assert asgi == f"{own} (asgiref)"
    assert thread_name(sys._getframe()) == threading.current_thread().name


def test_a_threads_name_is_bounded_and_still_says_whose_it_is() -> None:
    with ThreadPoolExecutor(1, thread_name_prefix="x" * 10_000) as executor:
        told = executor.submit(lambda: thread_name(sys._getframe())).result()
    assert len(told) < 100
    assert told.endswith(" (executor)")
