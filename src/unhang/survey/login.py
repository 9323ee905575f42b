"""How to reach a server: from a DSN, an option file, or Django's settings."""

from __future__ import annotations

import configparser
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from unhang.errors import UsageProblem
from unhang.i18n import _

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

    def acting_as(self, other: Login) -> Login:
        """This server, with the account (and the address, where it names one) of another login."""
        says_where = other.unix_socket or (other.host, other.port) != ("localhost", DEFAULT_PORT)
        place = other if says_where else self
        return dataclasses.replace(
            other, host=place.host, port=place.port, unix_socket=place.unix_socket
        )


def from_dsn(dsn: str) -> Login:
    """A login from `mysql://user:password@host:port/database?unix_socket=…`.

    User, password and database are percent-encoded: a password `50%` is written `50%25`.

    Raises:
        UsageProblem: Not such an address.
    """
    cure = _("Write it as mysql://USER:PASSWORD@HOST:PORT/DATABASE, with % in a password as %25.")
    try:
        parts = urlsplit(dsn)
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise UsageProblem(_("The DSN cannot be read."), cure=cure) from None
    if parts.scheme not in _SCHEMES:
        scheme = parts.scheme or _("none")
        message = _("The DSN's scheme is {scheme}, not mysql.").format(scheme=scheme)
        raise UsageProblem(message, cure=cure)
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
    parser = configparser.ConfigParser(
        interpolation=None, allow_no_value=True, strict=False, inline_comment_prefixes=("#",)
    )
    try:
        # `!includedir` and `!include` are no key of any group.
        text = path.expanduser().read_text(encoding="utf-8", errors="surrogateescape")
        parser.read_string("\n".join(x for x in text.splitlines() if not x.startswith("!")))
    except (OSError, configparser.Error) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        message = _("The option file {path} cannot be read: {reason}.")
        raise UsageProblem(message.format(path=path, reason=reason)) from None
    values: dict[str, str] = {}
    groups = [group for group in ("client", "unhang") if parser.has_section(group)]
    if not groups:
        raise UsageProblem(
            _("The option file {path} has no [client] group.").format(path=path),
            cure="[client]\nhost = …\nuser = …\npassword = …",
        )
    for group in groups:
        values |= {k.replace("-", "_"): _unquoted(v or "") for k, v in parser.items(group)}
    return _from_options(values, path)


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def _from_options(values: Mapping[str, str], path: Path) -> Login:
    port = values.get("port", str(DEFAULT_PORT))
    if not port.isdigit():
        message = _("The port in {path} is {port}, not a number.").format(path=path, port=port)
        raise UsageProblem(message)
    ssl = {k.removeprefix("ssl_"): v for k, v in values.items() if k in _SSL_KEYS and v}
    return Login(
        host=values.get("host", "localhost"),
        port=int(port),
        unix_socket=values.get("socket") or None,
        user=values.get("user", ""),
        password=values.get("password", ""),
        database=values.get("database") or None,
        ssl=ssl or None,
    )


_SSL_KEYS: Final = ("ssl_ca", "ssl_cert", "ssl_key")


def parse(text: str) -> Login:
    """A login from what a person typed: a DSN, or the path of an option file."""
    return from_dsn(text) if "://" in text else from_option_file(Path(text))


def from_django(settings: Mapping[str, Any]) -> Login:
    """A login from one entry of DATABASES, read as Django's own backend reads it."""
    options = dict(settings.get("OPTIONS") or {})
    login = Login()
    if options.get("read_default_file"):
        login = from_option_file(Path(options["read_default_file"]))
    host = settings.get("HOST") or options.get("host") or login.host
    # Django: a HOST that begins with a slash is a socket.
    socket = host if host.startswith("/") else options.get("unix_socket") or login.unix_socket
    return Login(
        host="localhost" if host.startswith("/") else host,
        port=int(settings.get("PORT") or options.get("port") or login.port),
        unix_socket=socket,
        user=settings.get("USER") or options.get("user") or login.user,
        password=_password(settings, options) or login.password,
        database=settings.get("NAME") or login.database,
        ssl=_ssl(options) if ("ssl" in options or "ssl_mode" in options) else login.ssl,
    )


def _password(settings: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return str(settings.get("PASSWORD") or options.get("password") or options.get("passwd") or "")


def _ssl(options: Mapping[str, Any]) -> Mapping[str, Any] | bool | None:
    if options.get("ssl_mode") == "DISABLED":
        return False
    ssl = options.get("ssl")
    return dict(ssl) if isinstance(ssl, Mapping) else None
