"""The table that all processes of a host share: who runs what in which lane, and what was learned.

A file in memory (`/dev/shm` where there is one), mapped by every process that uses the same account
of the same server. Each process writes its own row only; the rules that look at several rows at a
time run under a lock on the file. Locks are the kernel's: a process that is killed loses its row
and whatever lock it held at that moment, with nobody's help.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import stat
import struct
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

PROCESSES: Final = 256
LANES: Final = 8
CELLS: Final = 16
"""Statements of one process whose text and age others can see; more are counted all the same."""
WAITS: Final = 256
"""Added to a cell's lane: the statement does not run yet."""
ENTRIES: Final = 1024
TEXT_BYTES: Final = 200
LABEL_BYTES: Final = 256
LANE_NAME_BYTES: Final = 32

_TRIES: Final = 40
_TRY_SECONDS: Final = 0.0005
# Locks lie beyond the end of the file: they belong to the inode, not to bytes that exist.
_MUTEX: Final = 1 << 40
_ROWS: Final = _MUTEX + 1

_COLUMNS: Final = (
    "pid",
    "workers",
    "capacity",
    "busy_milli",
    "waiting",
    *(f"lane{number}" for number in range(LANES)),
)


class _Layout:
    """Where each part begins, bytes. Every number takes eight, on an eight-byte border."""

    top = 8
    label = 64
    lanes = label + LABEL_BYTES
    columns = 1024
    cells = columns + 8 * PROCESSES * len(_COLUMNS)
    keys = cells + 8 * 3 * CELLS * PROCESSES
    scores = keys + 8 * ENTRIES
    counts = scores + 8 * ENTRIES
    overs = counts + 8 * ENTRIES
    seconds = overs + 8 * ENTRIES
    seen = seconds + 8 * ENTRIES
    over_at = seen + 8 * ENTRIES
    texts = over_at + 8 * ENTRIES
    end = texts + TEXT_BYTES * ENTRIES


opened: weakref.WeakSet[Table] = weakref.WeakSet()
"""Those of this process that have a file."""


class Table:
    """One mapped file, or memory of this process alone where no file can be had.

    Args:
        path: The file; made if it is not there. `None` is private memory.
        label: What people are shown of it: server and account, never a password.
        make: Make the file if it is not there.

    Raises:
        OSError: The file cannot be made, is not ours, or there is no room for it.
    """

    def __init__(self, path: Path | None, label: str = "", *, make: bool = True) -> None:
        self.path = path
        self.own: set[int] = set()
        """Rows of this process. The kernel does not refuse a lock to its own holder."""
        self._thread_lock = threading.Lock()
        self._fd = -1
        if path is None:
            self._map = mmap.mmap(-1, _Layout.end)
        else:
            self._fd = _open(path, make=make)
            opened.add(self)
            self._map = mmap.mmap(self._fd, _Layout.end)
        whole = memoryview(self._map)

        def numbers(begin: int, count: int, kind: Any = "q") -> Any:
            return whole[begin : begin + 8 * count].cast(kind)

        self.columns: dict[str, Any] = {
            name: numbers(_Layout.columns + 8 * PROCESSES * place, PROCESSES)
            for place, name in enumerate(_COLUMNS)
        }
        self._top = numbers(_Layout.top, 1)
        self.lanes = [self.columns[f"lane{number}"] for number in range(LANES)]
        self.cells = numbers(_Layout.cells, 3 * CELLS * PROCESSES)
        self.keys = numbers(_Layout.keys, ENTRIES)
        self.scores = numbers(_Layout.scores, ENTRIES, "d")
        self.counts = numbers(_Layout.counts, ENTRIES)
        self.overs = numbers(_Layout.overs, ENTRIES)
        self.seconds = numbers(_Layout.seconds, ENTRIES, "d")
        self.seen = numbers(_Layout.seen, ENTRIES, "d")
        self.over_at = numbers(_Layout.over_at, ENTRIES, "d")
        self._texts = whole[_Layout.texts : _Layout.texts + TEXT_BYTES * ENTRIES]
        self._label = whole[_Layout.label : _Layout.label + LABEL_BYTES]
        self._lane_names = whole[_Layout.lanes : _Layout.lanes + LANE_NAME_BYTES * LANES]
        if label:
            _write_text(self._label, label)

    def __repr__(self) -> str:
        return f"<Table {self.label!r} at {self.path or 'private memory'}>"

    @property
    def is_shared(self) -> bool:
        """Whether other processes see it."""
        return self.path is not None

    @property
    def is_open(self) -> bool:
        """Whether this process has its file open through it."""
        return self._fd >= 0

    @property
    def label(self) -> str:
        """Server and account."""
        return _read_text(self._label)

    def is_replaced(self) -> bool:
        """Whether the file was removed, or another lies in its place: newcomers use that one."""
        if self.path is None:
            return False
        try:
            there, ours = self.path.stat(), os.fstat(self._fd)
        except OSError:
            return True
        return (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev)

    def forget(self) -> None:
        """In a forked child: the rows are the parent's. Closing the file costs the parent nothing,
        since locks belong to processes. The memory stays mapped for whoever still looks at it, and
        the lock of a thread that did not come along is not waited for."""
        self._thread_lock = threading.Lock()
        self.own = set()
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    # ---- exclusion ----

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else looks at several rows, or makes an entry, meanwhile.

        A process that is stopped just inside must not stop the others: after 20 ms they go on
        without the lock, and the worst that happens is one statement too many in a lane.
        """
        with self._thread_lock:
            locked = self._fd >= 0 and self._lock(_MUTEX, patiently=True)
            try:
                yield
            finally:
                if locked:
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _MUTEX)

    def _lock(self, byte: int, *, patiently: bool = False) -> bool:
        for attempt in range(_TRIES if patiently else 1):
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except OSError:
                if patiently and attempt + 1 < _TRIES:
                    time.sleep(_TRY_SECONDS)
                continue
            return True
        return False

    # ---- rows ----

    def take_row(self) -> int | None:
        """A row for one pool of this process, until its end; `None` if all are taken."""
        with self.alone():
            for row in range(PROCESSES):
                if row in self.own or (self._fd >= 0 and not self._lock(_ROWS + row)):
                    continue
                self.own.add(row)
                self.clear(row)
                self.sweep()
                if not self.rows():  # the first one here: lanes of earlier releases are forgotten
                    self._lane_names[:] = bytes(len(self._lane_names))
                self._top[0] = max(self._top[0], row + 1)
                self.columns["pid"][row] = os.getpid()
                return row
        return None

    def give_row(self, row: int) -> None:
        """It is free again."""
        with self.alone():
            self.clear(row)
            self.own.discard(row)
            if self._fd >= 0:
                with contextlib.suppress(OSError):
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _ROWS + row)

    def clear(self, row: int) -> None:
        """Nothing runs there."""
        for column in self.columns.values():
            column[row] = 0
        begin = 3 * CELLS * row
        for cell in range(begin, begin + 3 * CELLS):
            self.cells[cell] = 0

    def rows(self) -> list[int]:
        """Those that somebody has, or had before he was killed."""
        return [row for row, pid in enumerate(self.columns["pid"][: self._top[0]]) if pid]

    def top(self) -> int:
        """Rows that were ever taken come before this one."""
        return int(self._top[0])

    def total(self, column: str) -> int:
        """Of all rows."""
        return sum(self.columns[column][: self._top[0]])

    def sweep(self) -> int:
        """Clear the rows of processes that are no more; how many there were. Under `alone()`."""
        if self._fd < 0:
            return 0
        gone = 0
        for row in self.rows():
            if row not in self.own and self._lock(_ROWS + row):
                self.clear(row)
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, _ROWS + row)
                gone += 1
        return gone

    # ---- names and texts ----

    def lane_names(self) -> list[str]:
        """By number; empty where there is none."""
        size = LANE_NAME_BYTES
        return [_read_text(self._lane_names[n * size : (n + 1) * size]) for n in range(LANES)]

    def lane_number(self, name: str) -> int | None:
        """The number that every process of this host knows a lane by; `None` if there are too many
        of them."""
        name = name.encode()[:LANE_NAME_BYTES].decode(errors="ignore")
        with self.alone():
            names = self.lane_names()
            if name in names:
                return names.index(name)
            if "" not in names:
                return None
            number = names.index("")
            size = LANE_NAME_BYTES
            _write_text(self._lane_names[number * size : (number + 1) * size], name)
            return number

    def text(self, entry: int) -> str:
        """The statement of an entry, as far as it is kept."""
        return _read_text(self._texts[entry * TEXT_BYTES : (entry + 1) * TEXT_BYTES])

    def set_text(self, entry: int, text: str) -> None:
        """Keep the beginning of a statement."""
        _write_text(self._texts[entry * TEXT_BYTES : (entry + 1) * TEXT_BYTES], text)


def _open(path: Path, *, make: bool) -> int:
    """The file, ours alone and of full size: room that turns out to be missing later would end the
    process with SIGBUS."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags | os.O_CREAT if make else flags, 0o600)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_nlink != 1:
            raise PermissionError(f"{path} is not a file of this user alone")
        if found.st_mode & 0o077:
            os.fchmod(fd, 0o600)
        if make:
            os.posix_fallocate(fd, 0, _Layout.end)
            os.utime(fd)
        elif found.st_size < _Layout.end:
            raise OSError(f"{path} is not complete")
    except BaseException:
        os.close(fd)
        raise
    return fd


def key_of(text: str) -> int:
    """A statement's key: never 0, which is an entry without one."""
    (key,) = struct.unpack("q", hashlib.blake2b(text.encode(), digest_size=8).digest())
    return int(key) or 1


def _write_text(place: memoryview, text: str) -> None:
    data = text.encode()[: len(place)]
    place[: len(data)] = data
    place[len(data) :] = bytes(len(place) - len(data))


def _read_text(place: memoryview) -> str:
    return bytes(place).split(b"\0", 1)[0].decode(errors="replace")
