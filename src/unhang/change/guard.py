"""The last look before a step: would Django's limit end up above the server's right now?

The order of a plan is safe when the world is as the plan found it. This looks at the world as it
is: a step may have been skipped, a colleague may have changed a value since.

On the way back the world of before is restored, even one in which the client did not let go first;
what was safe before must be safe again.
"""

from __future__ import annotations

from unhang import timeouts
from unhang.change.plan import AliasLimit, ServerTarget
from unhang.change.steps import (
    ChangeParameters,
    EditSettings,
    SetVariable,
    Step,
    lowers_wait_timeout,
)
from unhang.change.targets import Targets
from unhang.errors import Refused
from unhang.i18n import _
from unhang.survey.connect import fetch


def check(step: Step, targets: Targets, *, restoring: bool) -> None:
    """Refuse a step that would put a client's limit above its server's.

    Args:
        restoring: It is a step of the way back.

    Raises:
        Refused: With both numbers; nothing was done.
    """
    if isinstance(step, EditSettings):
        for server in targets.plan.servers:
            for alias in server.aliases:
                _check_edit(step, targets, server, alias, restoring)
    elif isinstance(step, SetVariable | ChangeParameters) and lowers_wait_timeout(step):
        _check_lowering(step, targets, restoring)


def _check_edit(
    step: EditSettings, targets: Targets, server: ServerTarget, alias: AliasLimit, restoring: bool
) -> None:
    limits = [c.after.conn_max_age for c in step.changes if c.alias == alias.name]
    if not limits or (restoring and not server.was_safe(alias)):
        return
    row = fetch(targets.connections[server.name], "SELECT @@global.wait_timeout AS value")[0]
    _refuse_unless_first(alias.name, limits[0], int(row["value"]), server.name)


def _check_lowering(
    step: SetVariable | ChangeParameters, targets: Targets, restoring: bool
) -> None:
    after = step.after if isinstance(step, SetVariable) else step.after["wait_timeout"]
    (server,) = (s for s in targets.plan.servers if s.name == step.server)
    effective = targets.aliases() if server.aliases else {}
    for alias in server.aliases:
        now = effective.get(alias.name)
        if now is None or now.pool or (restoring and not server.was_safe(alias)):
            continue
        _refuse_unless_first(alias.name, now.conn_max_age, after, server.name)


def _refuse_unless_first(alias: str, limit: int | None, wait_timeout: int, server: str) -> None:
    if timeouts.lets_go_first(limit, wait_timeout):
        return
    kept = _("for ever") if limit is None else f"{limit} s"
    raise Refused(
        _(
            "Django would keep connections of {alias} {kept} while {server} ends them after "
            "{wait} s."
        ).format(alias=alias, kept=kept, server=server, wait=wait_timeout),
        cure=_("Somebody changed one of the two since the plan was made. Look: unhang diagnose"),
    )
