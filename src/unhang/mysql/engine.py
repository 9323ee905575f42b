"""Which engine a server is, from what it says of itself, and whether an ENGINE of Django's leads
to one. Pure text, no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["mariadb", "mysql"]

MYSQL_ENGINES: Final = r"(?i)mysql|mariadb"
"""A pattern that the ENGINE of every such backend holds: Django's own, and those of others."""

OWN_ENGINE: Final = "unhang.backends.mysql"
OWN_GIS_ENGINE: Final = "unhang.backends.mysql_gis"
OWN_ENGINES: Final = frozenset({OWN_ENGINE, OWN_GIS_ENGINE})
STOCK_ENGINE: Final = "django.db.backends.mysql"
STOCK_ENGINES: Final = frozenset({STOCK_ENGINE, "django.contrib.gis.db.backends.mysql"})
"""Django's own, which hand every one of `OPTIONS` to the driver."""
POOLING: Final = {
    STOCK_ENGINE: OWN_ENGINE,
    "django.contrib.gis.db.backends.mysql": OWN_GIS_ENGINE,
}
"""The ENGINE with a pool that takes the place of each of Django's own."""


def is_mysql_engine(name: object) -> bool:
    """Whether this ENGINE of an entry of DATABASES talks to MySQL or MariaDB."""
    return re.search(MYSQL_ENGINES, str(name)) is not None


@dataclass(frozen=True, slots=True)
class Engine:
    """The engine and release of one server.

    Attributes:
        kind: `mariadb` or `mysql` (MySQL, Percona Server, Aurora and RDS MySQL).
        release: Major, minor and patch number.
        text: The server's own `@@version`.
    """

    kind: Kind
    release: tuple[int, int, int]
    text: str

    @property
    def can_persist(self) -> bool:
        """`SET PERSIST` exists in MySQL from 8.0; MariaDB answers 1064 (10.11, 11.8)."""
        return self.kind == "mysql" and self.release >= (8, 0, 0)

    @property
    def counts_refusals(self) -> bool:
        """Whether `Connection_errors_max_connections` counts every refused client.

        MySQL 9.7 counts each. MariaDB 10.11 and 11.8 count only a refusal that also found the
        reserved slot taken: 1 after more than 6 refusals.
        """
        return self.kind == "mysql"

    def __str__(self) -> str:
        name = {"mariadb": "MariaDB", "mysql": "MySQL"}[self.kind]
        return f"{name} {'.'.join(map(str, self.release))}"


def identify(version: str, version_comment: str = "") -> Engine:
    """The engine behind `@@version` and `@@version_comment`.

    Raises:
        ValueError: The text holds no release number.
    """
    # Old clients were told "5.5.5-10.11.19-MariaDB"; the real release follows the prefix.
    text = version.removeprefix("5.5.5-")
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", text)
    if found is None:
        raise ValueError(f"no release number in {version!r}")
    major, minor, patch = (int(part or 0) for part in found.groups())
    is_mariadb = "mariadb" in f"{version} {version_comment}".lower()
    return Engine("mariadb" if is_mariadb else "mysql", (major, minor, patch), version)
