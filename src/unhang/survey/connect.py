"""Opening the tool's own connections, and saying in one sentence why one could not be opened."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pymysql
import pymysql.cursors
from pymysql.constants import CLIENT

from unhang import timeouts
from unhang.errors import CannotConnect, NotPermitted, UnhangError
from unhang.i18n import _
from unhang.mysql import errorcodes
from unhang.mysql.engine import identify
from unhang.survey.login import Login

CONNECT_SECONDS: Final = 10
# PyMySQL's connect timeout does not cover the greeting: a frozen server would hold us for ever.
READ_SECONDS: Final = 30

if TYPE_CHECKING:
    # Generic in the type stubs only.
    Connection: TypeAlias = pymysql.connections.Connection[pymysql.cursors.DictCursor]
else:
    Connection = pymysql.connections.Connection

Row = Mapping[str, Any]


_unverified: Final[list[ssl.SSLContext]] = []


class _Lasting(Connection):
    """A connection that a short `wait_timeout` does not take from us.

    MariaDB: the session gets a long one. MySQL notes a `SET SESSION` as the origin of the server's
    own value, for everybody to see (`performance_schema.variables_info`, 9.7), and we are here to
    read that: there the connection is opened again, but only if the server says that it ended the
    session for idling (4031, from 8.0.24). After a restart the server may be another one.
    """

    _reopens = False

    def _create_ssl_ctx(self, sslp: Mapping[str, Any]) -> ssl.SSLContext:
        """What PyMySQL makes of its options (1.2); without any, one for all connections.

        It loads the system's certificates, which takes 50 ms, and verifies nothing by them.
        """
        if sslp:
            return self._made_context(sslp)
        if not _unverified:
            _unverified.append(self._made_context(sslp))
        return _unverified[0]

    def _made_context(self, sslp: Mapping[str, Any]) -> ssl.SSLContext:
        pymysqls: Any = super()  # the type stubs do not have it
        made: ssl.SSLContext = pymysqls._create_ssl_ctx(sslp)
        return made

    @property
    def _wire(self) -> Any:
        """PyMySQL has no public way to hear what the server says unasked (1.1 to 1.2)."""
        return self

    def outlast_wait_timeout(self) -> None:
        if identify(self._wire.get_server_info()).kind == "mariadb":
            fetch(self, f"SET SESSION wait_timeout = {timeouts.DEFAULT_WAIT_TIMEOUT}")
        else:
            self._reopens = True

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        if self._reopens and self._ended_for_idling():
            self._wire._force_close()
            self.connect()
        return super().query(sql, unbuffered)

    def _ended_for_idling(self) -> bool:
        # Nothing of the statement was sent, so it cannot have run.
        wire = self._wire
        if wire._sock is None or not _has_news(wire._sock):
            return False
        wire._next_seq_id = 0  # what the server says unasked begins a conversation
        try:
            wire._read_packet()
        except pymysql.err.OperationalError as error:
            if errorcodes.code_of(error) != errorcodes.ENDED_FOR_IDLING:
                raise
            return True
        return False


def _has_news(sock: socket.socket) -> bool:
    poll = select.poll()  # select() ends at 1024 open files
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def open_connection(
    login: Login,
    rows: type[Any] = pymysql.cursors.DictCursor,
    *,
    own_timeout: bool = True,
    several_statements: bool = False,
) -> Connection:
    """A connection in autocommit mode; the caller closes it.

    Args:
        rows: The kind of cursor it makes, and so what a row is: a dict, or a tuple.
        own_timeout: Keep the session usable while a person reads, however short `wait_timeout`
            is; `False` leaves the session as every new one is.
        several_statements: Take several in one packet.

    Raises:
        CannotConnect: Nobody answers, it is not MySQL, the server is full, or TLS cannot be set up.
        NotPermitted: The account or its password is refused.
    """
    try:
        connection = _Lasting(
            host=login.host,
            port=login.port,
            unix_socket=login.unix_socket,
            user=login.user or None,
            # PyMySQL 1.2 would send a str as Latin-1, and servers keep passwords as UTF-8.
            password=login.password.encode(),
            autocommit=True,
            charset="utf8mb4",
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            write_timeout=READ_SECONDS,
            program_name="unhang",
            cursorclass=rows,
            client_flag=CLIENT.MULTI_STATEMENTS if several_statements else 0,
            **_tls(login),
        )
        if own_timeout:
            connection.outlast_wait_timeout()
        return connection
    except (pymysql.err.MySQLError, OSError, IndexError, ValueError, RuntimeError) as error:
        # IndexError and ValueError: PyMySQL parsing the greeting of something that is not MySQL.
        # RuntimeError: PyMySQL without the package that encrypts a password where TLS does not.
        raise explain_connect_error(error, login) from None


def _tls(login: Login) -> dict[str, Any]:
    if login.ssl is False or (login.ssl is None and login.unix_socket):
        # Nothing travels over a wire, and loading the CA bundle costs 40 to 80 ms.
        return {"ssl_disabled": True}
    return {"ssl": dict(login.ssl)} if isinstance(login.ssl, Mapping) else {}


@contextmanager
def connected(
    login: Login, *, own_timeout: bool = True, several_statements: bool = False
) -> Iterator[Connection]:
    """An open connection, as `open_connection` makes it, that is closed at the end."""
    connection = open_connection(
        login, own_timeout=own_timeout, several_statements=several_statements
    )
    try:
        yield connection
    finally:
        connection.close()


def fetch(connection: Connection, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
    """All rows of one statement, keys as the server names them."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())


def fetch_rows(connection: Connection, sql: str) -> tuple[tuple[Any, ...], ...]:
    """The same as tuples: of thousands of rows, dicts would cost as much as the server does."""
    with connection.cursor(pymysql.cursors.Cursor) as cursor:
        cursor.execute(sql)
        return tuple(cursor.fetchall())


def explain_connect_error(error: BaseException, login: Login) -> UnhangError:
    """The exception to show for a connection that could not be opened."""
    code = errorcodes.code_of(error)
    where = {"address": login.address, "user": login.user or _("(no user)")}
    # PyMySQL makes 2003 of everything that the socket or TLS raises.
    cause = getattr(error, "original_exception", error)
    reads_files = isinstance(error, OSError) and isinstance(login.ssl, Mapping)
    if reads_files or isinstance(cause, ssl.SSLError):
        return _explain_tls_error(cause, login)
    if isinstance(error, RuntimeError):
        return CannotConnect(
            _("{address} asks for an encrypted password: {text}").format(
                text=_text(error), **where
            ),
            cure=_("pip install 'PyMySQL[rsa]', or let the connection use TLS."),
        )
    if code in errorcodes.LOGIN_REFUSED:
        return NotPermitted(
            _("{address} refuses the account {user}: {text}").format(text=_text(error), **where),
            cure=_("Check user, password and the host the account is allowed from."),
        )
    if code in errorcodes.REFUSED_FOR_LOAD:
        return CannotConnect(
            _("{address} has no connection left for {user} (error {code}).").format(
                code=code, **where
            ),
            cure=_(
                "An account with CONNECTION ADMIN may use the one reserved connection: "
                "give it with --login."
            ),
        )
    if code in errorcodes.UNREACHABLE or isinstance(error, OSError):
        return CannotConnect(
            _("Nobody answers at {address}: {text}").format(text=_text(error), **where),
            cure=_("Check host and port, and that the server runs and listens there."),
        )
    if code in errorcodes.LOST:
        return CannotConnect(
            _("{address} took the connection and said nothing a MySQL server would say.").format(
                **where
            ),
            cure=_("Check that host and port belong to MySQL or MariaDB, and that it is not hung."),
        )
    return CannotConnect(
        _("{address} does not answer like a MySQL or MariaDB server: {text}").format(
            text=_text(error), **where
        ),
        cure=_("Check host and port."),
    )


def _explain_tls_error(error: BaseException, login: Login) -> CannotConnect:
    """Before connecting the files are read, during the handshake the server's certificate."""
    ours = login.ssl if isinstance(login.ssl, Mapping) else {}
    files = [str(ours[name]) for name in ("ca", "cert", "key") if ours.get(name)]
    missing = [file for file in files if not Path(file).is_file()]
    what = {
        "address": login.address,
        "files": ", ".join(missing or files) or _("(none named)"),
        "text": _text(error),
    }
    return CannotConnect(
        _("TLS with {address} fails; certificate files: {files}. {text}").format(**what),
        cure=_(
            "Check that the files are there, are PEM, can be read by you, and hold the CA that "
            "signed the server's certificate."
        ),
    )


def _text(error: BaseException) -> str:
    last = str(error.args[-1]) if error.args else type(error).__name__
    # PyMySQL wraps the system's reason: "Can't connect to … ([Errno 111] Connection refused)".
    reason = last.rsplit("] ", 1)[-1].rstrip(").") if "[Errno" in last else last.rstrip(".")
    return f"{reason}."
