"""mysqlclient and PyMySQL behind one face: what they can do to a connection beyond PEP 249.

The driver's module is handed in, so nothing is imported here. Measured with mysqlclient 2.3.1 on
Connector/C 3.3 and PyMySQL 1.2.4; see the comments for the traps.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import select
import socket
import sys
from functools import cache
from types import ModuleType
from typing import Any, Final

from unhang.mysql import errorcodes

CONNECT_TIMEOUT_SECONDS: Final = 10
"""mysqlclient's own default is for ever."""

_COM_RESET_CONNECTION: Final = 0x1F
_KEEPALIVE: Final = {
    # A peer that vanished is noticed within half a minute even while a query runs. Without these
    # the kernel's own two hours apply.
    "TCP_KEEPIDLE": 15,
    "TCP_KEEPINTVL": 5,
    "TCP_KEEPCNT": 3,
    # Sent, and not acknowledged for so long (milliseconds): give up.
    "TCP_USER_TIMEOUT": 20_000,
}


_UNKNOWN: Final = object()


class CannotReset(Exception):
    """The session cannot be made as good as new: close it."""


class PhysicalConnection:
    """A driver's connection, with what can be known of it without asking the driver.

    Attributes:
        connection: The driver's object.
        cursor: A buffered cursor of it, kept, since making one costs as much as running it.
        idle_limit: Seconds after which the server may end it when idle; set by whoever knows.
        role: The role it began with, once known: a reset does not take SET ROLE back.
        session_id: The server's number of it.
        local_port: Of its socket; 0 for a unix socket.
        user: The account's name.
    """

    __slots__ = (
        "_fd",
        "_inode",
        "_poll",
        "connection",
        "cursor",
        "idle_limit",
        "local_port",
        "role",
        "session_id",
        "user",
    )

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.cursor = connection.cursor()
        self.idle_limit = math.inf
        self.role: object = _UNKNOWN
        self.session_id = int(connection.thread_id())
        self.user = ""
        self._fd = file_descriptor(connection)
        self._inode = os.fstat(self._fd).st_ino
        # mysqlclient leaves the socket open in programs that this process executes: the session
        # would outlive us.
        os.set_inheritable(self._fd, False)
        self.local_port = local_port(self._fd)
        _set_keepalive(self._fd)
        poller = _real_poll()()
        poller.register(self._fd, select.POLLIN | getattr(select, "POLLRDHUP", 0))
        self._poll = poller.poll

    def is_quiet(self) -> bool:
        """Whether nothing has come from the server: no end of the session, no unread rows.

        No round trip, about 1 µs. A path that drops packets in silence stays unseen. After the
        first lost-connection error it must not be asked any more: the driver has closed the
        descriptor, and its number may belong to somebody else's connection.
        """
        return not self._poll(0)

    def waits_for(self, seconds: float) -> bool:
        """Whether something comes from the server within so many seconds."""
        return bool(self._poll(max(0, math.ceil(seconds * 1000))))

    def is_same_socket(self) -> bool:
        """Whether the descriptor still is the socket that it was at the beginning."""
        try:
            return os.fstat(self._fd).st_ino == self._inode
        except OSError:
            return False

    def keeps_role(self, role: object) -> bool:
        """Whether this is the role of the beginning, which it is the first time."""
        if self.role is _UNKNOWN:
            self.role = role
        return self.role == role

    def replace_socket(self, by: int) -> None:
        """Let the descriptor lead elsewhere; the socket itself is not touched."""
        os.dup2(by, self._fd, inheritable=False)


class Mysqlclient:
    """MySQLdb, the driver that Django recommends."""

    name = "mysqlclient"

    def let_go_of_rows(self, physical: PhysicalConnection) -> None:
        """The result was handed on: an idle connection must keep neither rows nor statement."""
        cursor = physical.cursor
        cursor._rows = cursor._executed = cursor.description = None

    def is_open(self, physical: PhysicalConnection) -> bool:  # noqa: ARG002 - as PyMySQL's
        """Whether the driver itself still takes it for open; this one never tells."""
        return True

    def ping(self, physical: PhysicalConnection, timeout: float) -> bool:
        """Whether the server answers in time. A connection that does not must be closed."""
        # ping() would wait as long as the kernel does. Sent and waited for apart, it is bounded.
        physical.connection.send_query(b"DO 1")
        if not physical.waits_for(timeout):
            return False
        physical.connection.read_query_result()
        return True

    def reset_session(self, connection: Any, charset: str, collation: str | None) -> None:
        """COM_RESET_CONNECTION: no transaction, variables, locks, temporary tables any more.

        Raises:
            CannotReset: Unread results, or no such function in the C library.
        """
        reset = _c_reset_function(sys.modules["MySQLdb._mysql"].__file__ or "")
        if reset is None:
            raise CannotReset("the C library has no mysql_reset_connection")
        code = reset(_native_pointer(connection))
        if code != 0:
            raise CannotReset(f"mysql_reset_connection: {code}")
        # The server is back at the character set of the handshake, the library is not.
        connection.set_character_set(charset, collation)


class Pymysql:
    """PyMySQL, pure Python: works under gevent and without a compiler."""

    name = "pymysql"

    def let_go_of_rows(self, physical: PhysicalConnection) -> None:
        """The result was handed on: an idle connection must keep neither rows nor statement."""
        cursor = physical.cursor
        cursor._rows = cursor._result = physical.connection._result = None
        cursor._executed = cursor.description = None

    def is_open(self, physical: PhysicalConnection) -> bool:
        """Whether the driver itself still takes it for open."""
        return physical.connection._sock is not None

    def ping(self, physical: PhysicalConnection, timeout: float) -> bool:
        """Whether the server answers in time. A connection that does not must be closed."""
        connection = physical.connection
        usual, connection._read_timeout = connection._read_timeout, timeout
        try:
            connection.ping(reconnect=False)
        except Exception as error:
            if errorcodes.code_of(error) is None and not isinstance(error, OSError):
                raise
            return False
        finally:
            connection._read_timeout = usual
        return True

    def reset_session(self, connection: Any, charset: str, collation: str | None) -> None:
        """COM_RESET_CONNECTION: no transaction, variables, locks, temporary tables any more."""
        connection._execute_command(_COM_RESET_CONNECTION, b"")
        connection._read_ok_packet()
        connection.set_character_set(charset, collation)


Driver = Mysqlclient | Pymysql


def driver_of(module: ModuleType) -> Driver:
    """The face for what `import MySQLdb` gave: the real one, or PyMySQL in its place."""
    return Pymysql() if module.__name__ == "pymysql" else Mysqlclient()


def abandon(physical: PhysicalConnection) -> None:
    """In a forked child: drop a connection that the parent goes on using, without a byte sent.

    Closing it, and even leaving it to the garbage collector, would say goodbye to the server on the
    parent's behalf. So its descriptor is led to nowhere first.
    """
    if not physical.is_same_socket():
        return
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        physical.replace_socket(nowhere)
    finally:
        os.close(nowhere)
    if hasattr(physical.connection, "_rfile"):
        # PyMySQL reads through a buffered file. If another thread was reading at the fork, the
        # file's lock stays held for ever, and freeing the file would wait for it: never free it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(physical.connection))
        return
    # Refused if another thread was in the middle of a query: that thread did not come along.
    with contextlib.suppress(Exception):
        physical.connection.close()


def file_descriptor(connection: Any) -> int:
    """Of a driver's connection."""
    fileno = getattr(connection, "fileno", None)
    return int(fileno() if fileno is not None else connection._sock.fileno())


def local_port(fd: int) -> int:
    """The client's own TCP port; 0 for a socket of another kind."""
    # A second object for the same descriptor, which must not close it.
    borrowed = socket.socket(fileno=fd)
    try:
        name = borrowed.getsockname()
    finally:
        borrowed.detach()
    return int(name[1]) if isinstance(name, tuple) else 0


def _set_keepalive(fd: int) -> None:
    # A second object for the same descriptor, which must not close it.
    borrowed = socket.socket(fileno=fd)
    try:
        if borrowed.family not in (socket.AF_INET, socket.AF_INET6):
            return
        borrowed.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            option = getattr(socket, name, None)
            if option is not None:
                borrowed.setsockopt(socket.IPPROTO_TCP, option, value)
    except OSError as error:
        if error.errno not in (errno.ENOPROTOOPT, errno.EINVAL):
            raise
    finally:
        borrowed.detach()


def _real_poll() -> Any:
    # gevent's own poll() goes through its loop, even for a look without waiting.
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("select"):
        return monkey.get_original("select", "poll")
    return select.poll


@cache
def _c_reset_function(library: str) -> Any:
    # mysqlclient does not offer it, but the library it is linked with has it: MySQL from 5.7.3,
    # Connector/C from 3.0.
    function = getattr(ctypes.CDLL(library), "mysql_reset_connection", None)
    if function is not None:
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    return function


def _native_pointer(connection: Any) -> Any:
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.argtypes, get.restype = [ctypes.py_object, ctypes.c_char_p], ctypes.c_void_p
    return get(connection._get_native_connection(), b"_mysql.connection.native_connection")
