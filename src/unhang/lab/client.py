"""How to talk to a private server: connections, statements, accounts."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pymysql
from pymysql.cursors import Cursor, DictCursor

from unhang.lab.binaries import Kind

_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 60
_LOST: Final = 2013


class Client:
    """The address of a server, and what can be done with it.

    Attributes:
        root_user, root_password: An account that may do everything, over TCP and the unix socket.
    """

    root_user: Final = "root"
    root_password: Final = ""

    def __init__(self, kind: Kind, host: str, port: int, socket_path: str, datadir: Path) -> None:
        self.kind: Kind = kind
        self.host = host
        self.port = port
        self.socket = socket_path
        self.datadir = datadir

    def dsn(self, user: str = "root", password: str = "", database: str = "") -> str:
        """The address as a URL, `mysql://user:password@127.0.0.1:port/database`."""
        login = quote(user, safe="")
        if password:
            login += ":" + quote(password, safe="")
        return f"mysql://{login}@{self.host}:{self.port}/{quote(database, safe='')}"

    def connect(
        self, user: str = "root", password: str = "", database: str | None = None, **more: Any
    ) -> pymysql.connections.Connection[Cursor]:
        """A new connection over TCP in autocommit mode; closing it is the caller's business.

        Args:
            user, password, database: The login.
            more: Any argument of `pymysql.connect`, such as `unix_socket=server.socket`.
        """
        arguments: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "autocommit": True,
            "connect_timeout": _CONNECT_SECONDS,
            # Also bounds the wait for the greeting, which connect_timeout does not (PyMySQL 1.2).
            "read_timeout": _READ_SECONDS,
            "write_timeout": _READ_SECONDS,
            **self._encryption(password),
        }
        # As bytes: PyMySQL 1.2 encodes a str as latin-1, the server stored it as UTF-8.
        secret: Any = password.encode()
        return pymysql.connect(user=user, password=secret, database=database, **arguments | more)

    def _encryption(self, password: str) -> dict[str, Any]:
        """TLS where a password has to cross to MySQL; otherwise it only costs time.

        caching_sha2_password sends the password in full at first, so it wants TLS or an RSA
        exchange that needs another package. The server's own CA is named because loading the
        system's bundle takes 40 to 80 ms a connection.
        """
        if self.kind == "mysql" and password:
            return {"ssl": {"ca": str(self.datadir / "ca.pem"), "check_hostname": False}}
        return {"ssl_disabled": True}

    def execute(self, sql: str, *args: object) -> list[dict[str, Any]]:
        """Run one statement as root and return its rows.

        Each call has its own connection over the unix socket: the lab must not add a sleeper of its
        own to the sessions that are being observed.
        """
        with contextlib.closing(self._root()) as connection, connection.cursor() as cursor:
            cursor.execute(sql, args or None)
            return list(cursor.fetchall())

    def _root(self) -> pymysql.connections.Connection[DictCursor]:
        connection: pymysql.connections.Connection[Any] = self.connect(
            unix_socket=self.socket, cursorclass=DictCursor
        )
        return connection

    def answers(self) -> bool:
        """Whether the server is up. It is when it says anything at all, be it "too many"."""
        # PyMySQL 1.2 leaves its own unix socket open when it cannot connect, so it gets ours.
        with socket.socket(socket.AF_UNIX) as own:
            own.settimeout(_CONNECT_SECONDS)
            try:
                own.connect(self.socket)
                connection = self.connect(unix_socket=self.socket, defer_connect=True)
                connection.connect(own)
                connection.close()
            except OSError:
                return False
            except pymysql.OperationalError as error:
                return bool(error.args[0] != _LOST)
        return True

    def create_account(
        self,
        user: str,
        password: str,
        grants: Sequence[str] = ("ALL PRIVILEGES ON *.*",),
        database: str | None = None,
    ) -> None:
        """Make an account that may log in from everywhere; one of the same name is replaced.

        Args:
            user, password: The login.
            grants: Privileges and where they hold, such as `PROCESS ON *.*`.
            database: Makes this database if need be, and grants ALL on it *instead of* `grants`.
        """
        account = f"'{user}'@'%'"
        if database is not None:
            self.execute(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4")
            grants = (f"ALL PRIVILEGES ON `{database}`.*",)
        # MySQL has no CREATE OR REPLACE USER.
        self.execute(f"DROP USER IF EXISTS {account}")
        self.execute(f"CREATE USER '{user}'@'%%' IDENTIFIED BY %s", password)
        for grant in grants:
            self.execute(f"GRANT {grant} TO {account}")
