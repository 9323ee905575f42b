"""Lanes on real servers: a site under slow requests, workers that die, reads that are ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from support.databases import (
    Database,
    atomic,
    fetch,
    in_thread,
    one,
    pool_of,
    run,
    until,
)
from unhang import lab
from unhang.lab import Server, Site
from unhang.lanes import SlowLaneFull, lane, tables, workers
from unhang.mysql import errorcodes

ENGINE = "unhang.backends.mysql"
OURS = [
    "unhang.middleware.ServiceUnavailable",
    "unhang.middleware.UrlLanes",
    "unhang.middleware.EndAbandonedReads",
]
SLOW_LANE = {"threshold": 0.2, "timeout": 5}


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    with lab.server("mariadb", max_connections=80) as server:
        yield server


@pytest.fixture
def database(
    shared_server: Server,
    django_db_blocker: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Database]:
    monkeypatch.setenv("UNHANG_LANES_DIR", str(tmp_path))
    monkeypatch.setattr(tables, "_tables", {})
    monkeypatch.setattr(workers, "_serves_requests", True)
    with django_db_blocker.unblock():
        made = Database(shared_server)
        made.tables()
        yield made
        made.close()


# ---- sites ----


def get(url: str) -> tuple[int, Any]:
    """Status and headers."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - our own site
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def report(site: Site, seconds: float = 1.0) -> tuple[int, Any]:
    return get(f"{site.url}/report/?seconds={seconds}")


def sleeping(server: Server, user: str) -> int:
    """How many reports run now."""
    rows = server.execute(
        "SELECT COUNT(*) AS n FROM information_schema.processlist "
        f"WHERE user = '{user}' AND info LIKE '%SLEEP%'"
    )
    return int(rows[0]["n"])


@pytest.fixture(scope="module")
def sync_site(shared_server: Server) -> Iterator[Site]:
    """Four sync workers with one connection each."""
    with lab.site(
        shared_server,
        "sync",
        4,
        engine=ENGINE,
        pool={"slow_lane": SLOW_LANE},
        settings={"MIDDLEWARE": OURS},
    ) as made:
        warm(made)
        assert report(made, 0.5)[0] == 200  # known to be slow from here on
        assert get(f"{made.url}/product/1/")[0] == 200
        yield made


def warm(site: Site) -> None:
    """Each of the four workers answers one of four requests that run at the same time."""
    for _ in range(5):  # one that is still starting leaves its request to another
        with ThreadPoolExecutor(4) as pool:
            urls = [f"{site.url}/checkout/?seconds=0.5"] * 4
            assert {status for status, _ in pool.map(get, urls)} == {200}
        if lanes_of(site)["processes"] == 4:
            break
    until(lambda: lanes_of(site)["processes"] == 4)


def lanes_of(site: Site) -> dict[str, Any]:
    """What `unhang lanes` says."""
    done = subprocess.run(
        [sys.executable, "-m", "unhang", "lanes", "--format", "json"],
        env=os.environ | {"UNHANG_LANES_DIR": str(site.log_file.parent)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["lanes"]
    return dict(found)


def test_slow_requests_leave_half_of_four_sync_workers_to_the_fast_ones(
    shared_server: Server, sync_site: Site
) -> None:
    most, statuses = 0, []
    with ThreadPoolExecutor(6) as pool:
        slow = [pool.submit(report, sync_site, 2.0) for _ in range(6)]
        while not all(future.done() for future in slow):
            most = max(most, sleeping(shared_server, sync_site.database.user))
            statuses.append(get(f"{sync_site.url}/product/{len(statuses) % 50 + 1}/")[0])
    assert most == 2
    assert set(statuses) == {200}
    assert len(statuses) > 20, "fast pages are answered throughout"
    answers = [future.result() for future in slow]
    assert sorted({status for status, _ in answers}) == [200, 503]
    assert all(int(h["Retry-After"]) >= 1 for status, h in answers if status == 503)


def test_workers_that_were_replaced_count_for_what_they_are(sync_site: Site) -> None:
    """They find every statement in the ledger, and take no ticket for any."""
    sync_site.reload()
    warm(sync_site)
    until(lambda: lanes_of(sync_site)["workers"] >= 4)
    found = lanes_of(sync_site)
    assert (found["processes"], found["capacity"], found["workers"]) == (4, 4, 4)


def test_lanes_show_who_holds_a_place_while_a_slow_statement_runs(sync_site: Site) -> None:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(report, sync_site, 4.0)
        time.sleep(1.0)
        found = lanes_of(sync_site)
        assert future.result()[0] == 200
    (holder,) = found["holders"]
    assert holder["pid"] in sync_site.worker_pids()
    assert (holder["lane"], holder["waits"]) == ("slow", False)
    assert "FROM shop_orderline" in holder["text"]
    assert (found["processes"], found["capacity"], found["workers"]) == (4, 4, 4)
    slow = [s for s in found["statements"] if s["is_slow"]]
    assert len(slow) == 1
    assert slow[0]["slow_runs"] >= 1
    assert not lanes_of(sync_site)["holders"]


def test_a_worker_that_is_killed_in_a_slow_statement_gives_its_place_back(
    sync_site: Site,
) -> None:
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(report, sync_site, 9.0) for _ in range(2)]
        until(lambda: len(lanes_of(sync_site)["holders"]) == 2)
        assert report(sync_site, 0)[0] == 503
        victim, survivor = [holder["pid"] for holder in lanes_of(sync_site)["holders"]]
        os.kill(victim, signal.SIGKILL)
        assert [holder["pid"] for holder in lanes_of(sync_site)["holders"]] == [survivor]
        # Two of three workers would be crowded: once the fast ones' average is down there is room.
        until(lambda: report(sync_site, 0)[0] == 200, 3)
        assert [holder["pid"] for holder in lanes_of(sync_site)["holders"]] == [survivor]
        failed = [future.exception() for future in slow]
    assert sum(problem is not None for problem in failed) == 1
    until(lambda: len(sync_site.worker_pids()) == 4)


# ---- one process ----


SLEEP = "SELECT SLEEP(%s)"


def with_lanes(database: Database, **options: Any) -> Any:
    """Two connections, of which one is a slow statement's while it is crowded."""
    slow = {"threshold": 0.2, "timeout": 5.0, "workers": 20}
    return database.wrapper(
        max_size=2, slow_lane={**slow, **options.pop("slow_lane", {})}, **options
    )


def hold(database: Database, seconds: float, **options: Any) -> threading.Thread:
    """A slow statement runs in another thread."""

    def work() -> None:
        other = with_lanes(database, **options)
        fetch(other, SLEEP, [seconds])
        other.close()

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: any("SLEEP" in text for _, _, text in database.processes()))
    return thread


def learn(wrapper: Any) -> None:
    """That SLEEP is slow."""
    fetch(wrapper, SLEEP, [0.3])


def test_outside_a_transaction_a_statement_waits_without_a_connection(database: Database) -> None:
    wrapper = with_lanes(database)
    learn(wrapper)
    thread = hold(database, 1.2)
    waiting = threading.Thread(
        target=lambda: in_thread(lambda: fetch(with_lanes(database), SLEEP, [0]))
    )
    waiting.start()
    lanes = pool_of(wrapper).driver.lanes
    until(lambda: lanes.row.waiting == 1)
    assert pool_of(wrapper).stats().leased == 1
    assert one(wrapper, "SELECT 5") == 5, "and costs the others nothing"
    thread.join()
    waiting.join()
    slow = next(stats for stats in lanes.stats() if stats.lane == "slow")
    assert (slow.waits, slow.refused, slow.timeouts) == (1, 0, 0)


def test_the_first_statement_of_a_transaction_waits_without_one_too(database: Database) -> None:
    wrapper = with_lanes(database)
    learn(wrapper)
    thread = hold(database, 1.2)

    def first() -> Any:
        other = with_lanes(database)
        with atomic(other):
            return one(other, SLEEP, [0])

    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(first()))
    waiting.start()
    until(lambda: pool_of(wrapper).driver.lanes.row.waiting == 1)
    assert pool_of(wrapper).stats().leased == 1
    thread.join()
    waiting.join()
    assert results == [0]


def test_inside_a_transaction_it_is_refused_after_a_tenth_and_rolled_back(
    database: Database,
) -> None:
    wrapper = with_lanes(database)
    learn(wrapper)
    thread = hold(database, 1.5)
    began = time.monotonic()
    with pytest.raises(OperationalError) as caught, atomic(wrapper):
        run(wrapper, "UPDATE account SET balance = 1 WHERE id = 1")
        fetch(wrapper, SLEEP, [0])
    assert time.monotonic() - began >= 0.5
    assert thread.is_alive(), "it did not wait for the place"
    assert isinstance(caught.value.__cause__, SlowLaneFull)
    assert database.value("SELECT balance FROM shop.account WHERE id = 1") == 100
    thread.join()


def test_a_request_lease_gives_its_connection_back_while_waiting(database: Database) -> None:
    wrapper = with_lanes(database, lease="request")
    learn(wrapper)
    wrapper.close()
    thread = hold(database, 1.2, lease="request")

    def request() -> Any:
        other = with_lanes(database, lease="request")
        assert one(other, "SELECT 5") == 5
        assert other.connection.holds_connection
        found = one(other, SLEEP, [0])
        other.close()
        return found

    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(request()))
    waiting.start()
    until(lambda: pool_of(wrapper).driver.lanes.row.waiting == 1)
    assert pool_of(wrapper).stats().leased == 1
    thread.join()
    waiting.join()
    assert results == [0]


def test_what_must_run_now_does_though_the_lane_is_full(database: Database) -> None:
    wrapper = with_lanes(database)
    learn(wrapper)
    thread = hold(database, 1.0)
    with lane(None):
        assert one(wrapper, SLEEP, [0]) == 0
    assert thread.is_alive()
    thread.join()


PROCESS = """
import json, sys
from django.conf import settings
settings.configure(DATABASES={"default": json.loads(sys.argv[1])}, USE_TZ=True)
import django
django.setup()
from django.db import connection

lanes = connection.pool.driver.lanes
print("ready", flush=True)
for line in sys.stdin:
    entry = lanes.ledger.entry_of(line.rstrip())
    print(json.dumps(lanes.ledger.is_slow(entry)), flush=True)
"""


def test_what_one_process_learns_another_knows_while_it_still_runs(database: Database) -> None:
    options = {"pool": {"slow_lane": {"threshold": 0.2}}}
    wrapper = database.wrapper(**options["pool"])
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS, json.dumps(database.settings(OPTIONS=options))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"

        def knows() -> bool:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write(SLEEP + "\n")
            other.stdin.flush()
            return bool(json.loads(other.stdout.readline()))

        assert not knows()
        thread = threading.Thread(
            target=lambda: fetch(database.wrapper(**options["pool"]), SLEEP, [1.5])
        )
        thread.start()
        until(knows)
        assert thread.is_alive()
        thread.join()
    wrapper.close()


# ---- statements that take too long ----


@pytest.mark.every_engine
def test_only_reads_are_ended_when_they_take_too_long(
    any_engine: str, django_db_blocker: Any
) -> None:
    with lab.server(any_engine) as server, django_db_blocker.unblock():
        made = Database(server)
        made.tables()
        wrapper = made.wrapper(max_statement_seconds=0.5)
        query = "SELECT COUNT(*) FROM account a, account b, account c WHERE SLEEP(0.01) = 0"
        for block in (False, True):
            with pytest.raises(OperationalError) as caught:
                if block:
                    with atomic(wrapper):
                        fetch(wrapper, query)
                else:
                    fetch(wrapper, query)
            assert errorcodes.code_of(caught.value) in (1969, 3024)
            assert one(wrapper, "SELECT 5") == 5, "the connection is of use"
        assert pool_of(wrapper).stats().connects == 1
        for read in ("SHOW TABLES", "EXPLAIN SELECT 1", "(SELECT 1) UNION (SELECT 2)", "SELECT %s"):
            assert fetch(wrapper, read, ["a%b"] if "%s" in read else None)
        assert fetch(wrapper, "WITH t AS (SELECT 1) SELECT * FROM t")
        assert fetch(wrapper, "SELECT balance FROM account WHERE id = 1 FOR UPDATE")
        _a_write_may_wait(made, wrapper)
        made.close()


def _a_write_may_wait(made: Database, wrapper: Any) -> None:
    """For a row lock, longer than any read may take."""
    locked = threading.Event()

    def lock() -> None:
        other = made.wrapper(max_statement_seconds=0.5)
        with atomic(other):
            run(other, "UPDATE account SET balance = 1 WHERE id = 1")
            locked.set()
            time.sleep(1.2)

    thread = threading.Thread(target=lock)
    thread.start()
    locked.wait(5)
    assert run(wrapper, "UPDATE account SET balance = balance + 1 WHERE id = 1") == 1
    thread.join()
    assert made.value("SELECT balance FROM shop.account WHERE id = 1") == 2


def test_a_read_timeout_leaves_nothing_running(database: Database) -> None:
    wrapper = database.wrapper(options={"read_timeout": 1})
    with pytest.raises(OperationalError):
        fetch(wrapper, SLEEP, [30])
    until(lambda: not any("SLEEP" in text for _, _, text in database.processes()), 5)
    until(lambda: pool_of(wrapper).stats().ended == 1, 5)  # counted after the server's answer
    assert one(wrapper, "SELECT 5") == 5


# ---- clients that leave ----

VIEWS = """

from asgiref.sync import sync_to_async
from django.views.decorators.csrf import csrf_exempt
from unhang.pool import process


def ended(_request):
    return JsonResponse({"ended": sum(pool.stats().ended for pool in process.pools())})


def nap(_request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT SLEEP(%s)", [4])
    return JsonResponse({})


@transaction.atomic
def nap_in_transaction(_request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT SLEEP(%s)", [4])
    return JsonResponse({})


async def nap_async(request):
    return await sync_to_async(nap)(request)


nap_by_post = csrf_exempt(nap)
"""
NAPS = ("nap", "nap_async", "nap_in_transaction", "nap_by_post", "ended")


@pytest.fixture(scope="module")
def async_site(shared_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    import shutil

    from unhang.lab.project import SHOP

    app = tmp_path_factory.mktemp("asgi") / "shop"
    shutil.copytree(SHOP, app, ignore=shutil.ignore_patterns("__pycache__"))
    with (app / "shop/views.py").open("a") as file:
        file.write(VIEWS)
    with (app / "shop/urls.py").open("a") as file:
        names = ", ".join(f'path("{name}/", views.{name})' for name in NAPS)
        file.write(f"\nurlpatterns += [{names}]\n")
    with lab.site(
        shared_server, "asgi", 1, engine=ENGINE, app=app, settings={"MIDDLEWARE": OURS}
    ) as made:
        yield made


def ended(site: Site) -> int:
    with urllib.request.urlopen(site.url + "/ended/", timeout=10) as answer:  # noqa: S310
        return int(json.load(answer)["ended"])


def ask_and_leave(site: Site, server: Server, path: str, method: str = "GET") -> None:
    """Close the socket once the statement runs."""
    host, _, port = site.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        until(lambda: sleeping(server, site.database.user) == 1)


@pytest.mark.parametrize("path", ["/nap/", "/nap_async/"])
def test_a_read_that_nobody_waits_for_is_ended_on_the_server(
    shared_server: Server, async_site: Site, path: str
) -> None:
    before = ended(async_site)
    ask_and_leave(async_site, shared_server, path)
    until(lambda: sleeping(shared_server, async_site.database.user) == 0, 3)
    until(lambda: ended(async_site) == before + 1, 3)
    assert get(f"{async_site.url}/product/1/")[0] == 200


@pytest.mark.parametrize(
    ("path", "method"), [("/nap_in_transaction/", "GET"), ("/nap_by_post/", "POST")]
)
def test_a_transaction_and_a_post_run_to_their_end(
    shared_server: Server, async_site: Site, path: str, method: str
) -> None:
    before = ended(async_site)
    ask_and_leave(async_site, shared_server, path, method)
    time.sleep(1.5)
    assert sleeping(shared_server, async_site.database.user) == 1
    assert ended(async_site) == before
    until(lambda: sleeping(shared_server, async_site.database.user) == 0, 5)
