"""Which way of comparing and killing a server and an account allow."""

from __future__ import annotations

import pymysql

from unhang.mysql import errorcodes
from unhang.mysql.engine import Engine
from unhang.reaper.ending.mariadb import MariaDBEnder
from unhang.reaper.ending.mysql import InOnePacket, InTwoTrips, read_threads
from unhang.reaper.ending.outcome import Ender, Kill, plain_kill
from unhang.survey.connect import Connection, fetch_rows


def ender_for(
    engine: Engine,
    inspector: Connection,
    killer: Connection,
    unique: frozenset[int],
    kill: Kill = plain_kill,
    *,
    many: int = 1,
) -> Ender:
    """The closest comparison that is possible.

    Args:
        inspector: The connection that looked.
        killer: That of the account whose sessions are ended; on MySQL it takes several statements
            at once.
        unique: On MariaDB the activity numbers of one session only.
        kill: The statement that ends a session on this service.
        many: How many are to be ended.
    """
    if engine.kind == "mariadb":
        return MariaDBEnder(killer, unique, kill)
    threads = read_threads(inspector)
    if _may_compare(killer):
        return InOnePacket(killer, threads, kill)
    return InTwoTrips(inspector, killer, threads, kill, many=many)


def _may_compare(killer: Connection) -> bool:
    try:
        fetch_rows(killer, "SELECT 1 FROM performance_schema.threads LIMIT 1")
        fetch_rows(killer, "SELECT 1 FROM performance_schema.events_statements_current LIMIT 1")
    except pymysql.err.MySQLError as error:
        if errorcodes.code_of(error) in errorcodes.NO_PRIVILEGE:
            return False
        raise
    return True
