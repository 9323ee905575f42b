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

from unhang.change.files import read_source
from unhang.survey.connect import Connection, fetch

# Option files of one folder are read in the order of their names, and the last value wins.
DROP_IN: Final = "zz-unhang.cnf"
# The variables that a drop-in of ours sets.
OURS: Final = ("wait_timeout", "interactive_timeout")
_USUAL_FILES: Final = (Path("/etc/my.cnf"), Path("/etc/mysql/my.cnf"))
_ASK_SECONDS: Final = 10
_DAEMONS: Final = ("mariadbd", "mysqld")
# Groups that MySQL and MariaDB read at any version, and those that only some servers read.
_EVERY_SERVER: Final = ("mysqld", "server")
_SOME_SERVER: Final = re.compile(r"(mysqld|server|mariadbd?)(-\d+\.\d+)?|client-server|galera")
_INCLUDE: Final = re.compile(r"^\s*!includedir\s+(\S.*?)\s*$", re.MULTILINE)


def content_for(values: Mapping[str, int], before: str | None = None) -> str:
    """The drop-in's whole text.

    Args:
        before: The drop-in that is there, if any. What it says of other things is kept as it is.
            Every server group that sets one of `values` gets the new value, so that it wins
            whichever groups the server reads.
    """
    if before is None or not before.strip() or before == _whole(values_in(before)):
        return _whole(values)
    lines = before.split("\n")
    end = "\r\n" if "\r\n" in before else "\n"
    group, missing, last = "", dict(values), None
    for number, line in enumerate(lines):
        group = _group(line, group)
        name, value = _option(line)
        if group in _EVERY_SERVER and (name or line.strip()[:1] in ("[", "!")):
            last = number
        if name not in values or not _SOME_SERVER.fullmatch(group):
            continue
        if value != str(values[name]):
            lines[number] = f"{name} = {values[name]}" + "\r" * line.endswith("\r")
        if group in _EVERY_SERVER:
            missing.pop(name, None)
    added = "".join(f"{name} = {value}{end}" for name, value in missing.items())
    if last is None:
        return _ended("\n".join(lines), end) + (f"[mysqld]{end}{added}" if added else "")
    head, tail = "\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])
    if last + 1 < len(lines):
        head += "\n"
    return (_ended(head, end) + added if added else head) + tail


def values_in(text: str) -> dict[str, int]:
    """The values of `OURS` that a drop-in gives to the server."""
    found: dict[str, int] = {}
    group = ""
    for line in text.split("\n"):
        group = _group(line, group)
        name, value = _option(line)
        if name in OURS and value.isdigit() and _SOME_SERVER.fullmatch(group):
            found[name] = int(value)  # the last one wins
    return found


def _whole(values: Mapping[str, int]) -> str:
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    return (
        "# Written by unhang; unhang rollback removes it.\n"
        f"# Keep Django's CONN_MAX_AGE below wait_timeout.\n[mysqld]\n{lines}"
    )


def _ended(text: str, end: str) -> str:
    return text if not text or text.endswith("\n") else text + end


def _group(line: str, current: str) -> str:
    """The group that the line stands in, or opens."""
    stripped = line.strip()
    return stripped[1:].partition("]")[0].rstrip() if stripped.startswith("[") else current


def _option(line: str) -> tuple[str, str]:
    """The option that the line sets, in the spelling of the variable, and its value."""
    stripped = line.strip()
    if not stripped or stripped[0] in "#;[!":
        return "", ""
    name, __, value = stripped.partition("=")
    return _variable(name), value.strip()


def _variable(option: str) -> str:
    """The server takes `-` for `_`, and `loose-` only forgives it an unknown name."""
    return option.strip().replace("-", "_").removeprefix("loose_")


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
            # Another option may have any bytes; they are no reason not to look.
            encoding="utf-8",
            errors="surrogateescape",
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
        if (name := _variable(option)) in found and value.isdigit():
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
            text = read_source(file)
        except OSError:
            continue
        folders += [Path(found) for found in _INCLUDE.findall(text)]
    yield from (folder for folder in reversed(folders) if folder.is_dir())


def read(path: Path) -> str | None:
    """The file's text as `read_source` gives it, or `None` if there is no such file."""
    try:
        return read_source(path)
    except FileNotFoundError:
        return None
