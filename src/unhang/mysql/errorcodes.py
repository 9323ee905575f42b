"""Error codes of MySQL, MariaDB and their drivers, grouped by what they mean for the caller.

Decide by code, never by text: Connector/C says "Server has gone away" where PyMySQL says
"MySQL server has gone away". Sources: MySQL and MariaDB error references, and measurements on
MariaDB 10.11 and 11.8 and MySQL 9.7 with mysqlclient 2.3 and PyMySQL 1.2.
"""

from __future__ import annotations

from typing import Final

REFUSED_FOR_LOAD: Final = frozenset({1040, 1203, 1226})
"""The server (1040), or the account (1203, 1226), has no connection left."""

LOST: Final = frozenset({1053, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2014, 2026, 2055, 4031})
"""The connection is gone. 2026 is every kill over TLS; 4031 is MySQL's idle timeout."""

ENDED_FOR_IDLING: Final = 4031
"""MySQL from 8.0.24 says so before it closes a session that slept longer than `wait_timeout`."""

UNREACHABLE: Final = frozenset({2002, 2003, 2005})
"""Nobody answers. A refused port is 2002 with mysqlclient and 2003 with PyMySQL."""

LOGIN_REFUSED: Final = frozenset({1044, 1045, 1130, 1524, 1698, 3118, 4151})
"""Wrong password or database, unknown account, host not allowed, plugin missing, account locked."""

NO_PRIVILEGE: Final = frozenset({1044, 1142, 1143, 1227, 1370})
"""The login works but may not see or do this."""


def code_of(error: BaseException) -> int | None:
    """The numeric code that a driver put first into its exception, or `None`.

    PyMySQL's `InterfaceError(0, '')`, the second use of a dead connection, gives 0.
    """
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) else None


READ_ONLY: Final = frozenset({1290, 1836})
"""The server, or the replica it became, takes no writes; 1290 has other causes, too."""

MAY_PASS: Final = frozenset({2002, 2003}) | REFUSED_FOR_LOAD | LOST
"""Connecting failed for a reason that may be over in a moment: starting, restarting, full."""


def is_lost(error: BaseException) -> bool:
    """Whether an exception of a driver says that the connection is gone.

    PyMySQL raises `InterfaceError(0, '')` when a dead connection is used for the second time.
    """
    code = code_of(error)
    return code in LOST or (code == 0 and type(error).__name__ == "InterfaceError")
