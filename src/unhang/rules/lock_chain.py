"""UH501: others wait for one sleeper, and more behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from unhang.i18n import _, ngettext
from unhang.rules import waiting
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids
from unhang.rules.text import age_of_transaction, named, owners, seconds
from unhang.survey.model import Survey
from unhang.survey.session import Session

_CHAINS: Final = 5
_SHOWN: Final = 5
_KILLS: Final = 10


def judge(survey: Survey) -> Iterator[Finding]:
    explained: set[int] = set()
    for holders in _bounded(_together(survey)):
        waiters = waiting.behind_all(survey, holders)
        explained |= set(ids(waiters))
        if len(holders) == 1:
            yield _finding(survey, holders[0], waiters)
        else:
            yield _several(survey, holders, waiters)
    stuck = [s for s in survey.sessions if waiting.waits_for_table(s) and s.id not in explained]
    suspects = [
        s
        for s in survey.sleepers
        if s.is_idle_in_transaction and s.locks is None and s.id not in explained
    ]
    if stuck and suspects:
        yield _suspected(survey, suspects, stuck)


def _together(survey: Survey) -> list[list[Session]]:
    """Sleepers at the head of chains; together those for whom one and the same session waits."""
    chains: list[tuple[list[Session], set[int]]] = []
    for holder in (sleeper for sleeper in survey.sleepers if sleeper.blocks):
        behind = set(ids(waiting.behind(survey, holder)))
        if not behind:
            continue
        apart = [chain for chain in chains if behind.isdisjoint(chain[1])]
        joined = [chain for chain in chains if not behind.isdisjoint(chain[1])]
        heads = [head for chain in joined for head in chain[0]]
        chains = [*apart, ([*heads, holder], behind.union(*(chain[1] for chain in joined)))]
    chains.sort(key=lambda chain: -len(chain[1]))
    return [heads for heads, _waiters in chains]


def _bounded(chains: list[list[Session]]) -> list[list[Session]]:
    """The longest chains, and all the others as one."""
    if len(chains) <= _CHAINS:
        return chains
    rest = [head for heads in chains[_CHAINS - 1 :] for head in heads]
    return [*chains[: _CHAINS - 1], rest]


def _several(survey: Survey, holders: Sequence[Session], waiters: Sequence[Session]) -> Finding:
    first = max(holders, key=lambda holder: (holder.transaction_seconds or 0, holder.seconds))
    others = [holder for holder in holders if holder is not first]
    return Finding(
        RULE.id,
        "critical",
        survey.target,
        ngettext(
            "{n} session waits behind {holders} sleepers, for {longest}: the oldest, {holder}, has "
            "slept {asleep} and holds {what}; to end that one alone may not be enough.",
            "{n} sessions wait behind {holders} sleepers, the longest for {longest}: the oldest, "
            "{holder}, has slept {asleep} and holds {what}; to end that one alone may not be "
            "enough.",
            len(waiters),
        ).format(
            n=len(waiters),
            holders=len(holders),
            longest=seconds(max(waiter.seconds for waiter in waiters)),
            holder=named(first),
            asleep=seconds(first.seconds),
            what=_what(first),
        ),
        (
            *_transaction(first),
            *(
                (
                    named(holder),
                    _("asleep {asleep}, holds {what}").format(
                        asleep=seconds(holder.seconds), what=_what(holder)
                    ),
                )
                for holder in others[: _SHOWN - 1]
            ),
            *waiting.who_waits(waiters),
        ),
        _cure([first, *others]),
        ids([*holders, *waiters]),
    )


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
        _cure([holder]),
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
                        age=age_of_transaction(holder),
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


def _cure(holders: Sequence[Session]) -> str:
    kills = [f"KILL {holder.id};" for holder in holders[:_KILLS]]
    if len(holders) > _KILLS:
        kills.append(_("# {n} more").format(n=len(holders) - _KILLS))
    return ngettext(
        "# ask its owner to commit or roll back; its work is lost if you end it:\n"
        "{kills}\n"
        "# and let DDL give up instead of stopping everybody behind it:\n"
        "SET SESSION lock_wait_timeout = 5;   -- before ALTER TABLE",
        "# ask their owners to commit or roll back; their work is lost if you end them:\n"
        "{kills}\n"
        "# and let DDL give up instead of stopping everybody behind it:\n"
        "SET SESSION lock_wait_timeout = 5;   -- before ALTER TABLE",
        len(holders),
    ).format(kills="\n".join(kills))


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
                        age=age_of_transaction(session),
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
        "behind it. Several sleepers for whom the same sessions wait are told together: all of "
        "them must end. On MariaDB without performance_schema and without the plugin "
        "METADATA_LOCK_INFO nobody can see who holds a metadata lock; then the sleepers in a "
        "transaction are named as those who may.\n\n"
        "The cure is at the head: commit, roll back, or KILL the sleeper, whose work is lost "
        "then. Ending those behind it does not help."
    )


RULE = Rule("UH501", _("Sessions wait behind one sleeper"), _story, judge, "cause")
