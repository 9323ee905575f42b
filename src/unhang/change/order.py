"""The safe order of a change: at no moment may Django's limit be above the server's.

Raising goes server first, lowering goes Django first. So, whatever the two numbers do:

1. every server value that becomes longer,
2. the settings,
3. the application runs with them,
4. every server value that becomes shorter.

Before phase 3 is over a worker may run with the old settings or the new ones. In phases 1 to 3 the
server allows the longer of its two values, which is above both. Only phase 4 needs all workers to
have the new limit. Nobody can see from outside with which settings a worker runs (they may have
been edited long ago, and the worker not restarted since), so phase 4 always waits for a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unhang.change.steps import (
    ChangeParameters,
    EditSettings,
    RestartApplication,
    SetVariable,
    Step,
    WriteOptionFile,
    lowers_wait_timeout,
    wait_timeout_change,
)
from unhang.i18n import _

_RAISE, _SETTINGS, _RESTART, _LOWER = range(4)


def in_safe_order(steps: Iterable[Step], *, back: bool = False) -> tuple[Step, ...]:
    """The steps by phase; within a phase as they came.

    A restart among them is replaced by the one this order needs.

    Args:
        back: They are the inverse ones, of a rollback.
    """
    kept = [step for step in steps if not isinstance(step, RestartApplication)]
    restart = needed_restart(kept, back=back)
    return tuple(sorted([*kept, *([restart] if restart else [])], key=_phase))


def needed_restart(steps: Sequence[Step], *, back: bool = False) -> RestartApplication | None:
    """The wait that belongs between the settings and a shorter server value, if any."""
    lowered = {
        step.server: change[1]
        for step in steps
        if isinstance(step, SetVariable | ChangeParameters)
        and lowers_wait_timeout(step)
        and (change := wait_timeout_change(step)) is not None
    }
    if lowered:
        reason = _(
            "the server will end sleepers after {wait} s, and a worker that still runs with older "
            "settings may keep its connections longer"
        ).format(wait=min(lowered.values()))
        return RestartApplication(required=True, reason=reason, wait_timeouts=lowered, back=back)
    if any(isinstance(step, EditSettings) for step in steps):
        reason = _("workers read the settings when they start; none is in danger until then")
        return RestartApplication(required=False, reason=reason, back=back)
    return None


def _phase(step: Step) -> int:
    if isinstance(step, SetVariable):
        return _RAISE if step.after > step.before else _LOWER
    if isinstance(step, ChangeParameters):
        return _LOWER if lowers_wait_timeout(step) else _RAISE
    if isinstance(step, WriteOptionFile):
        return _RAISE if step.raises else _LOWER
    return _SETTINGS if isinstance(step, EditSettings) else _RESTART
