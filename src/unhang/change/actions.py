"""What each kind of step looks at, and what it does. The walk decides when."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from unhang.change import option_file
from unhang.change.files import read_source, replace_file, to_bytes
from unhang.change.patch import Patch
from unhang.change.steps import (
    AliasChange,
    DjangoValues,
    EditSettings,
    RestartApplication,
    SetVariable,
    Step,
    WriteOptionFile,
)
from unhang.change.targets import Targets
from unhang.errors import NotVerified, UsageProblem
from unhang.i18n import _
from unhang.survey.connect import connected, fetch
from unhang.survey.model import Alias

RESTART_SECONDS: Final = 120

State = Literal["before", "after", "other"]


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
    """All that a step may touch: entered targets, the person, and the way to restart."""

    targets: Targets
    person: Person
    restart: Restart = Restart()


def state_of(step: Step, targets: Targets, *, exact_file: bool = False) -> State | None:
    """Where the step's object is now; `None` when that cannot be looked at from here.

    Args:
        exact_file: A settings file that was edited elsewhere since the plan was made is `other`,
            though its effect is still that of before.
    """
    if isinstance(step, SetVariable):
        return _variable_state(step, targets)
    if isinstance(step, WriteOptionFile) and step.path is not None:
        return _which(option_file.read(Path(step.path)), step.before, step.after)
    if isinstance(step, EditSettings):
        return _settings_state(step, targets, exact_file=exact_file)
    return None


def _which(now: object, before: object, after: object) -> State:
    return "after" if now == after else "before" if now == before else "other"


def _variable_state(step: SetVariable, targets: Targets) -> State:
    running, persisted = _variable(step, targets)
    parts = {
        _which(running, step.before, step.after),
        _which(persisted, step.before_persisted, step.after_persisted),
    }
    if "other" in parts:
        return "other"
    # Two statements change the two of them: a crash in between leaves one on either side.
    return "before" if "before" in parts else "after"


def _variable(step: SetVariable, targets: Targets) -> tuple[int, int | None]:
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
        in_effect = _effect(step, targets)
        # A person may have set half of them.
        return "before" if in_effect == "other" and not exact_file else in_effect
    in_file = step.patch.state_of(read_source(Path(step.path)))
    try:
        in_effect = _effect(step, targets)
    except UsageProblem:
        if in_file == "other":
            raise
        return in_file  # settings that do not load can still be put back, byte for byte
    if in_effect == "before" and exact_file:
        return in_file if in_file == "before" else "other"
    return in_effect


def _effect(step: EditSettings, targets: Targets) -> State:
    aliases = targets.aliases()
    states = {_alias_state(change, aliases) for change in step.changes}
    return states.pop() if len(states) == 1 else "other"


def _alias_state(change: AliasChange, aliases: Mapping[str, Alias]) -> State:
    alias = aliases.get(change.alias)
    if alias is None:
        return "other"
    effective = DjangoValues(alias.conn_max_age, alias.conn_health_checks)
    return _which(effective, change.before, change.after)


def do(step: Step, around: Surroundings) -> dict[str, Any]:
    """Do the step and make sure of its effect.

    Returns:
        Facts for the journal: `watermark` is the first connection id that has the new value.

    Raises:
        NotVerified: It had no effect, or a person has to act first.
    """
    if isinstance(step, SetVariable):
        return _set_variable(step, around.targets)
    if isinstance(step, WriteOptionFile):
        _write_option_file(step, around.person)
    elif isinstance(step, EditSettings):
        _edit_settings(step, around)
    else:
        _restart_application(step, around)
    return {}


def statements(step: SetVariable) -> list[str]:
    """The SQL of a step, as it is sent and as a person would type it."""
    name, value = step.variable, int(step.after)
    if not step.persists:
        return [f"SET GLOBAL {name} = {value}"]
    if step.after_persisted is None:
        # RESET PERSIST alone leaves the running value as it is (MySQL 9.7).
        return [f"RESET PERSIST IF EXISTS {name}", f"SET GLOBAL {name} = {value}"]
    if step.after_persisted == value:
        return [f"SET PERSIST {name} = {value}"]
    # PERSIST_ONLY would set the first alone, but wants one more privilege. The running value is
    # the persisted one for the moment between the two; sessions that are open do not notice.
    return [f"SET PERSIST {name} = {step.after_persisted}", f"SET GLOBAL {name} = {value}"]


def _set_variable(step: SetVariable, targets: Targets) -> dict[str, Any]:
    for statement in statements(step):
        fetch(targets.connections[step.server], statement)
    if _variable_state(step, targets) != "after":
        value, _persisted = _variable(step, targets)
        message = _("{variable} is {value} after it was set to {after}.")
        raise NotVerified(message.format(variable=step.variable, value=value, after=step.after))
    return facts_of(step, targets)


def facts_of(step: Step, targets: Targets) -> dict[str, Any]:
    """What the journal keeps of a step that is in effect.

    `watermark`: connection ids only grow while a server runs, so every session with a lower id may
    still have the old value. `server_started`: seconds since the epoch; a later start of the server
    ended them all.
    """
    if not isinstance(step, SetVariable):
        return {}
    with connected(targets.logins[step.server]) as fresh:
        row = fetch(fresh, "SELECT CONNECTION_ID() AS id, UNIX_TIMESTAMP() AS now")[0]
        uptime = fetch(fresh, "SHOW GLOBAL STATUS LIKE 'Uptime'")[0]["Value"]
    return {"watermark": int(row["id"]), "server_started": int(row["now"]) - int(uptime)}


def _write_option_file(step: WriteOptionFile, person: Person) -> None:
    if step.path is None:
        if step.after is None:
            text = _("If you put {name} on the server, delete it there.")
            person.tell(text.format(name=option_file.DROP_IN))
        else:
            text = _("Put this into {name} on the server, where its option files are:")
            person.tell(text.format(name=option_file.DROP_IN))
            person.show(step.after)
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
        if _effect(step, around.targets) == "after":
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
    around.person.tell(_("These settings are computed; only you can set them:"))
    around.person.show(step.lines)
    while _effect(step, around.targets) != "after":
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


def describe(step: Step) -> str:
    """The step in one line."""
    if isinstance(step, SetVariable):
        text = _("{server}: {variable} {before} → {after}").format(
            server=step.server, variable=step.variable, before=step.before, after=step.after
        )
        if not step.persists:
            return text
        how = _("no longer persisted") if step.after_persisted is None else _("persisted")
        return f"{text} ({how})"
    if isinstance(step, WriteOptionFile):
        what = _("{server}: delete {path}") if step.after is None else _("{server}: write {path}")
        return what.format(server=step.server, path=step.path or option_file.DROP_IN)
    if isinstance(step, EditSettings):
        parts = [
            f"{change.alias} "
            + ", ".join(f"{k} {_old(change, k)} → {v}" for k, v in change.values().items())
            for change in step.changes
        ]
        where = Path(step.path).name if step.path else _("by hand")
        return f"Django {'; '.join(parts)} ({where})"
    return _("the application runs with the new settings")


def _old(change: AliasChange, name: str) -> object:
    return change.inverse().values()[name]
