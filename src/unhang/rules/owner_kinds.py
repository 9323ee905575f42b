"""What kind of program owns a session. Pure text; an unknown program is no kind at all."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

from unhang.survey.model import Survey
from unhang.survey.session import Owner, Session

Kind = Literal["web", "asgi", "task worker", "scheduler", "command", "script", "unknown"]

OLD_SECONDS: Final = 5.0
"""Longer than a request keeps a connection idle between two of its queries, unless it calls
somebody else meanwhile."""

# In this order: `celery beat` is a scheduler and `celery -A scheduler worker` is none, `gunicorn -k
# uvicorn…` is ASGI, and `manage.py runserver` is a web server.
_PATTERNS: Final[tuple[tuple[Kind, str], ...]] = (
    ("scheduler", r"\bcelery\b.*\bbeat\b"),
    ("task worker", r"\b(celery|rqworker|rq worker|huey|run_huey|dramatiq|qcluster|arq)\b"),
    ("asgi", r"\b(uvicorn|daphne|hypercorn|granian)\b"),
    ("web", r"\b(gunicorn|uwsgi|mod_wsgi|waitress|apache2|httpd|runserver)\b"),
    ("scheduler", r"scheduler|\bcron(?!y)|\bschedule\b|clock\.py"),
    ("command", r"\bmanage\.py\b|\bdjango-admin\b|\bdjango\b +\w"),
    ("script", r"\bpython[\d.]*\b"),
)
_PROGRAMS: Final = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _PATTERNS)
_SCHEDULER_THREAD: Final = re.compile("scheduler", re.IGNORECASE)
_WORKS: Final[tuple[tuple[str, Kind], ...]] = (("task ", "task worker"), ("command ", "command"))
_HTTP: Final = re.compile(r"[A-Z]+ /")
_OUTSIDE_NOT: Final = re.compile(
    r"MainThread|.*\((?:asgiref|gunicorn)\)|.*process_request_thread.*"
)
# They may carry a copy of the request's context, and so its work.
_STARTED: Final = re.compile(r"(?:ThreadPoolExecutor-|Thread-|asyncio_)\d+.*|.*\(executor\)")


def kind_of(session: Session) -> Kind:
    """The kind of the program that opened this session."""
    owner = session.owner
    return "unknown" if owner is None or owner.proxy else _kind_of_owner(owner)


@lru_cache(maxsize=4096)
def _kind_of_owner(owner: Owner) -> Kind:
    if _SCHEDULER_THREAD.search(owner.thread):
        return "scheduler"  # it may live in a web server
    worked = _kind_of_work(owner.work)
    # The path of a request says nothing about the program: `GET /schedule/`.
    program = f"{owner.program} {owner.work}" if worked == "command" else owner.program
    for kind, pattern in _PROGRAMS:
        if kind == "command" and worked:
            return worked
        if pattern.search(program):
            return kind
    return worked or "unknown"


def _kind_of_work(work: str) -> Kind | None:
    for prefix, kind in _WORKS:
        if work.startswith(prefix):
            return kind
    return "web" if _HTTP.match(work) else None


def in_threads_of_its_own(owner: Owner) -> bool | None:
    """Whether a web process opened it in a thread that serves no request; `None` if unknown.

    The names of request threads end in `(gunicorn)` or `(asgiref)`; see `survey.grouping`.
    """
    if not owner.thread:
        return None
    if _HTTP.match(owner.work) and not _STARTED.fullmatch(owner.thread):
        return False  # uWSGI, mod_wsgi, waitress: a request runs in it, and nobody copied that
    return _OUTSIDE_NOT.fullmatch(owner.thread) is None


def old_sleepers(survey: Survey) -> tuple[Session, ...]:
    """Idle sleepers of the application (of everybody, if no settings were read) past `OLD_SECONDS`.

    What a pool of ours keeps is left out: it lets go by itself.
    """
    return tuple(
        session
        for session in survey.sleepers
        if session.seconds >= OLD_SECONDS
        and is_applications(survey, session)
        and not is_pooled(survey, session)
    )


def is_applications(survey: Survey, session: Session) -> bool:
    """Whether the application's account opened it; everybody's is, when no settings were read."""
    return not survey.aliases or session.user in survey.app_users


def is_pooled(survey: Survey, session: Session) -> bool:
    """Whether a pool of ours keeps it, or may: its account is one that a pool logs in with."""
    if session.owner is not None and session.owner.pool:
        return True
    return any(alias.own_pool for alias in survey.aliases_of(session.user))


def of_kind(survey: Survey, kinds: Iterable[Kind]) -> tuple[Session, ...]:
    """The old sleepers of programs of these kinds."""
    wanted = frozenset(kinds)
    return tuple(session for session in old_sleepers(survey) if kind_of(session) in wanted)


def ids(sessions: Iterable[Session]) -> tuple[int, ...]:
    """Their ids."""
    return tuple(session.id for session in sessions)


def own_wait_timeout(survey: Survey, session: Session) -> int | None:
    """What ends this session when it sleeps, seconds: its own copy, else what it was born with."""
    by_settings = next(
        (a.session_wait_timeout for a in survey.aliases_of(session.user) if a.session_wait_timeout),
        None,
    )
    return session.wait_timeout or by_settings or survey.server.value("wait_timeout")
