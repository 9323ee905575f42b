"""Waiting until the application runs with its new settings: a person says so, a look checks it."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from typing import Final

from unhang.change import running
from unhang.change.steps import RestartApplication
from unhang.change.surroundings import Surroundings
from unhang.errors import NotVerified
from unhang.i18n import _

RESTART_SECONDS: Final = 120
GRACE_SECONDS: Final = 30.0
"""For old workers to finish what they do; gunicorn's own limit."""
_POLL_SECONDS: Final = 0.5


def restart_application(step: RestartApplication, around: Surroundings) -> None:
    """Have it restarted, or make sure that it was.

    Raises:
        NotVerified: It was not, or a process is seen that still runs with older settings.
    """
    restart, person = around.restart, around.person
    if restart.run:
        restart.run()
    elif not step.required:
        if not restart.done:
            person.tell(_("Restart the application soon, so that it reads its settings."))
    elif not restart.done and not _is_proven(step, around):
        question = _("Restart the application. Does every worker run with its settings of now?")
        if not person.ask(f"{step.reason}.\n{question}"):
            raise NotVerified(
                _("The application must be restarted first: {reason}.").format(reason=step.reason),
                cure=_("Restart it, then go on: {command}").format(command=_command(step)),
            )
    if step.required:
        _refuse_old(step, around)


def _command(step: RestartApplication) -> str:
    return "unhang rollback --restarted" if step.back else "unhang apply --resume --restarted"


def _is_proven(step: RestartApplication, around: Surroundings) -> bool:
    """Whether the sessions themselves show that all workers run with the new settings."""
    found = running.look(around.targets, step.wait_timeouts)
    if not found.proves(around.targets.processes):
        return False
    text = _("Seen: {n} processes run with the new settings, and none with older ones.")
    around.person.tell(text.format(n=found.new))
    return True


def _refuse_old(step: RestartApplication, around: Surroundings) -> None:
    """A process that is seen to run with older settings contradicts whoever says otherwise."""
    deadline = time.monotonic() + GRACE_SECONDS
    told = False
    while (found := running.look(around.targets, step.wait_timeouts)).old:
        if time.monotonic() >= deadline:
            raise NotVerified(
                _("Still running with older settings: {processes}.").format(
                    processes="; ".join(found.old)
                ),
                cure=_("Restart or end these, then go on: {command}").format(
                    command=_command(step)
                ),
            )
        if not told:
            around.person.tell(_("Waiting for processes that run with older settings to end."))
            told = True
        time.sleep(_POLL_SECONDS)


def by_command(command: str) -> Callable[[], None]:
    """A restart through a command line, which is not given to a shell."""
    return lambda: _run(command)


def _run(command: str) -> None:
    again = _("Restart the application, then run the same command again with --restarted.")
    try:
        result = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RESTART_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # Not the command itself: a token may stand in it.
        message = _("The restart command took longer than {n} s.").format(n=RESTART_SECONDS)
        raise NotVerified(message, cure=again) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or _("it cannot be read")
        message = _("The restart command could not be run: {reason}.").format(reason=reason)
        raise NotVerified(message, cure=again) from None
    if result.returncode:
        last = ((result.stderr or result.stdout).strip().splitlines() or [""])[-1]
        message = _("The restart command ended with code {code}: {text}")
        raise NotVerified(message.format(code=result.returncode, text=last), cure=again)
