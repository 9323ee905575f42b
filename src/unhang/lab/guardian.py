"""A tiny process between the lab and a daemon, so that no daemon outlives whoever started it.

Run as a script, with nothing but the standard library, single-threaded on purpose:

    python -I -S guardian.py --parent PID [--remove DIR] [-- COMMAND ...]

Three deaths are covered. The parent dies, by `kill -9` too: the guardian sees that it has a new
parent, kills the command's whole process group (SIGKILL ends a stopped process as well) and deletes
DIR. The guardian dies: the kernel kills the command (PR_SET_PDEATHSIG). The command dies: the
guardian exits with its status, and DIR stays.

Why not PR_SET_PDEATHSIG straight from the lab: the kernel ties it to the *thread* that forked, so a
server started in a worker thread would end with that thread. Here the only thread is the main one.

Without a command the guardian only watches over DIR.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1
_LOOK_SECONDS: Final = 0.2
_REMOVE_SECONDS: Final = 30.0
_WATCHED: Final = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL as soon as the thread that forked this process ends."""
    import ctypes  # costs 5 ms, which a guardian without a command need not pay

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Guard what the command line says; returns the exit status."""
    parent, remove, command = _parse(arguments)
    # Blocked signals wait for sigtimedwait below, so none can arrive between two looks.
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    child = _spawn(command) if command else None
    if child is not None:
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
    while os.getppid() == parent:
        if child is not None:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status) & 0xFF
        caught = signal.sigtimedwait(_WATCHED, _LOOK_SECONDS)
        if caught is not None and caught.si_signo == signal.SIGTERM:
            _kill_group(child)
            return 0
    _kill_group(child)
    if remove is not None:
        _remove(remove)
    return 0


def _parse(arguments: Sequence[str]) -> tuple[int, str | None, list[str]]:
    """By hand: `argparse` would double the start-up time (20 ms) that every server waits for."""
    words = list(arguments)
    command: list[str] = []
    if "--" in words:
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    options = dict(zip(words[::2], words[1::2], strict=True))
    return int(options["--parent"]), options.get("--remove"), command


def _spawn(command: list[str]) -> int:
    guardian = os.getpid()
    child = os.fork()
    if child == 0:
        _become(command, guardian)
    return child


def _become(command: list[str], guardian: int) -> NoReturn:
    """In the child: a process group of its own, tied to the guardian's life, then the command."""
    try:
        os.setpgid(0, 0)
        die_with_parent()
        if os.getppid() != guardian:  # it died before the kernel knew that we care
            os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # The pipe is for the guardian's report only; the log takes what the command says.
        os.dup2(2, 1)
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted here
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error}\n")
        sys.stderr.flush()
    os._exit(127)


def _kill_group(child: int | None) -> None:
    if child is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)


def _remove(directory: str) -> None:
    """Delete the directory, again and again while a dying daemon still writes into it."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while Path(directory).exists() and time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        time.sleep(_LOOK_SECONDS / 4)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
