"""Proxies that may stand between an application and its server, and where they tell the owner.

To add one: a row of `PROXIES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from unhang.i18n import _


@dataclass(frozen=True, slots=True)
class Proxy:
    """How one kind of proxy is known.

    Attributes:
        name: As people call it; `Owner.proxy`.
        programs: Names of its process, and what it writes into the connect attributes.
        users: Accounts that it logs in with for itself.
        renumbers: Its clients learn numbers of its own, not the server's, for their sessions.
        ask: Where it tells which client has which session.
    """

    name: str
    programs: tuple[str, ...]
    users: tuple[str, ...] = ()
    renumbers: bool = True
    ask: str = ""


PROXIES: Final = (
    Proxy(
        "ProxySQL",
        ("proxysql",),
        ("proxysql_monitor",),
        ask="SELECT * FROM stats_mysql_processlist",
    ),
    Proxy("MaxScale", ("maxscale",), ("maxscale", "mxs_monitor"), ask="maxctrl list sessions"),
    Proxy("MySQL Router", ("mysqlrouter",), ("mysql_router",), ask="mysqlrouter.log"),
    Proxy("HAProxy", ("haproxy",), renumbers=False, ask="echo 'show sess' | socat haproxy.sock -"),
    Proxy("docker-proxy", ("docker-proxy",), renumbers=False, ask="docker ps"),
    Proxy("RDS Proxy", (), ("rdsproxyadmin",), ask="CloudWatch, /aws/rds/proxy/NAME"),
    Proxy("Cloud SQL Auth Proxy", ("cloud-sql-proxy", "cloud_sql_proxy"), renumbers=False),
)
_ATTRIBUTES: Final = ("program_name", "_client_name")


def by_name(name: str) -> Proxy | None:
    """The row of this name."""
    return next((proxy for proxy in PROXIES if proxy.name == name), None)


def of_program(program: str) -> Proxy | None:
    """The proxy that runs under this command line."""
    word = program.partition(" ")[0]
    return next((proxy for proxy in PROXIES if word in proxy.programs), None)


def of_session(user: str, attributes: Mapping[str, str]) -> Proxy | None:
    """The proxy whose session this is, by its account or by what it said when it connected."""
    said = frozenset(attributes.get(name, "").lower() for name in _ATTRIBUTES)
    return _known_by(user, said)


@lru_cache(maxsize=1024)
def _known_by(user: str, said: frozenset[str]) -> Proxy | None:
    for proxy in PROXIES:
        if said & set(proxy.programs) or user in proxy.users:
            return proxy
        # MySQL Router makes accounts of its own: mysql_router1_x4k2….
        if proxy.name == "MySQL Router" and user.startswith("mysql_router"):
            return proxy
    return None


def where_to_ask(name: str) -> str:
    """A sentence: whose the session is can be read at the proxy."""
    proxy = by_name(name)
    if proxy is None or not proxy.ask:
        return _("the owner is known to {proxy} only").format(proxy=name)
    return _("ask {proxy} for the owner: {how}").format(proxy=name, how=proxy.ask)
