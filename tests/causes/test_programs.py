"""Programs outside the request cycle, forks, and processes that are no more."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.causes import Shop, rules_of, until
from support.causes import shop as a_shop
from unhang import lab
from unhang.lab import Proxy, Server

COMMAND = """
import time
from django.core.management.base import BaseCommand
from django.db import connections
from django.db import connection

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("--close", action="store_true")

    def handle(self, *args, close, **options):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if close:
            connections.close_all()
        print("ready", flush=True)
        time.sleep(60)
"""

TASKS = """
import os, time
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "conf.settings")
import django
from celery import Celery
from celery.signals import worker_ready
app = Celery("shop", broker="memory://")
app.conf.worker_enable_remote_control = False

@app.task
def mail():
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    os.write(1, b"ready\\n")  # Celery takes what is printed for its log
    time.sleep(60)


@worker_ready.connect
def begin(**kwargs):
    mail.delay()
"""


def add_command(shop: Shop, name: str) -> None:
    shop.file("shop/management/__init__.py", "")
    shop.file("shop/management/commands/__init__.py", "")
    shop.file(f"shop/management/commands/{name}.py", COMMAND)


def test_a_management_command_that_waits(shop: Shop) -> None:
    add_command(shop, "close_day")
    shop.start("manage.py", "close_day")
    findings = shop.until("UH206")
    assert rules_of(findings)[0] == "UH206"
    assert "manage.py close_day" in findings[0].sentence
    shop.end()
    shop.running.clear()
    shop.start("manage.py", "close_day", "--close")
    assert "UH206" not in rules_of(until(shop.diagnose, lambda found: not found))


def start_worker(shop: Shop) -> None:
    shop.file("shop/tasks.py", TASKS)
    shop.start(
        "-m", "celery", "-A", "shop.tasks", "worker", "--pool", "solo", "--loglevel", "ERROR",
        "--without-gossip", "--without-mingle", "--without-heartbeat",
    )  # fmt: skip


def test_a_celery_worker_whose_task_waits(shop: Shop) -> None:
    start_worker(shop)
    finding = shop.until_first("UH207")
    assert "celery" in finding.sentence
    assert "task shop.tasks.mail" in finding.sentence


def test_a_scheduler_loop(shop: Shop) -> None:
    shop.script("scheduler.py", "while True:\n    query()\n    ready()\n    time.sleep(60)\n")
    findings = shop.until("UH208")
    assert rules_of(findings)[0] == "UH208"
    assert "scheduler.py" in findings[0].sentence


WSGI = """
import os
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
"""

GUNICORN = """
import os
preload_app = True
workers = 2
bind = "127.0.0.1:0"
control_socket_disable = True

def when_ready(server):
    os.write(1, b"ready\\n")
"""


def test_a_preloaded_application_that_queried_before_the_fork(shop: Shop) -> None:
    shop.file("conf/wsgi.py", WSGI)
    shop.file("gunicorn.conf.py", GUNICORN)
    process = shop.start("-m", "gunicorn", "conf.wsgi")
    finding = shop.until_first("UH209", "in 3 processes")
    assert str(process.pid) in " ".join(dict(finding.evidence).values())


def test_a_fork_that_closed_before_is_no_finding(shop: Shop) -> None:
    shop.script(
        "master.py",
        """
        query()
        connections.close_all()
        if os.fork():
            ready()
        time.sleep(60)
        """,
    )
    assert "UH209" not in rules_of(shop.diagnose())


@pytest.fixture(scope="module")
def telling_server() -> Iterator[Server]:
    """A MariaDB with performance_schema: it knows which process each client says it is."""
    with lab.server(
        "mariadb", performance_schema=True, max_connections=40, wait_timeout=300,
        interactive_timeout=300,
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def proxy(telling_server: Server) -> Iterator[Proxy]:
    with lab.proxy(telling_server) as proxy:
        yield proxy


def test_a_killed_worker_whose_connection_is_half_open(
    telling_server: Server, proxy: Proxy, tmp_path: Path
) -> None:
    with a_shop(telling_server, tmp_path, address=(proxy.host, proxy.port)) as shop:
        process = shop.script("worker.py", "query()\nready()\ntime.sleep(60)\n")
        (session,) = until(lambda: shop.survey().sleepers, bool)
        assert not shop.survey().held
        proxy.drop_silently()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        findings = shop.until("UH210")
        assert rules_of(findings)[0] == "UH210"
        assert f"KILL {session.id};" in findings[0].cure
        proxy.cut()
