"""Whose sleeper is it? A site on Django's own backend, commands beside it, and a real server."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support.projects import run_unhang
from unhang import lab
from unhang.lab import Server
from unhang.survey.collect import Target, survey_over
from unhang.survey.connect import connected
from unhang.survey.login import from_dsn

COMMAND = """
import sys

from django.core.management.base import BaseCommand
from django.db import connections


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("aliases", nargs="+")

    def handle(self, **options):
        for alias in options["aliases"]:
            ask(alias)
        print("ready", flush=True)
        sys.stdin.read()


def ask(alias):
    connections[alias].cursor().execute("SELECT 1")
"""
LINE = 1 + COMMAND.splitlines().index('    connections[alias].cursor().execute("SELECT 1")')
MORE = """
DATABASES["replica"] = dict(DATABASES["default"])
DATABASES["local"] = {{**DATABASES["default"], "HOST": {socket!r}}}
DATABASES["pooled"] = {{
    **DATABASES["default"], "ENGINE": "unhang.backends.mysql", "CONN_MAX_AGE": 0
}}
"""


@pytest.fixture(scope="module")
def site(any_server: Server) -> Iterator[lab.Site]:
    with lab.site(any_server, processes=2, threads=2, conn_max_age=60) as site:
        with site.settings_file.open("a") as settings:
            settings.write(MORE.format(socket=any_server.socket))
        (site.project_dir / "shopsite" / "quiet.py").write_text(
            'from shopsite.settings import *\nUNHANG = UNHANG | {"OWNERS": False}\n'
        )
        commands = site.project_dir / "shop" / "management" / "commands"
        (commands / "close_day.py").write_text(COMMAND)
        yield site


@contextlib.contextmanager
def command(site: lab.Site, *aliases: str, settings: str = "settings") -> Iterator[int]:
    """`manage.py close_day`, which has asked each alias and waits."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "close_day", *aliases],
        cwd=site.project_dir,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": f"shopsite.{settings}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.communicate()


def fetch(site: lab.Site, path: str) -> None:
    urllib.request.urlopen(site.url + path, timeout=20).close()  # noqa: S310 - our own site


def owners(
    site: lab.Site, server: Server, *, alias: str = "default", settings: str = "settings"
) -> list[dict[str, Any]]:
    """The owners of the site's account's sleepers, as `diagnose --format json` tells them."""
    ran = run_unhang(
        *("diagnose", "--settings", f"shopsite.{settings}", "--login", server.dsn()),
        *("--format", "json", "--alias", alias),
        cwd=site.project_dir,
    )
    (survey,) = ran.json()["surveys"]
    return [s["owner"] for s in survey["sessions"] if s["user"] == "shop"]


def test_the_diagnosis_names_the_line_the_threads_and_the_workers(
    site: lab.Site, any_server: Server
) -> None:
    for _ in range(4):
        fetch(site, "/recommend/?pool=request&token=hush")
    leaked = [o for o in owners(site, any_server) if o and "recommend_" in o["thread"]]
    assert len(leaked) >= 8  # three products a request; the garbage collector may end a thread
    text = (site.project_dir / "shop" / "recommendations.py").read_text().splitlines()
    line = 1 + next(n for n, code in enumerate(text) if "return list(others" in code)
    assert {owner["code"] for owner in leaked} == {f"shop/recommendations.py:{line}"}
    assert {owner["pid"] for owner in leaked} <= set(site.worker_pids())
    assert {owner["program"] for owner in leaked} == {"gunicorn shopsite.wsgi"}
    assert {owner["work"] for owner in leaked} == {""}  # they are no part of the request
    assert all(owner["known_by"][:2] == ["owner file", "socket"] for owner in leaked)
    ran = run_unhang(
        "diagnose", "--alias", "default", "--login", any_server.dsn(), cwd=site.project_dir
    )
    assert "gunicorn worker" in ran.text
    assert f"shop/recommendations.py:{line} executor threads named recommend" in ran.text
    assert "hush" not in ran.text


def test_a_requests_own_connection_is_told_with_its_path(
    site: lab.Site, any_server: Server
) -> None:
    fetch(site, "/product/7/?token=hush")
    assert "GET /product/7/" in {o["work"] for o in owners(site, any_server) if o}


def test_a_command_is_told_whichever_way_it_connects(site: lab.Site, any_server: Server) -> None:
    with command(site, "default", "replica", "local") as pid:
        found = [
            owner
            # The socket file counts as a server of its own.
            for alias in ("default", "local")
            for owner in owners(site, any_server, alias=alias)
            if owner
            and owner["pid"] == pid
            and "owner file" in owner["known_by"]
            and not owner["pool"]  # Django 6.1 looks at every alias before a command runs
        ]
    assert len(found) == 3
    assert {owner["code"] for owner in found} == {f"shop/management/commands/close_day.py:{LINE}"}
    assert {owner["work"] for owner in found} == {"command close_day"}
    assert {owner["program"] for owner in found} == {"python manage.py close_day"}
    # Which process is at the other end of a socket file, the system does not tell.
    assert sorted("socket" in owner["known_by"] for owner in found) == [False, True, True]


def test_switched_off_only_the_process_is_known(site: lab.Site, any_server: Server) -> None:
    with command(site, "default", settings="quiet") as pid:
        found = [o for o in owners(site, any_server, settings="quiet") if o and o["pid"] == pid]
        assert not list((site.run_dir / "openers").glob(f"{pid}-*"))
    assert {owner["program"] for owner in found} == {"python manage.py close_day"}
    assert {(o["code"], "owner file" in o["known_by"]) for o in found} == {("", False)}


def test_a_session_of_our_pool_is_told_by_the_pool(site: lab.Site, any_server: Server) -> None:
    with command(site, "pooled") as pid:
        found = [owner for owner in owners(site, any_server) if owner and owner["pid"] == pid]
    assert [(owner["pool"], owner["code"]) for owner in found] == [("pooled", "")]


@pytest.mark.every_engine
def test_without_the_application_the_process_of_this_host_is_known(any_engine: str) -> None:
    with lab.server(any_engine) as server, server.connect() as ours:
        with connected(from_dsn(server.dsn())) as connection:
            survey = survey_over(connection, Target(from_dsn(server.dsn())))
        (session,) = [s for s in survey.sessions if s.id == ours.thread_id()]
    assert session.owner is not None
    assert session.owner.pid == os.getpid()
