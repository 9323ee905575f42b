"""Writing down who opened which connection: one file a process, one line a connection.

Nothing here raises, and a folder that cannot be used is told once in the log.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import logging
import os
import socket
import sys
import threading
import time
import weakref
from collections import deque
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import Any, Final

from unhang.latency.rundir import own_directory
from unhang.openers.program import container_in, program_of
from unhang.openers.reader import FOLDER, SUFFIX, VERSION, held

logger = logging.getLogger("unhang.openers")

MAX_BYTES: Final = 256 * 1024
_ABANDONED_SECONDS: Final = 60.0
"""After so long an unfinished file is nobody's."""


class Recorder:
    """Writes down the connections of this process. Safe for threads and after `fork()`.

    Args:
        run_dir: The run directory; see `unhang.latency.rundir`.
        is_command: A management command, perhaps another user's than the application's: it never
            makes the run directory, which belongs to whoever made it.
    """

    def __init__(self, run_dir: str | Path, *, is_command: bool = False) -> None:
        self.run_dir = Path(run_dir)
        self._is_command = is_command
        self._files: dict[int, _File] = {}
        os.register_at_fork(after_in_child=self.forget_inherited)
        atexit.register(self.close)

    def note(
        self,
        connection: object,
        *,
        session_id: int,
        alias: str,
        port: int,
        thread: str = "",
        code: str = "",
        work: str = "",
        pool: str = "",
        conn_max_age: str = "",
    ) -> None:
        """A connection was opened.

        Args:
            connection: The driver's; its line may go once it is closed or gone.
            session_id: The server's number for it.
            port: Its own TCP port, 0 if there is none.
            conn_max_age: The setting this process runs with: after an edit of the settings it
                tells the processes that were not restarted.
        """
        # By hand: json.dumps alone takes a fifth of what a connect costs here (8 of 40 µs).
        told = "".join(
            f', "{name}": {_quoted(value)}'
            for name, value in (
                ("thread", thread),
                ("code", code),
                ("work", work),
                ("pool", pool),
                ("conn_max_age", conn_max_age),
            )
            if value
        )
        line = (
            f'{{"id": {session_id}, "alias": {_quoted(alias)}, "port": {port}, '
            f'"at": {time.time():.3f}{told}}}\n'
        )
        self._file().add(connection, line.encode())

    def close(self) -> None:
        """Remove this process's file: its connections end with it."""
        file = self._files.pop(os.getpid(), None)
        if file is not None:
            file.remove()

    def forget_inherited(self) -> None:
        """In a forked child: the parent's file is not ours, and its lock must not outlive it."""
        for pid in set(self._files) - {os.getpid()}:
            inherited = self._files.pop(pid, None)
            if inherited is not None:
                inherited.forget()

    def _file(self) -> _File:
        # By pid, since uWSGI forks without running hooks. The child's file has a lock of its own:
        # one that another thread of the parent held during fork() stays locked for ever.
        pid = os.getpid()
        file = self._files.get(pid)
        if file is None:
            # setdefault is atomic: threads that get here together agree on one file.
            file = self._files.setdefault(pid, _File(self.run_dir, self._is_command))
            self.forget_inherited()
        return file


class _File:
    """The file of this very process, or nothing when it cannot be had."""

    def __init__(self, run_dir: Path, is_command: bool) -> None:
        # Held while writing a line into a local file; nobody waits for anything else under it.
        self._lock = threading.Lock()
        self._run_dir = run_dir
        self._is_command = is_command
        self._name = f"{os.getpid()}-{time.time_ns():x}{SUFFIX}"
        self._header = f"{json.dumps(_header())}\n".encode()
        self._folder: Path | None = None
        self._fd: int | None = None
        self._size = 0
        self._limit = MAX_BYTES
        self._is_off = False
        self._lines: deque[tuple[weakref.ref[Any] | None, bytes]] = deque()

    def add(self, connection: object, line: bytes) -> None:
        """Write a line; it may go when this connection has."""
        with self._lock:
            problem = self._add(connection, line)
        if problem is not None:
            # Without the lock: a handler that logs into a database may open a connection.
            logger.warning(
                "unhang: who opens connections is not written down: %s. Requests are not "
                'affected; name a folder that belongs to this user in UNHANG["RUN_DIR"].',
                problem,
            )

    def _add(self, connection: object, line: bytes) -> OSError | None:
        """Why there will be no more lines, told once."""
        if self._is_off:
            return None
        self._lines.append((_reference(connection), line))
        try:
            if self._fd is None or self._size + len(line) > self._limit:
                self._renew()
            else:
                os.write(self._fd, line)
                self._size += len(line)
        except OSError as error:
            self._is_off = True
            self._lines.clear()
            self._drop()
            return error
        return None

    def remove(self) -> None:
        """Delete it."""
        if self._fd is not None and self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / self._name).unlink()
        self._drop()

    def forget(self) -> None:
        """Close it without touching what is in it. Takes no lock: it may be held for ever."""
        self._drop()

    def _drop(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _renew(self) -> None:
        """Put a file in its place that has the connections that are still open, and no more."""
        first = self._fd is None
        self._lines = deque(entry for entry in self._lines if _is_open(entry[0]))
        content = bytearray(self._header)
        kept = sum(len(line) for _reference, line in self._lines)
        while kept > MAX_BYTES // 2:
            kept -= len(self._lines.popleft()[1])  # the oldest
        content += b"".join(line for _reference, line in self._lines)
        with self._directory() as dir_fd:
            if first:
                _remove_dead(dir_fd)
            new = _written(dir_fd, self._name, bytes(content))
        self._drop()
        self._fd, self._size = new, len(content)

    @contextlib.contextmanager
    def _directory(self) -> Any:
        problem: OSError | None = None
        for run_dir in self._candidates():
            with contextlib.ExitStack() as stack:
                try:
                    parent = stack.enter_context(own_directory(run_dir))
                    fd = stack.enter_context(own_directory(FOLDER, mode=0o700, dir_fd=parent))
                    os.fchmod(fd, 0o700)
                except OSError as error:
                    problem = problem or error
                    continue
                self._folder = run_dir / FOLDER
                yield fd
                return
        raise problem or FileNotFoundError(str(self._run_dir))

    def _candidates(self) -> list[Path]:
        """The run directory, else one beside it for this user alone."""
        beside = self._run_dir.with_name(f"{self._run_dir.name}-{os.geteuid()}")
        if self._is_command and not self._run_dir.exists():
            return [beside]
        return [self._run_dir, beside]


def _written(dir_fd: int, name: str, content: bytes) -> int:
    """A descriptor of the file with this content, locked for the life of this process."""
    hidden = f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(hidden, flags, 0o600, dir_fd=dir_fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, content)
        # Under its real name only now: readers never see a file without header and lock.
        os.rename(hidden, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        os.close(fd)
        os.unlink(hidden, dir_fd=dir_fd)
        raise
    return fd


def _remove_dead(dir_fd: int) -> None:
    """Delete the files of processes that have ended."""
    for name in [entry.name for entry in os.scandir(dir_fd)]:
        if not name.endswith((SUFFIX, f"{SUFFIX}.new")):
            continue
        with contextlib.suppress(OSError), held(name, dir_fd) as (fd, is_alive):
            status = os.fstat(fd)
            unfinished = name.startswith(".")
            if is_alive or (unfinished and status.st_mtime > time.time() - _ABANDONED_SECONDS):
                continue
            # Its process may have put a new file there since we opened this one.
            if status.st_ino == os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino:
                os.unlink(name, dir_fd=dir_fd)


def _header() -> dict[str, object]:
    """What is true of all connections of this process."""
    return {
        "version": VERSION,
        "pid": os.getpid(),
        "pid_namespace": pid_namespace(),
        "program": program_of(getattr(sys, "orig_argv", sys.argv)),
        "container": _own_container(),
    }


def pid_namespace() -> str:
    """Where this process's id holds; empty where the system has no such thing."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _own_container() -> str:
    try:
        told = container_in(Path("/proc/self/cgroup").read_text())
    except (OSError, UnicodeDecodeError):
        told = ""
    # From inside, a container often cannot see its own id; its host name is that id by default.
    if not told and any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv")):
        return socket.gethostname()
    return told


def _reference(connection: object) -> weakref.ref[Any] | None:
    try:
        return weakref.ref(connection)
    except TypeError:
        return None


def _is_open(reference: weakref.ref[Any] | None) -> bool:
    """Whether the connection may still be there; both drivers say `open`."""
    if reference is None:
        return True
    connection = reference()
    return connection is not None and bool(getattr(connection, "open", True))


_active: Recorder | None = None


def start(recorder: Recorder | None) -> None:
    """From now on `note_pooled` writes into this one; `None` switches it off."""
    global _active
    _active = recorder


def active() -> Recorder | None:
    """The one in use in this process."""
    return _active


def note_pooled(connection: Any, *, session_id: int, alias: str, port: int) -> None:
    """A connection of unhang's own pool was opened. The pool's background threads open it for
    whoever comes: only the pool is told."""
    if _active is not None:
        _active.note(connection, session_id=session_id, alias=alias, port=port, pool=alias)
