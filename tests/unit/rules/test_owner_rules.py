"""Rules about who owns sleepers: what they find, what they leave alone, and the unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from support.surveys import a_pooled_alias, a_server, a_sleeper, a_survey, an_alias
from unhang.rules import catalogue
from unhang.rules.model import Finding
from unhang.rules.owner_kinds import kind_of
from unhang.survey.model import Held, Survey, Workers
from unhang.survey.session import Owner, Session

GUNICORN = Owner(("owner file", "socket"), 412, "gunicorn shop.wsgi")
OUTSIDE = replace(GUNICORN, thread="ThreadPoolExecutor-3_0", code="shop/views.py:88")
REQUEST = replace(GUNICORN, thread="ThreadPoolExecutor-0_1 (gunicorn)", work="GET /checkout/")
COMMAND = Owner(("socket",), 77, "python manage.py close_day")
CELERY = Owner(("owner file",), 78, "celery -A shop worker", work="task shop.tasks.mail")
SCHEDULER = Owner(("socket",), 79, "python scheduler.py")
UVICORN = Owner(("socket",), 80, "uvicorn shop.asgi:application")

CLOSES = an_alias(conn_max_age=0)


def found(survey: Survey, rule: str) -> list[Finding]:
    return [finding for finding in catalogue.judge(survey) if finding.rule == rule]


def sleepers(count: int, owner: Owner | None, seconds: float = 60.0, **more: Any) -> Any:
    return tuple(a_sleeper(n, seconds, owner=owner, **more) for n in range(1, count + 1))


def rules_of(sessions: Sequence[Session], **more: Any) -> set[str]:
    survey = a_survey(**({"aliases": (CLOSES,), "sessions": tuple(sessions)} | more))
    return {finding.rule for finding in catalogue.judge(survey)}


@pytest.mark.parametrize(
    ("owner", "kind"),
    [
        (GUNICORN, "web"),
        (replace(GUNICORN, program="gunicorn shop.asgi -k uvicorn.workers.UvicornWorker"), "asgi"),
        (UVICORN, "asgi"),
        (Owner(("socket",), 1, "python manage.py runserver"), "web"),
        (COMMAND, "command"),
        (Owner(("socket",), 1, "django-admin close_day"), "command"),
        (Owner(("owner file",), 1, work="command close_day"), "command"),
        (CELERY, "task worker"),
        (Owner(("socket",), 1, "python manage.py qcluster"), "task worker"),
        (Owner(("owner file",), 1, work="task shop.tasks.mail"), "task worker"),
        (Owner(("socket",), 1, "celery -A shop beat"), "scheduler"),
        (Owner(("socket",), 1, "python manage.py runapscheduler"), "scheduler"),
        (SCHEDULER, "scheduler"),
        (Owner(("socket",), 1, "python import_prices.py"), "script"),
        (Owner(("owner file",), 1, work="GET /product/7/"), "web"),
        (Owner(("connect attributes",), 1, "mysqldump"), "unknown"),
        (Owner(("proxy",), 1, "python x.py", proxy="ProxySQL"), "unknown"),
        (None, "unknown"),
    ],
)
def test_the_kind_of_a_program(owner: Owner | None, kind: str) -> None:
    assert kind_of(a_sleeper(owner=owner)) == kind


@pytest.mark.parametrize(
    ("rule", "owner", "words"),
    [
        ("UH206", COMMAND, "python manage.py close_day (pid 77)"),
        ("UH207", CELERY, "task shop.tasks.mail"),
        ("UH208", SCHEDULER, "python scheduler.py (pid 79)"),
    ],
)
def test_programs_outside_the_request_cycle(rule: str, owner: Owner, words: str) -> None:
    survey = a_survey(aliases=(CLOSES,), sessions=sleepers(1, owner, 6.0))
    (finding,) = catalogue.judge(survey)
    assert (finding.rule, finding.severity, finding.sessions) == (rule, "notice", (1,))
    assert words in finding.sentence
    assert "close_all()" in finding.cure
    assert found(replace(survey, sessions=sleepers(3, owner, 6.0)), rule)[0].severity == "warning"
    assert found(replace(survey, sessions=sleepers(1, owner, 60.0)), rule)[0].severity == "warning"


@pytest.mark.parametrize("owner", [COMMAND, CELERY, SCHEDULER])
def test_programs_that_close_or_use_the_pool_are_left_alone(owner: Owner) -> None:
    assert not rules_of(sleepers(9, owner, 4.9))
    assert not rules_of(sleepers(9, owner), aliases=(a_pooled_alias(),))
    assert not rules_of(sleepers(9, owner, user="somebody else"))


def test_half_of_a_short_wait_timeout_is_a_warning_already() -> None:
    survey = a_survey(
        a_server(wait_timeout=20), aliases=(CLOSES,), sessions=sleepers(1, COMMAND, 11)
    )
    assert found(survey, "UH206")[0].severity == "warning"


def test_uh204_names_line_and_threads() -> None:
    survey = a_survey(aliases=(CLOSES,), sessions=sleepers(3, OUTSIDE))
    (finding,) = catalogue.judge(survey)
    assert finding.rule == "UH204"
    assert "gunicorn worker 412, executor threads, shop/views.py:88" in finding.sentence
    assert "several executors" in finding.sentence  # one name three times


def test_uh204_tells_one_executor_from_one_a_request() -> None:
    def owned(names: Sequence[str]) -> tuple[Session, ...]:
        return tuple(
            a_sleeper(n, 60.0, owner=replace(OUTSIDE, thread=name))
            for n, name in enumerate(names, 1)
        )

    shared = owned(["ThreadPoolExecutor-3_0", "ThreadPoolExecutor-3_1"])
    each = owned(["ThreadPoolExecutor-3_0", "ThreadPoolExecutor-4_0"])
    named = owned(["mailer_0", "mailer_1"])
    twice = owned(["mailer_0", "mailer_0"])
    for sessions, words in (
        (shared, "one executor"),
        (named, "one executor"),
        (each, "several executors"),
        (twice, "several executors"),
    ):
        (finding,) = found(a_survey(aliases=(CLOSES,), sessions=sessions), "UH204")
        assert words in finding.sentence


def test_uh204_counts_where_threads_have_no_names() -> None:
    sessions = sleepers(5, GUNICORN)
    assert "UH204" in rules_of(sessions, workers=Workers(2, 4, "--workers"))
    assert rules_of(sessions, workers=Workers(2, 5, "--workers")) == {"UH201"}
    assert rules_of(sessions) == {"UH201"}  # unknown is not no
    kept = an_alias(conn_max_age=280)
    assert not rules_of(sessions, workers=Workers(2, 4, "--workers"), aliases=(kept,))


@pytest.mark.parametrize("owner", [REQUEST, replace(GUNICORN, thread="MainThread"), None])
def test_uh204_leaves_request_threads_and_the_unknown_alone(owner: Owner | None) -> None:
    assert "UH204" not in rules_of(sleepers(9, owner))


def test_uh201_does_not_repeat_what_is_explained() -> None:
    threads = sleepers(3, OUTSIDE)
    others = tuple(a_sleeper(n, 60.0) for n in (11, 12))
    findings = catalogue.judge(a_survey(aliases=(CLOSES,), sessions=(*threads, *others)))
    assert {f.rule: f.sessions for f in findings} == {"UH204": (1, 2, 3), "UH201": (11, 12)}


def test_uh205_asgi_with_persistent_connections() -> None:
    survey = a_survey(sessions=sleepers(2, UVICORN, 1.0))
    (finding,) = catalogue.judge(survey)
    assert (finding.rule, finding.sessions) == ("UH205", (1, 2))
    assert '["CONN_MAX_AGE"] = 0' in finding.cure
    assert not rules_of(sleepers(2, UVICORN, 1.0))
    assert not rules_of(sleepers(2, UVICORN, 1.0), aliases=(a_pooled_alias(),))
    assert not rules_of(sleepers(2, GUNICORN, 1.0), aliases=(an_alias(),))


def test_uh203_kept_connections_that_take_half_of_the_server() -> None:
    workers = Workers(4, 13, "--workers")
    survey = a_survey(sessions=sleepers(50, GUNICORN), workers=workers)
    (finding,) = found(survey, "UH203")
    assert "50%" in finding.sentence
    assert dict(finding.evidence)["processes × threads"] == "4 × 13 (--workers)"
    assert not found(replace(survey, sessions=sleepers(49, GUNICORN)), "UH203")
    assert not found(replace(survey, aliases=(CLOSES,)), "UH203")
    assert not found(replace(survey, aliases=(a_pooled_alias(),)), "UH203")


def test_uh203_needs_less_when_headroom_is_low() -> None:
    full = a_server(status={"Threads_connected": 95})
    findings = catalogue.judge(a_survey(full, sessions=sleepers(30, GUNICORN)))
    # It explains all sessions there are, so it is as severe as the effect, and told before it.
    assert [(f.rule, f.severity) for f in findings] == [
        ("UH203", "critical"),
        ("UH301", "critical"),
    ]


def test_uh209_one_connection_in_several_processes() -> None:
    survey = a_survey(sessions=sleepers(1, GUNICORN, 1.0), held=(Held(1, (411, 412, 413)),))
    (finding,) = catalogue.judge(survey)
    assert (finding.rule, finding.severity) == ("UH209", "critical")
    assert "411, 412, 413" in " ".join(dict(finding.evidence).values())
    assert not found(replace(survey, held=()), "UH209")
    assert not found(replace(survey, held=(Held(99, (1, 2)),)), "UH209")  # it has ended meanwhile


def test_uh210_a_process_that_is_no_more() -> None:
    survey = a_survey(sessions=sleepers(2, None), held=(Held(2, ()),))
    (finding,) = found(survey, "UH210")
    assert finding.sessions == (2,)
    assert finding.cure.startswith("KILL 2;")
    assert finding.severity == "warning"
    assert not found(replace(survey, held=()), "UH210")
    open_work = sleepers(2, None, in_transaction=True)
    assert found(replace(survey, sessions=open_work), "UH210")[0].severity == "critical"


def test_uh601_a_request_that_pauses() -> None:
    sessions = sleepers(1, REQUEST, 150.0)
    (finding,) = catalogue.judge(a_survey(aliases=(CLOSES,), sessions=sessions))
    assert (finding.rule, finding.severity) == ("UH601", "critical")
    assert "150 s (2.5 min) of the 300 s" in finding.sentence
    assert "GET /checkout/" in finding.sentence


def test_uh601_names_both_causes_where_the_thread_is_unknown() -> None:
    (finding,) = found(a_survey(aliases=(CLOSES,), sessions=sleepers(1, GUNICORN, 150.0)), "UH601")
    assert "or a thread that nobody closes" in finding.sentence


@pytest.mark.parametrize(
    ("sessions", "alias"),
    [
        (sleepers(1, REQUEST, 149.0), CLOSES),
        (sleepers(1, REQUEST, 150.0), an_alias(conn_max_age=280)),  # kept between requests
        (sleepers(1, OUTSIDE, 150.0), CLOSES),
        (sleepers(1, None, 150.0), CLOSES),
    ],
)
def test_uh601_leaves_alone(sessions: tuple[Session, ...], alias: Any) -> None:
    assert not found(a_survey(aliases=(alias,), sessions=sessions), "UH601")


def test_uh601_goes_by_the_sessions_own_wait_timeout() -> None:
    sessions = sleepers(1, REQUEST, 40.0, wait_timeout=60)
    assert found(a_survey(aliases=(CLOSES,), sessions=sessions), "UH601")


@pytest.mark.parametrize(
    ("program", "thread", "work", "kind"),
    [
        ("gunicorn shop.wsgi", "ThreadPoolExecutor-0_1 (gunicorn)", "GET /schedule/", "web"),
        ("gunicorn scheduler.wsgi", "", "", "web"),
        ("celery -A scheduler worker", "", "task scheduler.tasks.mail", "task worker"),
        ("gunicorn shop.wsgi", "APScheduler", "", "scheduler"),
        ("", "", "command run_scheduler", "scheduler"),
    ],
)
def test_only_the_program_its_command_or_thread_makes_a_scheduler(
    program: str, thread: str, work: str, kind: str
) -> None:
    owner = Owner(("owner file",), 1, program, thread=thread, work=work)
    assert kind_of(a_sleeper(owner=owner)) == kind


@pytest.mark.parametrize("thread", ["uWSGIWorker1Core3", "waitress-2", "Dummy-1"])
def test_a_thread_that_runs_a_request_is_not_one_of_its_own(thread: str) -> None:
    owner = replace(GUNICORN, program="uwsgi", thread=thread, work="GET /checkout/")
    kept = a_survey(aliases=(an_alias(),), sessions=sleepers(4, owner))
    assert not found(kept, "UH204")
    assert not found(replace(kept, aliases=(CLOSES,)), "UH204")
    started = replace(owner, thread="asyncio_0")  # a copy of the request's context
    assert found(replace(kept, sessions=sleepers(4, started)), "UH204")


def test_two_aliases_with_one_account_are_told_once() -> None:
    aliases = (an_alias(), an_alias("replica"))
    survey = a_survey(aliases=aliases, sessions=sleepers(3, UVICORN))
    assert len(found(survey, "UH205")) == 1


def test_a_shell_that_was_left_open_is_a_notice_with_a_cure_of_its_own() -> None:
    shell = replace(COMMAND, program="python manage.py shell_plus")
    survey = a_survey(
        aliases=(CLOSES,),
        sessions=(a_sleeper(1, 900.0, owner=shell), a_sleeper(2, 900.0, owner=COMMAND)),
    )
    command, left_open = found(survey, "UH206")
    assert (command.severity, command.sessions) == ("warning", (2,))
    assert (left_open.severity, left_open.sessions) == ("notice", (1,))
    assert "leave the shell" in left_open.cure


def test_an_unknown_transaction_is_not_told_as_none() -> None:
    gone = a_survey(sessions=(a_sleeper(1, in_transaction=None),), held=(Held(1, ()),))
    (finding,) = found(gone, "UH210")
    assert "unknown" in str(finding.evidence)
    assert "in no transaction" not in str(finding.evidence)
    holding = a_sleeper(1, 60.0, in_transaction=True)
    (finding,) = found(a_survey(sessions=(holding,)), "UH202")
    assert "None" not in str(finding.evidence)
    assert "transaction ?, ? rows locked, ? modified" in str(finding.evidence)
