"""Overload becomes 503, and nothing else does; requests run in the lane of their URL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import iscoroutinefunction
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.db import DatabaseError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import include, path

from unhang.lanes import SlowLaneFull, naming
from unhang.middleware import EndAbandonedReads, ServiceUnavailable, UrlLanes
from unhang.pool import PoolClosed, PoolOverloaded, PoolTimeout
from unhang.pool.errors import as_driver_error

if not settings.configured:
    settings.configure()
if not apps.ready:
    django.setup()


class DriverError(Exception):
    """The driver's OperationalError."""


SECRET = "pool 'default': held by SELECT secret"


def of_django(kind: type[Any]) -> OperationalError:
    """As Django wraps what the backend raises."""
    try:
        raise OperationalError(SECRET) from as_driver_error(kind, DriverError)(SECRET)
    except OperationalError as error:
        return error


def slow_lane_full() -> OperationalError:
    error = of_django(SlowLaneFull)
    error.__cause__.retry_after = 17  # type: ignore[union-attr]  # it has a cause
    return error


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


OVERLOADS: dict[str, Callable[[], BaseException]] = {
    "timeout": lambda: of_django(PoolTimeout),
    "overloaded": lambda: of_django(PoolOverloaded),
    "slow_lane": slow_lane_full,
    "bare": lambda: as_driver_error(PoolTimeout, DriverError)(SECRET),
}
OTHERS: dict[str, Callable[[], BaseException]] = {
    "bug": lambda: ValueError("a bug"),
    "made_of_it": lambda: caused(ValueError("mine"), of_django(PoolTimeout)),
    "made_of_the_bare": lambda: caused(
        ValueError("mine"), as_driver_error(PoolTimeout, DriverError)(SECRET)
    ),
    "refused": lambda: caused(OperationalError(1040, "Too many"), DriverError(1040, "Too many")),
    "no_cause": lambda: OperationalError(1040, "Too many connections"),
    "closed": lambda: of_django(PoolClosed),
    "database": lambda: DatabaseError("something else"),
}


def ok(request: HttpRequest, n: int = 0) -> HttpResponse:
    return HttpResponse(naming.name_for("default") or "none")


async def ok_async(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse(naming.name_for("default") or "none")


def made_500(request: HttpRequest) -> HttpResponse:
    return HttpResponse("own", status=500)


def fails(request: HttpRequest, kind: str) -> HttpResponse:
    raise {**OVERLOADS, **OTHERS}[kind]()


async def fails_async(request: HttpRequest, kind: str) -> HttpResponse:
    raise {**OVERLOADS, **OTHERS}[kind]()


def caught(request: HttpRequest) -> HttpResponse:
    try:
        raise of_django(PoolTimeout)
    except OperationalError:
        return HttpResponse("from the cache")


urlpatterns = [
    path("ok/", ok, name="ok"),
    path("ok_async/", ok_async, name="ok_async"),
    path("caught/", caught),
    path("made_500/", made_500),
    path("fails/<kind>/", fails),
    path("fails_async/<kind>/", fails_async),
    path("shop/", include(([path("report/<int:n>/", ok, name="report")], "shop"))),
]


def fails_inside(get_response: Callable[[HttpRequest], Any]) -> Any:
    def middleware(request: HttpRequest) -> Any:
        kind = request.headers.get("X-Fails")
        if kind:
            raise {**OVERLOADS, **OTHERS}[kind]()
        return get_response(request)

    return middleware


OURS = "unhang.middleware.ServiceUnavailable"
INSIDE = f"{__name__}.fails_inside"


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    with override_settings(
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[OURS, INSIDE],
        ALLOWED_HOSTS=["*"],
        DEBUG=False,
        TEMPLATES=[],
    ):
        # As an override it could not be taken back: other tests have none to go back to.
        settings._wrapped.__dict__["SECRET_KEY"] = "x"
        yield


def get(path: str, **headers: str) -> Any:
    return Client(raise_request_exception=False).get(path, headers=headers)


def get_async(path: str, **headers: str) -> Any:
    client = AsyncClient(raise_request_exception=False)
    return asyncio.run(client.get(path, headers=headers))


both_stacks = pytest.mark.parametrize("fetch", [get, get_async])


@both_stacks
@pytest.mark.parametrize("view", ["fails", "fails_async"])
@pytest.mark.parametrize("kind", OVERLOADS)
def test_overload_in_a_view_is_503(fetch: Callable[..., Any], view: str, kind: str) -> None:
    response = fetch(f"/{view}/{kind}/")
    assert response.status_code == 503
    assert response["Cache-Control"] == "no-store"
    assert int(response["Retry-After"]) >= 1
    assert b"secret" not in response.content


@both_stacks
@pytest.mark.parametrize("kind", OVERLOADS)
def test_overload_in_other_middleware_is_503(fetch: Callable[..., Any], kind: str) -> None:
    response = fetch("/ok/", **{"X-Fails": kind})
    assert response.status_code == 503
    assert int(response["Retry-After"]) >= 1
    assert b"secret" not in response.content


@both_stacks
@pytest.mark.parametrize("view", ["fails", "fails_async"])
@pytest.mark.parametrize("kind", OTHERS)
def test_other_exceptions_of_a_view_are_untouched(
    fetch: Callable[..., Any], view: str, kind: str
) -> None:
    response = fetch(f"/{view}/{kind}/")
    assert response.status_code == 500
    assert not response.has_header("Retry-After")
    assert response.exc_info is not None


@both_stacks
@pytest.mark.parametrize("kind", OTHERS)
def test_other_exceptions_of_middleware_are_untouched(fetch: Callable[..., Any], kind: str) -> None:
    response = fetch("/ok/", **{"X-Fails": kind})
    assert response.status_code == 500
    assert not response.has_header("Retry-After")


@both_stacks
@pytest.mark.parametrize(
    ("path", "status"), [("/ok/", 200), ("/caught/", 200), ("/made_500/", 500), ("/none/", 404)]
)
def test_responses_are_untouched(fetch: Callable[..., Any], path: str, status: int) -> None:
    response = fetch(path)
    assert response.status_code == status
    assert not response.has_header("Retry-After")


@pytest.mark.parametrize("kind", OVERLOADS)
def test_with_debug_on_it_is_503_too(kind: str) -> None:
    with override_settings(DEBUG=True):
        assert get(f"/fails/{kind}/").status_code == 503
        assert get("/ok/", **{"X-Fails": kind}).status_code == 503


def test_a_full_lane_says_itself_when_to_come_back() -> None:
    assert get("/fails/slow_lane/")["Retry-After"] == "17"


def test_who_was_turned_away_together_does_not_come_back_together() -> None:
    assert len({get("/fails/timeout/")["Retry-After"] for _ in range(40)}) > 1


@both_stacks
@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        (None, False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("application/json;q=0.5, text/html", False),
        ("text/html;q=0.5, application/json", True),
        ("image/png", False),
        ("nonsense", False),
    ],
)
def test_api_clients_get_json_and_others_a_page(
    fetch: Callable[..., Any], accept: str | None, is_json: bool
) -> None:
    response = fetch("/fails/slow_lane/", **({"Accept": accept} if accept else {}))
    assert response.status_code == 503
    if is_json:
        assert response.json() == {
            "error": "overloaded",
            "detail": "Busy right now.",
            "retry_after": 17,
        }
    else:
        assert response["Content-Type"].startswith("text/html")
        assert b"<h1>Busy right now</h1>" in response.content


def test_who_sends_json_gets_json() -> None:
    client = Client(raise_request_exception=False)
    response = client.post("/fails/timeout/", {"a": 1}, content_type="application/json")
    assert response.json()["error"] == "overloaded"


def templates(folder: Path, text: str) -> Any:
    (folder / "503.html").write_text(text)
    engine = {"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [str(folder)]}
    return override_settings(TEMPLATES=[engine])


@both_stacks
def test_the_projects_own_page_is_shown(fetch: Callable[..., Any], tmp_path: Path) -> None:
    with templates(tmp_path, "Our shop is full"):
        response = fetch("/fails/timeout/")
    assert response.status_code == 503
    assert response.content == b"Our shop is full"


def test_a_page_that_fails_is_replaced_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with templates(tmp_path, "{% broken %}"):
        response = get("/fails/timeout/")
    assert response.status_code == 503
    assert b"Busy right now" in response.content
    assert "the template 503.html failed" in caplog.text


def test_the_text_of_the_error_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "unhang.middleware"):
        get("/fails/timeout/")
    assert f"503 for GET /fails/timeout/: {SECRET}" in caplog.text


@pytest.mark.parametrize("middleware", [ServiceUnavailable, UrlLanes])
def test_it_is_async_exactly_when_what_it_wraps_is(middleware: Any) -> None:
    with override_settings(UNHANG={"LANES": {"a": {"urls": ["/*"]}}}):
        assert iscoroutinefunction(middleware(ok_async))
        assert not iscoroutinefunction(middleware(ok))


def test_reads_can_be_abandoned_only_in_an_async_stack() -> None:
    assert iscoroutinefunction(EndAbandonedReads(ok_async))
    with pytest.raises(MiddlewareNotUsed):
        EndAbandonedReads(ok)


# ---- lanes by URL ----


def in_lane(lanes: dict[str, Any], path: str, fetch: Callable[..., Any] = get) -> str:
    with override_settings(UNHANG={"LANES": lanes}, MIDDLEWARE=["unhang.middleware.UrlLanes"]):
        response = fetch(path)
    return str(response.content.decode()) if response.status_code == 200 else "404"


LANES = {
    "paths": {"urls": ["/ok/", "/shop/*/9/"]},
    "views": {"urls": ["shop:*", "ok_async"]},
    "others": {"tasks": ["*"], "commands": ["*"]},
}


@both_stacks
@pytest.mark.parametrize(
    ("path", "lane"),
    [
        ("/ok/", "paths"),
        ("/shop/report/9/", "paths"),
        ("/shop/report/7/", "views"),
        ("/ok_async/", "views"),
        ("/missing/", "404"),
    ],
)
def test_a_request_runs_in_the_lane_of_its_path_or_view(
    fetch: Callable[..., Any], path: str, lane: str
) -> None:
    assert in_lane(LANES, path, fetch) == lane
    assert naming.name_for("default") is None


def test_a_request_without_a_lane_runs_in_none() -> None:
    assert in_lane({"a": {"urls": ["/shop/*"]}}, "/ok/") == "none"
    assert in_lane({"a": {"urls": ["shop:*"]}}, "/ok/") == "none"


def test_the_first_lane_with_a_fitting_pattern_counts_whether_path_or_view() -> None:
    lanes = {"view": {"urls": ["shop:report"]}, "path": {"urls": ["/*"]}}
    assert in_lane(lanes, "/shop/report/7/") == "view"
    assert in_lane(dict(reversed(lanes.items())), "/shop/report/7/") == "path"


def test_a_pattern_that_does_not_begin_with_a_slash_is_of_views_only() -> None:
    assert in_lane({"a": {"urls": ["*report*"]}}, "/shop/report/7/") == "a"
    assert in_lane({"a": {"urls": ["*o*/"]}}, "/ok/") == "none"


def test_an_exception_ends_the_lane() -> None:
    with override_settings(
        UNHANG={"LANES": {"a": {"urls": ["/*"]}}}, MIDDLEWARE=["unhang.middleware.UrlLanes"]
    ):
        assert get("/fails/bug/").status_code == 500
        assert get_async("/fails/bug/").status_code == 500
    assert naming.name_for("default") is None


@pytest.mark.parametrize("unhang", [None, {}, {"LANES": {"a": {"tasks": ["*"]}}}])
def test_without_lanes_of_urls_the_middleware_is_left_out(unhang: Any) -> None:
    with override_settings(UNHANG=unhang), pytest.raises(MiddlewareNotUsed):
        UrlLanes(ok)


def test_lanes_that_make_no_sense_are_told_at_start() -> None:
    with (
        override_settings(UNHANG={"LANES": {"a": {"url": ["/*"]}}}),
        pytest.raises(ImproperlyConfigured, match="did you mean 'urls'"),
    ):
        UrlLanes(ok)


def test_the_lane_is_left_before_the_response_goes_out() -> None:
    with override_settings(UNHANG={"LANES": {"a": {"urls": ["/*"]}}}):
        middleware = UrlLanes(ok)
        response: Any = middleware(RequestFactory().get("/x/"))
    assert response.content == b"a"
    assert naming.name_for("default") is None
