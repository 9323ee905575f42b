"""Data directories, made once per server version and copied for each server.

Initialising takes 0.5 s (MariaDB) to 8 s (MySQL), copying 0.1 s. Templates live in the user's cache
directory. They hold nothing but a fresh server's system tables, and may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.lab.binaries import Flavour
from unhang.lab.process import last_lines

_RECIPE: Final = 1
"""Part of a template's name. Raise it when a template is made differently from now on."""

_MYSQL_TCP_ROOT: Final = (
    "CREATE USER root@'127.0.0.1' IDENTIFIED BY '';\n"
    "GRANT ALL PRIVILEGES ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"
    "GRANT PROXY ON ''@'' TO root@'127.0.0.1' WITH GRANT OPTION;\n"
)
"""MySQL makes root@localhost only, which without name resolution is the unix socket (error 1130
over TCP)."""


def copy_template(flavour: Flavour, datadir: Path) -> None:
    """Fill `datadir` with a fresh data directory for this flavour; root has no password."""
    template = _template(flavour)
    # cp knows how to keep holes; most of a fresh data directory is empty pages.
    subprocess.run(["cp", "-a", "--sparse=always", f"{template}/.", datadir], check=True)


def place(flavour: Flavour) -> list[str]:
    """The options that tell a daemon where its own files are, and that it may run as root."""
    options = [
        f"--basedir={flavour.basedir}",
        f"--lc-messages-dir={flavour.share}",
        f"--character-sets-dir={flavour.share / 'charsets'}",
        f"--plugin-dir={flavour.plugin_dir}",
        # Debian's MySQL aborts when its default folder /var/lib/mysql-files is missing.
        "--secure-file-priv=",
    ]
    return [*options, "--user=root"] if os.geteuid() == 0 else options


def _template(flavour: Flavour) -> Path:
    """The template's directory; made now if there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unhang/templates"
    template = cache / f"{flavour.name}-{flavour.version}-r{_RECIPE}"
    if template.is_dir():
        return template
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{template.name}.lock").open("w") as lock:
        # Two test runs may start at once: one makes the template, the other waits for it here.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.is_dir():
            _make(flavour, template)
    return template


def _make(flavour: Flavour, template: Path) -> None:
    """Build beside the final place and rename, so that a template is whole or not there."""
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=template.parent))
    try:
        datadir = draft / "data"
        datadir.mkdir(mode=0o700)
        if flavour.kind == "mysql":
            _initialize_mysql(flavour, datadir, draft)
            (datadir / "auto.cnf").unlink(missing_ok=True)  # each copy gets its own server UUID
        else:
            _bootstrap_mariadb(flavour, datadir, draft)
        datadir.rename(template)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _initialize_mysql(flavour: Flavour, datadir: Path, draft: Path) -> None:
    statements = draft / "init.sql"
    statements.write_text(_MYSQL_TCP_ROOT)
    own = ["--initialize-insecure", f"--init-file={statements}", "--mysqlx=OFF"]
    own.append("--innodb-redo-log-capacity=8M")  # 100 MB by default, to be copied each time
    _run(flavour, [*own, f"--datadir={datadir}"], draft)


def _bootstrap_mariadb(flavour: Flavour, datadir: Path, draft: Path) -> None:
    """What mariadb-install-db does; that script needs a program from another package."""
    own = ["--bootstrap", "--silent-startup", "--log-warnings=0", "--enforce-storage-engine="]
    # Small redo log: a template is copied for every server.
    own += ["--innodb-log-file-size=8M", f"--datadir={datadir}"]
    _run(flavour, own, draft, _mariadb_system_tables(flavour.share))


def _mariadb_system_tables(share: Path) -> bytes:
    """The SQL that makes the system tables. Bootstrap takes one statement a line (1064 if not)."""
    parts = [b"create database if not exists mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n"]
    for name in (
        "{}_system_tables.sql",
        "{}_performance_tables.sql",
        "{}_system_tables_data.sql",
        "maria_add_gis_sp_bootstrap.sql",
        "{}_sys_schema.sql",
    ):
        # The files are called mysql_* up to 10.11 and mariadb_* from 11 on.
        files = [share / name.format(brand) for brand in ("mariadb", "mysql")]
        file = next((file for file in files if file.exists()), None)
        if file is None:
            raise UsageProblem(
                _("MariaDB's file {file} is missing.").format(file=files[-1]),
                cure=_("Install it: apt install mariadb-server-core"),
            )
        parts.append(file.read_bytes())
    return b"\n".join(parts)


def _run(flavour: Flavour, own: Sequence[str], draft: Path, feed: bytes = b"") -> None:
    # An empty option file keeps the system's /etc/mysql out, as --defaults-file must come first.
    options = draft / "empty.cnf"
    options.touch()
    log = draft / "init.log"
    with log.open("wb") as output:
        done = subprocess.run(
            [flavour.daemon, f"--defaults-file={options}", *place(flavour), *own],
            input=feed,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode != 0:
        raise UsageProblem(
            _("{name} {version} could not make a data directory (exit status {status}).").format(
                name=flavour.name, version=flavour.version, status=done.returncode
            ),
            cure=last_lines(log),
        )
