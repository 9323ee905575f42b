"""What writing down who opens connections costs: CPU time a connect and a request, both ways.

Both run in one process against one MariaDB, in interleaved rounds, on Django's own backend with
mysqlclient over the socket file, where a connect is cheapest. The result is a ratio and a
difference, not a speed.

    make bench
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from unhang import lab

ROUNDS = 101
CONNECTS = 20
REQUESTS = 300
DEPTH = 25
"""Frames between the application's line and the handler, as a few middlewares make."""


def main() -> None:
    """Print both tables."""
    import django
    from django.conf import settings

    with tempfile.TemporaryDirectory() as folder, lab.server("mariadb") as server:
        server.create_account("app", "app", database="app")
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__,
            MIDDLEWARE=[],
            DATABASES={
                "default": {
                    "ENGINE": "django.db.backends.mysql",
                    "NAME": "app",
                    "USER": "app",
                    "PASSWORD": "app",
                    "HOST": server.socket,
                }
            },
        )
        django.setup()
        run_dir = Path(folder) / "run"
        compare("connect", CONNECTS, run_dir, lambda: deep(DEPTH, connect))
        in_place(run_dir)
        compare("request", REQUESTS, run_dir, answer())


def compare(what: str, count: int, run_dir: Path, act: Callable[[], object]) -> None:
    """Interleaved rounds with and without; CPU microseconds each."""
    from unhang.openers import signals

    found: dict[str, list[float]] = {"without": [], "with": []}
    for _round in range(ROUNDS):
        for name, times in found.items():
            if name == "with":
                signals.connect(run_dir, Path(__file__).parent)
                act()  # the first makes the file
            began = time.process_time()
            for _again in range(count):
                act()
            times.append(1e6 * (time.process_time() - began) / count)
            if name == "with":
                signals.disconnect()
    differences = [b - a for a, b in zip(found["without"], found["with"], strict=True)]
    ratios = [b / a for a, b in zip(found["without"], found["with"], strict=True)]
    print(f"{ROUNDS} rounds of {count} each, interleaved; CPU time, median (min … max)")
    for name, times in found.items():
        print(f"  {name:8} {spread(times)} µs a {what}")
    print(f"  added    {spread(differences)} µs a {what}")
    print(f"  ratio    {spread(ratios)}")


def in_place(run_dir: Path) -> None:
    """The receiver alone while connections are opened for real: its code is not in the caches then,
    and there is less noise than in a difference."""
    from django.db import connection
    from django.db.backends.signals import connection_created

    from unhang.openers import signals

    signals.connect(run_dir, Path(__file__).parent)
    receiver = next(r[1] for r in connection_created.receivers if r[0][0] == "unhang.openers")
    connection_created.disconnect(dispatch_uid="unhang.openers")
    times = []

    def timed(**given: object) -> None:
        began = time.thread_time_ns()
        receiver(**given)
        times.append((time.thread_time_ns() - began) / 1e3)

    connection_created.connect(timed)
    for _connect in range(ROUNDS * CONNECTS):
        connect()
    connection_created.disconnect(timed)
    signals.disconnect()
    print(f"  the receiver alone, in place: {spread(times[1:])} µs; the first {times[0]:.0f} µs")
    connection.close()


def spread(values: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):6.2f} ({min(values):.2f} … {max(values):.2f})"


def deep(depth: int, act: Callable[[], object]) -> object:
    """Call with more frames below."""
    return deep(depth - 1, act) if depth else act()


def connect() -> None:
    """Open a connection as Django does, and close it."""
    from django.db import connection

    connection.ensure_connection()
    connection.close()


def answer() -> Callable[[], object]:
    """A function that sends one request through Django's handler, as a server does."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import RequestFactory

    handler, environ = WSGIHandler(), RequestFactory().get("/").environ

    def once() -> None:
        handler(environ, lambda *_arguments: None).close()

    return once


def page(_request: object) -> object:
    """A view that does nothing, so that the signals are all there is to see."""
    from django.http import HttpResponse

    return HttpResponse("ok")


def __getattr__(name: str) -> object:
    # Django reads it when the settings are there; importing django.urls earlier would need them.
    if name == "urlpatterns":
        from django.urls import path

        return [path("", page)]  # type: ignore[arg-type]  # loose on purpose: settings come later
    raise AttributeError(name)


if __name__ == "__main__":
    main()
