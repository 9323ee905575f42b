"""Five set-ups that are as they should be: nothing is said about them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.causes import PASSWORD, site_target
from support.causes import shop as a_shop
from unhang import lab
from unhang.lab import Server, Site
from unhang.mysql.engine import OWN_ENGINE
from unhang.rules import catalogue
from unhang.survey.collect import Target, take_survey
from unhang.survey.model import Workers

PAGES = ("/product/1/", "/orders/?customer=5", "/report/?seconds=0.1", "/checkout/?seconds=0.1")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Both timeouts 300 s, as the worked example has them."""
    with lab.server(
        "mariadb", max_connections=100, wait_timeout=300, interactive_timeout=300
    ) as server:
        yield server


def visit(site: Site, rounds: int = 3) -> None:
    """A few people at once."""

    def ask(path: str) -> None:
        with urllib.request.urlopen(site.url + path, timeout=20) as answer:  # noqa: S310
            assert answer.status == 200

    with concurrent.futures.ThreadPoolExecutor(len(PAGES)) as executor:
        for _ in range(rounds):
            list(executor.map(ask, PAGES))


def says_nothing(target: Target) -> None:
    """Neither at once nor when what sleeps has slept for longer than the tests' limits."""
    for _ in range(3):
        survey = take_survey(target)
        assert catalogue.judge(survey) == ()
        time.sleep(0.4)


@pytest.mark.parametrize(
    "kind",
    [
        {"worker": "gthread", "threads": 4, "conn_max_age": 280, "conn_health_checks": True},
        {"worker": "gthread", "threads": 4, "engine": OWN_ENGINE},
        {"worker": "sync", "threads": 1},
        {"worker": "asgi", "threads": 1},
    ],
    ids=["kept connections", "our backend", "sync workers", "ASGI"],
)
def test_a_healthy_site(server: Server, kind: dict[str, Any]) -> None:
    with lab.site(server, processes=2, **kind) as site:
        server.execute("GRANT PROCESS ON *.* TO 'shop'@'%'")
        visit(site)
        says_nothing(site_target(site, Workers(2, kind["threads"], "--workers")))


def test_a_worker_and_a_command_that_close_beside_another_application(
    server: Server, tmp_path: Path
) -> None:
    server.create_account("reports", PASSWORD, ("USAGE ON *.*",))
    with a_shop(server, tmp_path) as shop, contextlib.ExitStack() as stack:
        for _ in range(5):
            other = server.connect("reports", PASSWORD)
            stack.enter_context(contextlib.closing(other))
        for name in ("worker.py", "close_day.py"):
            shop.script(
                name,
                """
                from django.db import close_old_connections
                query()
                close_old_connections()
                ready()
                while True:
                    query("SELECT COUNT(*) FROM item")
                    close_old_connections()
                    time.sleep(0.5)
                """,
            )
        says_nothing(shop.target())
