"""The drop-in option file that keeps the values over a restart of the server."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from unhang.survey.connect import Connection, fetch

# Option files of one folder are read in the order of their names, and the last value wins.
DROP_IN: Final = "zz-unhang.cnf"
_USUAL_FILES: Final = (Path("/etc/my.cnf"), Path("/etc/mysql/my.cnf"))
_ASK_SECONDS: Final = 10
_DAEMONS: Final = ("mariadbd", "mysqld")
_INCLUDE: Final = re.compile(r"^\s*!includedir\s+(\S.*?)\s*$", re.MULTILINE)


def content_for(values: Mapping[str, int]) -> str:
    """The drop-in's whole text."""
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    return (
        "# Written by unhang; unhang rollback removes it.\n"
        f"# Keep Django's CONN_MAX_AGE below wait_timeout.\n[mysqld]\n{lines}"
    )


def values_in(text: str) -> dict[str, int]:
    """The values that a drop-in of ours sets."""
    found = re.findall(r"^(\w+) = (\d+)$", text, re.MULTILINE)
    return {name: int(value) for name, value in found}


def likely_folder(version: str, comment: str) -> str:
    """Where servers of this build usually read drop-ins from; a guess, for people."""
    about = f"{version} {comment}".lower()
    debian = any(name in about for name in ("deb", "ubuntu", "1:"))
    if "mariadb" in about:
        return "/etc/mysql/mariadb.conf.d" if debian else "/etc/my.cnf.d"
    return "/etc/mysql/mysql.conf.d" if debian else "/etc/my.cnf.d"


def placement(folder: str, text: str) -> str:
    """A command that puts the drop-in there, to paste into a shell."""
    return f"tee {folder}/{DROP_IN} <<'END'\n{text}END"


def removal(folder: str) -> str:
    """A command that takes it away again."""
    return f"rm -f {folder}/{DROP_IN}"


def find_drop_in(connection: Connection) -> Path | None:
    """Where a drop-in of the server behind `connection` belongs, if we may write there.

    Returns:
        `None` when the server runs on another machine, includes no folder, or the folder is not
        ours to write.
    """
    for folder in included_folders(_main_files(connection)):
        if os.access(folder, os.W_OK | os.X_OK):
            return folder / DROP_IN
    return None


def after_a_restart(connection: Connection, names: Iterable[str]) -> dict[str, int | None] | None:
    """What the option files and the command line would give the server, were it started again.

    The daemon's own program is asked (`--print-defaults`), so that files which come after the
    drop-in, or win over it, are seen as the server would see them.

    Returns:
        By name, `None` for what they leave at its default; `None` as a whole when the server is not
        a process of this host, or may not be asked.
    """
    process = _daemon(connection)
    if process is None:
        return None
    try:
        program, *arguments = process.cmdline()
        printed = subprocess.run(
            [program, *arguments, "--print-defaults"]
            if not arguments or not arguments[0].startswith("--defaults")
            else [program, arguments[0], "--print-defaults", *arguments[1:]],
            cwd=process.cwd(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, psutil.Error, subprocess.TimeoutExpired, ValueError):
        return None
    if printed.returncode:
        return None
    found: dict[str, int | None] = dict.fromkeys(names)
    for part in printed.stdout.split():
        option, __, value = part.lstrip("-").partition("=")
        if (name := option.replace("-", "_")) in found and value.isdigit():
            found[name] = int(value)  # the last one wins
    return found


def _main_files(connection: Connection) -> list[Path]:
    """The option files that the daemon was started with, if it is a process of this host."""
    process = _daemon(connection)
    if process is None:
        return []
    try:
        return _files_named(process.cmdline(), Path(process.cwd()))
    except (OSError, psutil.Error):
        return []


def _daemon(connection: Connection) -> psutil.Process | None:
    """The server behind a connection, if it is a process of this host."""
    row = fetch(
        connection, "SELECT @@pid_file AS pid_file, @@datadir AS datadir, @@hostname AS hostname"
    )[0]
    if row["hostname"] != socket.gethostname():
        return None  # the same path here would be another server's
    try:
        pid = int(Path(row["datadir"], row["pid_file"]).read_text().strip())
        process = psutil.Process(pid)
        command = process.cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    return process if any(Path(part).name in _DAEMONS for part in command) else None


def _files_named(command: Sequence[str], folder: Path) -> list[Path]:
    """The main option files of a daemon with this command line, started in `folder`.

    None when the daemon reads none, or shares them with other instances: what we wrote there would
    change another server, too.
    """
    options = dict(part.lstrip("-").partition("=")[::2] for part in command)
    if {"no-defaults", "print-defaults", "defaults-group-suffix"} & options.keys():
        return []
    if options.get("defaults-file"):
        return [folder / options["defaults-file"]]
    extra = options.get("defaults-extra-file")
    return [*_USUAL_FILES, *([folder / extra] if extra else [])]


def included_folders(files: list[Path]) -> Iterator[Path]:
    """The folders that option files include, the one that is read last first."""
    folders: list[Path] = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            continue
        folders += [Path(found) for found in _INCLUDE.findall(text)]
    yield from (folder for folder in reversed(folders) if folder.is_dir())


def read(path: Path) -> str | None:
    """The file's text, or `None` if there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return None
