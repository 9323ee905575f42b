"""An account whose secrets are somewhere else, and fetching them at the last moment.

What is fetched goes into a `Login` and nowhere else: it is not printed, logged, written or kept.
Exceptions are raised when a failed attempt is over, not from within it: what the attempt brought to
light would hang on them as their context.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.survey.login import Login, from_dsn, from_option_file
from unhang.survey.toml_table import Table

COMMAND_SECONDS: Final = 30

_HIGHEST_PORT: Final = 65535
_DSN_KEYS: Final = ("dsn_env", "dsn_command")
_PASSWORD_KEYS: Final = ("password_env", "password_command")
_SSL_KEYS: Final = ("ssl_ca", "ssl_cert", "ssl_key")
_PART_KEYS: Final = ("host", "port", "unix_socket", "option_file", "user", *_PASSWORD_KEYS)
SERVER_KEYS: Final = (*_PART_KEYS, *_DSN_KEYS, *_SSL_KEYS)
PLACE_KEYS: Final = ("host", "unix_socket", "option_file", *_DSN_KEYS)
_EITHER_OR: Final = (
    ("dsn_env", ("dsn_command", *_PART_KEYS)),
    ("dsn_command", _PART_KEYS),
    ("host", ("unix_socket",)),
    ("password_env", ("password_command",)),
)
_HOST: Final = re.compile(r"[^\s/@\[\]]+")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class FromEnvironment:
    """A secret in an environment variable.

    Attributes:
        where: File, table and key that name it, for messages.
    """

    where: str
    variable: str = field(repr=False)

    def fetch(self) -> str:
        """The secret.

        Raises:
            UsageProblem: The variable is not set, or is empty.
        """
        if value := os.environ.get(self.variable):
            return value
        if not self.variable.isupper():
            # Not how variables are called: it may be the secret itself, in the wrong place.
            message = _("{where} names an environment variable that is not set.")
        elif self.variable in os.environ:
            message = _("{where}: the environment variable {variable} is empty.")
        else:
            message = _("{where}: the environment variable {variable} is not set.")
        raise UsageProblem(
            message.format(where=self.where, variable=self.variable),
            cure=_("Set and export it where unhang is started."),
        )


@dataclass(frozen=True, slots=True)
class FromCommand:
    """A secret that a command prints. Of the command only the first word is ever shown.

    Attributes:
        where: File, table and key that name it, for messages.
        words: The program and its arguments; no shell reads them.
        folder: Where it runs.
    """

    where: str
    words: tuple[str, ...] = field(repr=False)
    folder: Path

    def fetch(self) -> str:
        """The first line that it prints, without the line's end.

        Raises:
            UsageProblem: It cannot be started, fails, takes too long, or prints nothing.
        """
        secret, problem = self._run()
        if not secret:
            cure = _("Run it by hand in {folder}: its first line must be the secret.")
            raise UsageProblem(problem, cure=cure.format(folder=self.folder))
        return secret

    def _run(self) -> tuple[str, str]:
        """What it prints first; where that is nothing, the reason."""
        about = {"where": self.where, "word": self.words[0].split()[0], "n": COMMAND_SECONDS}
        try:
            done = subprocess.run(
                self.words,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                # Not shown: it may quote the secret.
                stderr=subprocess.DEVNULL,
                timeout=COMMAND_SECONDS,
                check=False,
            )
            secret = done.stdout.split(b"\n", 1)[0].removesuffix(b"\r").decode()
        except OSError as error:
            message = _("{where}: the command {word} cannot be started: {reason}.")
            return "", message.format(reason=error.strerror, **about)
        except subprocess.TimeoutExpired:
            message = _("{where}: the command {word} took longer than {n} s.")
            return "", message.format(**about)
        except UnicodeDecodeError:
            message = _("{where}: the command {word} printed something that is not UTF-8.")
            return "", message.format(**about)
        if done.returncode:
            message = _("{where}: the command {word} ended with code {code}.")
            return "", message.format(code=done.returncode, **about)
        return secret, _("{where}: the command {word} printed nothing.").format(**about)


Source: TypeAlias = FromEnvironment | FromCommand


@dataclass(frozen=True, slots=True)
class Account:
    """A server and an account on it, as a file describes them; nothing is fetched yet.

    Attributes:
        dsn: Where a whole DSN is; then only `ssl` counts beside it.
        option_file: What it says counts where the other attributes are `None`.
        ssl: `ca`, `cert` and `key`: paths.
    """

    host: str | None = None
    port: int | None = None
    unix_socket: str | None = None
    user: str | None = None
    password: Source | None = None
    option_file: Path | None = None
    dsn: Source | None = None
    ssl: Mapping[str, str] = field(default_factory=dict)

    def login(self) -> Login:
        """The login, its secrets fetched now.

        Raises:
            UsageProblem: A secret cannot be fetched, or the option file cannot be read.
        """
        login = self._base()
        if self.host or self.unix_socket:
            # Together: of an option file's address nothing but the port may stay.
            login = dataclasses.replace(
                login, host=self.host or "localhost", unix_socket=self.unix_socket
            )
        changes: dict[str, Any] = {"port": self.port, "user": self.user}
        if self.password:
            changes["password"] = self.password.fetch()
        if self.ssl:
            own = login.ssl if isinstance(login.ssl, Mapping) else {}
            changes["ssl"] = {**own, **self.ssl}
        given = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(login, **given)

    def _base(self) -> Login:
        if self.dsn:
            return _parsed(self.dsn.fetch(), self.dsn.where)
        return from_option_file(self.option_file) if self.option_file else Login()


def _parsed(dsn: str, where: str) -> Login:
    try:
        return from_dsn(dsn.strip())
    except UsageProblem as error:
        # Its message quotes a scheme; of something that is no DSN, that may be anything.
        cure = error.cure
    raise UsageProblem(_("{where} does not lead to a DSN.").format(where=where), cure=cure)


def read_account(table: Table) -> Account:
    """The server and the account that a table describes.

    Raises:
        UsageProblem: A value is not what its key wants, or keys do not go together.
    """
    for key, others in _EITHER_OR:
        for other in others:
            if key in table.values and other in table.values:
                message = _("{where} does not go with {other}: only one of them can count.")
                raise table.problem(key, message, other=other)
    if "port" in table.values and "host" not in table.values:
        raise table.problem("port", _("{where} needs its host beside it."))
    if not any(key in table.values for key in ("user", "option_file", *_DSN_KEYS)):
        raise table.problem(
            "",
            _("{where} names no account."),
            cure=_("Add user, with password_env, password_command or option_file."),
        )
    ssl = {key.removeprefix("ssl_"): table.path(key) for key in _SSL_KEYS}
    return Account(
        host=_host(table),
        port=table.number("port", most=_HIGHEST_PORT),
        unix_socket=_text_of(table.path("unix_socket")),
        user=table.text("user"),
        password=_source(table, "password"),
        option_file=table.path("option_file"),
        dsn=_source(table, "dsn"),
        ssl={name: str(path) for name, path in ssl.items() if path},
    )


def _text_of(path: Path | None) -> str | None:
    return str(path) if path else None


def _host(table: Table) -> str | None:
    host = table.text("host")
    # A single colon has a port behind it, several are an IPv6 address.
    if host is None or (_HOST.fullmatch(host) and host.count(":") != 1):
        return host
    raise table.problem(
        "host",
        _("{where} must be a host's name or address alone."),
        cure=_("A port has the key port, a socket unix_socket; a DSN comes from dsn_env."),
    )


def _source(table: Table, secret: str) -> Source | None:
    """Where the password, or the DSN, is to be fetched."""
    by_command, by_variable = f"{secret}_command", f"{secret}_env"
    words = table.words(by_command)
    if words:
        return FromCommand(table.where(by_command), words, table.file.parent)
    variable = table.text(by_variable)
    if variable is None:
        return None
    if not _VARIABLE.fullmatch(variable):
        raise table.problem(
            by_variable,
            _("{where} must be the name of an environment variable, not the secret itself."),
            cure=f'{by_variable} = "DB1_{secret.upper()}"',
        )
    return FromEnvironment(table.where(by_variable), variable)
