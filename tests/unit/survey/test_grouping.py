"""Sessions by owner."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unhang.survey.grouping import owner_groups, pid_ranges, thread_kind
from unhang.survey.session import Owner, Session


def session(number: int, owner: Owner | None = None, *, host: str = "10.0.0.7") -> Session:
    return Session(number, "app", host, "shop", "Sleep", 5.0, owner=owner)


def gunicorn(pid: int, thread: str = "", code: str = "", work: str = "") -> Owner:
    return Owner(("owner file",), pid, "gunicorn shop.wsgi", "", thread, code, work)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("", ""),
        ("MainThread", "main thread"),
        ("ThreadPoolExecutor-3_0", "executor threads"),
        ("ThreadPoolExecutor-7_11", "executor threads"),
        ("ThreadPoolExecutor-7_11 (asgiref)", "asgiref's threads"),
        ("ThreadPoolExecutor-0_1 (gunicorn)", "request threads"),
        ("recommend_3 (executor)", "executor threads named recommend"),
        ("Thread-12 (work)", "threads named work"),
        ("Thread-12 (process_request_thread)", "request threads"),
        ("Thread-12", "unnamed threads"),
        ("mailer_0", "threads named mailer"),
        ("price-feed-2", "threads named price-feed"),
        ("asyncio_3", "asyncio's executor threads"),
        ("Dummy-4", "threads not made by Python"),
        ("7", "threads named 7"),
    ],
)
def test_a_thread_is_told_by_its_kind(name: str, kind: str) -> None:
    assert thread_kind(name) == kind


@pytest.mark.parametrize(
    ("pids", "text"),
    [
        ((412,), "412"),
        ((413, 412), "412, 413"),
        ((412, 413, 414, 415), "412–415"),
        ((412, 413, 414, 420), "412–414, 420"),
        (tuple(range(1, 40, 2)), "1, 3, 5, 7, 16 more"),
    ],
)
def test_process_ids_are_told_as_ranges(pids: tuple[int, ...], text: str) -> None:
    assert pid_ranges(pids) == text


def test_workers_of_one_command_line_are_one_group_and_the_biggest_comes_first() -> None:
    line = "shop/recommendations.py:21"
    found = owner_groups(
        [
            session(1, Owner(("socket",), 77, "python manage.py close_day")),
            session(2, gunicorn(412, "ThreadPoolExecutor-3_0", line)),
            session(3, gunicorn(413, "ThreadPoolExecutor-7_1", line)),
            session(4, gunicorn(414, "ThreadPoolExecutor-7_2", line)),
        ]
    )
    assert [(g.label, g.threads, g.code, len(g.sessions)) for g in found] == [
        ("gunicorn workers 412–414", "executor threads", line, 3),
        ("python manage.py close_day (pid 77)", "", "", 1),
    ]
    assert [s.id for s in found[0].sessions] == [2, 3, 4]


@pytest.mark.parametrize(
    "other",
    [
        gunicorn(412, "MainThread", "shop/views.py:88"),
        gunicorn(412, "ThreadPoolExecutor-3_0", "shop/views.py:89"),
        replace(gunicorn(412, "ThreadPoolExecutor-3_0", "shop/views.py:88"), program="gunicorn b"),
        replace(gunicorn(412, "ThreadPoolExecutor-3_0", "shop/views.py:88"), container="c0ffee"),
        None,
    ],
)
def test_what_differs_stays_apart(other: Owner | None) -> None:
    one = gunicorn(412, "ThreadPoolExecutor-3_0", "shop/views.py:88")
    assert len(owner_groups([session(1, one), session(2, other)])) == 2


@pytest.mark.parametrize(
    ("owner", "label"),
    [
        (None, "app at 10.0.0.7"),
        (Owner(("socket",), 50, "celery -A shop worker"), "celery worker 50"),
        (Owner(("socket",), 50, "gunicorn a.wsgi", "c0ffee"), "gunicorn worker 50 in c0ffee"),
        (Owner(("socket",), 50), "process 50"),
        (Owner(("connect attributes",), None, "mysqldump"), "mysqldump at 10.0.0.7"),
        (Owner(("proxy",), None, proxy="ProxySQL"), "ProxySQL for app at 10.0.0.7"),
    ],
)
def test_a_label_says_what_is_known(owner: Owner | None, label: str) -> None:
    assert [g.label for g in owner_groups([session(1, owner)])] == [label]


def test_a_group_names_the_commonest_work_and_counts_the_rest() -> None:
    works = ("GET /a", "GET /b", "GET /b", "GET /c")
    sessions = [session(n, gunicorn(1, work=work)) for n, work in enumerate(works)]
    assert [g.work for g in owner_groups(sessions)] == ["GET /b and 2 more"]


def test_a_session_kept_by_a_pool_is_told_by_the_pool() -> None:
    kept = replace(gunicorn(412), pool="default")
    assert [g.threads for g in owner_groups([session(1, kept)])] == ["kept by the pool default"]
