"""What the journal keeps of the world after a step: which sessions are from before it."""

from __future__ import annotations

from typing import Any

from unhang.change.steps import ChangeParameters, SetVariable, Step, wait_timeout_change
from unhang.change.targets import Targets
from unhang.survey.connect import connected, fetch


def facts_of(step: Step, targets: Targets) -> dict[str, Any]:
    """What the journal keeps of a step that is in effect.

    `watermark`: connection ids only grow while a server runs, so every session with a lower id may
    still have the old value. `server_started`: seconds since the epoch; a later start of the server
    ended them all.
    """
    if wait_timeout_change(step) is None or not isinstance(step, SetVariable | ChangeParameters):
        return {}
    with connected(targets.logins[step.server]) as fresh:
        row = fetch(fresh, "SELECT CONNECTION_ID() AS id, UNIX_TIMESTAMP() AS now")[0]
        uptime = fetch(fresh, "SHOW GLOBAL STATUS LIKE 'Uptime'")[0]["Value"]
    return {"watermark": int(row["id"]), "server_started": int(row["now"]) - int(uptime)}
