"""What may hold a change up between two steps: a pause, a stop, somebody else, the watch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from unhang.change.hold import Hold
from unhang.change.lead import Lead
from unhang.errors import Refused
from unhang.i18n import _

PAUSE_FILE: Final = "apply.pause"
STOP_FILE: Final = "apply.stop"
_POLL_SECONDS: Final = 0.2


class Control(Protocol):
    """Asked before each step."""

    def before(self, number: int, count: int, text: str) -> None:
        """Let the step go ahead, now or later.

        Args:
            number: Of the step in its plan, from 0.
            text: The step in one line.

        Raises:
            UnhangError: It must not be done.
        """

    def restarted(self) -> None:
        """The application was restarted just now."""


class Freely:
    """Nothing holds it up."""

    def before(self, number: int, count: int, text: str) -> None: ...

    def restarted(self) -> None: ...


@dataclass(slots=True)
class Careful:
    """The control of apply and rollback.

    Attributes:
        folder: Where the files are that stop and pause; `None` obeys none, as a rollback does: it
            leads to where everything was before, and half of it is nowhere.
        tell: Says why nothing happens.
        also: Asked last, again and again while it is paused.
        on_restart: Called when the application was restarted.
    """

    hold: Hold
    lead: Lead
    folder: Path | None
    tell: Callable[[str], None]
    also: Callable[[], None] = lambda: None
    sleep: Callable[[float], None] = time.sleep
    on_restart: Callable[[], None] = lambda: None

    def restarted(self) -> None:
        self.on_restart()

    def before(self, number: int, count: int, text: str) -> None:
        """Obey the files, keep the lead, and say where we are."""
        step = _("step {n} of {count}: {text}").format(n=number + 1, count=count, text=text)
        self.hold.at(step)
        if self.folder is not None:
            wait_while_paused(self.folder, self.tell, self.sleep, self.also)
            check_stop_file(self.folder)
        self.lead.at(number)
        self.also()


def pause_file(folder: Path) -> Path:
    """The file that holds up whatever is applied from a state folder."""
    return folder / PAUSE_FILE


def check_stop_file(folder: Path) -> None:
    """Refuse to begin, or to go on, while the stop file is there.

    Raises:
        Refused: It is.
    """
    path = folder / STOP_FILE
    if path.exists():
        raise Refused(
            _("The stop file {path} is there: nothing more is done.").format(path=path),
            cure=_("Delete it, then: unhang apply --resume, or unhang rollback"),
        )


def wait_while_paused(
    folder: Path,
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Return when nobody wants a pause, or the stop file is there."""
    path = pause_file(folder)
    if not path.exists():
        return
    try:
        who = path.read_text(encoding="utf-8").strip()
    except OSError:
        who = ""
    text = _("Paused{who} by {path}. Go on with: unhang apply --continue")
    tell(text.format(who=f" ({who})" if who else "", path=path))
    while path.exists() and not (folder / STOP_FILE).exists():
        meanwhile()
        sleep(_POLL_SECONDS)
    tell(_("Going on."))


def pause(folder: Path, who: str) -> Path:
    """Hold up whatever is applied from this folder before its next step."""
    folder.mkdir(parents=True, exist_ok=True)
    path = pause_file(folder)
    path.write_text(f"{who}\n", encoding="utf-8")
    return path


def go_on(folder: Path) -> bool:
    """End a pause; whether there was one."""
    path = pause_file(folder)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed
