"""Lanes for tasks and commands, as `UNHANG["LANES"]` names them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextvars import Token
from typing import Any

from unhang.lanes import naming
from unhang.lanes.settings import NamedLane, matching
from unhang.openers.program import command_in

_Token = Token[Mapping[str | None, str] | None]


def begin(lanes: Mapping[str, NamedLane], arguments: Sequence[str] = ()) -> None:
    """Put this process's command into its lane, and each Celery task into its own.

    Args:
        arguments: Of the process; `sys.argv` if left out.
    """
    command = command_in(arguments or sys.argv)
    if lane := matching(lanes, "commands", command):
        naming.enter_process(lane)
    if any(options.tasks for options in lanes.values()):
        _TaskLanes(lanes).connect()


class _TaskLanes:
    """Receivers of Celery's signals around each task."""

    def __init__(self, lanes: Mapping[str, NamedLane]) -> None:
        self._lanes = lanes
        self._tokens: dict[str, _Token] = {}

    def connect(self) -> None:
        """From now on. Celery is there, or its tasks would not be in the settings."""
        from celery.signals import task_postrun, task_prerun

        task_prerun.connect(self.enter, weak=False, dispatch_uid="unhang.lanes")
        task_postrun.connect(self.leave, weak=False, dispatch_uid="unhang.lanes")

    def enter(self, task_id: str = "", task: Any = None, **_kwargs: object) -> None:
        """A task begins."""
        lane = matching(self._lanes, "tasks", getattr(task, "name", ""))
        if lane is not None:
            self._tokens[task_id] = naming.enter(lane)

    def leave(self, task_id: str = "", **_kwargs: object) -> None:
        """It has ended, in the thread that it began in."""
        token = self._tokens.pop(task_id, None)
        if token is not None:
            naming.current.reset(token)
