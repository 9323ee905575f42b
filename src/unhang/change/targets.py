"""Reaching a plan's targets again, and making sure that they are still the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from unhang.change.plan import Plan, ServerTarget
from unhang.errors import NotPermitted, StalePlan, UsageProblem
from unhang.i18n import _
from unhang.mysql.engine import identify
from unhang.survey.collect import current_account
from unhang.survey.connect import Connection, connected, fetch
from unhang.survey.login import Login
from unhang.survey.model import Alias
from unhang.survey.project import Project, load_settings
from unhang.survey.server import read_server
from unhang.survey.targets_file import NamedTarget, read
from unhang.survey.workers import find_workers


@dataclass(slots=True)
class Targets:
    """Open connections to the servers of a plan, and its project.

    Use as a context manager; the connections are opened on entering.
    """

    plan: Plan
    login: Login | None = None
    connections: dict[str, Connection] = field(default_factory=dict)
    logins: dict[str, Login] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Targets:
        with ExitStack() as stack:
            for server in self.plan.servers:
                login = self._login_for(server)
                connection = stack.enter_context(connected(login))
                self.connections[server.name] = connection
                self.logins[server.name] = login
                _check_identity(connection, server)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    @property
    def project(self) -> Project | None:
        """The plan's project."""
        target = self.plan.project
        if target is None:
            return None
        return Project(Path(target.directory), target.settings_module, target.python)

    def aliases(self) -> dict[str, Alias]:
        """The MySQL aliases as a fresh interpreter sees them now; none without a project."""
        if self.project is None:
            return {}
        settings = load_settings(self.project)
        return {name: settings.alias(name) for name in settings.mysql_aliases}

    @property
    def run_dir(self) -> Path | None:
        """Where the application writes down who opens connections; `None` without a project."""
        if self.project is None:
            return None
        settings = load_settings(self.project)
        return settings.run_dir if settings.unhang.get("OWNERS", True) is True else None

    @property
    def processes(self) -> int | None:
        """How many processes the application has on this host; `None` if nobody said so."""
        if self.project is None:
            return None
        found = find_workers(None, load_settings(self.project).unhang, self.project.directory)
        return found.processes if found else None

    def _login_for(self, server: ServerTarget) -> Login:
        named = self._named(server)
        acting = self.login or (named.login() if named else None)
        if server.aliases and self.project is not None:
            own = load_settings(self.project).login(server.aliases[0].name)
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
        (target,) = read(Path(self.plan.targets_file)).chosen([server.target], [])
        return target


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


def check_may_change(connection: Connection) -> None:
    """Whether this account may set global variables, found out without setting one.

    Raises:
        NotPermitted: It may not; the cure is the GRANT.
    """
    version = fetch(connection, "SELECT @@version AS v, @@version_comment AS c")[0]
    engine = identify(version["v"], version["c"])
    wanted = "SUPER" if engine.kind == "mariadb" else "SYSTEM_VARIABLES_ADMIN"
    grants = [str(text) for row in fetch(connection, "SHOW GRANTS") for text in row.values()]
    if may_set_globals(grants):
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
    enough = {"ALL PRIVILEGES", "SUPER", "SYSTEM_VARIABLES_ADMIN"}
    for line in grants:
        found = re.match(r"GRANT (.+?) ON \*\.\* TO ", line)
        if found and enough & {name.strip() for name in found[1].split(",")}:
            return True
        # What comes with a role ("GRANT `dba` TO …") is not listed; then only trying tells.
        if re.match(r"GRANT [`'\"]", line) and " ON " not in line:
            return True
    return False
