"""Things that are broken on purpose, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.databases import Database
from unhang import lab
from unhang.lab import Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory needs a server."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker("server")


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    """One server for the tests of a file that leave it as it was."""
    with lab.server("mariadb", max_connections=60) as server:
        yield server


@pytest.fixture
def database(shared_server: Server) -> Iterator[Database]:
    """A schema with fresh tables."""
    made = Database(shared_server)
    made.tables()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _may_use_databases(django_db_blocker: Any) -> Iterator[None]:
    """pytest-django guards the databases of DATABASES; these tests bring their own."""
    with django_db_blocker.unblock():
        yield
