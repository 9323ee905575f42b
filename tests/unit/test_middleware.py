"""Response times are recorded; requests and responses pass through unchanged."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql.err
import pytest
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin

from unhang.latency import Counters, default_run_dir, read_all
from unhang.middleware import ResponseTimes, database_error_kind

if not settings.configured:
    settings.configure()


def refused() -> OperationalError:
    """What Django raises when the server has no connection left."""
    args = (1040, "Too many connections")
    try:
        raise OperationalError(*args) from pymysql.err.OperationalError(*args)
    except OperationalError as error:
        return error


def ok(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fine", headers={"X-Own": "1"})


def broken(request: HttpRequest) -> HttpResponse:
    raise ValueError("a bug")


def missing(request: HttpRequest) -> HttpResponse:
    raise Http404


def overloaded(request: HttpRequest) -> HttpResponse:
    return HttpResponse("later", status=503)


def no_database(request: HttpRequest) -> HttpResponse:
    raise refused()


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"a", b"b"]))


async def ok_async(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse("fine")


async def no_database_async(request: HttpRequest) -> HttpResponse:
    raise refused()


def stop(request: HttpRequest) -> HttpResponse:
    raise SystemExit(1)


VIEWS = (
    ok, broken, missing, overloaded, no_database, streamed, ok_async, no_database_async, stop,
)  # fmt: skip
urlpatterns = [path(view.__name__, view) for view in VIEWS]


class Apologise(MiddlewareMixin):
    """Another middleware, which turns exceptions into responses."""

    def process_exception(self, _request: HttpRequest, _error: Exception) -> HttpResponse:
        return HttpResponse("sorry", status=503)


def fails_outside_the_view(get_response: Callable[[HttpRequest], Any]) -> Any:
    def middleware(request: HttpRequest) -> Any:
        get_response(request)
        raise refused()

    return middleware


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    with override_settings(
        UNHANG={"RUN_DIR": str(tmp_path / "run")},
        ROOT_URLCONF=__name__,
        MIDDLEWARE=["unhang.middleware.ResponseTimes"],
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
    ):
        yield tmp_path / "run"


def total(run_dir: Path) -> Counters:
    return Counters.merge(read_all(run_dir).values())


def get(name: str) -> Any:
    return Client(raise_request_exception=False).get(f"/{name}")


def get_async(name: str) -> Any:
    return asyncio.run(AsyncClient(raise_request_exception=False).get(f"/{name}"))


@pytest.mark.parametrize("fetch", [get, get_async])
@pytest.mark.parametrize("view", ["ok", "ok_async"])
def test_a_response_is_counted_and_unchanged(
    run_dir: Path, fetch: Callable[[str], Any], view: str
) -> None:
    response = fetch(view)
    assert (response.status_code, response.content) == (200, b"fine")
    assert response.has_header("X-Own") == (view == "ok")
    counters = total(run_dir)
    assert (counters.requests, counters.server_errors, counters.in_flight) == (1, 0, 0)
    assert sum(counters.database_errors.values()) == 0


@pytest.mark.parametrize("fetch", [get, get_async])
@pytest.mark.parametrize(
    ("view", "status", "errors"),
    [("broken", 500, 1), ("overloaded", 503, 1), ("missing", 404, 0)],
)
def test_a_5xx_status_or_an_exception_is_a_server_error_and_a_404_is_not(
    run_dir: Path, fetch: Callable[[str], Any], view: str, status: int, errors: int
) -> None:
    assert fetch(view).status_code == status
    counters = total(run_dir)
    assert (counters.requests, counters.server_errors) == (1, errors)
    assert sum(counters.database_errors.values()) == 0


@pytest.mark.parametrize("fetch", [get, get_async])
@pytest.mark.parametrize("view", ["no_database", "no_database_async"])
def test_a_database_error_is_counted_by_its_kind(
    run_dir: Path, fetch: Callable[[str], Any], view: str
) -> None:
    assert fetch(view).status_code == 500
    counters = total(run_dir)
    assert counters.server_errors == 1
    assert counters.database_errors["refused"] == sum(counters.database_errors.values()) == 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_database_error_outside_the_view_is_counted(run_dir: Path, order: int) -> None:
    both = ["unhang.middleware.ResponseTimes", f"{__name__}.fails_outside_the_view"]
    with override_settings(MIDDLEWARE=both[::order]):
        assert get("ok").status_code == 500
    inside = order == 1  # placed after the failing middleware, we cannot see its error
    assert total(run_dir).database_errors["refused"] == inside
    assert total(run_dir).server_errors == inside


def test_in_an_async_stack_a_database_error_outside_the_view_is_counted(run_dir: Path) -> None:
    both = ["unhang.middleware.ResponseTimes", f"{__name__}.fails_outside_the_view"]
    with override_settings(MIDDLEWARE=both):
        assert get_async("ok").status_code == 500
    assert total(run_dir).database_errors["refused"] == 1


def test_a_database_error_that_an_outer_middleware_turns_into_a_response_is_counted(
    run_dir: Path,
) -> None:
    both = [f"{__name__}.Apologise", "unhang.middleware.ResponseTimes"]
    with override_settings(MIDDLEWARE=both):
        assert get("no_database").status_code == 503
    assert total(run_dir).database_errors["refused"] == 1


def test_a_streaming_response_is_counted_when_it_is_handed_over(run_dir: Path) -> None:
    response = get("streamed")
    assert total(run_dir).requests == 1
    assert b"".join(response.streaming_content) == b"ab"


def test_a_worker_that_is_stopped_in_a_request_counts_it_and_stops(run_dir: Path) -> None:
    with pytest.raises(SystemExit):
        get("stop")
    counters = total(run_dir)
    assert (counters.requests, counters.server_errors, counters.in_flight) == (1, 1, 0)


def test_a_client_that_left_is_no_server_error(run_dir: Path) -> None:
    async def cancelled() -> None:
        async def inner(request: HttpRequest) -> HttpResponse:
            raise asyncio.CancelledError

        middleware = ResponseTimes(inner)
        with pytest.raises(asyncio.CancelledError):
            await middleware(RequestFactory().get("/"))  # type: ignore[misc]  # async here

    asyncio.run(cancelled())
    counters = total(run_dir)
    assert (counters.requests, counters.server_errors, counters.in_flight) == (1, 0, 0)


def test_it_is_async_exactly_when_what_it_wraps_is(run_dir: Path) -> None:
    assert iscoroutinefunction(ResponseTimes(ok_async))
    assert not iscoroutinefunction(ResponseTimes(ok))


def test_a_request_in_progress_is_in_flight(run_dir: Path) -> None:
    seen = []

    def inner(request: HttpRequest) -> HttpResponse:
        seen.append(total(run_dir).in_flight)
        return HttpResponse()

    ResponseTimes(inner)(RequestFactory().get("/"))
    assert seen == [1]


def test_a_folder_that_cannot_be_used_breaks_no_request(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir.write_text("a file is in the way")
    assert get("ok").status_code == 200
    assert "not recorded" in caplog.text


@pytest.mark.parametrize("wrong", [{"RUN_DIR": 5}, "a string", ["a list"]])
def test_a_setting_of_the_wrong_type_is_said_at_start(wrong: object) -> None:
    with override_settings(UNHANG=wrong), pytest.raises(ImproperlyConfigured, match="UNHANG"):
        ResponseTimes(ok)


def test_the_folder_is_the_one_that_the_command_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = type(sys)("shop.settings")
    module.__file__ = str(tmp_path / "shop" / "settings.py")
    monkeypatch.setitem(sys.modules, "shop.settings", module)
    with override_settings(UNHANG={}, SETTINGS_MODULE="shop.settings"):
        middleware = ResponseTimes(ok)
    assert middleware.recorder.run_dir == default_run_dir(tmp_path, "shop.settings")


def test_a_site_starts_from_a_folder_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    with override_settings(UNHANG={"RUN_DIR": str(tmp_path)}, SETTINGS_MODULE=""):
        # There only as long as needed: Python 3.13.0 itself fails in such a folder when a module
        # lacks an attribute, as Django's defaults lack UNHANG.
        with monkeypatch.context() as there:
            there.chdir(tmp_path / "gone")
            (tmp_path / "gone").rmdir()
            recorder = ResponseTimes(ok).recorder
        assert recorder.run_dir == tmp_path


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


class PoolTimeout(OperationalError):
    """Stands for the pool's own exception, which is known by its name."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refused(), "refused"),
        (OperationalError(1226, "limit"), "refused"),
        (OperationalError(2006, "gone"), "gone_away"),
        (OperationalError(4031, "inactive"), "gone_away"),
        (InterfaceError(0, ""), "gone_away"),
        (OperationalError(2002, "socket"), "other_database"),
        (OperationalError("no code at all"), "other_database"),
        (IntegrityError(1062, "duplicate"), "other_database"),
        (PoolTimeout("pool"), "pool_timeout"),
        (caused(OperationalError(1040, "x"), PoolTimeout("pool")), "pool_timeout"),
        (caused(RuntimeError("wrapped"), refused()), "refused"),
        (ValueError(2006), None),
        (TimeoutError("not a pool's"), None),
        (Http404(), None),
    ],
)
def test_errors_are_told_apart_by_code(error: Exception, kind: str | None) -> None:
    assert database_error_kind(error) == kind


def test_a_ring_of_causes_ends() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert database_error_kind(first) is None
