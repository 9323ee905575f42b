"""A step in words: one line for people, and the SQL that does it."""

from __future__ import annotations

from pathlib import Path

from unhang.change.option_file import DROP_IN
from unhang.change.steps import (
    AliasChange,
    ChangeParameters,
    EditSettings,
    SetVariable,
    Step,
    WriteOptionFile,
)
from unhang.i18n import _


def statements(step: SetVariable) -> list[str]:
    """The SQL of a step, as it is sent and as a person would type it."""
    name, value = step.variable, int(step.after)
    plain = f"SET GLOBAL {name} = {'DEFAULT' if step.to_default else value}"
    if not step.persists:
        return [plain]
    if step.after_persisted is None:
        # RESET PERSIST alone leaves the running value as it is (MySQL 9.7).
        return [f"RESET PERSIST IF EXISTS {name}", plain]
    if step.after_persisted == value:
        return [f"SET PERSIST {name} = {value}"]
    # SET PERSIST would give the running value the persisted one for a moment, and also in one
    # statement with SET GLOBAL both end up with the last value (MySQL 9.7).
    return [f"SET PERSIST_ONLY {name} = {step.after_persisted}", f"SET GLOBAL {name} = {value}"]


def describe(step: Step) -> str:
    """The step in one line."""
    if isinstance(step, SetVariable):
        text = _("{server}: {variable} {before} → {after}").format(
            server=step.server, variable=step.variable, before=step.before, after=step.after
        )
        if step.to_default:
            text = f"{text} ({_('the default')})"
        if not step.persists:
            return text
        how = _("no longer persisted") if step.after_persisted is None else _("persisted")
        return f"{text} ({how})"
    if isinstance(step, ChangeParameters):
        values = ", ".join(f"{n} {step.before[n]} → {step.after[n]}" for n in step.after)
        return f"{step.server}: {values} ({step.service})"
    if isinstance(step, WriteOptionFile):
        what = _("{server}: delete {path}") if step.after is None else _("{server}: write {path}")
        return what.format(server=step.server, path=step.path or DROP_IN)
    if isinstance(step, EditSettings):
        parts = [
            f"{change.alias} "
            + ", ".join(f"{k} {_old(change, k)} → {v}" for k, v in change.values().items())
            for change in step.changes
        ]
        where = Path(step.path).name if step.path else _("by hand")
        return f"Django {'; '.join(parts)} ({where})"
    if step.back:
        return _("the application runs with the old settings again")
    return _("the application runs with the new settings")


def _old(change: AliasChange, name: str) -> object:
    return change.inverse().values()[name]
