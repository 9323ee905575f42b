"""The durable record of what was done: written and synced before each step, and after it.

One JSON document a line. The first holds the plan, so that a journal is enough to roll back. A
crash can cut the last line off, and a power failure can fill it with rubbish. Such an end is no
entry; but it may have been a step's "begun", so the next step counts as begun, and a look at the
world decides whether there is anything to undo.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from unhang.change.files import clean_up, replace_file
from unhang.change.plan import Plan
from unhang.change.steps import EditSettings, RestartApplication, Step
from unhang.errors import Refused, UsageProblem
from unhang.i18n import _

Event = Literal[
    "planned",
    "begun",
    "done",
    "skipped",
    "restarted",
    "undo-begun",
    "undone",
    "rolled-back",
    "torn",
    "watch-begun",
    "watched",
    "forced",
]
"""`torn`: the entry after the one before was cut off by a crash, whatever it was. `watch-begun`,
`watched`: the watch after the steps, and what it found. `forced`: somebody overruled a rule, with
their reason."""

_FOLDER: Final = "journal"


@dataclass(slots=True)
class Journal:
    """The journal of one plan.

    Attributes:
        entries: Everything written so far, the plan's entry first.
        by: Who writes, for the entries.
        torn_at: Bytes that are whole entries, when the file goes on after them; else `None`.
    """

    path: Path
    plan: Plan
    entries: list[Mapping[str, Any]] = field(default_factory=list)
    by: str = ""
    torn_at: int | None = None

    def write(self, event: Event, step: int | None = None, **facts: Any) -> None:
        """Append an entry; it is on the disk when this returns.

        Raises:
            OSError: It could not be written (a full disk): do not go on.
        """
        if self.torn_at is not None:
            self._append(self._entry("torn", None), cut=self.torn_at)
            self.torn_at = None
        self._append(self._entry(event, step, **facts))

    def _entry(self, event: Event, step: int | None, **facts: Any) -> Mapping[str, Any]:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        by = {"by": self.by} if self.by else {}
        return {"at": at, "event": event, "step": step, **by, **facts}

    def _append(self, entry: Mapping[str, Any], cut: int | None = None) -> None:
        line = json.dumps(entry) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            if cut is not None:
                os.ftruncate(descriptor, cut)  # else this entry would be glued to the half one
            size = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, line.encode())
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        self.entries.append(entry)

    def begun(self) -> tuple[int, ...]:
        """Steps that may have had an effect and were not undone, in the order they began."""
        steps: dict[int, None] = {}
        for event, step in self._history():
            if event == "begun":
                steps[step] = None
            elif event == "undone":
                steps.pop(step, None)
        return tuple(steps)

    def ever_begun(self) -> tuple[int, ...]:
        """Steps that had an effect at any time, undone or not: the way back is ordered by all."""
        return tuple(dict.fromkeys(step for event, step in self._history() if event == "begun"))

    def found_done(self) -> tuple[int, ...]:
        """Steps that were in effect before we came to them: a rollback leaves them."""
        skipped = {e["step"] for e in self.entries if e["event"] == "skipped"}
        return tuple(sorted(skipped - set(self.ever_begun())))

    @property
    def torn(self) -> bool:
        """Whether an entry was lost in a crash, now or before."""
        return self.torn_at is not None or any(e["event"] == "torn" for e in self.entries)

    def _history(self) -> Iterator[tuple[str, int]]:
        """Events of steps, with a "begun" where an entry was lost that may have been one."""
        last, before = -1, ""
        torn = {"event": "torn", "step": None}
        for entry in [*self.entries, *([torn] if self.torn_at is not None else [])]:
            event, step = entry["event"], entry["step"]
            if event in ("begun", "done", "skipped"):
                last = max(last, step)
            if event == "torn" and before in ("planned", "done", "skipped", "restarted"):
                following = range(last + 1, len(self.plan.steps))
                does = [n for n in following if not _is_restart(self.plan.steps[n])]
                yield from (("begun", number) for number in does[:1])
            elif step is not None:
                yield event, step
            before = event

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
    def finished(self) -> bool:
        """Whether every step is settled, and the application was restarted where that is one."""
        return all(
            self.restarted() if _is_restart(step) else self.settled(number)
            for number, step in enumerate(self.plan.steps)
        )

    @property
    def watched(self) -> str:
        """The verdict of the last watch after the steps; empty if there was none, or it did not
        end."""
        told = [e for e in self.entries if e["event"] in ("watch-begun", "watched")]
        return str(told[-1].get("verdict", "")) if told else ""

    @property
    def watch_is_open(self) -> bool:
        """Whether a watch was begun that did not end: nobody knows what it would have found."""
        told = [e["event"] for e in self.entries if e["event"] in ("watch-begun", "watched")]
        return told[-1:] == ["watch-begun"]

    @property
    def forced(self) -> bool:
        """Whether somebody overruled what comes first, with a reason."""
        return any(entry["event"] == "forced" for entry in self.entries)

    @property
    def rolled_back(self) -> bool:
        """Whether a rollback went through after the last step that was done."""
        return bool(self.entries[-1]["event"] == "rolled-back")


def _is_restart(step: Step) -> bool:
    return isinstance(step, RestartApplication)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def open_for(plan: Plan, state_dir: Path, by: str = "") -> Journal:
    """The plan's journal, begun now or continued.

    Args:
        by: Who writes to it.

    Raises:
        Refused: The plan was rolled back; its "before" is no longer what it was.
    """
    refuse_if_rolled_back(plan, state_dir)
    path = path_of(plan, state_dir)
    if path.exists():
        known = read(path)
        known.by = by
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    clean_up(path)
    keep_out_of_git(state_dir)
    # The first entry is there whole or not at all: without it nothing could be read.
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = {"at": at, "event": "planned", "step": None, "by": by, "plan": plan.to_json()}
    line = json.dumps(entry) + "\n"
    replace_file(path, line.encode(), mode=0o600)
    return Journal(path, plan, [entry], by)


def path_of(plan: Plan, state_dir: Path) -> Path:
    """Where the plan's journal is, or would be."""
    return path_for(plan.id, state_dir)


def path_for(plan_id: str, state_dir: Path) -> Path:
    """The same by the plan's id."""
    return state_dir / _FOLDER / f"{plan_id}.jsonl"


def was_forced(plan: Plan, state_dir: Path) -> bool:
    """Whether a plan was begun with a reason for leaving out what comes first."""
    path = path_of(plan, state_dir)
    return path.exists() and read(path).forced


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
    """A journal from its file, which is not touched. An end that is no entry counts as torn off.

    Raises:
        UsageProblem: Missing, or not a journal.
    """
    try:
        data = path.read_bytes()
        entries, whole = _entries(data)
        plan = Plan.from_json(entries[0]["plan"])
        _check_steps(entries, len(plan.steps))
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        message = _("{path} is not a journal: {reason}.").format(path=path, reason=reason)
        cure = _(
            "What was there before stands in the plan {id}. Move the file away; then unhang apply "
            "with that plan looks what is done already, and writes a new journal."
        ).format(id=path.stem)
        raise UsageProblem(message, cure=cure if path.exists() else "") from None
    return Journal(path, plan, entries, torn_at=whole if whole < len(data) else None)


def _entries(data: bytes) -> tuple[list[Mapping[str, Any]], int]:
    """The whole entries, and how many bytes they are. What follows must be no entry."""
    entries: list[Mapping[str, Any]] = []
    whole, position = 0, 0
    for line in data.splitlines(keepends=True):
        position += len(line)
        entry = _entry_of(line)
        if entry is None:
            continue
        if whole != position - len(line):
            raise ValueError(_("an entry in its middle is damaged"))
        entries.append(entry)
        whole = position
    return entries, whole


def _entry_of(line: bytes) -> Mapping[str, Any] | None:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:  # UnicodeDecodeError is one
        return None
    return entry if isinstance(entry, dict) and {"event", "step"} <= entry.keys() else None


def _check_steps(entries: Sequence[Mapping[str, Any]], count: int) -> None:
    for entry in entries:
        if not (entry["step"] is None or entry["step"] in range(count)):
            raise ValueError(_("it speaks of a step that its plan does not have"))


def newest(state_dir: Path) -> Journal:
    """The journal that was written to last and whose plan is in effect, at least in part; else one
    that was begun and not rolled back, else the last one at all.

    Raises:
        UsageProblem: Nothing was ever applied from here, or what was written to last is damaged.
    """
    paths = sorted(
        (state_dir / _FOLDER).glob("*.jsonl"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    journals = []
    for path in paths:
        try:
            journals.append(read(path))
        except UsageProblem:
            if not journals and path.stat().st_size:
                raise  # it may hide a change that is in effect
    # A plan that was refused before its first step must not hide the one that is in effect.
    return max(journals, key=_weight, default=None) or _none(state_dir)


def _weight(journal: Journal) -> int:
    """How much a journal is meant when none is named; of equal ones the first is taken."""
    if journal.rolled_back:
        return 0
    return 2 if journal.begun() or journal.found_done() else 1


def _none(state_dir: Path) -> Journal:
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
