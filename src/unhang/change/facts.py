"""What the journal keeps of the world after a step: which sessions are from before it."""

from __future__ import annotations

from typing import Any, Final

from unhang.change.steps import ChangeParameters, SetVariable, Step
from unhang.change.targets import Targets
from unhang.survey.connect import connected, fetch

_CLOCK_SECONDS: Final = 3
"""Uptime and the clock are both whole seconds."""


def facts_of(step: Step, targets: Targets) -> dict[str, Any]:
    """What the journal keeps of a step that is in effect.

    `watermark`: connection ids only grow while a server runs, so every session with a lower id may
    still have the old value. `server_started`: seconds since the epoch; a later start of the server
    ended them all.
    """
    if not isinstance(step, SetVariable | ChangeParameters):
        return {}
    with connected(targets.logins[step.server]) as fresh:
        row = fetch(fresh, "SELECT CONNECTION_ID() AS id, UNIX_TIMESTAMP() AS now")[0]
        uptime = fetch(fresh, "SHOW GLOBAL STATUS LIKE 'Uptime'")[0]["Value"]
    return {"watermark": int(row["id"]), "server_started": int(row["now"]) - int(uptime)}


def restarted_since(step: Step, targets: Targets, server_started: int | None) -> bool:
    """Whether the server of a step was started again since a fact was written with it.

    Args:
        server_started: That fact; `None` if there is none.
    """
    if server_started is None or not isinstance(step, SetVariable | ChangeParameters):
        return False
    return bool(facts_of(step, targets)["server_started"] > server_started + _CLOCK_SECONDS)
