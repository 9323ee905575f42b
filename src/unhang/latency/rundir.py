"""Where the counters of an application are kept: one rule for those who write and who read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def project_dir(settings_module: str, settings_file: str | Path) -> Path:
    """The folder from which `settings_module` is imported, usually the one with `manage.py`.

    Args:
        settings_module: Dotted name, such as `config.settings.production`.
        settings_file: Where that module is, such as `/srv/shop/config/settings/production.py`.
    """
    # A settings file that is a link is imported from where the link is, not from where it leads.
    path = Path(settings_file).absolute()
    steps = settings_module.count(".") + (path.name == "__init__.py")
    # A loader of its own may have given it a name deeper than its place.
    folder = path.parents[steps] if steps < len(path.parents) else path.parent
    return folder.resolve()


def default_run_dir(project_dir: str | Path, settings_module: str) -> Path:
    """Where the counters are kept when `UNHANG["RUN_DIR"]` is not set.

    Application and command compute the same path as long as they share the system's temporary
    folder; a service with its own one (systemd's `PrivateTmp`) needs the setting.
    """
    key = f"{settings_module}{Path(project_dir).resolve()}"
    return _temporary() / f"unhang-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _temporary() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        # No folder here can be written. The site runs all the same; the recorder will say so.
        return Path(os.sep, "tmp")


def run_dir_from(
    options: Mapping[str, Any], *, project_dir: str | Path, settings_module: str
) -> Path:
    """The run directory under these `UNHANG` settings: `RUN_DIR`, else the default.

    Raises:
        TypeError: `RUN_DIR` is neither a string nor a path.
    """
    configured = options.get("RUN_DIR")
    return Path(configured) if configured else default_run_dir(project_dir, settings_module)


@contextlib.contextmanager
def own_directory(
    path: str | Path, *, mode: int = 0o755, dir_fd: int | None = None
) -> Iterator[int]:
    """A descriptor of a directory for our files, made when missing; all work goes through it, so
    that nobody can put another folder in its place meanwhile.

    Raises:
        PermissionError: It belongs to another user, or others may write there.
        OSError: It cannot be made or opened; a link is not followed.
    """
    with contextlib.suppress(FileExistsError):
        if dir_fd is None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.mkdir(path, mode, dir_fd=dir_fd)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, dir_fd=dir_fd)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to user {status.st_uid}, not to us")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"others may write into {path}: chmod 755 it")
        yield fd
    finally:
        os.close(fd)
