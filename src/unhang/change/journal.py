"""The durable record of what was done: written and synced before each step, and after it.

One JSON document a line. The first holds the plan, so that a journal is enough to roll back. A
crash can cut the last line off; a line that does not parse at the very end is as if never written,
and its step counts as begun only if the line before says so.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from unhang.change.files import replace_file
from unhang.change.plan import Plan
from unhang.change.steps import EditSettings
from unhang.errors import Refused, UsageProblem
from unhang.i18n import _

Event = Literal[
    "planned", "begun", "done", "skipped", "restarted", "undo-begun", "undone", "rolled-back"
]

_FOLDER: Final = "journal"


@dataclass(slots=True)
class Journal:
    """The journal of one plan.

    Attributes:
        entries: Everything written so far, the plan's entry first.
    """

    path: Path
    plan: Plan
    entries: list[Mapping[str, Any]] = field(default_factory=list)

    def write(self, event: Event, step: int | None = None, **facts: Any) -> None:
        """Append an entry; it is on the disk when this returns.

        Raises:
            OSError: It could not be written (a full disk): do not go on.
        """
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"at": at, "event": event, "step": step, **facts}
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, line.encode())
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)  # the next entry must not be glued to half of this
                raise
        finally:
            os.close(descriptor)
        self.entries.append(entry)

    def begun(self) -> tuple[int, ...]:
        """Steps that may have had an effect and were not undone, in the order they began."""
        steps: dict[int, None] = {}
        for entry in self.entries:
            if entry["event"] == "begun":
                steps[entry["step"]] = None
            elif entry["event"] == "undone":
                steps.pop(entry["step"], None)
        return tuple(steps)

    def ever_begun(self) -> tuple[int, ...]:
        """Steps that had an effect at any time, undone or not: the way back is ordered by all."""
        steps = (entry["step"] for entry in self.entries if entry["event"] == "begun")
        return tuple(dict.fromkeys(steps))

    def restarted(self) -> bool:
        """Whether the application was restarted after the last edit of its settings, or undo."""
        for entry in reversed(self.entries):
            if entry["event"] == "restarted":
                return True
            if entry["event"] in ("begun", "done", "undo-begun", "undone") and isinstance(
                self.plan.steps[entry["step"]], EditSettings
            ):
                return False
        return False

    def fact(self, step: int, name: str) -> Any:
        """The newest value of a fact that was written with a step, or `None`."""
        for entry in reversed(self.entries):
            if entry["step"] == step and name in entry:
                return entry[name]
        return None

    def settled(self, step: int) -> bool:
        """Whether the newest entry of a step says that it is done."""
        events = [entry["event"] for entry in self.entries if entry["step"] == step]
        return bool(events) and events[-1] in ("done", "skipped")

    @property
    def rolled_back(self) -> bool:
        """Whether a rollback went through after the last step that was done."""
        return bool(self.entries[-1]["event"] == "rolled-back")


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def open_for(plan: Plan, state_dir: Path) -> Journal:
    """The plan's journal, begun now or continued.

    Raises:
        Refused: The plan was rolled back; its "before" is no longer what it was.
    """
    refuse_if_rolled_back(plan, state_dir)
    path = path_of(plan, state_dir)
    if path.exists():
        return read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    keep_out_of_git(state_dir)
    # The first entry is there whole or not at all: without it nothing could be read.
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = {"at": at, "event": "planned", "step": None, "plan": plan.to_json()}
    line = json.dumps(entry, ensure_ascii=False) + "\n"
    replace_file(path, line.encode(), mode=0o600)
    return Journal(path, plan, [entry])


def path_of(plan: Plan, state_dir: Path) -> Path:
    """Where the plan's journal is, or would be."""
    return state_dir / _FOLDER / f"{plan.id}.jsonl"


def refuse_if_rolled_back(plan: Plan, state_dir: Path) -> None:
    """A plan is applied once: after a rollback its "before" may no longer be what it was.

    Raises:
        Refused: It was rolled back.
    """
    path = path_of(plan, state_dir)
    if path.exists() and read(path).rolled_back:
        raise Refused(
            _("The plan {id} was applied and rolled back already.").format(id=plan.id),
            cure=_("Make a new one: unhang plan"),
        )


def read(path: Path) -> Journal:
    """A journal from its file; a cut-off last line counts as never written, and is cut off.

    Raises:
        UsageProblem: Missing, or not a journal.
    """
    entries: list[Mapping[str, Any]] = []
    try:
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        entries = [json.loads(line) for line in whole.splitlines()]
        plan = Plan.from_json(entries[0]["plan"])
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        message = _("{path} is not a journal: {reason}.").format(path=path, reason=reason)
        raise UsageProblem(message) from None
    if len(whole) < len(data):
        os.truncate(path, len(whole))  # else the next entry would be glued to the half one
    return Journal(path, plan, entries)


def newest(state_dir: Path) -> Journal:
    """The journal that was written to last and not rolled back, else the last one at all.

    Raises:
        UsageProblem: Nothing was ever applied from here.
    """
    paths = sorted(
        (state_dir / _FOLDER).glob("*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    journals = []
    for path in paths:
        with suppress(UsageProblem):  # a file that is none must not hide those that are
            journals.append(read(path))
    for journal in journals:
        if not journal.rolled_back:
            return journal
    if journals:
        return journals[0]
    raise UsageProblem(
        _("There is no journal in {folder}: nothing was applied from here.").format(
            folder=state_dir / _FOLDER
        ),
        cure=_("Name the folder with --state-dir, or make a plan first: unhang plan"),
    )


def keep_out_of_git(state_dir: Path) -> None:
    """Plans and journals are of this machine; they do not belong into a repository."""
    ignore = state_dir / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


@contextmanager
def exclusive(state_dir: Path, who: str) -> Iterator[None]:
    """Only one change at a time from a state folder; ends with the process, however it ends.

    Raises:
        Refused: Somebody else holds it; the message names them.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or _("another process")
            message = _("A change is being made here already, by {holder}.")
            raise Refused(message.format(holder=holder)) from None
        lock.truncate(0)
        lock.write(f"{who}, pid {os.getpid()}")
        lock.flush()
        yield
        lock.truncate(0)
