"""Stands in for mysqldump, which Django clones databases with for --parallel, where there is none.

Debian has it in another package than the server. The databases that are cloned hold tables, and few
rows; this dumps no more than that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import pymysql


def main() -> None:
    """The program, with the arguments that Django gives."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--user")
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("database")
    options, _others = parser.parse_known_args()
    connection = pymysql.connect(
        user=options.user,
        password=os.environ.get("MYSQL_PWD", ""),
        host=options.host,
        port=options.port,
        database=options.database,
        charset="utf8mb4",
        ssl_disabled=True,
    )
    with contextlib.closing(connection):
        for statement in _statements(connection):
            sys.stdout.write(f"{statement};\n")


def _statements(connection: Any) -> Iterator[str]:
    cursor = connection.cursor()
    cursor.execute("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
    tables = [name for name, _kind in cursor.fetchall()]
    yield "SET NAMES utf8mb4"
    yield "SET FOREIGN_KEY_CHECKS = 0"
    for table in tables:
        cursor.execute(f"SHOW CREATE TABLE `{table}`")
        yield cursor.fetchone()[1]
        cursor.execute(f"SELECT * FROM `{table}`")  # noqa: S608 - a name that the server gave
        rows = cursor.fetchall()
        if rows:
            values = ", ".join(connection.literal(row) for row in rows)
            yield f"INSERT INTO `{table}` VALUES {values}"  # noqa: S608


if __name__ == "__main__":
    main()
