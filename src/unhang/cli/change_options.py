"""What the verbs that follow a plan share: the state folder, a person at the terminal, targets."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer
from rich.markup import escape

from unhang.change import journal as journals
from unhang.change.journal import Journal
from unhang.change.plan import Plan, load
from unhang.change.restart import by_command
from unhang.change.surroundings import Restart
from unhang.change.targets import Targets
from unhang.cli.output import confirm, err, out, print_paste
from unhang.errors import Refused, UsageProblem
from unhang.i18n import _
from unhang.survey import login as logins

STATE_FOLDER: Final = ".unhang"

StateDirOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="Plans, journals and history; default: .unhang beside manage.py.",
    ),
]
RestartCommandOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--restart-command", metavar="CMD", help="Run to make the application read its settings."
    ),
]
RestartedOption: TypeAlias = Annotated[
    bool, typer.Option("--restarted", help="Every worker already runs with the new settings.")
]
ByHandDoneOption: TypeAlias = Annotated[
    bool, typer.Option("--by-hand-done", help="What only a person can do (a file) is done.")
]
YesOption: TypeAlias = Annotated[
    bool, typer.Option("--yes", help="Do not ask; for scripts that have looked at the plan.")
]


def state_folder(given: Path | None, project: Path | None = None) -> Path:
    """The folder for plans, journals and history."""
    return given or (project or Path.cwd()) / STATE_FOLDER


def who() -> str:
    """The person and the host, for the message that somebody else gets."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


class Terminal:
    """The person at the terminal, if there is one."""

    def tell(self, text: str) -> None:
        out.print(f"  {escape(text)}")

    def show(self, text: str) -> None:
        print_paste(text)

    def ask(self, text: str) -> bool:
        out.print(f"  [bold]{escape(text)}[/]")
        return confirm(_("  Type yes"))


def survive_signals() -> None:
    """Let SIGTERM end a change as Ctrl-C does, and let it outlive its terminal.

    A watch that ends with the terminal would leave behind what it was to roll back.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, _without_terminal)


def _without_terminal(_number: int, _frame: object) -> None:
    """From now on nobody reads what is printed, and nobody can be asked."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def require_yes(question: str) -> None:
    """Go on only when a person at the terminal types `yes`.

    Raises:
        UsageProblem: There is no terminal.
        Refused: Anything else was typed.
    """
    if not sys.stdin.isatty():
        raise UsageProblem(
            _("Nobody is at a terminal to say yes; nothing was changed."),
            cure=_("In a script, look at what would be done first, then give --yes."),
        )
    if not confirm(question):
        raise Refused(_("You did not say yes; nothing was changed."))


def restart_of(command: str | None, restarted: bool) -> Restart:
    """How the application gets restarted."""
    return Restart(by_command(command) if command else None, done=restarted)


def find_journal(which: Path | None, state_dir: Path | None) -> Journal:
    """The journal of a plan file, a journal file itself, or the newest one.

    Raises:
        UsageProblem: Nothing was applied, or the file is neither.
    """
    if which is None:
        return journals.newest(state_folder(state_dir))
    if which.suffix == ".jsonl":
        return journals.read(which)
    plan = load(which)
    path = journals.path_of(plan, state_folder(state_dir, home_of(plan)))
    if not path.exists():
        raise UsageProblem(
            _("The plan {id} was never applied.").format(id=plan.id), cure=f"unhang apply {which}"
        )
    return journals.read(path)


def home_of(plan: Plan) -> Path | None:
    """The folder whose state folder a plan's journal is in; `None` for the current one."""
    if plan.targets_file:
        return Path(plan.targets_file).parent
    return Path(plan.project.directory) if plan.project else None


@contextmanager
def where_it_stands(journal: Journal) -> Iterator[None]:
    """Whoever presses Ctrl-C is told that nothing is lost, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        begun = len(journal.begun())
        text = _(
            "\nInterrupted. {n} of {count} steps may be in effect; the journal knows which.\n"
            "Look: unhang status · it says how to go on, and how to go back"
        )
        err.print(escape(text.format(n=begun, count=len(journal.plan.steps))))
        raise


@contextmanager
def reached(plan: Plan, login: str | None, *, lenient: bool = False) -> Iterator[Targets]:
    """The plan's targets, connected and proven to be the same; see `Targets` for the rest."""
    with Targets(plan, logins.parse(login) if login else None, lenient=lenient) as targets:
        yield targets
