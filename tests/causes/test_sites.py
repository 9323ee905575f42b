"""Causes in web servers: real gunicorn and uvicorn."""

from __future__ import annotations

import concurrent.futures
import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support.causes import rules_of, site_target, until
from unhang import lab
from unhang.lab import Server, Site
from unhang.rules import catalogue
from unhang.rules.model import Finding
from unhang.survey.collect import take_survey
from unhang.survey.model import Workers


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A small server of this module's own: the sites share their account."""
    with lab.server(
        "mariadb", max_connections=30, wait_timeout=20, interactive_timeout=20
    ) as server:
        yield server


@contextlib.contextmanager
def site(server: Server, **more: Any) -> Iterator[Site]:
    with lab.site(server, **more) as running:
        server.execute("GRANT PROCESS ON *.* TO 'shop'@'%'")
        yield running
    until(
        lambda: server.execute("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'shop'"),
        lambda rows: not rows,
    )


def get(site: Site, *paths: str) -> None:
    """Ask for all of them at once."""

    def ask(path: str) -> None:
        with urllib.request.urlopen(site.url + path, timeout=20) as answer:  # noqa: S310
            assert answer.status == 200

    with concurrent.futures.ThreadPoolExecutor(len(paths)) as executor:
        list(executor.map(ask, paths))


def first(site: Site, rule: str, words: str = "", workers: Workers | None = None) -> Finding:
    """The first finding, once this rule has found something and says so."""
    target = site_target(site, workers)
    found = until(
        lambda: catalogue.judge(take_survey(target)),
        lambda found: any(f.rule == rule and words in f.sentence for f in found),
    )
    assert found[0].rule == rule, rules_of(found)
    return found[0]


def test_persistent_connections_times_threads(server: Server) -> None:
    with site(
        server, worker="gthread", processes=2, threads=10, conn_max_age=16, conn_health_checks=True
    ) as running:
        for _ in range(3):
            get(running, *["/report/?seconds=0.3"] * 20)
        finding = first(running, "UH203", workers=Workers(2, 10, "--workers"))
    assert "gunicorn" in finding.sentence
    assert "2 × 10" in dict(finding.evidence)["processes × threads"]


@pytest.mark.parametrize(("kind", "words"), [("shared", "one executor"), ("request", "several")])
def test_executor_threads(server: Server, kind: str, words: str) -> None:
    with site(server, worker="gthread", processes=1, threads=2) as running:
        for _ in range(2):
            get(running, f"/recommend/?ids=1,2,3,4&pool={kind}")
        finding = first(running, "UH204", words)
    assert "recommendations.py" in finding.sentence


def test_asgi_with_persistent_connections(server: Server) -> None:
    with site(
        server, worker="asgi", processes=1, conn_max_age=16, conn_health_checks=True
    ) as running:
        get(running, "/product/1/", "/product/2/", "/product/3/")
        finding = first(running, "UH205")
    assert "uvicorn" in finding.sentence


def test_a_pause_in_a_request(server: Server) -> None:
    server.execute("SET GLOBAL wait_timeout = 4")
    try:
        with (
            site(server, worker="gthread", processes=1, threads=4) as running,
            concurrent.futures.ThreadPoolExecutor(1) as executor,
        ):
            answer = executor.submit(get, running, "/checkout/?seconds=6")
            finding = first(running, "UH601")
            assert "checkout" in finding.sentence
            # What the finding foretells: a server error, for the session is gone.
            with pytest.raises(urllib.error.HTTPError) as failed:
                answer.result()
            failed.value.close()
    finally:
        server.execute("SET GLOBAL wait_timeout = 20")


def test_slow_queries_hold_all_workers(server: Server) -> None:
    with (
        site(server, worker="gthread", processes=1, threads=4) as running,
        concurrent.futures.ThreadPoolExecutor(1) as executor,
    ):
        answer = executor.submit(get, running, *["/report/?seconds=4"] * 4)
        workers = Workers(1, 4, "--workers")
        target = site_target(running, workers)
        findings = until(
            lambda: catalogue.judge(take_survey(target)),
            lambda found: bool(found) and "All 4 workers" in found[0].sentence,
        )
        assert findings[0].rule == "UH505"
        answer.result()
        assert "UH505" not in rules_of(catalogue.judge(take_survey(target)))
