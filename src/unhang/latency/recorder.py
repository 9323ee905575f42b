"""Writing: one mapped file of counters per process.

Cost per request: begin + finish take 3.3 µs together, and 4 µs with eight threads contending
(2-core machine, Python 3.11), so a plain lock is enough and nothing cleverer is used.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import logging
import mmap
import os
import threading
import time
from pathlib import Path
from typing import Final

from unhang.latency.counters import KINDS, bucket_of
from unhang.latency.reader import (
    MAGIC,
    SIZE,
    SUFFIX,
    VERSION,
    W_BEGUN,
    W_BUCKETS,
    W_KINDS,
    W_SERVER_ERRORS,
    W_TOTAL_US,
    is_held,
)
from unhang.latency.rundir import own_directory

logger = logging.getLogger(__name__)

KEEP_SECONDS: Final = 24 * 3600.0
KEEP_FILES: Final = 500
"""Files of ended processes that are kept: a worker that is replaced every few seconds
(gunicorn's `max_requests`) must not fill the directory within the day."""


class _File:
    """The counters of this very process: one mapped file, or nothing when it cannot be had."""

    def __init__(self, run_dir: Path) -> None:
        self.lock = threading.Lock()
        self.words: memoryview | None = None
        self._run_dir = run_dir
        self._mapped: mmap.mmap | None = None
        self.opened = False

    def open(self) -> None:
        """Map the file, once. A failure is logged and turns recording off; it never raises."""
        with self.lock:
            if self.opened:
                return
            self.opened = True
            try:
                with own_directory(self._run_dir) as dir_fd:
                    _remove_old(dir_fd)
                    self._mapped = _create(dir_fd)
            except (OSError, ValueError) as error:
                logger.warning(
                    "unhang: response times are not recorded: %s. Requests are not affected; "
                    'name a folder that belongs to this user in UNHANG["RUN_DIR"].',
                    error,
                )
                return
            self.words = memoryview(self._mapped).cast("Q")

    def forget(self) -> None:
        """Unmap without touching what is counted: by us so far, or by the parent process."""
        if self.words is not None and self._mapped is not None:
            self.words.release()
            self._mapped.close()
        self.words = None


class Recorder:
    """Counts the requests of this process. Safe for threads, event loops and after `fork()`.

    No method raises or blocks: where the folder cannot be used there is one warning in the log,
    and nothing is recorded.

    Args:
        run_dir: The folder; made with mode 0755 when it is missing. It must belong to this user
            and be writable for nobody else.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self._files: dict[int, _File] = {}

    def begin(self) -> None:
        """A request has begun."""
        file = self._file()
        with file.lock:
            if file.words is not None:
                file.words[W_BEGUN] += 1

    def finish(
        self, seconds: float, *, server_error: bool = False, database_error: str | None = None
    ) -> None:
        """That request has ended.

        Args:
            seconds: How long it took.
            server_error: It ended in a 5xx status or an exception; its time is not counted.
            database_error: One of `KINDS` when a database error ended it.
        """
        bucket = W_BUCKETS + bucket_of(seconds)
        file = self._file()
        with file.lock:
            words = file.words
            if words is None:
                return
            if server_error:
                # Not in the histogram: a site that refuses everybody within 5 ms is not fast.
                words[W_SERVER_ERRORS] += 1
            else:
                words[bucket] += 1
                words[W_TOTAL_US] += int(seconds * 1e6)
            if database_error is not None:
                words[W_KINDS + KINDS.index(database_error)] += 1

    def close(self) -> None:
        """Stop recording in this process; what was counted stays readable."""
        file = self._files.get(os.getpid())
        if file is not None:
            with file.lock:  # not while another thread counts
                file.forget()

    def _file(self) -> _File:
        # By pid rather than by os.register_at_fork: uWSGI forks without running those hooks
        # (its py-call-osafterfork is off by default). A lock that another thread of the parent
        # held during fork() stays locked for ever, so the child gets a new one with its file.
        pid = os.getpid()
        file = self._files.get(pid)
        if file is None or not file.opened:
            # setdefault is atomic: threads that get here together agree on one file.
            file = self._files.setdefault(pid, _File(self.run_dir))
            file.open()
            for other in set(self._files) - {pid}:
                # The parent's file: as long as we keep it mapped, its lock outlives the parent.
                inherited = self._files.pop(other, None)
                if inherited is not None:
                    inherited.forget()
        return file


def _create(dir_fd: int) -> mmap.mmap:
    """A new file of counters, locked for the life of this process."""
    started_at = time.time_ns()
    name = f"{os.getpid()}-{started_at:x}{SUFFIX}"
    hidden = f".{name}.new"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(hidden, flags, 0o644, dir_fd=dir_fd)
    try:
        # Space that is not there is an error now, not a SIGBUS in the middle of a request.
        os.posix_fallocate(fd, 0, SIZE)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        header = array.array("Q", (MAGIC, VERSION, os.getpid(), started_at))
        os.pwrite(fd, header.tobytes(), 0)
        mapped = mmap.mmap(fd, SIZE)  # holds a copy of fd, and with it the lock
        # Under its real name only now: readers never see a file without header and lock.
        os.rename(hidden, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        return mapped
    except BaseException:
        os.unlink(hidden, dir_fd=dir_fd)
        raise
    finally:
        os.close(fd)


def _remove_old(dir_fd: int) -> None:
    """Delete files of ended processes: older than a day, or beyond the newest `KEEP_FILES`."""
    ended: list[tuple[float, str]] = []
    ours = (SUFFIX, f"{SUFFIX}.new")
    for name in [entry.name for entry in os.scandir(dir_fd) if entry.name.endswith(ours)]:
        with contextlib.suppress(OSError):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=dir_fd)
            try:
                if not is_held(fd):
                    ended.append((os.fstat(fd).st_mtime, name))
            finally:
                os.close(fd)
    ended.sort(reverse=True)
    oldest = time.time() - KEEP_SECONDS
    for rank, (changed_at, name) in enumerate(ended):
        if changed_at < oldest or rank >= KEEP_FILES:
            with contextlib.suppress(OSError):  # another worker was faster
                os.unlink(name, dir_fd=dir_fd)
