"""The rules a session must pass to be ended: all of them. Pure; unknown is protected.

Each rule sees a session in the later look, the same session in the earlier one (or nothing), and
the policy; it says why the session is spared, or nothing. The order is that of the reasons people
want to hear first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from unhang.i18n import _
from unhang.reaper.policy import Policy, Unknown
from unhang.survey.session import Lock, Session


@dataclass(frozen=True, slots=True)
class Looks:
    """One session in two looks.

    Attributes:
        now: In the later one.
        before: In the earlier one; `None` if it was not there.
        gap: Seconds between the two, by our clock.
        uptime: The server's age in seconds; no session can be older.
        uptime_before: The same in the earlier look; `None` if there was none.
        own: Ids of unhang's own sessions.
    """

    now: Session
    before: Session | None
    gap: float
    uptime: float
    own: frozenset[int] = frozenset()
    uptime_before: float | None = None


Judge = Callable[[Looks, Policy], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """A reason to spare a session.

    Attributes:
        name: Stable; what `--format json` and the audit say.
        judge: Why it is spared, or `None`.
    """

    name: str
    judge: Judge


def spared_because(looks: Looks, policy: Policy) -> tuple[str, str] | None:
    """The first rule that spares it, and its reason; `None` if it passes all."""
    for rule in RULES:
        reason = rule.judge(looks, policy)
        if reason is not None:
            return rule.name, reason
    return None


def protected_because(looks: Looks, policy: Policy) -> tuple[str, str] | None:
    """The same for a session that an operator named by its id: whose it is, and that it sleeps."""
    for rule in WHOSE:
        reason = rule.judge(looks, policy)
        if reason is not None:
            return rule.name, reason
    return None


# ---- whose it is ----


def _account(looks: Looks, policy: Policy) -> str | None:
    if looks.now.user in policy.accounts:
        return None
    return _("its account {user} is not among those to end").format(user=looks.now.user)


def _protected(looks: Looks, policy: Policy) -> str | None:
    if not policy.protects(looks.now.user):
        return None
    return _("its account {user} is protected").format(user=looks.now.user or _("(none)"))


def _own(looks: Looks, _policy: Policy) -> str | None:
    return _("it is unhang's own") if looks.now.id in looks.own else None


def _client(looks: Looks, policy: Policy) -> str | None:
    if looks.now.is_client is None:
        return _unknown("threads", policy)
    return None if looks.now.is_client else _("it is no ordinary client connection")


def _command(looks: Looks, _policy: Policy) -> str | None:
    if looks.now.command == "Sleep":
        return None
    return _("it is not asleep: {command}").format(command=looks.now.command)


def _old_timeout(looks: Looks, policy: Policy) -> str | None:
    if policy.drain is None or policy.drain.holds(looks.now):
        return None
    return _("it lives by the new wait_timeout already")


# ---- what it holds ----


def _transaction(looks: Looks, policy: Policy) -> str | None:
    now = looks.now
    if now.in_transaction is None:
        return _unknown("transactions", policy)
    return _("it is in a transaction") if now.in_transaction else None


def _empty_transaction(looks: Looks, policy: Policy) -> str | None:
    now = looks.now
    if now.empty_transaction or now.xa:
        return _("it has begun a transaction")
    if now.empty_transaction is None or now.xa is None:
        return _unknown("empty-transactions", policy)
    return None


def _locks(looks: Looks, policy: Policy) -> str | None:
    if looks.now.locks is None:
        return _unknown("locks", policy)
    if not looks.now.locks:
        return None
    return _("it holds {locks}").format(locks=", ".join(map(_lock, looks.now.locks[:3])))


def _lock(lock: Lock) -> str:
    kinds = {
        "user": "GET_LOCK",
        "table": "LOCK TABLES",
        "global": _("the global read lock"),
        "backup": _("a backup lock"),
        "metadata": _("a metadata lock"),
        "other": _("a lock"),
    }
    return f"{kinds[lock.kind]} {lock.name}".rstrip()


def _temporary(looks: Looks, policy: Policy) -> str | None:
    if looks.now.temporary_tables is None:
        return _unknown("temporary-tables", policy)
    return _("it has a temporary table") if looks.now.temporary_tables else None


def _blocks(looks: Looks, _policy: Policy) -> str | None:
    if not looks.now.blocks:
        return None  # without locks and transaction nobody can wait for it
    return _("{n} sessions wait for it").format(n=len(looks.now.blocks))


# ---- how long it has been idle ----


def _idle(looks: Looks, policy: Policy) -> str | None:
    if looks.now.seconds >= policy.idle_seconds:
        return None
    return _("idle for {idle:.1f} s, less than {least:g} s").format(
        idle=looks.now.seconds, least=policy.idle_seconds
    )


def _credible(looks: Looks, _policy: Policy) -> str | None:
    if looks.now.seconds <= looks.uptime + _CLOCK_SECONDS:
        return None
    return _("its idle time cannot be true: it is longer than the server runs")


def _same_server(looks: Looks, _policy: Policy) -> str | None:
    """Ids, and the counters of activity, begin anew with the server."""
    if looks.uptime_before is None:
        return None
    if abs(looks.uptime - looks.uptime_before - looks.gap) <= _slack(looks.gap):
        return None
    return _("the server restarted between the two looks, or it is another one")


def _seen_twice(looks: Looks, policy: Policy) -> str | None:
    if looks.before is None:
        return _("it was not there in the first look")
    if looks.gap < policy.gap_seconds * _SHORTER:
        return _("the two looks were too close")
    if (looks.before.user, looks.before.host) != (looks.now.user, looks.now.host):
        return _("it is another session than in the first look")
    return None


def _unused(looks: Looks, _policy: Policy) -> str | None:
    now, before = looks.now, looks.before
    if now.activity is None or before is None or before.activity is None:
        return _("whether it was used between the two looks cannot be seen")
    if now.activity != before.activity or before.command != "Sleep":
        return _("it was used between the two looks")
    if now.memory != before.memory:
        return _("its memory changed: a long statement may be on its way")
    return None


def _aged(looks: Looks, _policy: Policy) -> str | None:
    """Idle time must have grown as our own clock did: the second, independent measure."""
    if looks.before is None:
        return None
    grown = looks.now.seconds - looks.before.seconds
    if abs(grown - looks.gap) <= _slack(looks.gap):
        return None
    return _("its idle time grew by {grown:.1f} s in {gap:.1f} s").format(
        grown=grown, gap=looks.gap
    )


def _slack(gap: float) -> float:
    return max(_CLOCK_SECONDS, gap * 0.2)


def _unknown(what: Unknown, policy: Policy) -> str | None:
    if what in policy.accepted:
        return None
    return _("unknown: {what} (--accept-unknown {what})").format(what=what)


_CLOCK_SECONDS: Final = 2.0
"""MySQL counts a session without a statement in whole seconds; surveys take time themselves."""
_SHORTER: Final = 0.9

WHOSE: Final = (
    Rule("own", _own),
    Rule("account", _account),
    Rule("protected-account", _protected),
    Rule("client", _client),
    Rule("asleep", _command),
)
RULES: Final[tuple[Rule, ...]] = (
    *WHOSE,
    Rule("old-timeout", _old_timeout),
    Rule("transaction", _transaction),
    Rule("locks", _locks),
    Rule("blocks", _blocks),
    Rule("idle", _idle),
    Rule("empty-transaction", _empty_transaction),
    Rule("temporary-tables", _temporary),
    Rule("credible", _credible),
    Rule("same-server", _same_server),
    Rule("seen-twice", _seen_twice),
    Rule("unused", _unused),
    Rule("aged", _aged),
)


def unknown_to(sessions: Iterable[Session]) -> frozenset[Unknown]:
    """What cannot be known of at least one of these."""
    found: set[Unknown] = set()
    for session in sessions:
        if session.is_client is None:
            found.add("threads")
        if session.in_transaction is None:
            found.add("transactions")
        if session.empty_transaction is None or session.xa is None:
            found.add("empty-transactions")
        if session.locks is None:
            found.add("locks")
        if session.temporary_tables is None:
            found.add("temporary-tables")
    return frozenset(found)
