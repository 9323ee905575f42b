"""What recording response times costs a request: CPU time with and without the middleware.

Both stacks answer the same request in one process, in interleaved rounds, so that a machine that
gets slower or faster does so for both. The result is a ratio and a difference, not a speed.

    make bench
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 21
REQUESTS = 2_000


def main() -> None:
    """Print the table."""
    import django
    from django.conf import settings

    with tempfile.TemporaryDirectory() as folder:
        settings.configure(
            ALLOWED_HOSTS=["*"],
            ROOT_URLCONF=__name__,
            UNHANG={"RUN_DIR": str(Path(folder) / "run")},
            MIDDLEWARE=[],
        )
        django.setup()
        compare()


def compare() -> None:
    """Interleaved rounds of both stacks; CPU microseconds a request."""
    stacks = {"without": stack([]), "with": stack(["unhang.middleware.ResponseTimes"])}
    found: dict[str, list[float]] = {name: [] for name in stacks}
    for _round in range(ROUNDS):
        for name, answer in stacks.items():
            began = time.process_time()
            for _request in range(REQUESTS):
                answer()
            found[name].append(1e6 * (time.process_time() - began) / REQUESTS)
    differences = [b - a for a, b in zip(found["without"], found["with"], strict=True)]
    ratios = [b / a for a, b in zip(found["without"], found["with"], strict=True)]
    print(f"{ROUNDS} rounds of {REQUESTS} requests each, interleaved; CPU time, median (min … max)")
    for name, times in found.items():
        print(f"  {name:8} {spread(times)} µs a request")
    print(f"  added    {spread(differences)} µs a request")
    print(f"  ratio    {spread(ratios)}")


def spread(values: list[float]) -> str:
    """Median, smallest and largest."""
    return f"{statistics.median(values):6.2f} ({min(values):.2f} … {max(values):.2f})"


def stack(middleware: list[str]) -> Callable[[], object]:
    """A function that sends one request through Django's handler with this middleware."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import RequestFactory, override_settings

    with override_settings(MIDDLEWARE=middleware):
        handler = WSGIHandler()
    request = RequestFactory().get("/")
    return lambda: handler.get_response(request)


def page(_request: object) -> object:
    """A view that does nothing, so that the middleware is all there is to see."""
    from django.http import HttpResponse

    return HttpResponse("ok")


def urls() -> list[object]:
    """The only URL."""
    from django.urls import path

    return [path("", page)]  # type: ignore[arg-type]  # loose on purpose: settings come later


def __getattr__(name: str) -> object:
    # Django reads it when the settings are there; importing django.urls earlier would need them.
    if name == "urlpatterns":
        return urls()
    raise AttributeError(name)


if __name__ == "__main__":
    main()
