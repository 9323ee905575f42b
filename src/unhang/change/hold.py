"""Only one change at a time from a state folder, and who makes it: a file lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from unhang.errors import Refused
from unhang.i18n import _


@dataclass(slots=True)
class Hold:
    """The right to change something from a state folder; says to others how far it is."""

    _file: TextIO
    _who: str

    def at(self, step: str) -> None:
        """What is being done now, for whoever is refused meanwhile."""
        self._file.seek(0)
        self._file.truncate(0)
        self._file.write(f"{self._who}, pid {os.getpid()}" + (f", {step}" if step else ""))
        self._file.flush()


@contextmanager
def exclusive(state_dir: Path, who: str) -> Iterator[Hold]:
    """Only one change at a time from a state folder; ends with the process, however it ends.

    Raises:
        Refused: Somebody else holds it; the message names them and their step.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    try:
        opened = (state_dir / "lock").open("a+", encoding="utf-8")
    except PermissionError:
        _refuse_other_users_folder(state_dir)
        raise
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = holder_of(state_dir) or _("another process")
            message = _("A change is being made here already, by {holder}.")
            raise Refused(message.format(holder=holder)) from None
        hold = Hold(lock, who)
        hold.at("")
        yield hold
        lock.truncate(0)


def _refuse_other_users_folder(state_dir: Path) -> None:
    holder = holder_of(state_dir)
    if holder is not None:
        message = _("A change is being made here already, by {holder}.")
        raise Refused(message.format(holder=holder))


def holder_of(state_dir: Path) -> str | None:
    """Who is changing something from this folder now, and at which step; `None` if nobody is."""
    try:
        with (state_dir / "lock").open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read().strip() or None
    except OSError:
        pass
    return None
