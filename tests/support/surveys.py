"""Surveys made by hand, for tests of the pure parts."""

from __future__ import annotations

from typing import Any

from unhang.mysql.engine import OWN_ENGINE, STOCK_ENGINE
from unhang.survey.model import Alias, Origin, PoolFacts, Server, Survey, Variable
from unhang.survey.session import Session


def a_server(
    *, version: str = "10.11.19-MariaDB", status: dict[str, int] | None = None, **values: int
) -> Server:
    variables = {"wait_timeout": 300, "interactive_timeout": 300, "max_connections": 100} | values
    return Server(
        version=version,
        version_comment="",
        identity="db:3306",
        variables={
            name: Variable(name, value, Origin("compiled default"))
            for name, value in variables.items()
        },
        status={"Threads_connected": 5, "Threads_running": 1, "Uptime": 1000} | (status or {}),
    )


def an_alias(name: str = "default", **values: Any) -> Alias:
    given = {"conn_max_age": 280, "conn_health_checks": True} | values
    return Alias(name, given.pop("engine", STOCK_ENGINE), "db:3306", "shop", "shop", **given)


def a_pooled_alias(name: str = "default", *, alias: Any = None, **values: Any) -> Alias:
    """An alias with unhang's own ENGINE; `values` are what its pool may do."""
    pool = {"min_size": 1, "max_size": 10, "max_idle": 5.0, "lease": "transaction"} | values
    given = {"conn_max_age": 0, "conn_health_checks": False, "engine": OWN_ENGINE} | (alias or {})
    return an_alias(name, pool=PoolFacts(ours=True, **pool), **given)


def a_sleeper(session_id: int = 1, seconds: float = 1.0, **values: Any) -> Session:
    given = {"user": "shop", "in_transaction": False} | values
    return Session(
        id=session_id, host="10.0.0.1", database="shop", command="Sleep", seconds=seconds, **given
    )


def a_survey(server: Server | None = None, **values: Any) -> Survey:
    given = {"sessions": (), "aliases": (an_alias(),)} | values
    return Survey(
        taken_at="2026-01-01T00:00:00+00:00",
        target="db:3306",
        account="'root'@'%'",
        server=server or a_server(),
        **given,
    )
