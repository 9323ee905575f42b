"""UH501: others wait for one sleeper, and more behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unhang.i18n import _, ngettext
from unhang.rules import waiting
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids
from unhang.rules.text import named, owners, seconds
from unhang.survey.model import Survey
from unhang.survey.session import Session


def judge(survey: Survey) -> Iterator[Finding]:
    explained: set[int] = set()
    for holder in survey.sleepers:
        waiters = waiting.behind(survey, holder)
        if waiters:
            explained |= set(ids(waiters))
            yield _finding(survey, holder, waiters)
    stuck = [s for s in survey.sessions if waiting.waits_for_table(s) and s.id not in explained]
    suspects = [
        s
        for s in survey.sleepers
        if s.is_idle_in_transaction and s.locks is None and s.id not in explained
    ]
    if stuck and suspects:
        yield _suspected(survey, suspects, stuck)


def _finding(survey: Survey, holder: Session, waiters: Sequence[Session]) -> Finding:
    return Finding(
        RULE.id,
        "critical",
        survey.target,
        ngettext(
            "{n} session waits for one sleeper, the longest for {longest}: {holder} has slept "
            "{asleep} and holds {what}.",
            "{n} sessions wait behind one sleeper, the longest for {longest}: {holder} has slept "
            "{asleep} and holds {what}.",
            len(waiters),
        ).format(
            n=len(waiters),
            longest=seconds(max(waiter.seconds for waiter in waiters)),
            holder=named(holder),
            asleep=seconds(holder.seconds),
            what=_what(holder),
        ),
        (*_transaction(holder), *waiting.who_waits(waiters)),
        _cure(holder),
        (holder.id, *ids(waiters)),
    )


def _what(holder: Session) -> str:
    tables = waiting.names(holder, "table") or waiting.names(holder, "metadata")
    if holder.rows_modified:
        return _("a transaction with {n} changed rows").format(n=holder.rows_modified)
    if tables:
        return _("a lock on {tables}").format(tables=tables)
    return _("a transaction open") if holder.in_transaction else _("a lock")


def _transaction(holder: Session) -> tuple[tuple[str, str], ...]:
    return (
        (_("owner"), owners([holder])),
        *(
            (
                (
                    _("its transaction"),
                    _("{age} old, {locked} rows locked, {modified} modified").format(
                        age=seconds(holder.transaction_seconds or 0),
                        locked="?" if holder.rows_locked is None else holder.rows_locked,
                        modified="?" if holder.rows_modified is None else holder.rows_modified,
                    ),
                ),
            )
            if holder.in_transaction
            else ()
        ),
        *(((_("its last statement"), holder.statement),) if holder.statement else ()),
    )


def _cure(holder: Session) -> str:
    return _(
        "# ask its owner to commit or roll back; its work is lost if you end it:\n"
        "KILL {id};\n"
        "# and let DDL give up instead of stopping everybody behind it:\n"
        "SET SESSION lock_wait_timeout = 5;   -- before ALTER TABLE"
    ).format(id=holder.id)


def _suspected(survey: Survey, suspects: Sequence[Session], stuck: Sequence[Session]) -> Finding:
    return Finding(
        RULE.id,
        "critical",
        survey.target,
        ngettext(
            "{n} session waits for a table, the longest for {longest}; this server does not show "
            "for whom, but {suspects} sleep in a transaction and may use it.",
            "{n} sessions wait for a table, the longest for {longest}; this server does not show "
            "for whom, but {suspects} sleep in a transaction and may use it.",
            len(stuck),
        ).format(
            n=len(stuck),
            longest=seconds(max(session.seconds for session in stuck)),
            suspects=len(suspects),
        ),
        (
            *(
                (
                    _("may hold it: {session}").format(session=named(session)),
                    _("asleep {asleep}, transaction {age} old").format(
                        asleep=seconds(session.seconds),
                        age=seconds(session.transaction_seconds or 0),
                    ),
                )
                for session in sorted(suspects, key=lambda s: -(s.transaction_seconds or 0))[:5]
            ),
            *waiting.who_waits(stuck),
        ),
        _(
            "# MariaDB shows who holds metadata locks once this is there:\n"
            "INSTALL SONAME 'metadata_lock_info';\n"
            "# the oldest transaction is the likeliest; ask its owner to commit or roll back"
        ),
        ids([*suspects, *stuck]),
    )


def _story() -> str:
    return _(
        "A transaction holds a metadata lock on every table that it has used, even if it only "
        "read. An ALTER TABLE, a migration or LOCK TABLES has to wait for it, and every query on "
        "that table has to wait behind the ALTER TABLE. So one forgotten transaction in a shell "
        "stops the whole site, and the processlist shows one sleeper among many, and a hundred "
        'sessions in "Waiting for table metadata lock". Row locks make such chains, too. MariaDB '
        "waits a day for a metadata lock by default, MySQL a year.\n\n"
        "unhang follows who waits for whom, up to the sleeper at the head, and counts everybody "
        "behind it. On MariaDB without performance_schema and without the plugin "
        "METADATA_LOCK_INFO nobody can see who holds a metadata lock; then the sleepers in a "
        "transaction are named as those who may.\n\n"
        "The cure is at the head: commit, roll back, or KILL the sleeper, whose work is lost "
        "then. Ending those behind it does not help."
    )


RULE = Rule("UH501", _("Sessions wait behind one sleeper"), _story, judge, "cause")
