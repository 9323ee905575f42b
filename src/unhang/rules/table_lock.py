"""UH503: a sleeper holds LOCK TABLES, or a lock on all tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unhang.i18n import _, ngettext
from unhang.rules import waiting
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids
from unhang.rules.text import named, owner_evidence, owners, seconds
from unhang.survey.model import Survey
from unhang.survey.session import Session


def judge(survey: Survey) -> Iterator[Finding]:
    held = [
        s
        for s in survey.sleepers
        if s.seconds >= waiting.HELD_SECONDS and waiting.holds(s, "table")
    ]
    if held:
        yield _finding(survey, held, waiting.behind_all(survey, held))


def _finding(survey: Survey, held: Sequence[Session], waiters: Sequence[Session]) -> Finding:
    return Finding(
        RULE.id,
        "critical" if waiters else "warning",
        survey.target,
        ngettext(
            "A sleeper has held LOCK TABLES for at least {asleep}: {names}; {waiters} waiting for "
            "it ({owners}).",
            "{n} sleepers have held LOCK TABLES for up to {asleep}: {names}; {waiters} waiting "
            "for them ({owners}).",
            len(held),
        ).format(
            n=len(held),
            asleep=seconds(max(session.seconds for session in held)),
            names="; ".join(waiting.names(session, "table") for session in held[:5]),
            waiters=len(waiters),
            owners=owners(held),
        ),
        (
            *(
                (named(session), waiting.names(session, "table") or _("without a name"))
                for session in held[:5]
            ),
            *owner_evidence(held),
            *waiting.who_waits(waiters),
        ),
        _(
            "# in its code, in a finally: block:\n"
            "UNLOCK TABLES;\n"
            "# now; what it wrote to InnoDB tables since is kept only if it committed:\n{kills}"
        ).format(kills="\n".join(f"KILL {session.id};" for session in held[:5])),
        ids([*held, *waiters]),
    )


def _story() -> str:
    return _(
        "LOCK TABLES keeps others out until UNLOCK TABLES, or until the session ends. COMMIT does "
        "not unlock. When the code between the two fails, or waits, the session sleeps with the "
        "lock: with WRITE nobody reads the table, with READ nobody writes it, and each waits as "
        "long as lock_wait_timeout, a day or a year by default.\n\n"
        "A sleeper that holds such a lock for 5 s is reported, critical once somebody waits. "
        "MySQL shows the lock; MariaDB does with the plugin METADATA_LOCK_INFO or "
        "performance_schema. Without them a sleeper with LOCK TABLES looks like any other, and "
        "those who wait show the same state as behind a transaction (UH501).\n\n"
        "Use a transaction with SELECT … FOR UPDATE instead, where the table is InnoDB."
    )


RULE = Rule("UH503", _("LOCK TABLES that nobody unlocks"), _story, judge, "cause")
