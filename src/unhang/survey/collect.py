"""Taking a survey: one for each server that a project, or a login, leads to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pymysql

from unhang.errors import CannotConnect, Refused, UsageProblem
from unhang.i18n import _
from unhang.survey.connect import Connection, connected, fetch
from unhang.survey.held import read_held
from unhang.survey.limits import read_limits, read_logins
from unhang.survey.login import Login
from unhang.survey.model import Alias, Survey, Unseen, Workers
from unhang.survey.owners import with_owners
from unhang.survey.project import Settings
from unhang.survey.server import read_server
from unhang.survey.sessions import read_attributes, read_sessions


@dataclass(frozen=True, slots=True)
class Target:
    """One server to look at, and Django's aliases on it.

    Attributes:
        login: The account that looks (and, in a plan, that changes).
        own: The application's own login, where the one above names another address: then it is to
            be proven that both lead to one server.
        run_dir: Where the application writes down who opens connections.
        applications: The application's own logins on this server, one an account.
    """

    login: Login
    aliases: tuple[Alias, ...] = ()
    workers: Workers | None = None
    own: Login | None = None
    run_dir: Path | None = None
    applications: tuple[Login, ...] = ()

    @property
    def name(self) -> str:
        """The aliases' names, or the address when there is no project."""
        return ", ".join(alias.name for alias in self.aliases) or self.login.address


def targets_of(
    settings: Settings,
    *,
    only: Sequence[str] = (),
    login: Login | None = None,
    workers: Workers | None = None,
) -> tuple[Target, ...]:
    """The servers behind a project's MySQL aliases, each once.

    Args:
        only: Names of aliases to look at; empty means all with a MySQL engine.
        login: The account to use instead of the application's own.

    Raises:
        UsageProblem: No such alias, or none with a MySQL engine.
    """
    chosen = _chosen(settings, only)
    keys = {name: settings.login(name).server_key for name in settings.mysql_aliases}
    groups: dict[tuple[str, int], list[str]] = {}
    for name in settings.mysql_aliases:
        # An alias brings its neighbours: what is changed on their server is changed for them, too.
        if keys[name] in {keys[other] for other in chosen}:
            groups.setdefault(keys[name], []).append(name)
    if login and login.names_a_server and len(groups) > 1:
        raise UsageProblem(
            _("The login names the server {address}, but the aliases are on {n} servers.").format(
                address=login.address, n=len(groups)
            ),
            cure=_("Leave host and port out of the login, or name one server with --alias."),
        )
    return tuple(_target(settings, names, login, workers) for names in groups.values())


def _target(
    settings: Settings, names: Sequence[str], login: Login | None, workers: Workers | None
) -> Target:
    own = settings.login(names[0])
    aliases = tuple(settings.alias(name) for name in names)
    acting = own.acting_as(login) if login else own
    return Target(
        acting,
        aliases,
        workers,
        own if acting.server_key != own.server_key else None,
        settings.run_dir if settings.unhang.get("OWNERS", True) is True else None,
        tuple({login.user: login for login in map(settings.login, names)}.values()),
    )


def _chosen(settings: Settings, only: Sequence[str]) -> Sequence[str]:
    for name in only:
        if name not in settings.databases:
            known = ", ".join(settings.databases) or _("none")
            message = _("DATABASES has no alias {name}; it has: {known}.")
            raise UsageProblem(message.format(name=name, known=known))
        if name not in settings.mysql_aliases:
            engine = settings.databases[name]["ENGINE"]
            message = _("The alias {name} is not MySQL or MariaDB: its ENGINE is {engine}.")
            raise UsageProblem(message.format(name=name, engine=engine))
    chosen = only or settings.mysql_aliases
    if not chosen:
        module = settings.project.settings_module
        message = _("No database in {module} has a MySQL engine.")
        raise UsageProblem(
            message.format(module=module),
            cure=_(
                "unhang looks at MySQL and MariaDB; name another --settings module, or a --dsn."
            ),
        )
    return chosen


def take_survey(target: Target) -> Survey:
    """Look at one server once, with whatever this account may see.

    Raises:
        CannotConnect: Nobody answers, or the server went away while it was asked.
        NotPermitted: The account is refused.
    """
    with connected(target.login) as connection:
        try:
            return survey_over(connection, target)
        except pymysql.err.MySQLError as error:
            text = error.args[-1] if error.args else error
            message = _("{address} stopped answering during the survey: {text}")
            raise CannotConnect(message.format(address=target.login.address, text=text)) from None


def survey_over(connection: Connection, target: Target) -> Survey:
    """The same over a connection that is already open."""
    account = current_account(connection)
    unseen: list[Unseen] = []
    server = read_server(connection, account=account, unseen=unseen.append)
    listing = read_sessions(connection, server.engine, account=account, unseen=unseen.append)
    sessions, attributes = listing.sessions, read_attributes(connection)
    return Survey(
        taken_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        target=target.login.address,
        account=account,
        server=server,
        sessions=with_owners(
            sessions,
            attributes=attributes,
            unseen=unseen.append,
            aliases=target.aliases,
            run_dir=target.run_dir,
            server_port=_port(connection),
            server_uptime=server.status.get("Uptime"),
        ),
        aliases=target.aliases,
        workers=target.workers,
        unseen=tuple(_once(unseen)),
        limits=read_limits(connection, account=account),
        logins=read_logins(connection, server.engine),
        held=read_held(sessions, attributes),
    )


def _port(connection: Connection) -> int | None:
    """The port that the server itself listens at; what leads there may have another."""
    port = fetch(connection, "SELECT @@port AS port")[0]["port"]
    return int(port) or None


def prove_same_server(target: Target) -> None:
    """Make sure that a login with an address of its own leads to the application's server.

    Raises:
        Refused: It leads to another one.
        CannotConnect, NotPermitted: One of the two cannot be asked.
    """
    if target.own is None:
        return
    identities = []
    for login in (target.own, target.login):
        with connected(login) as connection:
            identities.append(read_server(connection, account="", unseen=lambda _: None).identity)
    if identities[0] != identities[1]:
        raise Refused(
            _("{login} is another server than the application's, {own}.").format(
                login=target.login.address, own=target.own.address
            ),
            cure=_("Leave host and port out of the login; the application's are used then."),
        )


def current_account(connection: Connection) -> str:
    """Our account as GRANT wants it written: `'shop'@'%'`."""
    text = str(fetch(connection, "SELECT CURRENT_USER() AS account")[0]["account"])
    user, __, host = text.rpartition("@")
    return f"'{user}'@'{host}'"


def _once(unseen: Iterable[Unseen]) -> list[Unseen]:
    """One entry a GRANT, or a reason where none helps: what it would show, together."""
    merged: dict[str, Unseen] = {}
    for entry in unseen:
        key = entry.grant or entry.why
        known = merged.get(key)
        merged[key] = replace(known, what=f"{known.what}; {entry.what}") if known else entry
    return list(merged.values())
