"""Find the database servers that the lab can start.

`mariadb` is the one installed on the system. Others are folders as `make servers` unpacks them
(`mariadb118`, `mysql97`), looked for in `.servers` of the current directory and of the checkout, or
in the folders that the environment variable `UNHANG_TEST_SERVERS` names.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from unhang.errors import UsageProblem
from unhang.i18n import _

Kind = Literal["mariadb", "mysql"]

SERVERS_VARIABLE: Final = "UNHANG_TEST_SERVERS"

_DAEMONS: Final[dict[str, Kind]] = {"mariadbd": "mariadb", "mysqld": "mysql"}
_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Daemons live here, and an ordinary user's PATH often lacks it."""


@dataclass(frozen=True)
class Flavour:
    """One server program with the files it needs.

    Attributes:
        name: What `lab.server(engine=...)` calls it.
        kind: Whose server it is, `mariadb` or `mysql`.
        daemon: The program to start.
        basedir: The server's `--basedir`.
        share: The folder with error messages, character sets and, for MariaDB, the system tables.
        plugin_dir: The server's `--plugin-dir`; it need not exist.
    """

    name: str
    kind: Kind
    daemon: Path
    basedir: Path
    share: Path
    plugin_dir: Path

    @property
    def version(self) -> str:
        """The version as the program prints it, such as `10.11.19-MariaDB-0+deb12u1`."""
        return _version(self.daemon)


def available_engines() -> dict[str, Flavour]:
    """Every flavour that can be started here, by name."""
    found: dict[str, Flavour] = {}
    system = _system_mariadb()
    if system is not None:
        found[system.name] = system
    for folder in _flavour_folders():
        flavour = _unpacked(folder)
        if flavour is not None:
            found.setdefault(flavour.name, flavour)
    return found


def find_engine(name: str) -> Flavour:
    """The flavour of that name.

    Raises:
        UsageProblem: It is not here; the cure says how to get it.
    """
    found = available_engines()
    if name in found:
        return found[name]
    if name == "mariadb":
        raise UsageProblem(
            _("No MariaDB server program (mariadbd) was found in PATH or /usr/sbin."),
            cure=_("Install it; nothing is started by that: apt install mariadb-server-core"),
        )
    raise UsageProblem(
        _("There is no database server called {name} here; found: {found}.").format(
            name=name, found=", ".join(found) or _("none")
        ),
        cure=_(
            "Run `make servers` in a checkout of unhang, or name the folder that holds {name} "
            "in the environment variable {variable}."
        ).format(name=name, variable=SERVERS_VARIABLE),
    )


def _system_mariadb() -> Flavour | None:
    search = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN.split(":")])
    program = shutil.which("mariadbd", path=search)
    if program is None:
        return None
    daemon = Path(program).resolve()
    basedir = daemon.parent.parent
    return Flavour(
        name="mariadb",
        kind="mariadb",
        daemon=daemon,
        basedir=basedir,
        share=_share(basedir),
        plugin_dir=_system_plugins(basedir / "lib/mysql/plugin"),
    )


def _system_plugins(installed: Path) -> Path:
    """Debian's mariadb-server-core has none; `scripts/get_plugins.sh` fetches one."""
    fetched = (folder.resolve() / ".plugins" for folder in _search_folders())
    return next((path for path in (installed, *fetched) if path.is_dir()), installed)


def _flavour_folders() -> Iterator[Path]:
    for folder in _search_folders():
        if (folder / "bin").is_dir():
            yield folder
        elif folder.is_dir():
            # A dot marks what `make servers` has not finished unpacking.
            yield from sorted(f for f in folder.iterdir() if not f.name.startswith("."))


def _search_folders() -> list[Path]:
    named = os.environ.get(SERVERS_VARIABLE)
    if named:
        return [Path(part).expanduser() for part in named.split(os.pathsep) if part]
    return [Path(".servers"), Path(__file__).parents[3] / ".servers"]


def _unpacked(folder: Path) -> Flavour | None:
    """The flavour in a folder as `scripts/get_servers.sh` lays it out, if it is one."""
    folder = folder.resolve()
    basedir = folder / "root/usr"
    for program, kind in _DAEMONS.items():
        daemon = folder / "bin" / program
        if daemon.is_file() and basedir.is_dir():
            return Flavour(
                name=folder.name,
                kind=kind,
                daemon=daemon,
                basedir=basedir,
                share=_share(basedir),
                plugin_dir=basedir / "lib/mysql/plugin",
            )
    return None


def _share(basedir: Path) -> Path:
    """MariaDB keeps its share folder in `mysql` up to 10.11 and in `mariadb` from 11 on."""
    candidates = [basedir / "share/mariadb", basedir / "share/mysql"]
    return next((path for path in candidates if (path / "charsets").is_dir()), candidates[-1])


@functools.cache
def _version(daemon: Path) -> str:
    done = subprocess.run(
        [daemon, "--no-defaults", "--version"], capture_output=True, text=True, check=False
    )
    match = re.search(r"Ver (\S+)", done.stdout)
    if match is None:
        raise UsageProblem(
            _("{program} does not run: {output}").format(
                program=daemon, output=(done.stderr or done.stdout).strip()
            ),
            cure=_("Install it anew, or remove it."),
        )
    return match.group(1)
