"""UH208: a scheduler, or another loop of its own, sleeps between two runs."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.rules import long_lived
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import of_kind
from unhang.survey.model import Survey


def judge(survey: Survey) -> Iterator[Finding]:
    found = of_kind(survey, ("scheduler", "script"))
    if found:
        yield long_lived.finding(RULE.id, survey, found, _why(), _cure())


def _why() -> str:
    return _("A loop has no request cycle: its connection stays open between two runs.")


def _cure() -> str:
    return _(
        "# at the end of each run:\n"
        "from django.db import connections\n"
        "connections.close_all()      # the next run opens a new one\n"
    )


def _story() -> str:
    return _(
        "A scheduler (APScheduler, schedule, celery beat with the database scheduler) and every "
        "script with a loop query, sleep, and query again. Nobody fires request_finished there, "
        "so the connection sleeps with it. When the pause is longer than wait_timeout the next "
        'run fails with "MySQL server has gone away", typically the first one of the morning.\n\n'
        "unhang knows it by the command line at the other end: a name with scheduler, beat or "
        "cron, or a Python program that is no web server, task worker or management command. One "
        "or two young sleepers are a notice; from three sleepers, a minute, or half of "
        "wait_timeout on it is a warning.\n\n"
        "Close the connections at the end of each run; close_old_connections() does so only if "
        "CONN_MAX_AGE is over. Or use the ENGINE unhang.backends.mysql."
    )


RULE = Rule(
    "UH208", _("A scheduler or script that sleeps between its runs"), _story, judge, "cause"
)
