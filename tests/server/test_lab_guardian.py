"""Nothing that the lab starts outlives the process that started it, whatever ends that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from unhang import lab
from unhang.lab import Server
from unhang.lab.binaries import find_engine
from unhang.lab.process import wait_until
from unhang.lab.project import Worker

PATIENCE = 15.0

SERVER = """
import json, time
from unhang import lab
with lab.server({engine!r}) as server:
    {then}
    print(json.dumps({{"pids": [server.pid, server.guardian_pid],
                       "home": str(server.datadir.parent)}}), flush=True)
    time.sleep(600)
"""

INTERRUPTED = """
import json, time
from unhang import lab
with lab.server() as server:
    try:
        print(json.dumps({"pids": [server.pid, server.guardian_pid],
                          "home": str(server.datadir.parent)}), flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        time.sleep(0.5)
        print("still running:", server.running, flush=True)
"""

SITE = """
import json, time
from unhang import lab
with lab.server() as server, lab.site(server, worker={worker!r}) as site:
    print(json.dumps({{"pids": [server.pid, site.pid, *site.worker_pids()],
                       "home": str(site.project_dir.parent)}}), flush=True)
    time.sleep(600)
"""


@contextmanager
def parent(program: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A Python process that runs the program, and what it printed first."""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def gone(pid: int) -> bool:
    """An orphan whose new parent has not collected it yet is dead, too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def all_gone(started: dict[str, Any]) -> bool:
    home = Path(started["home"])
    return wait_until(
        lambda: all(map(gone, started["pids"])) and not home.exists(), PATIENCE, interval=0.05
    )


def test_no_server_outlives_a_parent_killed_with_sigkill(engine: str) -> None:
    with parent(SERVER.format(engine=engine, then="")) as (process, started):
        process.kill()
        assert all_gone(started)


def test_no_frozen_server_outlives_its_parent() -> None:
    program = SERVER.format(engine="mariadb", then="server.freeze()")
    with parent(program) as (process, started):
        process.kill()
        assert all_gone(started)


def test_no_data_outlive_a_parent_killed_while_its_server_is_stopped() -> None:
    program = SERVER.format(engine="mariadb", then="server.stop()")
    with parent(program) as (process, started):
        process.kill()
        assert all_gone(started)


def test_a_server_started_in_a_thread_outlives_the_thread() -> None:
    server = Server(find_engine("mariadb"))
    try:
        with ThreadPoolExecutor(1) as executor:
            executor.submit(server.start).result()
        # Longer than the guardian takes to look at its parent again.
        assert not wait_until(lambda: not server.running, 0.5)
        assert server.execute("SELECT 1 AS one") == [{"one": 1}]
    finally:
        server.close()


def test_a_daemon_dies_with_its_guardian(engine: str) -> None:
    with lab.server(engine) as server:
        os.kill(server.guardian_pid, signal.SIGKILL)
        assert wait_until(lambda: gone(server.pid), PATIENCE)
        assert wait_until(lambda: not server.running, PATIENCE)
        home = server.datadir.parent
    assert not home.exists()


def test_ctrl_c_ends_the_parent_which_ends_its_server() -> None:
    with parent(INTERRUPTED) as (process, started):
        # A terminal signals the whole group: had the daemon been in it, it would have gone first.
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "still running: True\n"
        assert process.wait(PATIENCE) == 0
        assert all_gone(started)


def test_a_forked_child_that_leaves_the_block_ends_nothing() -> None:
    program = """
import os, sys
from unhang import lab
with lab.server() as server:
    child = os.fork()
    if child == 0:
        sys.exit(0)
    os.waitpid(child, 0)
    print(server.execute("SELECT 'still here' AS answer"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert "still here" in done.stdout


@pytest.mark.parametrize("worker", ["gthread", "asgi"])
def test_no_site_outlives_a_parent_killed_with_sigkill(worker: str) -> None:
    with parent(SITE.format(worker=worker)) as (process, started):
        process.kill()
        assert all_gone(started)


@pytest.mark.parametrize("worker", ["sync", "asgi"])
def test_all_workers_of_a_site_die_with_its_guardian(worker: Worker) -> None:
    with lab.server() as server, lab.site(server, worker=worker) as site:
        pids = [site.pid, *site.worker_pids()]
        assert len(pids) == 3
        os.kill(site.guardian_pid, signal.SIGKILL)
        assert wait_until(lambda: all(map(gone, pids)), PATIENCE)


def test_two_processes_make_one_template_without_racing(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    program = "from unhang import lab\nwith lab.server() as s: print(s.execute('SELECT 1'))"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [racer.communicate(timeout=60)[0] for racer in racers]
    assert all("1" in text for text in said)
    templates = [path.name for path in (tmp_path / "unhang/templates").iterdir() if path.is_dir()]
    assert len(templates) == 1
