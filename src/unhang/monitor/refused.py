"""How many clients were refused for lack of a connection. Each engine needs its own counter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from unhang.monitor.sample import Sample, Server

MYSQL_COUNTER: Final = "Connection_errors_max_connections"
MARIADB_COUNTER: Final = "Aborted_connects - Access_denied_errors - Aborted_connects_preauth"


@dataclass(frozen=True, slots=True)
class Refused:
    """Refused connections between two samples.

    Attributes:
        count: How many.
        counter_name: Which counters of the server say so.
        exact: `False` where the counters also hold other events, or may miss some.
    """

    count: int
    counter_name: str
    exact: bool


def refused_between(before: Sample, after: Sample) -> Refused | None:
    """How many clients were refused between two samples; `None` when one of them is a gap.

    Measured with `max_connections = 10` on MariaDB 10.11.19, 11.8.6 and MySQL 9.7.4: what each
    event adds to Aborted_connects (A), Access_denied_errors (D), Aborted_connects_preauth (P) and
    Connection_errors_max_connections (C); `Refused.count` is the last two columns.

        event                             MariaDB A/D/P/C   MySQL A/C   MariaDB  MySQL
        7 x 1040, ordinary account        7/0/0/0           7/7         7        7
        7 x 1040, reserved slot taken     7/0/0/7           0/7         7        7
        5 x wrong password, limit or not  5/5/0/0           5/0         0        0
        5 x port probe                    5/0/5/0           5/0         0        0
        3 x silent, connect_timeout       3/0/3/0           3/0         0        0
        5 x unknown database (1049)       5/0/0/0           5/0         5 (*)    0
        5 x 1226, the account's limit     5/0/0/0           5/0         5 (*)    0
        3 x denied statement (1142, 1227) 0/3/0/0           -           -3 (*)   0

    So on MySQL C is exact. On MariaDB C is blind, and A - D - P counts every 1040, but (*) also
    unknown databases and the account's own limit, and it loses one for each denied statement in
    the same interval (never below C). To keep the former out, it is believed only when the limit
    was reached: Max_used_connections is above max_connections as soon as one client was refused.
    """
    if before.server is None or after.server is None:
        return None
    restarted = after.server.uptime < before.server.uptime
    if after.server.engine == "mysql":
        count = _added(before.server, after.server, MYSQL_COUNTER)
        return Refused(count, MYSQL_COUNTER, exact=not restarted)
    limit = min(before.server.max_connections, after.server.max_connections)
    if after.server.max_used_connections <= limit:
        return Refused(0, MARIADB_COUNTER, exact=not restarted)
    aborted, denied, probes = (
        _added(before.server, after.server, name) for name in MARIADB_COUNTER.split(" - ")
    )
    at_least = _added(before.server, after.server, MYSQL_COUNTER)
    return Refused(max(at_least, aborted - denied - probes), MARIADB_COUNTER, exact=False)


def _added(before: Server, after: Server, counter: str) -> int:
    """How much a counter grew; from zero when the server was restarted or the counter flushed."""
    field = counter.lower()
    now, then = getattr(after, field) or 0, getattr(before, field) or 0
    return int(now if now < then or after.uptime < before.uptime else now - then)
