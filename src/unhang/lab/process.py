"""Processes and folders of the lab, each watched over by a guardian (see `guardian.py`)."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from unhang.errors import UsageProblem
from unhang.i18n import _

HOST: Final = "127.0.0.1"

_GUARDIAN: Final = Path(__file__).with_name("guardian.py")
_PORTS: Final = range(20_000, 32_000)
"""Below Linux's ephemeral ports (32768 and up): while a server is down, no outgoing connection of
anybody can take its port as a source port."""

_SOCKET_PATH_LIMIT: Final = 107
_LONGEST_SOCKET_NAME: Final = len("/mysql.sock")


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311  # no secret: two labs should rarely try the same
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port


def wait_until(condition: Callable[[], bool], timeout: float, interval: float = 0.01) -> bool:
    """Look every `interval` seconds; whether the condition came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def last_lines(file: Path, count: int = 12) -> str:
    """The end of a log file, for an error message."""
    if not file.exists():
        return ""
    return "\n".join(file.read_text(errors="replace").splitlines()[-count:])


class Guarded:
    """A running command that dies when this process dies, whatever kills it.

    Args:
        command: Program and arguments; no shell.
        log: File that takes the command's output.
        remove: Directory that goes with the command if this process dies.
        directory: Working directory.
        environment: Replaces the inherited environment.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        remove: Path,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        with log.open("ab") as output:
            self._guardian = _start_guardian(
                ["--remove", str(remove), "--", *map(str, command)],
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=directory,
                env=environment,
            )
        assert self._guardian.stdout is not None  # noqa: S101  # a pipe was asked for
        with self._guardian.stdout as report:
            line = report.readline()
        if not line:
            self._guardian.wait()
            raise UsageProblem(
                _("The guardian of {program} did not start.").format(program=command[0]),
                cure=last_lines(log),
            )
        self.pid = int(line)

    @property
    def guardian_pid(self) -> int:
        return self._guardian.pid

    @property
    def running(self) -> bool:
        return self._guardian.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the command; nothing happens when it has ended."""
        # The guardian reaps the command and exits at once, so while it runs the pid is ours.
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout: float) -> bool:
        """Whether the command has ended within `timeout` seconds."""
        try:
            self._guardian.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, *, grace: float) -> None:
        """SIGTERM and `grace` seconds to obey it; then SIGKILL for the whole process group."""
        if grace > 0:
            self.signal(signal.SIGCONT)  # a frozen process would not see SIGTERM
            self.signal(signal.SIGTERM)
            if self.wait(grace):
                return
        self._guardian.terminate()  # the guardian kills the group and waits for it
        self._guardian.wait()


class Workspace:
    """A private temporary directory that is deleted on `close`, or when this process dies."""

    def __init__(self) -> None:
        self.path = _temporary_directory()
        self._owner = os.getpid()
        self._watcher = _start_guardian(["--remove", str(self.path)], stderr=subprocess.DEVNULL)

    @property
    def mine(self) -> bool:
        """False in a forked child, which must not tear down what its parent still uses."""
        return os.getpid() == self._owner

    def close(self) -> None:
        if self.mine:
            self._watcher.terminate()
            self._watcher.wait()
            shutil.rmtree(self.path, ignore_errors=True)


def _start_guardian(
    arguments: Sequence[str],
    *,
    stdout: int = subprocess.DEVNULL,
    stderr: int | IO[bytes],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_GUARDIAN), "--parent", str(os.getpid()), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env=env,
        # Ctrl-C in the terminal is for the parent, which then ends its daemons in good order.
        start_new_session=True,
    )


def _temporary_directory() -> Path:
    """In TMPDIR, unless a server's socket in there would have a path too long for the kernel."""
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108  # mkdtemp makes it private
        path = Path(tempfile.mkdtemp(prefix="unhang-lab-", dir=parent))
        if len(os.fsencode(path)) + _LONGEST_SOCKET_NAME <= _SOCKET_PATH_LIMIT:
            return path
        path.rmdir()
    raise AssertionError("a path in /tmp is never that long")
