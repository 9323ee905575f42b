"""Reaching a plan's targets again, and making sure that they are still the same."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import pymysql

from unhang.change.plan import Plan, ServerTarget
from unhang.change.steps import Step
from unhang.errors import CannotConnect, NotPermitted, StalePlan, UnhangError, UsageProblem
from unhang.i18n import _
from unhang.mysql.engine import identify
from unhang.survey.collect import current_account
from unhang.survey.connect import Connection, connected, fetch
from unhang.survey.login import Login
from unhang.survey.model import Alias
from unhang.survey.project import Project, Settings, load_settings
from unhang.survey.server import read_server
from unhang.survey.targets_file import NamedTarget, read
from unhang.survey.workers import explicit_processes

_SAME_SECONDS: Final = 0.5
"""How long settings that were just loaded stand for what a fresh interpreter would say."""
_Files: TypeAlias = tuple[tuple[str, int, int, int] | str, ...]


def _fingerprint(settings: Settings) -> _Files:
    """What changes when one of the files that the settings came from does."""
    found: list[tuple[str, int, int, int] | str] = []
    for path in (settings.settings_file, *settings.loaded_files):
        try:
            status = path.stat() if path else None
        except OSError:
            status = None
        now = (
            (str(path), status.st_mtime_ns, status.st_size, status.st_ino) if status else str(path)
        )
        found.append(now)
    return tuple(found)


class Reached(dict[str, Connection]):
    """Connections by the server's name; asked for one that is away, it says why.

    Attributes:
        away: Why a server could not be reached.
    """

    def __init__(self) -> None:
        super().__init__()
        self.away: dict[str, UnhangError] = {}

    def __missing__(self, name: str) -> Connection:
        raise self.away.get(name) or KeyError(name)


@dataclass(slots=True)
class Targets:
    """Open connections to the servers of a plan, and its project.

    Use as a context manager; the connections are opened on entering.

    Args:
        lenient: Some servers may be away, but not all: what concerns them fails when its turn
            comes.
    """

    plan: Plan
    login: Login | None = None
    lenient: bool = False
    connections: Reached = field(default_factory=Reached)
    logins: dict[str, Login] = field(default_factory=dict)
    _known: dict[str, int] = field(default_factory=dict)
    _loaded: tuple[float, _Files, Settings] | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Targets:
        with ExitStack() as stack:
            for server in self.plan.servers:
                login = self.logins[server.name] = self._login_for(server)
                try:
                    connection = stack.enter_context(connected(login))
                except (CannotConnect, NotPermitted) as error:
                    self.connections.away[server.name] = error
                    if not self.lenient:
                        raise
                    continue
                self.connections[server.name] = connection
                _check_identity(connection, server)
            away = self.connections.away
            if len(away) == len(self.plan.servers) and away:
                raise next(iter(away.values()))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def refresh(self, step: Step | None = None) -> None:
        """Make sure that the connections live, and still lead to the plan's servers.

        Something in between may have closed them while somebody waited, or a driver opened them
        anew (see `survey.connect`).

        Args:
            step: Only for its server; those of steps without one need none.

        Raises:
            CannotConnect: A server is away.
            StalePlan: Another one answers.
        """
        for server in self.plan.servers:
            meant = getattr(step, "server", None) == server.name
            if step is None or meant:
                try:
                    self._refresh(server)
                except (CannotConnect, NotPermitted) as error:
                    self.connections.pop(server.name, None)
                    self.connections.away[server.name] = error
                    if meant or not self.lenient:
                        raise

    def _refresh(self, server: ServerTarget) -> None:
        connection = self.connections.get(server.name)
        if connection is not None:
            try:
                connection.ping(reconnect=False)
            except (pymysql.err.MySQLError, OSError):
                connection = None
        if connection is None:
            connection = self._stack.enter_context(connected(self.logins[server.name]))
            self.connections[server.name] = connection
            self._known.pop(server.name, None)
        session = _session_of(connection)
        if self._known.get(server.name) != session:
            _check_identity(connection, server)
            self._known[server.name] = session

    @property
    def project(self) -> Project | None:
        """The plan's project."""
        target = self.plan.project
        if target is None:
            return None
        return Project(Path(target.directory), target.settings_module, target.python)

    def settings(self) -> Settings | None:
        """The project's settings as a fresh interpreter sees them now; `None` without a project.

        Questions that follow one another at once have one answer, unless one of the project's files
        was changed in between: the interpreter takes a third of a second each time.

        Raises:
            UsageProblem: They do not load.
        """
        if self.project is None:
            return None
        if self._loaded is not None:
            until, files, settings = self._loaded
            if time.monotonic() < until and files == _fingerprint(settings):
                return settings
        settings = load_settings(self.project)
        self._loaded = (time.monotonic() + _SAME_SECONDS, _fingerprint(settings), settings)
        return settings

    def aliases(self) -> dict[str, Alias]:
        """The MySQL aliases of these settings; none without a project."""
        settings = self.settings()
        if settings is None:
            return {}
        return {name: settings.alias(name) for name in settings.mysql_aliases}

    @property
    def run_dir(self) -> Path | None:
        """Where the application writes down who opens connections; `None` without a project."""
        settings = self.settings()
        if settings is None:
            return None
        return settings.run_dir if settings.unhang.get("OWNERS", True) is True else None

    @property
    def processes(self) -> int | None:
        """How many processes the application has on this host; `None` if nobody said so."""
        settings = self.settings()
        return explicit_processes(settings.unhang) if settings else None

    def _login_for(self, server: ServerTarget) -> Login:
        named = self._named(server)
        acting = self.login or (named.login() if named else None)
        settings = self.settings() if server.aliases else None
        if settings is not None:
            own = settings.login(server.aliases[0].name)
            return own.acting_as(acting) if acting else own
        if named is not None:
            # An account of --login goes to the server that the file names.
            place = named.login()
            if place is not None:
                return place.acting_as(self.login) if self.login else place
        if acting is None:
            raise UsageProblem(
                _("The plan is for {address}, and no login was given.").format(
                    address=server.address
                ),
                cure=_("Passwords are not kept in plans: give --login FILE or URL again."),
            )
        return acting

    def _named(self, server: ServerTarget) -> NamedTarget | None:
        if not server.target:
            return None
        try:
            (target,) = read(Path(self.plan.targets_file)).chosen([server.target], [])
        except UsageProblem:
            if self.login is not None and self.login.names_a_server:
                return None  # renamed since; the identity of what answers is checked anyway
            raise
        return target


def _session_of(connection: Any) -> int:
    return int(connection.thread_id())


def _check_identity(connection: Connection, server: ServerTarget) -> None:
    def ignore(_unseen: object) -> None: ...

    now = read_server(connection, account="", unseen=ignore).identity
    if now != server.identity:
        raise StalePlan(
            _("{address} is another server than the one the plan was made for.").format(
                address=server.address
            ),
            cure=_("The plan was made for {then}; now {now} answers. Make a new plan.").format(
                then=server.identity, now=now
            ),
        )


def check_may_change(connection: Connection, *, persist_only: bool = False) -> None:
    """Whether this account may set global variables, found out without setting one.

    Args:
        persist_only: It will also have to persist a value without setting it (MySQL).

    Raises:
        NotPermitted: It may not; the cure is the GRANT.
    """
    version = fetch(connection, "SELECT @@version AS v, @@version_comment AS c")[0]
    engine = identify(version["v"], version["c"])
    wanted = "SUPER" if engine.kind == "mariadb" else "SYSTEM_VARIABLES_ADMIN"
    grants = [str(text) for row in fetch(connection, "SHOW GRANTS") for text in row.values()]
    if persist_only and not _may(grants, {"PERSIST_RO_VARIABLES_ADMIN"}):
        wanted = "SYSTEM_VARIABLES_ADMIN, PERSIST_RO_VARIABLES_ADMIN"
    elif may_set_globals(grants):
        return
    account = current_account(connection)
    raise NotPermitted(
        _("The account {account} may not set global variables; nothing was changed.").format(
            account=account
        ),
        cure=_(
            "GRANT {privilege} ON *.* TO {account};\nor give another account with --login."
        ).format(privilege=wanted, account=account),
    )


def may_set_globals(grants: Iterable[str]) -> bool:
    """Whether these lines of SHOW GRANTS let an account set global variables, or may do so."""
    return _may(grants, {"SUPER", "SYSTEM_VARIABLES_ADMIN"})


def _may(grants: Iterable[str], enough: set[str]) -> bool:
    enough = enough | {"ALL PRIVILEGES"}
    for line in grants:
        found = re.match(r"GRANT (.+?) ON \*\.\* TO ", line)
        if found and enough & {name.strip() for name in found[1].split(",")}:
            return True
        # What comes with a role ("GRANT `dba` TO …") is not listed; then only trying tells.
        if re.match(r"GRANT [`'\"]", line) and " ON " not in line:
            return True
    return False
