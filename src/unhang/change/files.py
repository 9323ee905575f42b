"""Reading files exactly, and replacing them in one step: a crash leaves the old or the new one."""

from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path


def read_source(path: Path) -> str:
    """A file's text with its own line ends; bytes that are not UTF-8 survive a round trip."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def to_bytes(source: str) -> bytes:
    """What `read_source` read."""
    return source.encode("utf-8", "surrogateescape")


def replace_file(path: Path, content: bytes | None, *, mode: int | None = None) -> None:
    """Put `content` in place in one step, durably; `None` deletes the file.

    Mode and owner of a file that exists are kept, a symbolic link is followed. A crash leaves the
    old file or the new one, never half of either.

    Args:
        mode: Of the new file; `None` is that of the old one, else 0644.

    Raises:
        OSError: The folder cannot be written, or the disk is full; the old file is untouched.
    """
    real = Path(os.path.realpath(path))
    if content is None:
        real.unlink(missing_ok=True)
    else:
        _write_beside(real, content, mode)
    folder = os.open(real.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def clean_up(path: Path) -> None:
    """Remove what a crash in `replace_file` may have left beside the file: it may hold secrets."""
    real = Path(os.path.realpath(path))
    for left in real.parent.glob(f"{glob.escape(_prefix(real))}*"):
        left.unlink(missing_ok=True)


def _prefix(real: Path) -> str:
    return f".{real.name}.unhang-"


def _write_beside(real: Path, content: bytes, mode: int | None) -> None:
    descriptor, name = tempfile.mkstemp(dir=real.parent, prefix=_prefix(real))
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        _like_the_old(Path(name), real, mode)
        Path(name).replace(real)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _like_the_old(new: Path, real: Path, mode: int | None) -> None:
    if not real.exists():
        new.chmod(0o644 if mode is None else mode)
        return
    old, now = real.stat(), new.stat()
    os.chown(new, old.st_uid, old.st_gid)
    new.chmod(old.st_mode & 0o7777 if mode is None else mode)
    if (int(old.st_mtime), old.st_size) == (int(now.st_mtime), now.st_size):
        # Python takes cached bytecode for fresh when the source has the same size and the same
        # second; two edits within one second would go unnoticed.
        os.utime(new, (now.st_atime, now.st_mtime + 1))
