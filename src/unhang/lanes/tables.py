"""Which tables there are: one file for each account of each server, one object a process."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from unhang.lanes.table import Table, opened

logger = logging.getLogger("unhang.lanes")

VERSION: Final = 2
"""Part of the file's name: two releases that lay it out differently never meet in one file."""

_OLD_SECONDS: Final = 7 * 86400.0


def directories() -> list[Path]:
    """Where the file may lie, best first. The environment variable `UNHANG_LANES_DIR` comes before
    all: processes share a lane only if they share the directory."""
    chosen = os.environ.get("UNHANG_LANES_DIR")
    return [Path(chosen)] if chosen else [Path("/dev/shm"), Path(tempfile.gettempdir())]  # noqa: S108


def file_name(identity: str) -> str:
    """Of the file for one account of one server."""
    digest = hashlib.blake2b(identity.encode(), digest_size=8).hexdigest()
    return f"unhang-{VERSION}-{os.getuid()}-{digest}.lanes"


_tables: dict[str, Table] = {}
_tables_lock = threading.Lock()
_pid = os.getpid()


def shared(identity: str, label: str) -> Table:
    """The table of one account of one server, one object per process: closing any handle of a file
    would lose every lock that the process has on it."""
    if _pid != os.getpid():
        _forget_all()
    with _tables_lock:
        found = _tables.get(identity)
        if found is None or found.is_replaced():
            found = _tables[identity] = _attach(file_name(identity), label)
        return found


def _attach(name: str, label: str) -> Table:
    problems = []
    for directory in directories():
        try:
            table = Table(directory / name, label)
        except (OSError, ValueError) as problem:
            problems.append(f"{directory}: {problem}")
            continue
        _remove_old(directory, name)
        return table
    logger.warning(
        "lanes hold for this process alone, since no file can be shared (%s); set the environment "
        "variable UNHANG_LANES_DIR to a directory that all workers may write",
        "; ".join(problems),
    )
    return Table(None, label)


def _remove_old(directory: Path, name: str) -> None:
    """Files of servers that nobody has connected to for a week."""
    limit = time.time() - _OLD_SECONDS
    with contextlib.suppress(OSError):
        for path in directory.glob(f"unhang-*-{os.getuid()}-*.lanes"):
            if path.name != name and path.stat().st_mtime < limit and not _is_in_use(path):
                path.unlink()


def _is_in_use(path: Path) -> bool:
    """Whether a process has a row there. What is written through a map does not renew the file's
    time."""
    if own(path):
        return True
    try:
        table = Table(path, make=False)
    except OSError:
        return False
    try:
        with table.alone():
            table.sweep()
            return bool(table.rows())
    finally:
        table.forget()


def own(path: Path) -> Table | None:
    """This process's own table at this path: a second handle of it must not be closed."""
    return next((table for table in list(opened) if table.path == path and table.is_open), None)


def found() -> Iterator[Path]:
    """The files of this user, for `unhang lanes`."""
    for directory in directories():
        with contextlib.suppress(OSError):
            yield from sorted(directory.glob(f"unhang-{VERSION}-{os.getuid()}-*.lanes"))


def _forget_all() -> None:
    """In a forked child: nothing of the parent's is ours, and its locks may be held."""
    global _tables_lock, _pid
    _tables_lock, _pid = threading.Lock(), os.getpid()
    for table in _tables.values():
        table.forget()
    _tables.clear()
