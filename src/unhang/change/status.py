"""How far a change is: what its journal says, and what the world says, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unhang.change.control import pause_file
from unhang.change.facts import restarted_since
from unhang.change.journal import Journal
from unhang.change.promotion import CLEAN
from unhang.change.states import State, seen, state_of
from unhang.change.steps import RestartApplication
from unhang.change.targets import Targets
from unhang.change.wording import describe
from unhang.errors import UnhangError
from unhang.survey.codec import encode

Progress = Literal["not begun", "begun", "done", "found done", "undo begun", "undone"]
"""What the journal says of a step. `found done`: it was in effect before we came to it."""

Whole = Literal[
    "not begun", "partly applied", "applied", "partly rolled back", "rolled back", "drifted"
]


@dataclass(frozen=True, slots=True)
class StepStatus:
    """One step.

    Attributes:
        number: From 1, as in the plan.
        now: Where its object is, as `states.state_of` sees it; `None` if it cannot be looked at.
        drift: What is there is not what the journal led to: somebody else changed it.
        found: What is there, in words, where it is neither as before nor as planned.
    """

    number: int
    text: str
    progress: Progress
    now: State | None
    drift: bool
    found: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The whole change.

    Attributes:
        why_blind: Why the world was not looked at; empty if it was.
        torn: A crash cost an entry of the journal; the look at the world makes up for it.
        by: Who made the last entry.
        at: When, ISO 8601.
        restarted: Whether the application was restarted since the last edit of its settings;
            `None` where nothing waits for that.
        restarted_servers: Steps whose server was started again since, by number from 1: what was
            not durable is gone with that.
        watch_is_open: A watch was begun and did not end.
        paused: The file that holds a running apply up; empty if none does.
        watched: What the watch after the steps found, if there was one.
    """

    plan: str
    journal: str
    whole: Whole
    steps: tuple[StepStatus, ...]
    restarted: bool | None
    torn: bool
    by: str
    at: str
    watched: str
    why_blind: str = ""
    restarted_servers: tuple[int, ...] = ()
    watch_is_open: bool = False
    paused: str = ""

    @property
    def clean(self) -> bool:
        """Nothing is unfinished, and nothing is other than the journal says."""
        done = self.whole in ("applied", "rolled back", "not begun")
        harmless = self.watched in ("", CLEAN) or self.whole != "applied"
        return done and harmless and not self.why_blind and not self.watch_is_open

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return {**encode(self), "clean": self.clean}


def status_of(journal: Journal, targets: Targets | None, why_blind: str = "") -> Status:
    """The status, with a look at the world if the targets could be reached.

    Args:
        targets: Entered; `None` if they cannot be reached.
        why_blind: The reason then.
    """
    steps: list[StepStatus] = []
    restarted: list[int] = []
    for number, step in enumerate(journal.plan.steps):
        if isinstance(step, RestartApplication):
            continue
        progress = _progress(journal, number)
        now, found = None, ""
        if targets is not None:
            try:
                now = state_of(step, targets)
                found = seen(step, targets) if now == "other" else ""
                if progress in ("done", "found done") and restarted_since(
                    step, targets, journal.fact(number, "server_started")
                ):
                    restarted.append(number + 1)
            except UnhangError as error:
                why_blind = why_blind or error.message
        drift = now is not None and now not in _expected(journal, progress)
        steps.append(StepStatus(number + 1, describe(step), progress, now, drift, found))
    last = journal.entries[-1]
    waits = any(isinstance(s, RestartApplication) and s.required for s in journal.plan.steps)
    return Status(
        plan=journal.plan.id,
        journal=str(journal.path),
        whole=_whole(journal, steps),
        steps=tuple(steps),
        restarted=journal.restarted() if waits else None,
        torn=journal.torn,
        by=str(last.get("by", "")),
        at=str(last["at"]),
        watched=journal.watched,
        why_blind=why_blind,
        restarted_servers=tuple(restarted),
        watch_is_open=journal.watch_is_open and not journal.rolled_back,
        paused=str(pause) if (pause := pause_file(journal.path.parent.parent)).exists() else "",
    )


def _progress(journal: Journal, number: int) -> Progress:
    names: dict[str, Progress] = {
        "begun": "begun",
        "done": "done",
        "skipped": "found done",
        "undo-begun": "undo begun",
        "undone": "undone",
    }
    found: Progress = "begun" if number in journal.begun() else "not begun"
    for entry in journal.entries:
        if entry["step"] == number:
            found = names.get(entry["event"], found)
    return found


def _expected(journal: Journal, progress: Progress) -> tuple[State, ...]:
    if journal.rolled_back:
        return ("before", "after", "other")  # what comes after a rollback is not ours to judge
    if progress in ("begun", "undo begun"):
        return ("before", "after")
    if progress in ("done", "found done"):
        return ("after",)
    return ("before",)


def _whole(journal: Journal, steps: Sequence[StepStatus]) -> Whole:
    if journal.rolled_back:
        return "rolled back"
    if any(step.drift for step in steps):
        return "drifted"
    progress = {step.progress for step in steps}
    if progress & {"undo begun", "undone"}:
        return "partly rolled back"
    if progress <= {"not begun"}:
        return "not begun"
    if progress <= {"done", "found done"} and not _waits(journal):
        return "applied"
    return "partly applied"


def _waits(journal: Journal) -> bool:
    steps = journal.plan.steps
    return any(isinstance(s, RestartApplication) for s in steps) and not journal.restarted()
