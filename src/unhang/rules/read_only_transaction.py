"""UH504: a transaction that only read is left open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids
from unhang.rules.text import age_of_transaction, named, owner_evidence, seconds, sleepers
from unhang.survey.model import Survey
from unhang.survey.session import Session

OLD_SECONDS: Final = 5.0


def judge(survey: Survey) -> Iterator[Finding]:
    found = [
        session
        for session in survey.sleepers
        if session.in_transaction
        and session.seconds >= OLD_SECONDS
        and session.rows_locked == 0
        and session.rows_modified == 0
    ]
    if found:
        yield _finding(survey, sorted(found, key=lambda session: -session.seconds))


def _finding(survey: Survey, found: Sequence[Session]) -> Finding:
    off = [a for a in survey.aliases if not a.autocommit and a.user in {s.user for s in found}]
    sentence = (
        _(
            "{sleepers} in a transaction that only read, up to {oldest} old: AUTOCOMMIT is off for "
            "{aliases}, so each SELECT opens one, and nobody commits."
        )
        if off
        else _(
            "{sleepers} in a transaction that only read, up to {oldest} old: autocommit switched "
            "off in that session, or atomic() around a wait; the server shows both alike."
        )
    )
    return Finding(
        RULE.id,
        "warning",
        survey.target,
        sentence.format(
            sleepers=sleepers(len(found)),
            oldest=seconds(found[0].seconds),
            aliases=", ".join(alias.name for alias in off),
        ),
        (
            *((("AUTOCOMMIT", ", ".join(f"{a.name}: False" for a in off)),) if off else ()),
            *(
                (
                    named(session),
                    _("asleep {asleep}, transaction {age} old, 0 rows locked, 0 modified").format(
                        asleep=seconds(session.seconds),
                        age=age_of_transaction(session),
                    ),
                )
                for session in found[:5]
            ),
            *owner_evidence(found),
        ),
        "\n".join(f'DATABASES["{alias.name}"]["AUTOCOMMIT"] = True' for alias in off)
        or _(
            "# if the code says set_autocommit(False), SET autocommit=0, or autocommit=False:\n"
            "# leave it out, or commit() after the read; else end atomic() before the wait"
        ),
        ids(found),
    )


def _story() -> str:
    return _(
        "With autocommit off, a plain SELECT opens a transaction. Who only reads never thinks of "
        "COMMIT, so it stays open: no row is locked, yet the tables are held by metadata locks, "
        "an ALTER TABLE waits and everybody behind it (UH501), the server cannot purge old rows, "
        "and the session goes on reading the state of hours ago.\n\n"
        "It is reported for a sleeper of 5 s in a transaction that has neither locked nor changed "
        "a row. Where Django's AUTOCOMMIT is off for its account, that is the cause. Where it is "
        "not, the server cannot tell autocommit = 0 in the session (SET autocommit, a driver's "
        "autocommit=False, set_autocommit(False)) from a BEGIN whose transaction only read, such "
        "as atomic() or ATOMIC_REQUESTS around a slow call: look at the line of code, or at the "
        "statements of that session.\n\n"
        "A transaction that changed or locked rows is reported by UH202."
    )


RULE = Rule("UH504", _("A transaction that only read is left open"), _story, judge, "cause")
