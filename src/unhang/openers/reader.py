"""Reading what the processes of an application wrote down of their connections."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from unhang.latency.reader import is_held

FOLDER: Final = "openers"
SUFFIX: Final = ".jsonl"
VERSION: Final = 1
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class Opening:
    """One connection of a process that still runs.

    Attributes:
        id: The session's id, as the server told the client.
        alias: Django's name of the database.
        port: The client's own TCP port; 0 for a socket.
        at: When it was opened, seconds since 1970.
        thread, code, work, pool, conn_max_age: As in `unhang.survey.session.Owner`.
        pid: As the process sees it.
        pid_namespace: Where that number holds; empty where the system has no such thing.
        program, container: Of the process, as it sees itself.
    """

    id: int
    alias: str
    port: int
    at: float
    thread: str
    code: str
    work: str
    pool: str
    conn_max_age: str
    pid: int
    pid_namespace: str
    program: str
    container: str


@dataclass(frozen=True, slots=True)
class NotReadable:
    """A folder that this user may not read; `uid` is whose it is."""

    path: Path
    uid: int


def read_all(run_dir: str | Path) -> tuple[tuple[Opening, ...], tuple[NotReadable, ...]]:
    """All connections that living processes wrote down under this run directory, and what of it
    could not be read. A missing folder is neither.

    A file counts only if its folder's owner wrote it: in a temporary folder anybody may leave one.
    """
    found: list[Opening] = []
    closed: list[NotReadable] = []
    for folder in folders(Path(run_dir)):
        try:
            found += _in_folder(folder)
        except FileNotFoundError:
            continue
        except PermissionError:
            with contextlib.suppress(OSError):
                closed.append(NotReadable(folder, folder.lstat().st_uid))
        except OSError:
            continue  # a link, or no folder at all: not ours
    return tuple(found), tuple(closed)


def folders(run_dir: Path) -> list[Path]:
    """Where files may be: in the run directory, and beside it those of users who may not use it."""
    beside = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(run_dir.parent):
            uid = entry.name.removeprefix(f"{run_dir.name}-")
            if uid != entry.name and uid.isdecimal():
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == int(uid):
                        beside.append(Path(entry.path))
    return [folder / FOLDER for folder in (run_dir, *sorted(beside))]


def _in_folder(folder: Path) -> Iterator[Opening]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if status.st_uid != folder.parent.stat().st_uid or status.st_mode & 0o022:
            return
        for entry in sorted(entry.name for entry in os.scandir(fd)):
            if entry.endswith(SUFFIX) and not entry.startswith("."):
                yield from _openings(_living(entry, fd, status.st_uid))
    finally:
        os.close(fd)


def _living(name: str, dir_fd: int, uid: int) -> bytes:
    """The content of a file whose process runs, else nothing."""
    # Twice: the process may just have put a shorter file in the place of this one.
    for _attempt in range(2):
        try:
            with held(name, dir_fd) as (fd, is_alive):
                status = os.fstat(fd)
                if is_alive and status.st_uid == uid and stat.S_ISREG(status.st_mode):
                    return os.pread(fd, status.st_size, 0)
                if status.st_ino == os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_ino:
                    return b""
        except OSError:
            return b""
    return b""


@contextlib.contextmanager
def held(name: str, dir_fd: int) -> Iterator[tuple[int, bool]]:
    """A descriptor of a file, and whether the process that writes it runs."""
    # O_NONBLOCK: somebody may have put a pipe there.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=dir_fd)
    try:
        yield fd, is_held(fd)
    finally:
        os.close(fd)


def _openings(content: bytes) -> Iterator[Opening]:
    lines = content.splitlines()
    header = _object(lines[0]) if lines else {}
    if header.get("version") != VERSION:
        return
    for line in lines[1:]:
        entry = _object(line)  # the last one may be half written
        with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
            yield Opening(
                id=int(entry["id"]),
                alias=_text(entry, "alias"),
                port=int(entry["port"]),
                at=float(entry["at"]),
                thread=_text(entry, "thread"),
                code=_text(entry, "code"),
                work=_text(entry, "work"),
                pool=_text(entry, "pool"),
                conn_max_age=_text(entry, "conn_max_age"),
                pid=int(header["pid"]),
                pid_namespace=_text(header, "pid_namespace"),
                program=_text(header, "program"),
                container=_text(header, "container"),
            )


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):  # another user may have written anything
        return {}
    return read if isinstance(read, dict) else {}


def _text(values: Mapping[str, Any], name: str) -> str:
    text = str(values.get(name, ""))[:_LONGEST]
    # It will be shown on a terminal.
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def by_number(openings: Sequence[Opening]) -> dict[tuple[str, int], list[Opening]]:
    """By alias and id, the newest first: a server counts anew after a restart, and two projects
    with one run directory may have one number at two servers."""
    found: defaultdict[tuple[str, int], list[Opening]] = defaultdict(list)
    for opening in sorted(openings, key=lambda opening: -opening.at):
        found[opening.alias, opening.id].append(opening)
    return found
