"""UH505: slow queries hold the workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from unhang.i18n import _
from unhang.rules import waiting
from unhang.rules.model import Finding, Rule, Severity
from unhang.rules.owner_kinds import ids, kind_of
from unhang.rules.text import owner_evidence, seconds
from unhang.survey.model import Survey
from unhang.survey.session import Session

SLOW_SECONDS: Final = 2.0
MANY: Final = 8
"""Where nobody said how many workers there are."""

_RUNNING: Final = frozenset({"Query", "Execute"})
_NOT_WEB: Final = frozenset({"command", "task worker", "scheduler"})


def judge(survey: Survey) -> Iterator[Finding]:
    blocked = {number for session in survey.sessions for number in session.blocks or ()}
    found = [
        session
        for session in survey.sessions
        if session.command in _RUNNING
        and session.seconds >= SLOW_SECONDS
        and session.user in survey.app_users
        and session.id not in blocked
        and not waiting.waits(session)
        and kind_of(session) not in _NOT_WEB
    ]
    slots = survey.workers.slots if survey.workers else None
    if len(found) >= (max(2, slots / 2) if slots else MANY):
        yield _finding(survey, found, slots)


def _finding(survey: Survey, found: Sequence[Session], slots: int | None) -> Finding:
    full = slots is not None and len(found) >= slots
    severity: Severity = "critical" if full else "warning"
    oldest = max(session.seconds for session in found)
    statements = Counter(s.statement or _("(not shown)") for s in found).most_common(3)
    sentence = (
        _(
            "All {slots} workers run slow queries, the oldest for {oldest}: every other page waits "
            "until one ends."
        )
        if full
        else _("{n} slow queries run at once, the oldest for {oldest}, on {slots} workers.")
    )
    return Finding(
        RULE.id,
        severity,
        survey.target,
        sentence.format(
            n=len(found), oldest=seconds(oldest), slots=_("unknown") if slots is None else slots
        ),
        (
            (_("running longer than {s} s").format(s=f"{SLOW_SECONDS:g}"), str(len(found))),
            *(
                (
                    (
                        _("processes × threads"),
                        f"{survey.workers.processes} × {survey.workers.threads} "
                        f"({survey.workers.source})",
                    ),
                )
                if survey.workers
                else ()
            ),
            *((text, _("{n} times").format(n=count)) for text, count in statements),
            *owner_evidence(found),
        ),
        _(
            "# what they do, and whether an index is missing:\n"
            "SHOW FULL PROCESSLIST;   EXPLAIN …;\n"
            "# a limit for reads, and a lane that leaves room for the quick ones:\n"
            '"ENGINE": "unhang.backends.mysql",\n'
            '"OPTIONS": {"pool": {"max_statement_seconds": 20}},'
        ),
        ids(found),
    )


def _story() -> str:
    return _(
        "A worker that waits for a slow query serves nobody else. When one report page is slow "
        "and people press reload, it soon has all workers, and the site hangs although the server "
        "has connections left and every other query is quick.\n\n"
        "Statements of the application's accounts that have run for 2 s are counted; those that "
        "wait for a lock are not (UH501 to UH503 tell whom they wait for), nor those of commands "
        "and task workers. It is critical when there are as many as worker slots, and a warning "
        "from half of them on. Without a number of workers (--workers 4x16, UNHANG['WORKERS'], or "
        "gunicorn seen running), eight are a warning.\n\n"
        "An index helps most. A limit (max_statement_time, max_execution_time, or the option "
        "max_statement_seconds) bounds the damage, and slow lanes keep room for quick pages."
    )


RULE = Rule("UH505", _("Slow queries hold the workers"), _story, judge, "cause")
