"""Each cause of the catalogue, made on purpose on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from support.causes import Shop
from support.causes import shop as a_shop
from unhang import lab
from unhang.lab import Server
from unhang.rules import (
    idle_in_transaction,
    owner_kinds,
    pool_lease,
    read_only_transaction,
    slow_logins,
    slow_queries,
    waiting,
)

SOON = 0.4
"""Seconds, instead of five: what the rules take for old."""


class MakeShop(Protocol):
    """Makes a project on the server that the module's tests share."""

    def __call__(self, **changes: Any) -> AbstractContextManager[Shop]: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs a server."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("server")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (owner_kinds, pool_lease, read_only_transaction):
        monkeypatch.setattr(module, "OLD_SECONDS", SOON)
    monkeypatch.setattr(idle_in_transaction, "LONG_SECONDS", SOON)
    monkeypatch.setattr(waiting, "HELD_SECONDS", SOON)
    for module in (slow_logins, slow_queries):
        monkeypatch.setattr(module, "SLOW_SECONDS", SOON)


@pytest.fixture(scope="session")
def _shared(request: pytest.FixtureRequest) -> Iterator[dict[str, Server]]:
    """Servers that are started when the first test wants one of that engine."""
    started: dict[str, Any] = {}

    class Servers(dict[str, Server]):
        def __missing__(self, engine: str) -> Server:
            started[engine] = lab.server(
                engine, max_connections=200, wait_timeout=300, interactive_timeout=300
            )
            server: Server = started[engine].__enter__()
            show_locks(server)
            self[engine] = server
            return server

    yield Servers()
    for running in started.values():
        running.__exit__(None, None, None)


def show_locks(server: Server) -> None:
    """MySQL shows who holds metadata locks by itself, MariaDB with a plugin."""
    if server.kind == "mariadb":
        server.execute("INSTALL SONAME 'metadata_lock_info'")


@pytest.fixture
def server(any_engine: str, _shared: dict[str, Server]) -> Server:
    """One server for all tests, with sane timeouts; they bring accounts of their own."""
    return _shared[any_engine]


@pytest.fixture
def make_shop(server: Server, tmp_path: Path) -> MakeShop:
    def make(**changes: Any) -> AbstractContextManager[Shop]:
        return a_shop(server, tmp_path, **changes)

    return make


@pytest.fixture
def shop(make_shop: MakeShop) -> Iterator[Shop]:
    """A project with CONN_MAX_AGE 0."""
    with make_shop() as made:
        yield made
