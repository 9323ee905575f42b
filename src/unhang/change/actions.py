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
from unhang.errors import NotVerified
from unhang.i18n import _
from unhang.survey.connect import connected, fetch
from unhang.survey.model import Alias

RESTART_SECONDS: Final = 120

State = Literal["before", "after", "other"]


class Person(Protocol):
    """Whoever stands by while the steps are done; a terminal, or nobody."""

    def tell(self, text: str) -> None:
        """Say what is being done, or what the person has to do."""

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


def state_of(step: Step, targets: Targets) -> State | None:
    """Where the step's object is now; `None` when that cannot be looked at from here."""
    if isinstance(step, SetVariable):
        was, shall = (step.before, step.before_persisted), (step.after, step.after_persisted)
        return _which(_variable(step, targets), was, shall)
    if isinstance(step, WriteOptionFile) and step.path is not None:
        return _which(option_file.read(Path(step.path)), step.before, step.after)
    if isinstance(step, EditSettings):
        return _settings_state(step, targets)
    return None


def _which(now: object, before: object, after: object) -> State:
    return "after" if now == after else "before" if now == before else "other"


def _variable(step: SetVariable, targets: Targets) -> tuple[int, int | None]:
    """The running value and, where the step persists, the persisted one."""
    connection = targets.connections[step.server]
    rows = fetch(connection, "SHOW GLOBAL VARIABLES WHERE Variable_name = %s", [step.variable])
    running = int(rows[0]["Value"])
    if not step.persists:
        return running, step.before_persisted
    persisted = fetch(
        connection,
        "SELECT VARIABLE_VALUE AS value FROM performance_schema.persisted_variables"
        " WHERE VARIABLE_NAME = %s",
        [step.variable],
    )
    return running, int(persisted[0]["value"]) if persisted else None


def _settings_state(step: EditSettings, targets: Targets) -> State:
    aliases = targets.aliases()
    states = {_alias_state(change, aliases) for change in step.changes}
    if "other" in states:
        return "other"
    if step.path is None or step.patch is None:
        return "before" if "before" in states else "after"  # a person may have set half of them
    in_file = step.patch.state_of(read_source(Path(step.path)))
    return in_file if states == {in_file} else "other"


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
    now = _variable(step, targets)
    if now != (step.after, step.after_persisted):
        message = _("{variable} is {value} after it was set to {after}.")
        raise NotVerified(message.format(variable=step.variable, value=now[0], after=step.after))
    # Connection ids only grow: every session with a lower id still has the old value.
    with connected(targets.logins[step.server]) as fresh:
        return {"watermark": int(fetch(fresh, "SELECT CONNECTION_ID() AS id")[0]["id"])}


def _write_option_file(step: WriteOptionFile, person: Person) -> None:
    if step.path is None:
        if step.after is None:
            text = _("If you put {name} on the server, delete it there.")
        else:
            text = _("Put this into {name} on the server, where its option files are:\n{text}")
        person.tell(text.format(name=option_file.DROP_IN, text=step.after))
        return
    data = None if step.after is None else step.after.encode("utf-8", "surrogateescape")
    replace_file(Path(step.path), data)


def _edit_settings(step: EditSettings, around: Surroundings) -> None:
    if step.path is None or step.patch is None:
        _wait_for_person(step, around)
        return
    path = Path(step.path)
    source = read_source(path)
    replace_file(path, to_bytes(step.patch.applied_to(source)))
    if _settings_state(step, around.targets) != "after":
        replace_file(path, to_bytes(source))
        raise NotVerified(
            _("The edit of {path} did not have the wanted effect and was taken back.").format(
                path=path
            ),
            cure=_("Set this by hand, where it comes last, then make a new plan:\n{lines}").format(
                lines=step.lines
            ),
        )


def _wait_for_person(step: EditSettings, around: Surroundings) -> None:
    lines = step.lines
    text = _("These settings are computed; only you can set them:\n{lines}")
    around.person.tell(text.format(lines=lines))
    while _settings_state(step, around.targets) != "after":
        if not around.person.ask(_("Are they set? (They are not in effect yet.)")):
            raise NotVerified(
                _("The settings are not in effect yet."),
                cure=_("Set them, then run the same command again:\n{lines}").format(lines=lines),
            )


def _restart_application(step: RestartApplication, around: Surroundings) -> None:
    if around.restart.run:
        around.restart.run()
    elif step.required and not around.restart.done:
        question = _("Restart the application. Does every worker run with the new settings?")
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
        return f"{text} ({_('persisted')})" if step.persists else text
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
