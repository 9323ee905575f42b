"""UH502: a sleeper holds a lock of GET_LOCK."""

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
        s for s in survey.sleepers if s.seconds >= waiting.HELD_SECONDS and waiting.holds(s, "user")
    ]
    if held:
        yield _finding(survey, held, waiting.behind_all(survey, held))
    stuck = [s for s in survey.sessions if waiting.waits_for_user_lock(s)]
    # Where locks are shown and no sleeper has it, its holder is at work.
    if stuck and all(s.locks is None for s in survey.sessions):
        yield _unseen(survey, stuck)


def _finding(survey: Survey, held: Sequence[Session], waiters: Sequence[Session]) -> Finding:
    return Finding(
        RULE.id,
        "critical" if waiters else "warning",
        survey.target,
        ngettext(
            "A sleeper has held GET_LOCK for at least {asleep}: {names}; {waiters} waiting for "
            "it ({owners}).",
            "{n} sleepers have held GET_LOCK for up to {asleep}: {names}; {waiters} waiting "
            "for them ({owners}).",
            len(held),
        ).format(
            n=len(held),
            asleep=seconds(max(session.seconds for session in held)),
            names="; ".join(waiting.names(session, "user") for session in held[:5]),
            waiters=len(waiters),
            owners=owners(held),
        ),
        (
            *(
                (named(session), waiting.names(session, "user") or _("without a name"))
                for session in held[:5]
            ),
            *owner_evidence(held),
            *waiting.who_waits(waiters),
        ),
        _(
            "# in its code, in a finally: block:\n"
            "SELECT RELEASE_LOCK('…');\n"
            "# now, if its owner agrees:\n{kills}"
        ).format(kills="\n".join(f"KILL {session.id};" for session in held[:5])),
        ids([*held, *waiters]),
    )


def _unseen(survey: Survey, stuck: Sequence[Session]) -> Finding:
    return Finding(
        RULE.id,
        "critical",
        survey.target,
        ngettext(
            "{n} session waits in GET_LOCK, for {longest}; who holds the lock is not shown here.",
            "{n} sessions wait in GET_LOCK, the longest for {longest}; who holds the lock is not "
            "shown here.",
            len(stuck),
        ).format(n=len(stuck), longest=seconds(max(session.seconds for session in stuck))),
        waiting.who_waits(stuck),
        _(
            "# the name is in the waiter's statement:\n"
            "SHOW FULL PROCESSLIST;\n"
            "SELECT IS_USED_LOCK('that name');     -- the id of the session that holds it\n"
            "# MariaDB shows all of them once this is there:\n"
            "INSTALL SONAME 'metadata_lock_info';"
        ),
        ids(stuck),
    )


def _story() -> str:
    return _(
        "GET_LOCK belongs to a session, not to a transaction: COMMIT does not release it, nor does "
        "the end of a request when the connection is kept. A task that takes the lock and forgets "
        "RELEASE_LOCK, or dies half-way in a thread whose connection lives on, leaves it with a "
        "sleeper, and the next one waits for ever or gives up.\n\n"
        "A sleeper that holds one for 5 s is reported, critical once somebody waits. MySQL shows "
        "these locks; MariaDB does with the plugin METADATA_LOCK_INFO or performance_schema. Where "
        'it does not, only the waiters are seen, by their state "User lock", and are reported.\n\n'
        "A lock that is held for as long as a leader lives is meant so: then its session sleeps on "
        "purpose, and nobody waits with a long timeout."
    )


RULE = Rule("UH502", _("GET_LOCK that nobody releases"), _story, judge, "cause")
