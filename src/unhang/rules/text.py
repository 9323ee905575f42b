"""How numbers are written in findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from unhang.i18n import _, ngettext
from unhang.survey.grouping import OwnerGroup, owner_groups
from unhang.survey.session import Session

_GROUPS: Final = 5


def seconds(value: float | None) -> str:
    """`300 s`, with a reading in minutes, hours or days from two minutes on; `None` is for ever."""
    if value is None:
        return _("for ever")
    whole = f"{value:.0f} s" if value >= 10 or value == int(value) else f"{value:.1f} s"
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= 2 * unit or (unit > 60 and value >= unit):
            return f"{whole} ({value / unit:.3g} {name})"
    return whole


def sleepers(count: int) -> str:
    """`1 sleeper`, `12 sleepers`."""
    return ngettext("{n} sleeper", "{n} sleepers", count).format(n=count)


def owners(sessions: Sequence[Session]) -> str:
    """Whose they are, in a clause: `gunicorn workers 412–415, executor threads, shop/views.py:88`.

    The biggest group, and how many more there are.
    """
    groups = owner_groups(sessions)
    if not groups:
        return ""
    more = len(groups) - 1
    first = owner(groups[0])
    return first if not more else _("{first}, and {n} more").format(first=first, n=more)


def owner(group: OwnerGroup) -> str:
    """One owner: label, kind of threads, line of code, and work, as far as they are known."""
    parts = (group.label, group.threads, group.code, group.work)
    return ", ".join(part for part in parts if part)


def owner_evidence(sessions: Sequence[Session]) -> tuple[tuple[str, str], ...]:
    """A line for each of the biggest groups of owners: how many, and how long asleep."""
    return tuple(
        (
            owner(group),
            _("{sessions}, the oldest for {oldest}").format(
                sessions=sessions_of(len(group.sessions)),
                oldest=seconds(max(session.seconds for session in group.sessions)),
            ),
        )
        for group in owner_groups(sessions)[:_GROUPS]
    )


def sessions_of(count: int) -> str:
    """`1 session`, `12 sessions`."""
    return ngettext("{n} session", "{n} sessions", count).format(n=count)


def age_of_transaction(session: Session) -> str:
    """Of the open one; `?` where the server does not tell."""
    age = session.transaction_seconds
    return "?" if age is None else seconds(age)


def named(session: Session) -> str:
    """One session, as a person would look for it: `session 41 (shop at 10.0.0.7)`."""
    return _("session {id} ({owner})").format(id=session.id, owner=owners([session]))
