"""Doing the steps, one after the other, with a journal entry before and after each.

Applying and rolling back are the same walk: a rollback walks the inverse steps, in the safe order
of the way back. Each step looks first: done already means nothing to do, anything but the plan's
"before" means that somebody else changed it, and then nothing is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql

from unhang.change import guard
from unhang.change.actions import do, take_back_without_effect
from unhang.change.facts import facts_of, restarted_since
from unhang.change.files import clean_up
from unhang.change.journal import Event, Journal
from unhang.change.order import in_safe_order
from unhang.change.states import State, seen, state_of
from unhang.change.steps import (
    ChangeParameters,
    EditSettings,
    RestartApplication,
    SetVariable,
    Step,
    WriteOptionFile,
)
from unhang.change.surroundings import Surroundings
from unhang.change.wording import describe, statements
from unhang.errors import (
    CannotConnect,
    NotPermitted,
    NotVerified,
    Refused,
    RollbackFailed,
    StalePlan,
    UnhangError,
)
from unhang.i18n import _
from unhang.mysql import errorcodes


class Walk:
    """One pass over a plan's steps, forward or back.

    Args:
        around: What the steps may touch; its targets are entered.
        after_entry: Called after each journal entry; tests interrupt there.
    """

    def __init__(
        self,
        journal: Journal,
        around: Surroundings,
        after_entry: Callable[[], None] = lambda: None,
    ) -> None:
        self.journal = journal
        self.around = around
        self._after_entry = after_entry
        self._begun_here = False
        self._edited_here = False

    def forward(self) -> None:
        """Do what is not done yet.

        Raises:
            StalePlan: A target is neither as it was nor as it shall be; nothing was touched.
            NotVerified: A step had no effect, a person has to act first, or something came up after
                the first step; run it again then.
            Refused: A step would not be safe as things are now; nothing was touched.
        """
        self.around.targets.refresh()
        self._clean_up()
        stale = []
        for number, step in enumerate(self.journal.plan.steps):
            with _explained(step):
                self._take_back_half_an_edit(number, step)
                if self._is_stale(number, step):
                    stale.append(self._stale_text(step))
        if stale:
            raise StalePlan(
                _("The plan is stale: what it would change is no longer as it was."),
                cure="\n".join([*(f"- {text}" for text in stale), _("Make a new plan.")]),
            )
        for number, step in enumerate(self.journal.plan.steps):
            try:
                with _explained(step):
                    self._forward_one(number, step)
            except Refused as refused:
                if not self._begun_here:
                    raise
                # Its exit code says that nothing was changed.
                raise NotVerified(refused.message, cure=refused.cure) from None

    def _forward_one(self, number: int, step: Step) -> None:
        if isinstance(step, RestartApplication):
            if not self.journal.restarted():
                self._ready(number, step)
            self._restart(step, f"{number + 1}. {describe(step)}")
            return
        if self._is_done(number, step):
            return
        self._ready(number, step)
        # That may have waited for long: what was looked at before is looked at again.
        if self._is_done(number, step):
            return
        if self._is_stale(number, step):
            raise StalePlan(self._stale_text(step), cure=_("Make a new plan, or roll back."))
        guard.check(step, self.around.targets, restoring=False)
        self.around.person.tell(f"{number + 1}. {describe(step)}")
        self._write("begun", number)
        self._begun_here = True
        facts = do(step, self.around)
        self._edited_here |= isinstance(step, EditSettings)
        self._write("done", number, **facts)

    def _is_done(self, number: int, step: Step) -> bool:
        if self._state(number, step) != "after":
            return False
        if not self.journal.settled(number):
            # Begun means that a crash came between the deed and its entry.
            event: Event = "done" if number in self.journal.begun() else "skipped"
            self._write(event, number, **facts_of(step, self.around.targets))
        return True

    def _state(self, number: int, step: Step) -> str:
        now = state_of(step, self.around.targets, exact_file=True)
        return now or ("after" if self.journal.settled(number) else "before")

    def _take_back_half_an_edit(self, number: int, step: Step) -> None:
        """A crash came between an edit that had no effect and its being taken back."""
        if (
            isinstance(step, EditSettings)
            and number in self.journal.begun()
            and not self.journal.settled(number)
        ):
            take_back_without_effect(step, self.around.targets)

    def _clean_up(self) -> None:
        for step in self.journal.plan.steps:
            if isinstance(step, WriteOptionFile | EditSettings) and step.path is not None:
                clean_up(Path(step.path))

    def _ready(self, number: int, step: Step) -> None:
        self.around.targets.refresh()
        self.around.control.before(number, len(self.journal.plan.steps), describe(step))

    def _is_stale(self, number: int, step: Step) -> bool:
        """Whether somebody else changed it: a value that was set and is gone counts, too, unless
        a restart of the server took it."""
        state = self._state(number, step)
        if state == "before" and self.journal.settled(number):
            started = self.journal.fact(number, "server_started")
            return not restarted_since(step, self.around.targets, started)
        return state == "other"

    def _stale_text(self, step: Step) -> str:
        now = seen(step, self.around.targets)
        return _("{step}, but now: {now}").format(step=describe(step), now=now)

    def _restart(self, step: RestartApplication, text: str) -> None:
        if self.journal.restarted():
            return
        self.around.person.tell(text)
        around = self.around
        if self._edited_here and around.restart.done:
            # Said before the settings were edited, it cannot be true of what they say now.
            around = replace(around, restart=replace(around.restart, done=False))
        do(step, around)
        self._write("restarted")
        self.around.control.restarted()

    def back(self) -> None:
        """Undo every step that may have had an effect, in the safe order of the way back.

        The order is that of all steps that were ever begun, also when an earlier attempt has undone
        some: which of them wait for a restart does not depend on where that attempt stopped.

        Raises:
            RollbackFailed: Something could not be undone, or was changed by somebody else and is
                left alone. The message names it; going on would not have been safe.
        """
        self.around = replace(self.around, back=True)
        self._clean_up()
        undo = [(n, self.journal.plan.steps[n].inverse()) for n in self.journal.ever_begun()]
        numbers = {id(step): number for number, step in undo}
        ordered = in_safe_order((step for _number, step in undo), back=True)
        failures: list[str] = []
        for position, step in enumerate(ordered):
            try:
                with _explained(step):
                    self._back_one(numbers.get(id(step)), step, ordered[position + 1 :])
            except (UnhangError, OSError) as error:
                failures.append(f"{describe(step)}: {error}")
                if not self._may_go_on_without(step):
                    rest = ordered[position + 1 :]
                    failures += [_("not tried: {step}").format(step=describe(s)) for s in rest]
                    break
        if failures:
            raise RollbackFailed(
                _("The rollback is not complete; run it again when the cause is gone."),
                cure="\n".join(f"- {text}" for text in failures),
            )
        self._write("rolled-back")

    def _may_go_on_without(self, step: Step) -> bool:
        """Whether Django's limit stays below the server's though this step was not undone."""
        if isinstance(step, WriteOptionFile) and not step.raises:
            return True
        if isinstance(step, SetVariable | ChangeParameters | WriteOptionFile):
            # Nothing of Django is on that server: the others do not rely on it.
            return not any(s.aliases for s in self.journal.plan.servers if s.name == step.server)
        return False

    def _back_one(self, number: int | None, step: Step, later: tuple[Step, ...]) -> None:
        targets = self.around.targets
        if isinstance(step, RestartApplication):
            # Nothing is left to wait for when an earlier attempt came further than this.
            if not later or any(state_of(s, targets) != "after" for s in later):
                self._restart(step, describe(step))
            return
        if number is None:
            raise AssertionError("every step but a restart is one of the plan's")
        targets.refresh(step)
        state = self._state_on_the_way_back(step)
        pending = number in self.journal.begun()
        if state == "before" or (state is None and pending):
            self._ready(number, step)
            state = self._state_on_the_way_back(step)
        if state == "before" or (state is None and pending):
            guard.check(step, targets, restoring=True)
            self.around.person.tell(describe(step))
            self._write("undo-begun", number)
            do(step, self.around)
            self._edited_here |= isinstance(step, EditSettings)
        if pending:
            self._write("undone", number)

    def _state_on_the_way_back(self, step: Step) -> State | None:
        """Where it is.

        Raises:
            StalePlan: Somebody else changed it.
        """
        state = state_of(step, self.around.targets)
        if state != "other":
            return state
        now = seen(step, self.around.targets)
        text = _("somebody changed it meanwhile, to {now}; it is left as it is").format(now=now)
        how = "; ".join(statements(step)) if isinstance(step, SetVariable) else ""
        raise StalePlan(text, cure=how and _("If it shall go back: {sql}").format(sql=how))

    def _write(self, event: Event, number: int | None = None, **facts: Any) -> None:
        self.journal.write(event, number, **facts)
        self._after_entry()


@contextmanager
def _explained(step: Step) -> Iterator[None]:
    """A driver's error as one that says what was being done and what to do now."""
    again = _(
        "The journal knows how far it came: unhang status. Then run the same command again, or "
        "go the other way: unhang apply --resume, unhang rollback."
    )
    try:
        yield
    except pymysql.err.MySQLError as error:
        text = error.args[-1] if error.args else error
        if errorcodes.code_of(error) in errorcodes.NO_PRIVILEGE:
            message = _("Not permitted: {step}: {text}").format(step=describe(step), text=text)
            raise NotPermitted(message) from None
        message = _("The server refused or was lost during: {step}: {text}")
        raise CannotConnect(message.format(step=describe(step), text=text), cure=again) from None
    except OSError as error:
        message = _("Failed: {step}: {reason}.").format(
            step=describe(step), reason=error.strerror or error
        )
        raise NotVerified(message, cure=again) from None
