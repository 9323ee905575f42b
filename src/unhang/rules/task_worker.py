"""UH207: a task worker (Celery and others) keeps connections while it does nothing."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.rules import long_lived
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import of_kind
from unhang.survey.model import Survey


def judge(survey: Survey) -> Iterator[Finding]:
    found = of_kind(survey, ("task worker",))
    if found:
        yield long_lived.finding(RULE.id, survey, found, _why(), _cure())


def _why() -> str:
    return _(
        "A task worker has no request cycle: a connection is kept through a pause within a task, "
        "by every thread that a task starts, and between tasks if somebody asked for that."
    )


def _cure() -> str:
    return _(
        "# in a task, before it waits, and at the end of each thread that it starts:\n"
        "from django.db import connections\n"
        "connections.close_all()\n"
        "# Celery closes after each task by itself, unless the settings say otherwise:\n"
        "# remove CELERY_DB_REUSE_MAX"
    )


def _story() -> str:
    return _(
        "A task worker lives for days and never sees request_finished. Celery closes all "
        "connections before and after each task, unless CELERY_DB_REUSE_MAX is set; other workers "
        "go by CONN_MAX_AGE, or do nothing. So a sleeper is a task that calls a slow service and "
        "keeps its connection meanwhile, a thread that a task started, which is closed by nobody, "
        "or a connection kept between tasks on purpose.\n\n"
        "unhang knows the worker by the command line of the process at the other end (celery, rq, "
        "huey, dramatiq, qcluster, arq), or by what the application wrote down when it connected. "
        "From the server the three look alike; the name of the thread and the task, where they "
        "are known, tell them apart.\n\n"
        "Close before a wait, and at the end of a thread. Or use the ENGINE unhang.backends.mysql."
    )


RULE = Rule(
    "UH207", _("A task worker that keeps connections between tasks"), _story, judge, "cause"
)
