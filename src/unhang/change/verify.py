"""Is the change in effect, and for whom not yet?

A session copies `wait_timeout` when it connects. So a change is seen on a new connection, and it
is complete only when every session from before has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from unhang.change.actions import facts_of
from unhang.change.journal import Journal
from unhang.change.states import state_of
from unhang.change.steps import SetVariable
from unhang.change.targets import Targets
from unhang.change.wording import describe
from unhang.i18n import _
from unhang.mysql.engine import identify
from unhang.survey.codec import encode
from unhang.survey.collect import current_account
from unhang.survey.connect import Connection, connected, fetch
from unhang.survey.session import Session
from unhang.survey.sessions import Listing, read_sessions

_CLOCK_SECONDS: Final = 3
"""Uptime and the clock are both whole seconds."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        ok: `None` when it cannot be looked at from here.
    """

    what: str
    expected: str
    found: str
    ok: bool | None


@dataclass(frozen=True, slots=True)
class Draining:
    """The sessions of a server that still live by the old value.

    Attributes:
        count: How many are left.
        oldest_seconds: How long the longest of them has slept.
        gone_within_seconds: When the old value ends the last of those that stay asleep.
        seen: Whether every session could be seen; else there may be more.
    """

    server: str
    count: int
    oldest_seconds: float
    gone_within_seconds: float
    seen: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """What `unhang verify` found."""

    checks: tuple[Check, ...]
    draining: tuple[Draining, ...]

    @property
    def in_effect(self) -> bool:
        """Every value that can be looked at is as planned."""
        return all(check.ok is not False for check in self.checks)

    @property
    def drained(self) -> bool:
        """No session is known to live by an old value."""
        return not any(server.count for server in self.draining)

    def to_json(self) -> dict[str, Any]:
        """Plain data, with both verdicts."""
        plain: dict[str, Any] = encode(self)
        return plain | {"in_effect": self.in_effect, "drained": self.drained}


def verify(journal: Journal, targets: Targets) -> Verification:
    """Look at every step's effect, and count the sessions from before."""
    checks = []
    found = {"after": _("as planned"), "before": _("as before"), "other": _("neither")}
    for step in journal.plan.steps:
        state = state_of(step, targets)
        if state is not None:
            checks.append(Check(describe(step), _("as planned"), found[state], state == "after"))
        if isinstance(step, SetVariable) and step.variable == "wait_timeout":
            checks.append(_on_a_new_connection(step, targets))
    return Verification(tuple(checks), tuple(_draining(journal, targets)))


def _on_a_new_connection(step: SetVariable, targets: Targets) -> Check:
    with connected(targets.logins[step.server], own_timeout=False) as fresh:
        value = int(fetch(fresh, "SELECT @@session.wait_timeout AS value")[0]["value"])
    what = _("{server}: wait_timeout of a new connection").format(server=step.server)
    return Check(what, f"{step.after} s", f"{value} s", value == step.after)


def _draining(journal: Journal, targets: Targets) -> Sequence[Draining]:
    return [
        _of_server(
            step,
            targets,
            journal.fact(number, "watermark"),
            journal.fact(number, "server_started"),
        )
        for number, step in enumerate(journal.plan.steps)
        if isinstance(step, SetVariable) and step.variable == "wait_timeout"
    ]


def _of_server(
    step: SetVariable, targets: Targets, watermark: int | None, server_started: int | None
) -> Draining:
    listing = _sessions(targets.connections[step.server])
    sessions = listing.sessions
    now = facts_of(step, targets)
    if server_started is not None and now["server_started"] > server_started + _CLOCK_SECONDS:
        sessions = ()  # a restart has ended all sessions from before
    old = [session for session in sessions if _has_old_value(session, step, watermark)]
    oldest = max((s.seconds for s in old), default=0.0)
    youngest = min((s.seconds for s in old if s.is_sleeper), default=0.0)
    left = max(0.0, step.before - youngest) if old else 0.0
    return Draining(step.server, len(old), oldest, left, seen=listing.sees_all)


def _sessions(connection: Connection) -> Listing:
    about = fetch(connection, "SELECT @@version AS v, @@version_comment AS c")[0]
    engine = identify(about["v"], about["c"])
    account = current_account(connection)
    return read_sessions(connection, engine, account=account, unseen=lambda _: None)


def _has_old_value(session: Session, step: SetVariable, watermark: int | None) -> bool:
    """MySQL shows each session's own copy; elsewhere the connection id tells its age."""
    if session.wait_timeout is not None:
        return session.wait_timeout == step.before
    # Without a watermark nobody knows: then it may be old.
    return watermark is None or session.id < watermark
