"""Doing the steps, one after the other, with a journal entry before and after each.

Applying and rolling back are the same walk: a rollback walks the inverse steps, in the safe order
of the way back. Each step looks first: done already means nothing to do, anything but the plan's
"before" means that somebody else changed it, and then nothing is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql

from unhang.change.actions import Surroundings, describe, do, state_of
from unhang.change.journal import Event, Journal
from unhang.change.order import in_safe_order
from unhang.change.steps import Step, WriteOptionFile
from unhang.errors import (
    CannotConnect,
    NotPermitted,
    NotVerified,
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

    def forward(self) -> None:
        """Do what is not done yet.

        Raises:
            StalePlan: A target is neither as it was nor as it shall be; nothing was touched.
            NotVerified: A step had no effect, or a person has to act first; run it again then.
        """
        steps = self.journal.plan.steps
        stale = [describe(s) for n, s in enumerate(steps) if self._state(n, s) == "other"]
        if stale:
            raise StalePlan(
                _("The plan is stale: what it would change is no longer as it was."),
                cure="\n".join([*(f"- {text}" for text in stale), _("Make a new plan.")]),
            )
        for number, step in enumerate(steps):
            with _explained(step):
                self._forward_one(number, step)

    def _forward_one(self, number: int, step: Step) -> None:
        if self._state(number, step) == "after":
            if not self.journal.settled(number):
                # Begun means that a crash came between the deed and its entry.
                self._write("done" if number in self.journal.begun() else "skipped", number)
            return
        self.around.person.tell(describe(step))
        self._write("begun", number)
        facts = do(step, self.around)
        self._write("done", number, **facts)

    def _state(self, number: int, step: Step) -> str:
        seen = state_of(step, self.around.targets)
        return seen or ("after" if self.journal.settled(number) else "before")

    def back(self) -> None:
        """Undo every step that may have had an effect, in the safe order of the way back.

        Raises:
            RollbackFailed: Something could not be undone, or was changed by somebody else and is
                left alone. The message names it; going on would not have been safe.
        """
        undo = [(n, self.journal.plan.steps[n].inverse()) for n in self.journal.begun()]
        numbers = {id(step): number for number, step in undo}
        ordered = in_safe_order(step for _number, step in undo)
        failures: list[str] = []
        for position, step in enumerate(ordered):
            try:
                with _explained(step):
                    self._back_one(numbers.get(id(step)), step)
            except (UnhangError, OSError) as error:
                failures.append(f"{describe(step)}: {error}")
                if not isinstance(step, WriteOptionFile):
                    # Later steps rely on this one: without it Django's limit might end up above
                    # the server's.
                    rest = ordered[position + 1 :]
                    failures += [_("not tried: {step}").format(step=describe(s)) for s in rest]
                    break
        if failures:
            raise RollbackFailed(
                _("The rollback is not complete; run it again when the cause is gone."),
                cure="\n".join(f"- {text}" for text in failures),
            )
        self._write("rolled-back")

    def _back_one(self, number: int | None, step: Step) -> None:
        state = state_of(step, self.around.targets)
        if state == "other":
            raise StalePlan(_("somebody changed it meanwhile; it is left as it is"))
        if state != "after":
            self.around.person.tell(describe(step))
            if number is not None:
                self._write("undo-begun", number)
            do(step, self.around)
        if number is not None:
            self._write("undone", number)

    def _write(self, event: Event, number: int | None = None, **facts: Any) -> None:
        self.journal.write(event, number, **facts)
        self._after_entry()


@contextmanager
def _explained(step: Step) -> Iterator[None]:
    """A driver's error as one that says what was being done and what to do now."""
    try:
        yield
    except pymysql.err.MySQLError as error:
        text = error.args[-1] if error.args else error
        if errorcodes.code_of(error) in errorcodes.NO_PRIVILEGE:
            message = _("Not permitted: {step}: {text}").format(step=describe(step), text=text)
            raise NotPermitted(message) from None
        message = _("The server was lost during: {step}: {text}")
        raise CannotConnect(
            message.format(step=describe(step), text=text),
            cure=_("The journal knows how far it came: run the same command again, or rollback."),
        ) from None
    except OSError as error:
        message = _("Failed: {step}: {reason}.")
        raise NotVerified(
            message.format(step=describe(step), reason=error.strerror or error),
            cure=_("The journal knows how far it came: run the same command again, or rollback."),
        ) from None
