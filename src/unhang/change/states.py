"""Where the object of a step is now: as before, as after, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from unhang.change import option_file
from unhang.change.files import read_source
from unhang.change.steps import (
    AliasChange,
    ChangeParameters,
    EditSettings,
    SetVariable,
    Step,
    WriteOptionFile,
)
from unhang.change.targets import Targets
from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.survey.connect import fetch
from unhang.survey.model import Alias

State = Literal["before", "after", "other"]


def state_of(step: Step, targets: Targets, *, exact_file: bool = False) -> State | None:
    """Where the step's object is now; `None` when that cannot be looked at from here.

    Args:
        exact_file: A settings file that was edited elsewhere since the plan was made is `other`,
            though its effect is still that of before.
    """
    if isinstance(step, SetVariable):
        return _variable_state(step, targets)
    if isinstance(step, ChangeParameters):
        return _parameters_state(step, targets)
    if isinstance(step, WriteOptionFile) and step.path is not None:
        return _which(option_file.read(Path(step.path)), step.before, step.after)
    if isinstance(step, EditSettings):
        return _settings_state(step, targets, exact_file=exact_file)
    return None


def _which(now: object, before: object, after: object) -> State:
    return "after" if now == after else "before" if now == before else "other"


def _variable_state(step: SetVariable, targets: Targets) -> State:
    running, persisted = variable_of(step, targets)
    parts: set[State] = {
        _which(running, step.before, step.after),
        _which(persisted, step.before_persisted, step.after_persisted),
    }
    # Two statements change the two of them: a crash in between leaves one on either side.
    return _all_of(parts)


def _parameters_state(step: ChangeParameters, targets: Targets) -> State:
    now = _parameters(step, targets)
    return _all_of({_which(now.get(n), step.before[n], step.after[n]) for n in step.after})


def _parameters(step: ChangeParameters, targets: Targets) -> dict[str, int]:
    connection = targets.connections[step.server]
    rows = fetch(connection, "SHOW GLOBAL VARIABLES WHERE Variable_name IN %s", [tuple(step.after)])
    return {row["Variable_name"]: int(row["Value"]) for row in rows}


def variable_of(step: SetVariable, targets: Targets) -> tuple[int, int | None]:
    """The running value and, where the step persists, the persisted one."""
    connection = targets.connections[step.server]
    rows = fetch(connection, "SHOW GLOBAL VARIABLES WHERE Variable_name = %s", [step.variable])
    running = int(rows[0]["Value"])
    if not step.persists:
        return running, step.after_persisted
    persisted = fetch(
        connection,
        "SELECT VARIABLE_VALUE AS value FROM performance_schema.persisted_variables"
        " WHERE VARIABLE_NAME = %s",
        [step.variable],
    )
    return running, int(persisted[0]["value"]) if persisted else None


def _settings_state(step: EditSettings, targets: Targets, *, exact_file: bool = False) -> State:
    if step.path is None or step.patch is None:
        return effect_of(step, targets)
    in_file = step.patch.state_of(read_source(Path(step.path)))
    try:
        in_effect = effect_of(step, targets)
    except UsageProblem:
        if in_file == "other":
            raise
        return in_file  # settings that do not load can still be put back, byte for byte
    if exact_file:
        return "other" if in_effect == "before" != in_file else in_effect
    # On the way back the file counts as well: what we wrote goes, though something else may have
    # brought the old effect back already.
    ours = in_file == "before" or step.patch.moved_to(read_source(Path(step.path))) is not None
    return "before" if in_effect == "after" and in_file != "after" and ours else in_effect


def seen(step: Step, targets: Targets) -> str:
    """What is there now, in a few words, where it is neither as before nor as planned."""
    if isinstance(step, SetVariable):
        running, persisted = variable_of(step, targets)
        if step.persists and persisted != running:
            told = (
                _("not persisted") if persisted is None else _("persisted: {n}").format(n=persisted)
            )
            return f"{running} ({told})"
        return str(running)
    if isinstance(step, ChangeParameters):
        return ", ".join(f"{name} {value}" for name, value in _parameters(step, targets).items())
    if isinstance(step, EditSettings):
        aliases = targets.aliases()
        return "; ".join(_alias_now(change, aliases.get(change.alias)) for change in step.changes)
    return _("another content")


def _alias_now(change: AliasChange, alias: Alias | None) -> str:
    if alias is None:
        return _("{alias} is gone").format(alias=change.alias)
    values = {
        "ENGINE": alias.engine,
        "CONN_MAX_AGE": alias.conn_max_age,
        "CONN_HEALTH_CHECKS": alias.conn_health_checks,
    }
    named = ", ".join(f"{name} {values[name]}" for name in change.values())
    return f"{change.alias} {named}"


def effect_of(step: EditSettings, targets: Targets) -> State:
    """What a fresh interpreter makes of the settings now; half of it done is `before`."""
    aliases = targets.aliases()
    states = {_alias_state(change, aliases) for change in step.changes}
    return _all_of(states)


def _all_of(states: set[State]) -> State:
    return "other" if "other" in states else "before" if "before" in states else "after"


def _alias_state(change: AliasChange, aliases: Mapping[str, Alias]) -> State:
    alias = aliases.get(change.alias)
    if alias is None:
        return "other"
    before, after = change.before, change.after
    return _all_of(
        {
            _which(alias.conn_max_age, before.conn_max_age, after.conn_max_age),
            _which(alias.conn_health_checks, before.conn_health_checks, after.conn_health_checks),
            _which(alias.engine, before.engine, after.engine) if after.engine else "after",
        }
    )
