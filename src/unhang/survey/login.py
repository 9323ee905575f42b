"""How to reach a server: from a DSN, an option file, or Django's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.mysql import option_file

DEFAULT_PORT: Final = 3306
_SCHEMES: Final = frozenset({"mysql", "mariadb", "mysql+pymysql", "mysqlgis"})


@dataclass(frozen=True, slots=True)
class Login:
    """Everything a connection needs. The password is kept out of `repr` and `str`.

    Attributes:
        ssl: `None` lets the driver use TLS when the server offers it; `False` forbids it; a
            mapping holds `ca`, `cert`, `key`.
    """

    host: str = "localhost"
    port: int = DEFAULT_PORT
    unix_socket: str | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    database: str | None = None
    ssl: Mapping[str, Any] | bool | None = None

    @property
    def address(self) -> str:
        """The server's address, as one would type it."""
        return self.unix_socket or f"{self.host}:{self.port}"

    @property
    def server_key(self) -> tuple[str, int]:
        """Equal for two logins that reach the same server in the same way."""
        return (self.unix_socket, 0) if self.unix_socket else (self.host, self.port)

    def __str__(self) -> str:
        return f"{self.user}@{self.address}"

    @property
    def names_a_server(self) -> bool:
        """Whether it says where, and not only who."""
        return bool(self.unix_socket) or (self.host, self.port) != ("localhost", DEFAULT_PORT)

    def acting_as(self, other: Login) -> Login:
        """This server, with the account (and the address, where it names one) of another login."""
        place = other if other.names_a_server else self
        return dataclasses.replace(
            other, host=place.host, port=place.port, unix_socket=place.unix_socket
        )


def _dsn_form() -> str:
    return _("Write it as mysql://USER:PASSWORD@HOST:PORT/DATABASE, with % in a password as %25.")


def from_dsn(dsn: str) -> Login:
    """A login from `mysql://user:password@host:port/database?unix_socket=…`.

    User, password and database are percent-encoded: a password `50%` is written `50%25`.

    Raises:
        UsageProblem: Not such an address.
    """
    cure = _dsn_form()
    try:
        parts = urlsplit(dsn)
        port = parts.port or DEFAULT_PORT
        if "://" not in dsn or parts.fragment or "@" in parts.path + parts.query:
            # A password with an unencoded /, ? or # ends up in what is taken for the address.
            raise ValueError
    except ValueError:
        raise UsageProblem(_("The DSN cannot be read."), cure=cure) from None
    if parts.scheme not in _SCHEMES:
        # Not repeated: it may be the beginning of a password.
        raise UsageProblem(_("The DSN does not begin with mysql://."), cure=cure)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    return Login(
        host=parts.hostname or "localhost",
        port=port,
        unix_socket=query.get("unix_socket"),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")) or None,
        ssl={"ca": query["ssl_ca"]} if "ssl_ca" in query else None,
    )


def from_option_file(path: Path) -> Login:
    """A login from the `[client]` and `[unhang]` groups of an option file; the latter wins.

    Raises:
        UsageProblem: The file is missing, unreadable, or has neither group.
    """
    values = _read_options(path, ("client", "unhang"))
    if values is None:
        raise UsageProblem(
            _("The option file {path} has no [client] group.").format(path=path),
            cure="[client]\nhost = …\nuser = …\npassword = …",
        )
    return _from_options(values, path)


def _read_options(path: Path, groups: Sequence[str]) -> dict[str, str] | None:
    """What these groups of the file say, later groups winning; `None` if it has none of them."""
    try:
        text = path.expanduser().read_text(encoding="utf-8", errors="surrogateescape")
        found = option_file.parse(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = _("The option file {path} cannot be read: {reason}.")
        raise UsageProblem(message.format(path=path, reason=reason)) from None
    if not any(group in found for group in groups):
        return None
    return {name: value for group in groups for name, value in found.get(group, {}).items()}


def _from_options(values: Mapping[str, str], path: Path) -> Login:
    ssl = {k.removeprefix("ssl_"): v for k, v in values.items() if k in _SSL_KEYS and v}
    return Login(
        host=values.get("host") or "localhost",
        port=_port(values.get("port") or DEFAULT_PORT, path),
        unix_socket=values.get("socket") or None,
        user=values.get("user", ""),
        password=values.get("password", ""),
        database=values.get("database") or None,
        ssl=ssl or None,
    )


_SSL_KEYS: Final = ("ssl_ca", "ssl_cert", "ssl_key")


def _port(value: object, where: object) -> int:
    text = str(value).strip()
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    # Not repeated: a line of an option file may hold more than a port.
    raise UsageProblem(_("The port in {where} is no number from 1 to 65535.").format(where=where))


def parse(text: str) -> Login:
    """A login from what a person typed: a DSN, or the path of an option file.

    Raises:
        UsageProblem: It is neither.
    """
    if "://" in text:
        return from_dsn(text)
    path = Path(text)
    if "@" in text and not path.expanduser().exists():
        # Most likely a DSN without its scheme: what was typed may hold a password.
        raise UsageProblem(
            _("The login is neither a DSN nor the path of an option file."), cure=_dsn_form()
        )
    return from_option_file(path)


def from_django(settings: Mapping[str, Any], *, driver: str | None = None) -> Login:
    """A login from one entry of DATABASES, read as Django's own backend and its driver read it.

    Args:
        driver: What Django loads: `pymysql`, or `mysqlclient`, which is also what an unknown driver
            is taken for.

    Raises:
        UsageProblem: A port that is none, or an option file that cannot be read.
    """
    # Django's backend: what OPTIONS say wins over the keys beside them.
    options = dict(settings.get("OPTIONS") or {})
    file = _options_file(options)
    host = str(options.get("host") or settings.get("HOST") or "")
    login = Login(
        host=host or file.host,
        port=_port(options.get("port") or settings.get("PORT") or file.port, "DATABASES"),
        unix_socket=options.get("unix_socket") or file.unix_socket,
        user=options.get("user") or settings.get("USER") or file.user,
        password=_password(settings, options) or file.password,
        database=_database(settings, options) or file.database,
        ssl=_ssl(options) if ("ssl" in options or "ssl_mode" in options) else file.ssl,
    )
    if host.startswith("/"):
        # Django: such a HOST is a socket.
        socket = options.get("unix_socket") or host
        return dataclasses.replace(login, host="localhost", unix_socket=socket)
    return login if driver == "pymysql" else _as_client_library(login)


_DEFAULT_SOCKETS: Final = (
    Path("/run/mysqld/mysqld.sock"),
    Path("/var/run/mysqld/mysqld.sock"),
    Path("/tmp/mysql.sock"),  # noqa: S108 - where MySQL's own builds put it
)


def _as_client_library(login: Login) -> Login:
    """What libmysqlclient and libmariadb make of an address: `localhost` is a socket, whatever the
    port, and with every other host a socket's name is ignored."""
    if login.host != "localhost":
        return dataclasses.replace(login, unix_socket=None)
    if login.unix_socket:
        return login
    found = next((str(path) for path in _DEFAULT_SOCKETS if path.exists()), None)
    return dataclasses.replace(login, unix_socket=found)


def _options_file(options: Mapping[str, Any]) -> Login:
    if not options.get("read_default_file"):
        return Login()
    path = Path(options["read_default_file"])
    groups = ("client", *filter(None, [options.get("read_default_group")]))
    return _from_options(_read_options(path, groups) or {}, path)


def _password(settings: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return str(options.get("passwd") or options.get("password") or settings.get("PASSWORD") or "")


def _database(settings: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return str(options.get("db") or options.get("database") or settings.get("NAME") or "")


def _ssl(options: Mapping[str, Any]) -> Mapping[str, Any] | bool | None:
    if options.get("ssl_mode") == "DISABLED":
        return False
    ssl = options.get("ssl")
    return dict(ssl) if isinstance(ssl, Mapping) else None
