"""What each kind of step does. The walk decides when."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from unhang.change import option_file
from unhang.change.control import Control, Freely
from unhang.change.files import read_source, replace_file, to_bytes
from unhang.change.patch import Patch
from unhang.change.states import effect_of, state_of, variable_of
from unhang.change.steps import (
    ChangeParameters,
    EditSettings,
    RestartApplication,
    SetVariable,
    Step,
    WriteOptionFile,
    wait_timeout_change,
)
from unhang.change.targets import Targets
from unhang.change.wording import statements
from unhang.errors import NotVerified, UsageProblem
from unhang.i18n import _
from unhang.survey.connect import connected, fetch

RESTART_SECONDS: Final = 120


class Person(Protocol):
    """Whoever stands by while the steps are done; a terminal, or nobody."""

    def tell(self, text: str) -> None:
        """Say what is being done, or what the person has to do."""

    def show(self, text: str) -> None:
        """Lines that the person copies somewhere, exactly as they are."""

    def ask(self, text: str) -> bool:
        """Whether the person confirms that something was done; `False` when nobody is there."""


@dataclass(frozen=True, slots=True)
class Restart:
    """How the application gets to run with new settings.

    Attributes:
        run: Restarts or reloads it, see `by_command`; `None` leaves it to a person.
        done: The person said beforehand that it was restarted.
    """

    run: Callable[[], None] | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a step may touch: entered targets, the person, the way to restart, and what may
    hold it up."""

    targets: Targets
    person: Person
    restart: Restart = Restart()
    control: Control = field(default_factory=Freely)


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
        _write_option_file(step, around.person)
    elif isinstance(step, EditSettings):
        _edit_settings(step, around)
    else:
        _restart_application(step, around)
    return {}


def _set_variable(step: SetVariable, targets: Targets) -> dict[str, Any]:
    for statement in statements(step):
        fetch(targets.connections[step.server], statement)
    if state_of(step, targets) != "after":
        value, _persisted = variable_of(step, targets)
        message = _("{variable} is {value} after it was set to {after}.")
        raise NotVerified(message.format(variable=step.variable, value=value, after=step.after))
    return facts_of(step, targets)


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


def _write_option_file(step: WriteOptionFile, person: Person) -> None:
    if step.path is None:
        if step.after is None:
            text = _("If you put {name} on the server, delete it there, as root:")
            person.tell(text.format(name=option_file.DROP_IN))
            person.show(option_file.removal(step.likely_folder))
        else:
            text = _("Only somebody on the server's machine can do this, as root:")
            person.tell(text)
            person.show(option_file.placement(step.likely_folder, step.after))
        return
    data = None if step.after is None else step.after.encode("utf-8", "surrogateescape")
    replace_file(Path(step.path), data)


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


def _restart_application(step: RestartApplication, around: Surroundings) -> None:
    if around.restart.run:
        around.restart.run()
    elif step.required and not around.restart.done:
        question = _("Restart the application. Does every worker run with its settings of now?")
        if not around.person.ask(f"{step.reason}.\n{question}"):
            raise NotVerified(
                _("The application must be restarted first: {reason}.").format(reason=step.reason),
                cure=_("Restart it, then run the same command again with --restarted."),
            )
    elif not around.restart.done:
        around.person.tell(_("Restart the application soon, so that it reads the new settings."))


def by_command(command: str) -> Callable[[], None]:
    """A restart through a command line, which is not given to a shell."""
    return lambda: _run(command)


def _run(command: str) -> None:
    again = _("Restart the application, then run the same command again with --restarted.")
    try:
        result = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RESTART_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        message = _("The restart command could not be run: {error}.").format(error=error)
        raise NotVerified(message, cure=again) from None
    if result.returncode:
        last = ((result.stderr or result.stdout).strip().splitlines() or [""])[-1]
        message = _("The restart command ended with code {code}: {text}")
        raise NotVerified(message.format(code=result.returncode, text=last), cure=again)
