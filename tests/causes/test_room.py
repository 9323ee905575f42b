"""Slots: who takes them, and limits that are reached."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pymysql import OperationalError

from support.causes import PASSWORD, Shop, end_sessions, rules_of
from support.causes import shop as a_shop
from unhang import lab
from unhang.lab import Server
from unhang.mysql.engine import OWN_ENGINE
from unhang.rules import previous_timeout
from unhang.survey.model import Workers


@pytest.fixture
def small(any_engine: str) -> Iterator[Server]:
    """A server of the test's own, with little room."""
    with lab.server(
        any_engine, max_connections=20, wait_timeout=300, interactive_timeout=300
    ) as server:
        yield server


@pytest.fixture
def shop(small: Server, tmp_path: Path) -> Iterator[Shop]:
    with a_shop(small, tmp_path) as made:
        yield made


@contextlib.contextmanager
def sessions(server: Server, user: str, count: int) -> Iterator[list[object]]:
    """Sleepers of an account."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(contextlib.closing(server.connect(user, PASSWORD)))
            for _ in range(count)
        ]


@pytest.mark.every_engine
def test_another_application_eats_the_slots(small: Server, shop: Shop) -> None:
    small.create_account("reports", PASSWORD, ("USAGE ON *.*",))
    with sessions(small, "reports", 18):
        findings = shop.until("UH304")
        assert rules_of(findings)[:2] == ["UH304", "UH301"]
        assert "reports" in findings[0].sentence
        assert findings[0].severity == "critical"
    end_sessions(small, "reports")
    assert "UH304" not in rules_of(shop.diagnose())


def test_max_user_connections(small: Server, shop: Shop) -> None:
    small.execute(f"ALTER USER '{shop.user}'@'%' WITH MAX_USER_CONNECTIONS 4")
    with sessions(small, shop.user, 4):
        with pytest.raises(OperationalError) as refused:
            small.connect(shop.user, PASSWORD)
        assert refused.value.args[0] == 1226
        findings = shop.diagnose()
        assert rules_of(findings)[0] == "UH305"
        assert findings[0].severity == "critical"
        small.execute(f"ALTER USER '{shop.user}'@'%' WITH MAX_USER_CONNECTIONS 50")
        assert "UH305" not in rules_of(shop.diagnose())


def test_the_global_limit_of_an_account(tmp_path: Path) -> None:
    # It can be raised only on a server that was started with one.
    with (
        lab.server(
            "mariadb", max_user_connections=5, wait_timeout=300, interactive_timeout=300
        ) as server,
        a_shop(server, tmp_path) as shop,
        sessions(server, shop.user, 5),
    ):
        findings = shop.diagnose()
        assert rules_of(findings)[0] == "UH305"
        assert "max_user_connections" in dict(findings[0].evidence)


@pytest.mark.every_engine
def test_old_sessions_on_the_previous_wait_timeout(
    small: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previous_timeout, "GRACE_SECONDS", 0.5)
    small.execute("SET GLOBAL wait_timeout = 28800")
    age = {"CONN_MAX_AGE": 1, "CONN_HEALTH_CHECKS": True}
    with a_shop(small, tmp_path, **age) as shop, sessions(small, shop.user, 3):
        # MySQL tells each session's own value; MariaDB only that it sleeps longer than it may.
        small.execute("SET GLOBAL wait_timeout = 2, GLOBAL interactive_timeout = 2")
        findings = shop.until("UH105")
        assert rules_of(findings)[0] == "UH105"
        assert "3 sessions" in findings[0].sentence
    # The cure: whoever connects anew lives by the new value.
    with a_shop(small, tmp_path / "anew", **age) as shop, sessions(small, shop.user, 3):
        assert "UH105" not in rules_of(shop.diagnose())


def test_a_pool_that_is_bigger_than_the_server(small: Server, tmp_path: Path) -> None:
    with a_shop(
        small,
        tmp_path / "pool",
        workers=Workers(4, 8, "--workers"),
        ENGINE=OWN_ENGINE,
        OPTIONS={"pool": {"max_size": 8}},
    ) as shop:
        findings = shop.diagnose()
        assert rules_of(findings) == ["UH402"]
        assert "32 connections" in findings[0].sentence
    with a_shop(
        small,
        tmp_path / "less",
        workers=Workers(4, 8, "--workers"),
        ENGINE=OWN_ENGINE,
        OPTIONS={"pool": {"max_size": 3}},
    ) as shop:
        assert not shop.diagnose()


@pytest.mark.every_engine
def test_pings_that_keep_sleepers_awake(small: Server, tmp_path: Path) -> None:
    age = {"CONN_MAX_AGE": 240, "CONN_HEALTH_CHECKS": True}
    with a_shop(small, tmp_path, **age) as shop, sessions(small, shop.user, 5) as kept:
        ended = threading.Event()

        def ping() -> None:
            while not ended.wait(0.02):
                for connection in kept:
                    connection.ping(reconnect=False)  # type: ignore[attr-defined]

        thread = threading.Thread(target=ping)
        thread.start()
        try:
            time.sleep(1)
            findings = shop.until("UH106")
        finally:
            ended.set()
            thread.join()
        assert rules_of(findings)[0] == "UH106"


@pytest.mark.parametrize(("age", "rules"), [(300, ["UH101"]), (None, ["UH101"]), (280, [])])
def test_conn_max_age_that_is_not_below_wait_timeout(
    server: Server, tmp_path: Path, age: int | None, rules: list[str]
) -> None:
    with a_shop(server, tmp_path, CONN_MAX_AGE=age, CONN_HEALTH_CHECKS=True) as shop:
        assert rules_of(shop.diagnose()) == rules
