"""The backend under every kind of worker: right answers, hardly any connects, no sleepers left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from unhang import lab
from unhang.lab import Server, Site
from unhang.lab.project import SHOP

pytestmark = pytest.mark.slow

ENGINE = "unhang.backends.mysql"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with lab.server("mariadb", max_connections=80, userstat=1) as running:
        yield running


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - our own site
        return json.load(answer)


def post_order(site: Site, product: int) -> Any:
    body = json.dumps({"customer": 1, "lines": [{"product": product, "quantity": 1}]}).encode()
    request = urllib.request.Request(site.url + "/order/", data=body)  # noqa: S310
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        return json.load(answer)


def connects(server: Server, user: str) -> int:
    """How many connections this account has ever opened."""
    rows = server.execute(
        "SELECT total_connections AS n FROM information_schema.user_statistics "
        f"WHERE user = '{user}'"
    )
    return int(rows[0]["n"])


def sessions(server: Server, user: str) -> int:
    """How many sessions the application has."""
    rows = server.execute(
        f"SELECT COUNT(*) AS n FROM information_schema.processlist WHERE user = '{user}'"
    )
    return int(rows[0]["n"])


def work_hard(
    site: Site, requests: int = 240, clients: int = 12, *, executors: bool = True
) -> None:
    """Reads by key, transactions, and ORM in executor threads; every answer is checked."""

    def one(number: int) -> None:
        product = number % 50 + 1
        if number % 8 == 0:
            assert post_order(site, product)["id"] > 0
        elif executors and number % 8 == 1:
            assert "recommended" in get(f"{site.url}/recommend/?ids=1,2,3&pool=request")
        elif executors and number % 8 == 2:
            assert "recommended" in get(f"{site.url}/recommend/?ids=1,2,3&pool=shared")
        else:
            assert get(f"{site.url}/product/{product}/")["id"] == product

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(requests)))


WORKERS: dict[str, dict[str, Any]] = {
    "gunicorn sync": {"worker": "sync", "processes": 2},
    "gunicorn gthread": {"worker": "gthread", "processes": 2, "threads": 8},
    "gunicorn gthread, preloaded": {
        "worker": "gthread",
        "processes": 2,
        "threads": 8,
        "preload": True,
    },
    "gunicorn gevent with PyMySQL": {
        "worker": "gevent",
        "processes": 2,
        "threads": 40,
        "driver": "pymysql",
    },
    "uvicorn": {"worker": "asgi", "processes": 2},
    "gunicorn gthread, leases for the request": {
        "worker": "gthread",
        "processes": 2,
        "threads": 8,
        "pool": {"lease": "request"},
    },
}


@pytest.mark.parametrize("kind", WORKERS)
def test_right_answers_few_connects_and_no_sleepers_left(server: Server, kind: str) -> None:
    arguments = WORKERS[kind]
    # The shop's executors are kept, and nobody tells their threads that a request is over: with
    # leases for the request each would keep one.
    executors = "pool" not in arguments
    with lab.site(server, engine=ENGINE, **arguments) as site:
        work_hard(site, requests=60, executors=executors)  # warm
        before = connects(server, site.database.user)
        work_hard(site, executors=executors)
        # At most what the pools of two processes may hold; a connect a thread would be hundreds.
        assert connects(server, site.database.user) - before <= 2 * 10
        # One warm connection a process.
        assert settles(lambda: sessions(server, site.database.user) <= 2, 10)
        assert "Traceback" not in site.log_file.read_text()


def settles(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def test_a_query_before_the_fork_of_a_preloaded_site_mixes_no_answers(
    server: Server, tmp_path: Path
) -> None:
    app = tmp_path / "shop"
    shutil.copytree(SHOP, app, ignore=shutil.ignore_patterns("__pycache__"))
    with (app / "shopsite/wsgi.py").open("a") as file:
        file.write(
            "\nfrom django.db import connection\n"
            "with connection.cursor() as cursor:\n"
            "    cursor.execute('SELECT 1')\n"
        )
    with lab.site(server, "sync", 4, engine=ENGINE, preload=True, app=app) as site:

        def one(number: int) -> bool:
            product = number % 50 + 1
            return bool(get(f"{site.url}/product/{product}/")["id"] == product)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(one, range(300)))


def test_a_worker_that_is_killed_leaves_nothing_behind(server: Server) -> None:
    with lab.site(server, "gthread", 2, 8, engine=ENGINE) as site:
        work_hard(site, requests=80)
        os.kill(site.worker_pids()[0], signal.SIGKILL)
        assert settles(lambda: sessions(server, site.database.user) <= 2, 10)
        work_hard(site, requests=80)


# ---- Celery ----

TASKS = """
import os
import threading
from celery import Celery
from django.db import connection, transaction

app = Celery("work")
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": os.environ["QUEUE"],
        "data_folder_out": os.environ["QUEUE"],
        "store_processed": False,
    },
    task_ignore_result=True,
    worker_hijack_root_logger=False,
)


@app.task
def book(number):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO booked (number, pid) VALUES (%s, %s)", [number, os.getpid()])
    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def look():
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM booked")
        assert cursor.fetchone()[0] > 0
"""


@pytest.fixture
def celery_project(server: Server, tmp_path: Path) -> Iterator[dict[str, str]]:
    for statement in (
        "CREATE DATABASE IF NOT EXISTS work",
        "DROP TABLE IF EXISTS work.booked",
        "CREATE TABLE work.booked (number INT PRIMARY KEY, pid INT)",
    ):
        server.execute(statement)
    server.create_account("worker", "pw", database="work")
    (tmp_path / "queue").mkdir()
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "conf.py").write_text(
        textwrap.dedent(f"""
        DATABASES = {{"default": {{
            "ENGINE": "{ENGINE}", "NAME": "work", "USER": "worker", "PASSWORD": "pw",
            "HOST": "{server.host}", "PORT": {server.port},
            "OPTIONS": {{"pool": {{"max_size": 5}}}},
        }}}}
        USE_TZ = True
        """)
    )
    yield os.environ | {
        "QUEUE": str(tmp_path / "queue"),
        "DJANGO_SETTINGS_MODULE": "conf",
        "PYTHONPATH": str(tmp_path),
        "C_FORCE_ROOT": "1",
    }


@pytest.mark.parametrize("kind", ["prefork", "threads"])
def test_celery_tasks_share_few_connections(
    server: Server, tmp_path: Path, celery_project: dict[str, str], kind: str
) -> None:
    log = tmp_path / "celery.log"
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-P", kind, "-c", "2"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "WARNING"]

    def done() -> int:
        return int(server.execute("SELECT COUNT(*) AS n FROM work.booked")[0]["n"])

    def submit(first: int, last: int) -> None:
        program = f"import tasks\nfor n in range({first}, {last}): tasks.book.delay(n)"
        subprocess.run(
            [sys.executable, "-c", program], env=celery_project, cwd=tmp_path, check=True
        )

    with log.open("w") as output:
        worker = subprocess.Popen(
            command, env=celery_project, cwd=tmp_path, stdout=output, stderr=output
        )
        try:
            submit(0, 20)
            assert settles(lambda: done() == 20, 40), log.read_text()
            before = connects(server, "worker")
            submit(20, 100)
            assert settles(lambda: done() == 100, 40), log.read_text()
            # 80 tasks with 3 threads each, in two processes or one; Celery closes around each.
            assert connects(server, "worker") - before <= 10
            assert settles(lambda: sessions(server, "worker") <= 2, 12)
        finally:
            worker.terminate()
            worker.wait(20)
    assert "Error" not in log.read_text()


def test_a_management_command_holds_no_connection_while_it_works(
    server: Server, tmp_path: Path, celery_project: dict[str, str]
) -> None:
    program = textwrap.dedent("""
        import sys, django
        django.setup()
        from django.db import connection
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO booked VALUES (1, 1)")
        print("written", flush=True)
        sys.stdin.readline()
        with connection.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM booked")
            print(cursor.fetchone()[0], flush=True)
        """)
    command = subprocess.Popen(
        [sys.executable, "-c", program],
        env=celery_project,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert command.stdin is not None
    assert command.stdout is not None
    assert command.stdout.readline().strip() == "written"
    # The one warm connection of the process; ended by the server, it costs the command nothing.
    rows = server.execute("SELECT id FROM information_schema.processlist WHERE user = 'worker'")
    assert len(rows) == 1
    server.execute(f"KILL {rows[0]['id']}")
    command.stdin.write("\n")
    command.stdin.flush()
    assert command.stdout.readline().strip() == "1"
    command.stdin.close()
    assert command.wait(10) == 0
    command.stdout.close()
