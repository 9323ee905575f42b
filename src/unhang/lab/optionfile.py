"""The option file of a private server: what it holds, and options given as Python keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from unhang.lab.binaries import Kind

Value = str | int | float | bool

_SMALL_AND_FAST: Final = (
    # Nothing in here survives the `with` block, so nothing needs to reach the disk.
    "innodb-flush-log-at-trx-commit=0",
    "innodb-doublewrite=0",
    "innodb-flush-method=fsync",
    "innodb-buffer-pool-dump-at-shutdown=0",
    "innodb-buffer-pool-load-at-startup=0",
    "sync-binlog=0",
    "skip-log-bin",
    "skip-name-resolve",
    "innodb-buffer-pool-size=32M",
    "key-buffer-size=1M",
)

_BY_KIND: Final[Mapping[Kind, Sequence[str]]] = {
    # MariaDB 11.4 and later make an RSA key at every start without a certificate: 0.5 to 4 s.
    "mariadb": ("innodb-log-file-size=8M", "aria-pagecache-buffer-size=8M", "ssl=0"),
    # Together they take 180 MB off MySQL's resident size.
    "mysql": (
        "innodb-redo-log-capacity=8M",
        "innodb-log-buffer-size=1M",
        "table-open-cache=400",
        "table-definition-cache=400",
        "temptable-max-ram=4M",
    ),
}


def lines(named: Mapping[str, Value]) -> list[str]:
    """Options by Python name as lines of an option file: `wait_timeout=3` -> `wait-timeout=3`."""
    return [line(name, value) for name, value in named.items()]


def line(name: str, value: Value) -> str:
    """One option: `True` is the bare name, `False` the `skip-` form."""
    name = name.replace("_", "-")
    if value is True:
        return name
    if value is False:
        return f"skip-{name}"
    return f"{name}={value}"


def render(kind: Kind, options: Sequence[str], option_dir: Path) -> str:
    """The text of a server's own option file.

    Args:
        kind: Whose server reads it.
        options: Lines or command-line options; a later one beats an earlier one.
        option_dir: The directory of drop-ins, which beat all of these.
    """
    asked = [option.removeprefix("--") for option in options]
    parts = ["[mysqld]", "# The lab's defaults.", *_SMALL_AND_FAST, *_BY_KIND[kind]]
    if asked:
        parts += ["", "# Asked for.", *asked]
    return "\n".join([*parts, "", f"!includedir {option_dir}", ""])


def drop_in(name: str, value: Value) -> str:
    """A section that sets one option, to append to a file in the drop-in directory."""
    return f"[mysqld]\n{line(name, value)}\n"
