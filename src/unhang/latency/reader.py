"""The layout of a file of counters, and reading those of all processes."""

from __future__ import annotations

import array
import fcntl
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from unhang.latency.counters import KINDS, N_BUCKETS, Counters

# The file is an array of unsigned 64-bit words: 16 of header and counts, then the histogram.
MAGIC: Final = int.from_bytes(b"UNHANGRT", "little")
VERSION: Final = 1
W_MAGIC, W_VERSION, W_PID, W_STARTED_AT_NS = range(4)
W_BEGUN, W_SERVER_ERRORS, W_TOTAL_US, W_KINDS, W_BUCKETS = 8, 9, 10, 11, 16
WORDS: Final = W_BUCKETS + N_BUCKETS
SIZE: Final = WORDS * 8
SUFFIX: Final = ".counters"


def read_all(run_dir: str | Path) -> Mapping[str, Counters]:
    """The counters of every process that wrote into `run_dir`, by file name.

    Files that are not ours, or not complete, are passed over. A missing folder gives `{}`.

    Raises:
        OSError: The folder exists but cannot be read.
    """
    try:
        fd = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    try:
        names = sorted(entry.name for entry in os.scandir(fd) if entry.name.endswith(SUFFIX))
        found = ((name, _read_one(name, fd)) for name in names)
        return {name: counters for name, counters in found if counters is not None}
    finally:
        os.close(fd)


def _read_one(name: str, dir_fd: int) -> Counters | None:
    try:
        # O_NONBLOCK: somebody may have put a pipe there.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=dir_fd)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        words = array.array("Q", os.pread(fd, SIZE, 0).ljust(SIZE, b"\0"))
        alive = is_held(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    if words[W_MAGIC] != MAGIC or words[W_VERSION] != VERSION:
        return None
    return _decode(words, alive)


def _decode(words: array.array[int], alive: bool) -> Counters:
    buckets = tuple(words[W_BUCKETS:])
    kinds = dict(zip(KINDS, words[W_KINDS : W_KINDS + len(KINDS)], strict=True))
    # The words are not read at one instant, so a request may be finished before it has begun.
    errors = words[W_SERVER_ERRORS]
    in_flight = max(0, words[W_BEGUN] - sum(buckets) - errors) if alive else 0
    return Counters(buckets, words[W_TOTAL_US] / 1e6, errors, kinds, in_flight)


def is_held(fd: int) -> bool:
    """Whether the process that writes this file still runs.

    It holds an exclusive lock, which the kernel releases however it ends; unlike a pid, that
    is also right from another container.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
