"""UH202: a sleeper holds a transaction open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from unhang.i18n import _, ngettext
from unhang.rules.model import Finding, Rule
from unhang.rules.text import age_of_transaction, owners, seconds
from unhang.survey.model import Survey
from unhang.survey.session import Session

LONG_SECONDS: Final = 5.0
"""A transaction that sleeps this long waits for a person or another service, not for Python."""

_SHOWN: Final = 5


def judge(survey: Survey) -> Iterator[Finding]:
    found = sorted(
        (
            session
            for session in survey.sessions
            if session.is_idle_in_transaction and session.seconds >= LONG_SECONDS
        ),
        key=lambda session: -session.seconds,
    )
    if not found:
        return
    count = len(found)
    yield Finding(
        RULE.id,
        "critical" if any(session.rows_locked for session in found) else "warning",
        survey.target,
        ngettext(
            "{n} session sleeps inside an open transaction, for {oldest}: its locks make others "
            "wait, and ending it loses its work.",
            "{n} sessions sleep inside open transactions, the oldest for {oldest}: their locks "
            "make others wait, and ending them loses their work.",
            count,
        ).format(n=count, oldest=seconds(found[0].seconds)),
        tuple(
            (_("session {id}").format(id=session.id), _describe(session))
            for session in found[:_SHOWN]
        ),
        "SELECT * FROM information_schema.INNODB_TRX ORDER BY trx_started LIMIT 5;\n"  # noqa: S608 - text to paste
        + _("# then ask its owner; commit or roll back before waiting for anything outside."),
        tuple(session.id for session in found),
    )


def _describe(session: Session) -> str:
    return _(
        "{owner}: asleep {asleep}, transaction {age}, {locked} rows locked, {modified} modified"
    ).format(
        owner=owners([session]),
        asleep=seconds(session.seconds),
        age=age_of_transaction(session),
        locked="?" if session.rows_locked is None else session.rows_locked,
        modified="?" if session.rows_modified is None else session.rows_modified,
    )


def _story() -> str:
    return _(
        "A sleeper is one of two things. An idle one takes a slot, nothing more. One that is idle "
        "in a transaction also holds row locks, metadata locks and an old snapshot: others wait "
        "for it (an ALTER TABLE, then everybody behind it), and the server cannot purge.\n\n"
        "One whom others wait for is told by UH501 first, and one that has only read by UH504.\n\n"
        "Typical owners: atomic() around a call to an outside service, a transaction in a shell "
        "that somebody left, autocommit switched off with a SELECT nobody commits, a worker whose "
        "network path died.\n\n"
        "It is not safe to end such a session without asking: its work is rolled back. unhang "
        "shows it and leaves it alone. MariaDB can bound it (idle_transaction_timeout); MySQL "
        "cannot. A transaction that has not touched a table yet is not seen by InnoDB."
    )


RULE = Rule("UH202", _("Sleepers inside a transaction"), _story, judge, "cause")
