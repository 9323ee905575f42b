"""Whom to end, from two looks at the same server. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from unhang.i18n import _
from unhang.reaper.policy import Policy
from unhang.reaper.rules import Looks, spared_because
from unhang.survey.session import Session


@dataclass(frozen=True, slots=True)
class Look:
    """The sessions of one moment.

    Attributes:
        at: Our monotonic clock, seconds.
        uptime: The server's age, seconds.
    """

    sessions: Sequence[Session]
    at: float
    uptime: float


@dataclass(frozen=True, slots=True)
class Spared:
    """A sleeper that is left alone, the rule that says so, and why."""

    session: Session
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What one round would do.

    Attributes:
        victims: Those to end, the longest idle first.
        spared: Sleepers of the allowed accounts that are left alone.
        transactions: Sleepers in a transaction, of any account: shown, never chosen.
    """

    victims: tuple[Session, ...]
    spared: tuple[Spared, ...]
    transactions: tuple[Session, ...]


def choose(
    now: Look, before: Look | None, policy: Policy, own: frozenset[int] = frozenset()
) -> Choice:
    """Put every session through the rules, then keep the warm minimum and the limit.

    Args:
        before: The earlier look; without one nobody is chosen.
        own: Ids of unhang's own sessions.
    """
    earlier = {session.id: session for session in before.sessions} if before else {}
    gap = now.at - before.at if before else 0.0
    uptime_before = before.uptime if before else None
    passed: list[Session] = []
    spared: list[Spared] = []
    for session in now.sessions:
        looks = Looks(session, earlier.get(session.id), gap, now.uptime, own, uptime_before)
        found = spared_because(looks, policy)
        if found is None:
            passed.append(session)
        elif session.user in policy.accounts and session.is_sleeper:
            spared.append(Spared(session, *found))
    others = [session for session in now.sessions if session.id not in own]
    kept = _warm(others, passed, policy)
    chosen = sorted(
        (session for session in passed if session.id not in kept),
        key=lambda session: (-session.seconds, session.id),
    )
    reason = _("it is one of the {n} kept warm").format(n=policy.keep)
    spared += [Spared(session, "keep", reason) for session in passed if session.id in kept]
    reason = _("the limit of {n} a round is reached").format(n=policy.most)
    spared += [Spared(session, "limit", reason) for session in chosen[policy.most :]]
    return Choice(
        tuple(chosen[: policy.most]),
        tuple(spared),
        tuple(session for session in now.sessions if session.is_idle_in_transaction),
    )


def _warm(sessions: Sequence[Session], passed: Sequence[Session], policy: Policy) -> frozenset[int]:
    """Of those that passed, whom to keep so that each user and host has its warm minimum.

    Those that were used lately count: they are warm already. Those that hold something do not.
    """
    idle: dict[tuple[str, str], list[Session]] = defaultdict(list)
    candidates = {session.id for session in passed}
    for session in sessions:
        holds = session.locks or session.empty_transaction or session.xa or session.temporary_tables
        # A candidate counts although its transaction is unknown: that was accepted.
        if (session.is_idle or session.id in candidates) and not holds:
            idle[session.user, session.host].append(session)
    kept: set[int] = set()
    for group in idle.values():
        warmest = sorted(group, key=lambda session: (session.seconds, -session.id))
        kept |= {session.id for session in warmest[: policy.keep]}
    return frozenset(kept & candidates)
