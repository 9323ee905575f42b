"""The demo site: a believable shop under real application servers."""

from __future__ import annotations

import datetime as dt
import http
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from unhang import lab
from unhang.errors import UsageProblem
from unhang.lab import Server, Site
from unhang.lab.process import wait_until
from unhang.lab.project import Worker


def fetch(site: Site, path: str, body: Any = None) -> Any:
    """The JSON that the site answers with."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(site.url + path, data)  # noqa: S310  # our own http address
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310  # same
        return json.load(response)


def sessions(server: Server, command: str) -> int:
    (row,) = server.execute(
        "SELECT COUNT(*) AS n FROM information_schema.processlist "
        "WHERE user = 'shop' AND command = %s",
        command,
    )
    return int(row["n"])


def without_sessions(server: Server) -> bool:
    """The server notices a little later that the last site's connections are closed."""
    return wait_until(lambda: sessions(server, "Sleep") == 0, 10)


def answers_every_page(site: Site, server: Server) -> None:
    assert fetch(site, "/health/") == {"ok": True}
    assert fetch(site, "/product/7/")["id"] == 7
    assert fetch(site, "/orders/?customer=5")["orders"][0]["customer__name"]
    assert len(fetch(site, "/report/?seconds=0.1")["turnover"]) == 10
    assert set(fetch(site, "/recommend/?ids=1,2&pool=shared")["recommended"]) == {"1", "2"}
    assert set(fetch(site, "/recommend/?ids=3,4&pool=request")["recommended"]) == {"3", "4"}
    assert fetch(site, "/checkout/?seconds=0.1")["order"]
    stock = fetch(site, "/product/7/")["stock"]
    wish = {"customer": 1, "lines": [{"product": 7, "quantity": 2}]}
    order = fetch(site, "/order/", wish)["id"]
    assert fetch(site, "/product/7/")["stock"] == stock - 2
    lines = server.execute("SELECT * FROM shop.shop_orderline WHERE order_id = %s", order)
    assert [line["quantity"] for line in lines] == [2]


@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent", "asgi"])
def test_the_site_answers_every_page(any_server: Server, worker: Worker) -> None:
    with lab.site(any_server, worker=worker) as site:
        answers_every_page(site, any_server)
        assert len(site.worker_pids()) == 2
        assert site.rss_bytes() > 50_000_000
        assert site.log_file.exists()


@pytest.mark.parametrize("worker", ["gthread", "gevent", "asgi"])
def test_the_site_runs_on_unhangs_own_backend(any_server: Server, worker: Worker) -> None:
    pool = {"max_size": 3, "max_idle": 0.5}
    with lab.site(
        any_server, worker=worker, processes=1, engine="unhang.backends.mysql", pool=pool
    ) as site:
        answers_every_page(site, any_server)
        assert sessions(any_server, "Sleep") <= 3


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_the_site_runs_on_pymysql_loaded_before_the_fork(
    any_server: Server, worker: Worker
) -> None:
    with lab.site(any_server, worker=worker, driver="pymysql", preload=True) as site:
        answers_every_page(site, any_server)
        for pid in site.worker_pids():
            loaded = Path(f"/proc/{pid}/maps").read_text()
            assert "MySQLdb" not in loaded
            assert ("gevent" in loaded) == (worker == "gevent")


def test_reload_of_a_preloaded_site_picks_up_edited_settings(any_server: Server) -> None:
    with lab.site(any_server, processes=1, preload=True) as site:
        text = site.settings_file.read_text()
        site.settings_file.write_text(text.replace('"NAME": "shop"', '"NAME": "shut"'))
        site.reload()
        with pytest.raises(urllib.error.HTTPError) as failed:
            fetch(site, "/product/1/")
        failed.value.close()


def test_the_site_runs_on_every_engine(engine: str) -> None:
    with lab.server(engine) as server, lab.site(server, processes=1, threads=2) as site:
        answers_every_page(site, server)
        (counts,) = server.execute(
            "SELECT (SELECT COUNT(*) FROM shop.shop_customer) AS customers, "
            "(SELECT COUNT(*) FROM shop.shop_product) AS products, "
            "(SELECT COUNT(*) FROM shop.shop_order) AS orders"
        )
    assert counts == {"customers": 300, "products": 1_000, "orders": 2_001}


def test_an_order_for_more_than_the_stock_changes_nothing(any_server: Server) -> None:
    with lab.site(any_server, processes=1) as site:
        stock = fetch(site, "/product/8/")["stock"]
        (before,) = any_server.execute("SELECT COUNT(*) AS n FROM shop.shop_order")
        wish = {"customer": 1, "lines": [{"product": 8, "quantity": stock + 1}]}
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(site, "/order/", wish)
        refused.value.close()
        assert refused.value.code == http.HTTPStatus.CONFLICT
        assert fetch(site, "/product/8/")["stock"] == stock
        assert any_server.execute("SELECT COUNT(*) AS n FROM shop.shop_order") == [before]


def test_a_pool_per_request_leaves_sleepers_behind_though_conn_max_age_is_0() -> None:
    with lab.server() as server, lab.site(server, processes=1, conn_max_age=0) as site:
        fetch(site, "/product/1/")
        assert without_sessions(server)
        counts = []
        for _ in range(3):
            fetch(site, "/recommend/?ids=1,2,3,4&pool=request")
            counts.append(sessions(server, "Sleep"))
        # Two quick look-ups may share a thread, so not always four more.
        assert counts[0] >= 2
        assert counts == sorted(set(counts))


def test_a_shared_pool_leaves_no_more_sleepers_than_it_has_threads() -> None:
    with lab.server() as server, lab.site(server, processes=1) as site:
        for _ in range(4):
            fetch(site, "/recommend/?ids=1,2,3,4,5,6,7,8,9,10&pool=shared")
        assert 1 <= sessions(server, "Sleep") <= 8


def test_conn_max_age_keeps_one_connection_per_thread_that_served(any_server: Server) -> None:
    assert without_sessions(any_server)
    with lab.site(any_server, worker="sync", processes=1, conn_max_age=60) as site:
        for _ in range(3):
            fetch(site, "/product/1/")
        assert sessions(any_server, "Sleep") == 1
    assert without_sessions(any_server)


def slow_statements(server: Server) -> list[dict[str, Any]]:
    """What the slow log holds; a statement gets there a moment after its answer has gone out."""
    sql = "SELECT query_time FROM mysql.slow_log WHERE db = 'shop'"
    assert wait_until(lambda: bool(server.execute(sql)), 10)
    return server.execute(sql)


def test_a_slow_report_keeps_one_session_busy_for_as_long_as_asked(engine: str) -> None:
    with (
        lab.server(engine, slow_query_log=True, long_query_time=0.8, log_output="TABLE") as server,
        lab.site(server, processes=1) as site,
        ThreadPoolExecutor(1) as executor,
    ):
        report = executor.submit(fetch, site, "/report/?seconds=1")
        assert wait_until(lambda: sessions(server, "Query") == 1, 10)
        assert len(report.result()["turnover"]) == 10
        logged = slow_statements(server)
    # By the server's clock, and not twice: MariaDB did, while it could merge the inner query.
    assert [row["query_time"] // dt.timedelta(seconds=1) for row in logged] == [1]


@pytest.mark.parametrize("worker", ["gthread", "asgi"])
def test_reload_picks_up_edited_settings(any_server: Server, worker: Worker) -> None:
    assert without_sessions(any_server)
    with lab.site(any_server, worker=worker, processes=1, conn_max_age=0) as site:
        fetch(site, "/product/1/")
        assert without_sessions(any_server)
        old = set(site.worker_pids())
        text = site.settings_file.read_text()
        port = f'"PORT": "{any_server.port}",'
        site.settings_file.write_text(text.replace(port, port + ' "CONN_MAX_AGE": 60,'))
        site.reload()
        assert not old & set(site.worker_pids())
        fetch(site, "/product/1/")
        assert sessions(any_server, "Sleep") == 1


def test_edits_of_the_same_size_within_one_second_all_count(any_server: Server) -> None:
    with lab.site(any_server, processes=1) as site:
        good = site.settings_file.read_text()
        bad = good.replace('"NAME": "shop"', '"NAME": "shut"')
        for _ in range(2):
            site.settings_file.write_text(bad)
            site.reload()
            with pytest.raises(urllib.error.HTTPError) as failed:
                fetch(site, "/product/1/")
            failed.value.close()
            site.settings_file.write_text(good)
            site.reload()
            assert fetch(site, "/product/1/")["id"] == 1


def test_broken_settings_are_reported_with_the_log(any_server: Server) -> None:
    with lab.site(any_server, processes=1) as site:
        with site.settings_file.open("a") as file:
            file.write("this is not Python\n")
        with pytest.raises(UsageProblem) as broken:
            site.reload()
    assert "settings.py" in broken.value.cure


def test_a_stopped_site_refuses_and_starts_again(any_server: Server) -> None:
    with lab.site(any_server, processes=1) as site:
        old = site.pid
        site.stop()
        with pytest.raises(urllib.error.URLError):
            fetch(site, "/health/")
        site.start()
        assert site.pid != old
        assert fetch(site, "/product/1/")["id"] == 1


def test_everything_is_gone_after_the_block(any_server: Server) -> None:
    with lab.site(any_server) as site:
        pids = [site.pid, site.guardian_pid, *site.worker_pids()]
        home = site.project_dir.parent
    assert not home.exists()
    assert wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 10)


def test_a_killed_worker_is_replaced_and_the_site_stays(any_server: Server) -> None:
    with lab.site(any_server, worker="sync") as site:
        victim = site.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        assert wait_until(
            lambda: len(site.worker_pids()) == 2 and victim not in site.worker_pids(), 15
        )
        assert fetch(site, "/product/1/")["id"] == 1


def test_the_site_can_go_through_a_proxy(any_server: Server) -> None:
    with (
        lab.proxy(any_server) as proxy,
        lab.site(any_server, address=(proxy.host, proxy.port), conn_max_age=None) as site,
    ):
        fetch(site, "/product/1/")
        assert proxy.connections >= 1
        assert f'"PORT": "{proxy.port}"' in site.settings_file.read_text()


def test_the_account_of_the_site_sees_its_own_database_only(any_server: Server) -> None:
    with lab.site(any_server, processes=1):
        grants = [
            value
            for row in any_server.execute("SHOW GRANTS FOR 'shop'@'%'")
            for value in row.values()
        ]
    assert len(grants) == 2
    assert any("ON *.*" in grant and "USAGE" in grant for grant in grants)
    assert any("ON `shop`.*" in grant and "ALL PRIVILEGES" in grant for grant in grants)


def test_the_migration_matches_the_models(any_server: Server) -> None:
    with lab.site(any_server, processes=1) as site:
        done = subprocess.run(
            [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
            cwd=site.project_dir,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
