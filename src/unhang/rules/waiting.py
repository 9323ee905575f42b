"""Who waits for whom, in a survey. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from unhang.i18n import _
from unhang.rules.text import named, seconds
from unhang.survey.model import Survey
from unhang.survey.session import LockKind, Session

HELD_SECONDS: Final = 5.0
"""A lock that a sleeper holds this long waits for a person or another service, not for Python."""

_TABLE: Final = ("Waiting for table metadata lock", "Waiting for table level lock")
_USER: Final = ("User lock", "user lock")


def waits_for_table(session: Session) -> bool:
    """Its state says that it waits for a table somebody uses."""
    return session.state in _TABLE or session.state.startswith("Waiting for table")


def waits_for_user_lock(session: Session) -> bool:
    """Its state says that it waits in GET_LOCK."""
    return session.state in _USER


def waits(session: Session) -> bool:
    """Its state says that it waits for a lock of any kind but a row's, which has no state."""
    return session.state.startswith("Waiting for") or waits_for_user_lock(session)


def holds(session: Session, kind: LockKind) -> bool:
    """Whether it is known to hold such a lock."""
    return any(lock.kind == kind for lock in session.locks or ())


def names(session: Session, kind: LockKind) -> str:
    """The names of its locks of this kind."""
    return ", ".join(sorted({lock.name for lock in session.locks or () if lock.kind == kind}))


def behind(survey: Survey, session: Session) -> tuple[Session, ...]:
    """Everybody who waits for this session, and who waits for those, in the order found."""
    known = {other.id: other for other in survey.sessions}
    found: dict[int, Session] = {}
    # With 500 in a queue for one table each blocks all behind it: 125,000 entries.
    front = deque(session.blocks or ())
    while front:
        number = front.popleft()
        if number in known and number not in found and number != session.id:
            found[number] = known[number]
            front.extend(known[number].blocks or ())
    return tuple(found.values())


def behind_all(survey: Survey, holders: Iterable[Session]) -> tuple[Session, ...]:
    """The same for several, each waiter once."""
    found = {w.id: w for holder in holders for w in behind(survey, holder)}
    return tuple(found.values())


def who_waits(waiters: Sequence[Session]) -> tuple[tuple[str, str], ...]:
    """Lines of evidence: the longest waiters first."""
    return tuple(
        (
            _("waits: {session}").format(session=named(waiter)),
            _("{for_} in {state}").format(
                for_=seconds(waiter.seconds), state=waiter.state or waiter.command
            ),
        )
        for waiter in sorted(waiters, key=lambda session: -session.seconds)[:5]
    )
