"""Reading files exactly, and replacing them in one step: a crash leaves the old or the new one."""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Final

from unhang.i18n import _

_ACL: Final = "system.posix_acl_access"
# They vouch for the old bytes: the kernel makes them anew, or drops them at the first write.
_OF_THE_CONTENT: Final = frozenset({"security.capability", "security.evm", "security.ima"})
_PRIVILEGED: Final = ("security.", "trusted.")
_NOT_ALLOWED: Final = (errno.EPERM, errno.EACCES, errno.ENOTSUP)  # SELinux says EACCES
_MOUNTS: Final = Path("/proc/self/mountinfo")


def read_source(path: Path) -> str:
    """A file's text with its own line ends; bytes that are not UTF-8 survive a round trip."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


def to_bytes(source: str) -> bytes:
    """What `read_source` read."""
    return source.encode("utf-8", "surrogateescape")


def replace_file(path: Path, content: bytes | None, *, mode: int | None = None) -> None:
    """Put `content` in place in one step, durably; `None` deletes the file.

    Mode, owner, ACL and other attributes of a file that exists are kept, a symbolic link is
    followed. A crash leaves the old file or the new one, never half of either.

    Args:
        mode: Of the new file; `None` is that of the old one, else 0644.

    Raises:
        OSError: The file is not replaceable, an attribute cannot be kept, or the disk is full; the
            old file is untouched.
    """
    real = Path(os.path.realpath(path))
    if content is None:
        real.unlink(missing_ok=True)
    else:
        if (refusal := _refusal(real)) is not None:
            raise refusal
        _write_beside(real, content, mode)
    folder = os.open(real.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def why_not_replaceable(path: Path) -> str:
    """Why `replace_file` would refuse to write this file, for people; empty when it would not."""
    refusal = _refusal(Path(os.path.realpath(path)))
    return "" if refusal is None else str(refusal.strerror)


def clean_up(path: Path) -> None:
    """Remove what a crash in `replace_file` may have left beside the file: it may hold secrets."""
    real = Path(os.path.realpath(path))
    for left in real.parent.glob(f"{glob.escape(_prefix(real))}*"):
        left.unlink(missing_ok=True)


def _prefix(real: Path) -> str:
    return f".{real.name}.unhang-"


def _refusal(real: Path) -> OSError | None:
    folder = real.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EACCES if os.access(folder, os.F_OK) else errno.ENOENT
        return OSError(number, _("no file can be written in {folder}").format(folder=folder))
    try:
        old = real.stat()
    except FileNotFoundError:
        return None
    if _is_mounted(real, old.st_dev):
        text = _("{path} is mounted by itself (as into a container): it cannot be replaced")
        return OSError(errno.EBUSY, text.format(path=real))
    if stat.S_ISREG(old.st_mode) and old.st_nlink > 1:
        text = _("{path} has other names (hard links), which would keep the old content")
        return OSError(errno.EMLINK, text.format(path=real))
    if not _may_keep_the_owner(old, folder.stat()):
        text = _("{path} belongs to another user or group, which only root could keep")
        return OSError(errno.EPERM, text.format(path=real))
    return None


def _is_mounted(real: Path, device: int) -> bool:
    try:
        mounts = _MOUNTS.read_bytes().splitlines()
    except OSError:
        # Only the second choice: overlayfs may show files on another device than their folder.
        return device != real.parent.stat().st_dev
    # A space in a path is \040.
    paths = (re.sub(rb"\\([0-7]{3})", _from_octal, line.split()[4]) for line in mounts)
    return os.fsencode(real) in paths


def _from_octal(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8)])


def _may_keep_the_owner(old: os.stat_result, folder: os.stat_result) -> bool:
    """Whoever is not the owner may not rename over a file in a sticky folder, either."""
    if os.geteuid() == 0:
        return True
    groups = {os.getegid(), *os.getgroups()}
    if folder.st_mode & stat.S_ISGID:
        groups.add(folder.st_gid)  # new files have it by themselves
    return old.st_uid == os.geteuid() and old.st_gid in groups


def _write_beside(real: Path, content: bytes, mode: int | None) -> None:
    descriptor, name = tempfile.mkstemp(dir=real.parent, prefix=_prefix(real))
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            _like_the_old(Path(name), real, mode)
            os.fsync(stream.fileno())
        Path(name).replace(real)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _like_the_old(new: Path, real: Path, mode: int | None) -> None:
    if not real.exists():
        new.chmod(0o644 if mode is None else mode)
        return
    old, now = real.stat(), new.stat()
    if (old.st_uid, old.st_gid) != (now.st_uid, now.st_gid):
        os.chown(new, old.st_uid, old.st_gid)
    _copy_attributes(real, new)
    # After the ACL. With an ACL the mode's group bits are its mask: set before, they would let the
    # whole group read for a moment; set after, the old ones change nothing and 0600 closes the ACL.
    wanted = stat.S_IMODE(old.st_mode) if mode is None else mode
    if stat.S_IMODE(new.stat().st_mode) != wanted:
        new.chmod(wanted)
    if (int(old.st_mtime), old.st_size) == (int(now.st_mtime), now.st_size):
        # Python takes cached bytecode for fresh when the source has the same size and the same
        # second; two edits within one second would go unnoticed.
        os.utime(new, (now.st_atime, now.st_mtime + 1))


def _copy_attributes(old: Path, new: Path) -> None:
    if not hasattr(os, "listxattr"):  # only Linux has them in Python
        return
    wanted, present = _attributes(old), _attributes(new)
    if _ACL in present and _ACL not in wanted:
        os.removexattr(new, _ACL)  # the folder's default: it would let in whom the old one did not
    # The ACL comes last: it may take the right to set the others.
    for name in sorted(wanted, key=lambda name: (name == _ACL, name)):
        if wanted[name] == present.get(name):
            continue
        try:
            os.setxattr(new, name, wanted[name])
        except OSError as error:
            if name.startswith(_PRIVILEGED) and error.errno in _NOT_ALLOWED:
                continue
            text = _("the attribute {name} of {path} cannot be kept: {reason}")
            told = text.format(name=name, path=old, reason=error.strerror)
            raise OSError(error.errno, told) from error


def _attributes(path: Path) -> dict[str, bytes]:
    try:
        names = os.listxattr(path)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise
    found = {}
    for name in names:
        if name in _OF_THE_CONTENT:
            continue
        try:
            found[name] = os.getxattr(path, name)
        except OSError as error:
            if not (name.startswith(_PRIVILEGED) and error.errno in _NOT_ALLOWED):
                raise
    return found
