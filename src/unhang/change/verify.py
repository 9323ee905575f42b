"""Is the change in effect, and for whom not yet?

A session copies `wait_timeout` when it connects. So a change is seen on a new connection, and it
is complete only when every session from before has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unhang.change import option_file
from unhang.change.drain import Draining, draining
from unhang.change.journal import Journal
from unhang.change.states import state_of
from unhang.change.steps import ChangeParameters, SetVariable, WriteOptionFile, wait_timeout_change
from unhang.change.targets import Targets
from unhang.change.wording import describe
from unhang.i18n import _
from unhang.survey.codec import encode
from unhang.survey.connect import connected, fetch


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
        change = wait_timeout_change(step)
        if change is not None and isinstance(step, SetVariable | ChangeParameters):
            checks.append(_on_a_new_connection(step.server, change[1], targets))
        if isinstance(step, WriteOptionFile) and step.after is not None:
            checks += _after_a_restart(step, targets)
    return Verification(tuple(checks), tuple(draining(journal, targets)))


def _after_a_restart(step: WriteOptionFile, targets: Targets) -> Iterator[Check]:
    """Whether the drop-in has the last word when the server is started again."""
    wanted = option_file.values_in(step.after or "")
    found = option_file.after_a_restart(targets.connections[step.server], wanted)
    if found is None:
        if step.path is None:
            # Whether somebody put the file there decides what the next restart brings.
            yield Check(describe(step), _("put there by hand"), _("cannot be seen from here"), None)
        return
    for name, value in wanted.items():
        what = _("{server}: {name} after a restart of the server")
        now = found[name]
        seen = _("the default") if now is None else f"{now} s"
        shown = what.format(server=step.server, name=name)
        yield Check(shown, f"{value} s", seen, now == value)


def _on_a_new_connection(server: str, expected: int, targets: Targets) -> Check:
    with connected(targets.logins[server], own_timeout=False) as fresh:
        value = int(fetch(fresh, "SELECT @@session.wait_timeout AS value")[0]["value"])
    what = _("{server}: wait_timeout of a new connection").format(server=server)
    return Check(what, f"{expected} s", f"{value} s", value == expected)
