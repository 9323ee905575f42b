"""What a server is besides its values: a replica, one of a cluster, read-only, on which system.

Timeouts are not replicated, and a cluster's nodes each have their own: whoever changes one server
and means all of them must be told before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pymysql

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.mysql import errorcodes
from unhang.mysql.engine import Engine
from unhang.survey.connect import Connection, fetch

_WINDOWS_MAX = 2_147_483
"""Seconds: larger timeouts are cut there (MySQL's and MariaDB's reference manuals)."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was seen; `None` is unknown.

    Attributes:
        replica: It replicates from another server.
        cluster_size: Nodes of its Galera cluster or replication group; 0 for none.
        loads_persisted: MySQL reads `mysqld-auto.cnf` when it starts.
        windows: The server runs on Windows.
        service: The managed service that runs it, see `services.NAMES`; empty for none.
        host: The address it was reached by, for the service's commands.
        likely_folder: Where a drop-in would go on its machine.
    """

    replica: bool | None = False
    cluster_size: int | None = 0
    read_only: bool = False
    loads_persisted: bool = True
    windows: bool = False
    service: str = ""
    host: str = ""
    likely_folder: str = ""

    def check(self, wait_timeout: int) -> None:
        """Refuse a value that this server would cut without an error.

        Raises:
            UsageProblem: It is above the maximum of the server's system.
        """
        if self.windows and wait_timeout > _WINDOWS_MAX:
            raise UsageProblem(
                _("wait_timeout {n} s is above {most} s, the most on Windows.").format(
                    n=wait_timeout, most=_WINDOWS_MAX
                )
            )

    def warnings(self, server: str) -> Iterator[str]:
        """Sentences for whoever reads the plan."""
        if self.replica:
            yield _(
                "{server} is a replica. Timeouts are not replicated: this plan changes this server "
                "only, and its source needs a plan of its own."
            ).format(server=server)
        elif self.read_only:
            yield _(
                "{server} is read-only. Timeouts can be changed there all the same; whatever it "
                "is a copy of needs a plan of its own."
            ).format(server=server)
        if self.cluster_size is not None and self.cluster_size > 1:
            yield _(
                "{server} is one of {n} nodes. Each has its own timeouts: make a plan for each, "
                "with a --dsn that names the node and not a balancer."
            ).format(server=server, n=self.cluster_size)


def look(connection: Connection, engine: Engine, read_only: bool) -> Circumstances:
    """Ask the server. The service, its host and the folder are left to the caller."""
    system = fetch(connection, "SELECT @@version_compile_os AS os")[0]["os"]
    load = True
    if engine.can_persist:
        sql = "SELECT @@global.persisted_globals_load AS value"
        load = bool(fetch(connection, sql)[0]["value"])
    replica, cluster = (_mariadb if engine.kind == "mariadb" else _mysql)(connection)
    return Circumstances(
        replica=replica,
        cluster_size=cluster,
        read_only=read_only,
        loads_persisted=load,
        windows=str(system).startswith("Win"),
    )


def _mariadb(connection: Connection) -> tuple[bool | None, int | None]:
    names = "'Slaves_running', 'Slave_running', 'wsrep_cluster_size'"
    rows = fetch(connection, f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
    status = {row["Variable_name"].lower(): row["Value"] for row in rows}
    running = status.get("slave_running") == "ON" or status.get("slaves_running", "0") != "0"
    return running, int(status.get("wsrep_cluster_size") or 0)


def _mysql(connection: Connection) -> tuple[bool | None, int | None]:
    try:
        replica = fetch(
            connection,
            "SELECT COUNT(*) AS n FROM performance_schema.replication_connection_status"
            " WHERE SERVICE_STATE = 'ON' AND CHANNEL_NAME NOT LIKE 'group_replication%'",
        )
        group = fetch(
            connection,
            "SELECT COUNT(*) AS n FROM performance_schema.replication_group_members"
            " WHERE MEMBER_STATE <> 'OFFLINE'",
        )
    except pymysql.err.MySQLError as error:
        if errorcodes.code_of(error) not in errorcodes.NO_PRIVILEGE | {1146}:
            raise
        return None, None
    return bool(replica[0]["n"]), int(group[0]["n"])
