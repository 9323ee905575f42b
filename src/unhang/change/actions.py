"""What each kind of step does. The walk decides when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unhang.change import option_file
from unhang.change.facts import facts_of
from unhang.change.files import read_source, replace_file, to_bytes
from unhang.change.patch import Patch
from unhang.change.restart import restart_application
from unhang.change.states import effect_of, state_of, variable_of
from unhang.change.steps import (
    ChangeParameters,
    EditSettings,
    SetVariable,
    Step,
    WriteOptionFile,
)
from unhang.change.surroundings import Surroundings
from unhang.change.targets import Targets
from unhang.change.wording import statements
from unhang.errors import NotVerified, UsageProblem
from unhang.i18n import _
from unhang.survey.connect import fetch


def do(step: Step, around: Surroundings) -> dict[str, Any]:
    """Do the step and make sure of its effect.

    Returns:
        Facts for the journal: `watermark` is the first connection id that has the new value.

    Raises:
        NotVerified: It had no effect, or a person has to act first.
    """
    if isinstance(step, SetVariable):
        return _set_variable(step, around.targets)
    if isinstance(step, ChangeParameters):
        return _wait_for_parameters(step, around)
    if isinstance(step, WriteOptionFile):
        _write_option_file(step, around)
    elif isinstance(step, EditSettings):
        _edit_settings(step, around)
    else:
        restart_application(step, around)
    return {}


def _set_variable(step: SetVariable, targets: Targets) -> dict[str, Any]:
    for statement in statements(step):
        fetch(targets.connections[step.server], statement)
    if state_of(step, targets) != "after":
        value, _persisted = variable_of(step, targets)
        message = _("{variable} is {value} after it was set to {after}.")
        raise NotVerified(message.format(variable=step.variable, value=value, after=step.after))
    return facts_of(step, targets)


def _wait_for_parameters(step: ChangeParameters, around: Surroundings) -> dict[str, Any]:
    text = _("{service} takes these values from its own settings only. Run this:")
    around.person.tell(text.format(service=step.service))
    around.person.show("\n".join(step.commands))
    while state_of(step, around.targets) != "after":
        if not around.person.ask(_("Is it done? (The server does not show it yet.)")):
            raise NotVerified(
                _("{server} does not show the new values yet.").format(server=step.server),
                cure=_(
                    "It may take a minute. Then go on: unhang apply --resume, or unhang rollback"
                ),
            )
    return facts_of(step, around.targets)


def _write_option_file(step: WriteOptionFile, around: Surroundings) -> None:
    person = around.person
    if step.path is None:
        if step.after is None:
            text = _("If you put {name} on the server, delete it there, as root:")
            person.tell(text.format(name=option_file.DROP_IN))
            person.show(option_file.removal(step.likely_folder))
        else:
            text = _("Only somebody on the server's machine can do this, as root:")
            person.tell(text)
            person.show(option_file.placement(step.likely_folder, step.after))
        _wait_for_file(step, around)
        return
    data = None if step.after is None else step.after.encode("utf-8", "surrogateescape")
    replace_file(Path(step.path), data)


def _wait_for_file(step: WriteOptionFile, around: Surroundings) -> None:
    """Django must not be given a longer limit while the next restart of the server would bring
    its shorter one back. On the way back nothing may wait: what is left to do is said."""
    if not step.raises or around.back or around.by_hand_done:
        return
    if not around.person.ask(_("Is it done? It cannot be seen from here.")):
        raise NotVerified(
            _("The option file is not in place yet, as far as anybody said."),
            cure=_("Put it there, then go on: unhang apply --resume --by-hand-done"),
        )


def take_back_without_effect(step: EditSettings, targets: Targets) -> None:
    """Put a settings file back that holds our edit, though the edit has no effect.

    Nothing is done when the file is anything but what our edit made of it.
    """
    if step.path is None or step.patch is None:
        return
    path = Path(step.path)
    source = read_source(path)
    if step.patch.state_of(source) == "after" and effect_of(step, targets) == "before":
        replace_file(path, to_bytes(step.patch.inverse().applied_to(source)))


def _edit_settings(step: EditSettings, around: Surroundings) -> None:
    if step.path is None or step.patch is None:
        _wait_for_person(step, around)
        return
    path = Path(step.path)
    source = read_source(path)
    replace_file(path, to_bytes(_edited(step, step.patch, source)))
    why_not = ""
    try:
        if effect_of(step, around.targets) == "after":
            return
    except UsageProblem as error:
        why_not = f" {error.message}"
    except BaseException:
        replace_file(path, to_bytes(source))
        raise
    replace_file(path, to_bytes(source))
    message = _("The edit of {path} did not have the wanted effect and was taken back.{why}")
    cure = _("Set this by hand, where it comes last, then make a new plan:\n{lines}")
    raise NotVerified(message.format(path=path, why=why_not), cure=cure.format(lines=step.lines))


def _edited(step: EditSettings, patch: Patch, source: str) -> str:
    """The new text: the patch where the file is the one it was made for, else the same values.

    The way back must work though somebody has edited something else in the file since.
    """
    if patch.state_of(source) == "before":
        return patch.applied_to(source)
    from unhang.change.settings_edit import CannotEditError, edits  # LibCST takes 0.3 s to load

    moved = patch.moved_to(source)
    if moved is not None:
        return moved
    try:
        found = [e.hunk for c in step.changes for e in edits(source, c.alias, c.values())]
    except CannotEditError as error:
        message = _("The settings file was changed since, and cannot be edited: {why}.")
        cure = _("Set this by hand, then run the same command again:\n{lines}")
        raise NotVerified(message.format(why=error), cure=cure.format(lines=step.lines)) from None
    return Patch.of(source, found).applied_to(source)


def _wait_for_person(step: EditSettings, around: Surroundings) -> None:
    around.person.tell(_("Only you can set these settings: {why}.").format(why=step.why))
    if step.environment:
        around.person.tell(_("In the application's environment, and in this shell, which looks:"))
        around.person.show("\n".join(f"{n}={v}" for n, v in step.environment.items()))
        around.person.tell(_("or where they have the last word:"))
    around.person.show(step.lines)
    while effect_of(step, around.targets) != "after":
        if not around.person.ask(_("Are they set? (They are not in effect yet.)")):
            raise NotVerified(
                _("The settings are not in effect yet."),
                cure=_("Set them, then run the same command again:\n{lines}").format(
                    lines=step.lines
                ),
            )
