"""A plugin: fixtures for tests on real servers, private ones that the lab starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from unhang import lab
from unhang.lab import Server

KNOWN_ENGINES = ("mariadb", "mariadb118", "mysql97")

_available = lab.available_engines()
_engines = [*KNOWN_ENGINES, *sorted(set(_available) - set(KNOWN_ENGINES))]
_tested = pytest.StashKey[set[str]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells the controller, which prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["engines"] = sorted(session.config.stash.get(_tested, set()))


class _Workers:
    """Hears from the workers; registered only where pytest-xdist is in use."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        tested = self.config.stash.setdefault(_tested, set())
        tested |= set(getattr(node, "workeroutput", {}).get("engines", ()))


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(_tested, set())
    config.pluginmanager.register(_Workers(config))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """A green run must not hide that it left out an engine."""
    tested = config.stash.get(_tested, set())
    if not tested:
        return
    parts = [f"tested on {', '.join(sorted(tested))}"]
    missing = [name for name in _engines if name not in _available]
    if missing:
        parts.append(f"not here: {', '.join(missing)} (make servers)")
    terminalreporter.section("servers")
    terminalreporter.write_line("; ".join(parts))


def _need(name: str, config: pytest.Config) -> str:
    if name not in _available:
        how = "apt install mariadb-server-core" if name == "mariadb" else "make servers"
        pytest.skip(f"no {name} server here: {how}")
    config.stash[_tested].add(f"{name} ({_available[name].version})")
    return name


@pytest.fixture(params=_engines)
def engine(request: pytest.FixtureRequest) -> str:
    """Each server flavour in turn, for `lab.server(engine)`; absent ones are skipped."""
    return _need(request.param, request.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`any_engine` is one engine, or each in turn for tests marked `every_engine`."""
    if "any_engine" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker("every_engine")
        metafunc.parametrize("any_engine", _engines if every else ["mariadb"], indirect=True)


@pytest.fixture
def any_engine(request: pytest.FixtureRequest) -> str:
    """An engine that is here; see `pytest_generate_tests`."""
    return _need(request.param, request.config)


@pytest.fixture(scope="session")
def any_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server for tests that need a server but do not care which; leave its settings alone."""
    with lab.server(_need("mariadb", request.config), max_connections=200) as server:
        yield server
