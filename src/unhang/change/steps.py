"""The steps a plan is made of. Each knows its undo: the inverse is a step of the same kind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from unhang.change.patch import Patch
from unhang.survey.codec import decode, encode
from unhang.survey.model import Origin


@dataclass(frozen=True, slots=True)
class SetVariable:
    """Give a global variable of a server another value.

    Attributes:
        server: Name of the server in the plan.
        before, after: Values in the variable's own unit (seconds for the timeouts).
        origin: Where the value of before came from.
        before_persisted, after_persisted: MySQL's `mysqld-auto.cnf`; `None` is not persisted.
        to_default: `after` is what is compiled in, and is set by that name.
    """

    server: str
    variable: str
    before: int
    after: int
    origin: Origin
    before_persisted: int | None = None
    after_persisted: int | None = None
    to_default: bool = False

    @property
    def persists(self) -> bool:
        """Whether the step also changes what MySQL has persisted."""
        return self.before_persisted != self.after_persisted

    @property
    def persists_another(self) -> bool:
        """Whether the persisted value is to differ from the running one."""
        return self.persists and self.after_persisted not in (None, self.after)

    def inverse(self) -> SetVariable:
        """Back to the value, and the persisted value, of before; a default to the default."""
        return dataclasses.replace(
            self,
            before=self.after,
            after=self.before,
            before_persisted=self.after_persisted,
            after_persisted=self.before_persisted,
            to_default=self.origin.kind == "compiled default" and not self.to_default,
        )


@dataclass(frozen=True, slots=True)
class ChangeParameters:
    """Wait until a person has changed parameters of a managed service, which refuses SET GLOBAL.

    Attributes:
        service: What people call it: Amazon RDS, ….
        before, after: What the server shows, by variable, in the variable's own unit.
        commands, undo_commands: To paste; they need the service's own rights, not the server's.
    """

    server: str
    service: str
    before: Mapping[str, int]
    after: Mapping[str, int]
    commands: tuple[str, ...]
    undo_commands: tuple[str, ...]

    def inverse(self) -> ChangeParameters:
        """Back to what the service had."""
        return dataclasses.replace(
            self,
            before=self.after,
            after=self.before,
            commands=self.undo_commands,
            undo_commands=self.commands,
        )


@dataclass(frozen=True, slots=True)
class WriteOptionFile:
    """Write, replace or delete a drop-in option file, so that the values survive a restart.

    Attributes:
        path: `None` when the file is out of our reach: then its content is printed.
        likely_folder: Where such a server usually reads drop-ins from, for the person who puts it
            there.
        before, after: The whole content; `None` means that there is no such file.
        raises: Whether it makes `wait_timeout` longer; decides its place in the order.
    """

    server: str
    path: str | None
    before: str | None
    after: str | None
    raises: bool
    likely_folder: str = ""

    def inverse(self) -> WriteOptionFile:
        """The old bytes, or no file."""
        return dataclasses.replace(
            self, before=self.after, after=self.before, raises=not self.raises
        )


@dataclass(frozen=True, slots=True)
class DjangoValues:
    """The settings of an alias that a plan may change; seconds, a flag, and a dotted name.

    Attributes:
        engine: Empty where it is not the plan's business.
    """

    conn_max_age: int | None
    conn_health_checks: bool
    engine: str = ""


@dataclass(frozen=True, slots=True)
class AliasChange:
    """What one alias of DATABASES shall say."""

    alias: str
    before: DjangoValues
    after: DjangoValues

    def inverse(self) -> AliasChange:
        """Back to what it said."""
        return AliasChange(self.alias, self.after, self.before)

    def values(self) -> dict[str, int | bool | str | None]:
        """The settings that differ, by name, with their new values."""
        pairs: dict[str, tuple[int | bool | str | None, int | bool | str | None]] = {
            "ENGINE": (self.before.engine, self.after.engine),
            "CONN_MAX_AGE": (self.before.conn_max_age, self.after.conn_max_age),
            "CONN_HEALTH_CHECKS": (self.before.conn_health_checks, self.after.conn_health_checks),
        }
        return {name: after for name, (before, after) in pairs.items() if before != after}


@dataclass(frozen=True, slots=True)
class EditSettings:
    """Change CONN_MAX_AGE and CONN_HEALTH_CHECKS of the aliases that stand in one file.

    Attributes:
        path: The file to edit; `None` when it cannot be edited with certainty.
        patch: The edit; `None` when a person has to set the values.
        diff: The edit as people read it.
        why: Why nothing is edited, where a person has to set the values.
        environment: Variables of the environment that give the values, where some do.
    """

    changes: tuple[AliasChange, ...]
    path: str | None
    patch: Patch | None
    diff: str = ""
    why: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> str:
        """Assignments that have the effect, wherever in the settings they are put last."""
        return "\n".join(
            f'DATABASES["{change.alias}"]["{name}"] = {_spelled(value)}'
            for change in self.changes
            for name, value in change.values().items()
        )

    def inverse(self) -> EditSettings:
        """The file's old bytes; for a manual edit the old values."""
        return EditSettings(
            tuple(change.inverse() for change in self.changes),
            self.path,
            self.patch.inverse() if self.patch else None,
            why=self.why,
        )


def _spelled(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


@dataclass(frozen=True, slots=True)
class RestartApplication:
    """Wait until the application runs with the new settings.

    Attributes:
        required: The next steps would break workers that still run with the old settings.
        reason: Why, with numbers.
        wait_timeouts: What the next steps make shorter, by server: seconds that a worker's
            CONN_MAX_AGE has to be below.
        back: It is one of the way back: the settings of then are the old ones.
    """

    required: bool
    reason: str
    wait_timeouts: Mapping[str, int] = field(default_factory=dict)
    back: bool = False

    def inverse(self) -> RestartApplication:
        """A restart has no undo of its own; the settings' undo brings another one."""
        return self


Step: TypeAlias = (
    SetVariable | ChangeParameters | WriteOptionFile | EditSettings | RestartApplication
)


def wait_timeout_change(step: Step) -> tuple[int, int] | None:
    """The server's `wait_timeout` before and after this step, seconds; `None` if it stays."""
    if isinstance(step, SetVariable) and step.variable == "wait_timeout":
        return step.before, step.after
    if isinstance(step, ChangeParameters) and "wait_timeout" in step.after:
        return step.before["wait_timeout"], step.after["wait_timeout"]
    return None


def lowers_wait_timeout(step: Step) -> bool:
    """Whether the server will end sleepers earlier after this step."""
    change = wait_timeout_change(step)
    return change is not None and change[1] < change[0]


KINDS: Final[Mapping[str, type[Any]]] = {
    "set-variable": SetVariable,
    "change-parameters": ChangeParameters,
    "write-option-file": WriteOptionFile,
    "edit-settings": EditSettings,
    "restart-application": RestartApplication,
}
_NAMES: Final = {kind: name for name, kind in KINDS.items()}


def step_to_json(step: Step) -> dict[str, Any]:
    """A plain dict with the step's kind."""
    return {"kind": _NAMES[type(step)], **encode(step)}


def step_from_json(data: Mapping[str, Any]) -> Step:
    """The step that `step_to_json` printed.

    Raises:
        ValueError: An unknown kind, or a missing field.
    """
    kind = KINDS.get(data.get("kind", ""))
    if kind is None:
        raise ValueError(f"unknown kind of step {data.get('kind')!r}")
    step: Step = decode(kind, data)
    return step
