"""Applying under watch: baseline, steps, watch; back again when it does harm."""

from __future__ import annotations

import functools
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final

import pymysql.cursors
from rich.markup import escape

from unhang.change.apply import Walk
from unhang.change.control import Careful, check_stop_file, wait_while_paused
from unhang.change.promotion import CLEAN, HARM
from unhang.change.steps import RestartApplication
from unhang.change.targets import Targets
from unhang.cli.output import err, out
from unhang.cli.rolled_back import print_rolled_back
from unhang.errors import CannotConnect, UsageProblem
from unhang.i18n import _
from unhang.monitor.canary import SHORTEST_BASELINE
from unhang.monitor.vigil import HarmSeen, Vigil
from unhang.survey.connect import open_connection
from unhang.survey.project import load_settings

ROLLED_BACK: Final = 6
_SAY_SECONDS: Final = 60.0


class Watched:
    """One apply under watch.

    Args:
        seconds: How long to watch after the steps.
        baseline: How long to look before them.
        settle: How long after a restart slow answers prove nothing.

    Attributes:
        harm: What was seen, if it was rolled back for it.
    """

    SHORTEST_BASELINE: ClassVar[float] = SHORTEST_BASELINE

    def __init__(self, seconds: float, baseline: float, settle: float) -> None:
        self.seconds = seconds
        self.baseline = baseline
        self.settle = settle
        self.harm = ""

    def run(self, walk: Walk, careful: Careful) -> None:
        """Forward, and back if need be.

        Raises:
            UnhangError: The steps, or the way back, did not go through.
        """
        targets = walk.around.targets
        openers = {
            name: functools.partial(open_connection, login, pymysql.cursors.Cursor)
            for name, login in targets.logins.items()
        }
        with Vigil(openers, run_dir=_run_dir(targets)) as vigil:
            self._baseline(walk, vigil)
            walk.journal.write("watch-begun", seconds=self.seconds)
            try:
                self._forward(walk, careful, vigil)
            except HarmSeen as harm:
                self.harm = str(harm)
                self._back(walk, careful, vigil)
                return
            walk.journal.write("watched", verdict=CLEAN, seconds=self.seconds, seen=vigil.to_json())
            partly = bool(vigil.blind())
        text = _("Watched for {n:g} s: nothing is worse than before.")
        if partly:
            text = _("Watched for {n:g} s: of what can be judged, nothing is worse than before.")
        out.print(f"[green]{escape(text.format(n=self.seconds))}[/]")

    def _baseline(self, walk: Walk, vigil: Vigil) -> None:
        tell = walk.around.person.tell
        self._check_restart(walk)
        tell(_("Looking for {n:g} s at how it is now.").format(n=self.baseline))
        try:
            vigil.baseline(self.baseline, _Say(_("baseline")))
        except HarmSeen as blind:
            raise CannotConnect(
                _("{why}. Nothing was changed.").format(why=str(blind).rstrip("."))
            ) from None
        for text in vigil.blind():
            tell(_("Cannot be judged well: {what}").format(what=text))

    def _forward(self, walk: Walk, careful: Careful, vigil: Vigil) -> None:
        tell = walk.around.person.tell
        careful.also = vigil.check
        careful.on_restart = lambda: vigil.settle(self.settle)
        walk.forward()
        vigil.settle(self.settle)
        tell(
            _("Watching for {n:g} s. Ctrl-C ends the watch, and the change stays.").format(
                n=self.seconds
            )
        )
        left = self.seconds
        say = _Say(_("watch"))
        while left > 0:
            slice_ = min(1.0, left)
            vigil.watch(slice_)
            left -= slice_
            say(left)
            if careful.folder is not None:
                wait_while_paused(careful.folder, tell, meanwhile=vigil.check)
                check_stop_file(careful.folder)

    def _check_restart(self, walk: Walk) -> None:
        """Whether somebody, or something, can restart the application when its turn comes.

        Raises:
            UsageProblem: Nobody could: the baseline would have been looked at for nothing.
        """
        restart, targets = walk.around.restart, walk.around.targets
        waits = any(isinstance(s, RestartApplication) and s.required for s in targets.plan.steps)
        can = restart.run or restart.done or sys.stdin.isatty() or targets.processes is not None
        if waits and not can:
            raise UsageProblem(
                _("The plan waits for a restart of the application, which nobody could confirm."),
                cure=_("Give --restart-command, or --restarted if that is true already."),
            )

    def _back(self, walk: Walk, careful: Careful, vigil: Vigil) -> None:
        err.print(f"[bold red]{_('Worse than before:')}[/] {escape(self.harm)}")
        out.print(_("Rolling back."))
        careful.also = lambda: None
        careful.folder = None
        # That the application was restarted was said of the way there.
        restart = replace(walk.around.restart, done=False)
        walk.around = replace(walk.around, restart=restart)
        walk.journal.write("watched", verdict=f"{HARM}{self.harm}", seen=vigil.to_json())
        walk.back()
        print_rolled_back(walk.journal)
        out.print(escape(_("The reason: {why}").format(why=self.harm)))


class _Say:
    """A line now and then, for people who wonder whether it still works."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + _SAY_SECONDS

    def __call__(self, left: float) -> None:
        if time.monotonic() >= self._next and left >= 1:
            self._next += _SAY_SECONDS
            text = _("{what}: {left:.0f} s left").format(what=self._what, left=left)
            err.print(escape(text), style="dim")


def _run_dir(targets: Targets) -> Path | None:
    """Where the application leaves its response times; `None` when nothing records them."""
    if targets.project is None:
        return None
    try:
        settings = load_settings(targets.project)
    except UsageProblem:
        return None
    if "unhang.middleware.ResponseTimes" not in settings.middleware:
        return None
    return settings.run_dir
