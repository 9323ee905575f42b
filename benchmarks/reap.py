"""Whom a reaper ends, and how fast: `unhang reap` beside pt-kill, on each engine that is here.

Two scenes, each contender on a fresh private server:

crowd   150 to 200 clients whose pauses are random around the threshold, and one specimen of every
        kind that nobody may end. Wrong is an ended session whose client had begun a statement less
        than the threshold before, or that was executing one, or that is a specimen.
flood   5,000 idle sleepers, and 500 more that wake up while these are ended and go on working.
        Harmed is one of the 500 that was ended after it had woken up.

pt-kill is Debian's: apt install percona-toolkit libdbd-mysql-perl. Without it unhang runs alone.

    python benchmarks/reap.py [--seconds 30] [--sleepers 5000] [--engine mariadb]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from reaping.flood import Flood, flood
from tables import show

from unhang import lab
from unhang.lab import Server
from unhang.lab.crowd import crowd
from unhang.lab.specimens import specimens

THRESHOLD = 1.0
IDLE_BEFORE_FLOOD = 6
USER, PASSWORD = "app", "secret"
BLIND_ON_MARIADB = ("temporary-tables", "empty-transactions")

Contender = Callable[[Server, float, Path], list[str]]


def unhang_reap(server: Server, idle: float, folder: Path) -> list[str]:
    """As an operator in a hurry would run it: no limits, and what MariaDB hides is accepted."""
    accepted = BLIND_ON_MARIADB if server.kind == "mariadb" else ()
    return [
        *(sys.executable, "-m", "unhang", "reap", "--execute", "--i-know"),
        *("--dsn", server.dsn(USER, PASSWORD), "--login", server.dsn()),
        *("--idle", str(idle), "--gap", "0.3s", "--every", "0.3s"),
        *("--most", "100000", "--rate", "0", "--keep", "0", "--state-dir", str(folder)),
        *(part for name in accepted for part in ("--accept-unknown", name)),
    ]


def pt_kill(server: Server, idle: float, _folder: Path) -> list[str]:
    return [
        *("pt-kill", "--no-version-check", "--host", server.host, "--port", str(server.port)),
        *("--user", "root", "--match-command", "Sleep", "--match-user", f"^{USER}$"),
        *("--idle-time", str(int(idle)), "--victims", "all", "--kill", "--interval", "1"),
    ]


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A reaper in the background, ended as Ctrl-C would."""
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def a_server(engine: str, connections: int) -> Iterator[Server]:
    with lab.server(engine, max_connections=connections + 100) as server:
        if server.kind == "mariadb":
            server.execute("INSTALL SONAME 'metadata_lock_info'")
        # What docs/reference/privileges.md recommends for the application's account on MySQL.
        grant = "SELECT ON performance_schema.*" if server.kind == "mysql" else "USAGE ON *.*"
        server.create_account(USER, PASSWORD, [grant])
        yield server


def login(server: Server) -> dict[str, object]:
    return {"unix_socket": server.socket, "user": USER, "password": PASSWORD, "ssl_disabled": True}


def cpu_seconds(server: Server) -> float:
    times = psutil.Process(server.pid).cpu_times()
    return times.user + times.system


def in_a_crowd(engine: str, contender: Contender, seconds: float, folder: Path) -> dict[str, str]:
    with a_server(engine, 300) as server, specimens(server, USER, PASSWORD) as protected:
        with crowd(
            login(server), clients=170, seconds=seconds, least_pause=0.7, longest_pause=1.4
        ) as verdicts:
            before = cpu_seconds(server)
            with running(contender(server, THRESHOLD, folder), folder / "log"):
                time.sleep(seconds - 1)
            spent = cpu_seconds(server) - before
        (verdict,) = verdicts
        return {
            "ended": str(verdict.ended),
            "wrong": str(verdict.wrong(THRESHOLD)),
            "by rounding": str(sum(s < THRESHOLD for s in verdict.since_begin)),
            "executing": str(len(verdict.executing)),
            "of them > 5 ms": str(verdict.executing_longer_than(0.005)),
            "> 20 ms": str(verdict.executing_longer_than(0.020)),
            "specimens lost": str(len(protected.lost())),
            "server CPU s": f"{spent:.1f}",
        }


def in_a_flood(
    engine: str, contender: Contender, sleepers: int, span: float, folder: Path
) -> dict[str, str]:
    with (
        a_server(engine, sleepers + 600) as server,
        flood(
            login(server), sleepers=sleepers, wakers=500, idle=IDLE_BEFORE_FLOOD, span=span
        ) as running_flood,
    ):
        before = cpu_seconds(server)
        with running(contender(server, IDLE_BEFORE_FLOOD - 1, folder), folder / "log") as process:
            found: Flood = running_flood.result()
            user = psutil.Process(process.pid).cpu_times()
        spent = cpu_seconds(server) - before
        return {
            "ended": str(found.ended),
            "first to last, s": f"{found.seconds:.2f}",
            "a second": f"{found.ended / max(found.seconds, 0.001):.0f}",
            "woke up": str(found.woken),
            "harmed": str(found.harmed),
            "server CPU s": f"{spent:.1f}",
            "own CPU s": f"{user.user + user.system:.1f}",
        }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--sleepers", type=int, default=5000)
    parser.add_argument("--span", type=float, default=4.0, help="the 500 wake up within")
    parser.add_argument("--engine", action="append")
    parser.add_argument("--scene", choices=("crowd", "flood"), action="append")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20_000, hard), hard))
    contenders: dict[str, Contender] = {"unhang reap": unhang_reap}
    if shutil.which("pt-kill"):
        contenders["pt-kill"] = pt_kill
    else:
        print("pt-kill is not here: apt install percona-toolkit libdbd-mysql-perl")
    for engine in given.engine or lab.available_engines():
        for scene in given.scene or ("crowd", "flood"):
            rows = {}
            for name, contender in contenders.items():
                with tempfile.TemporaryDirectory() as folder:
                    rows[name] = (
                        in_a_crowd(engine, contender, given.seconds, Path(folder))
                        if scene == "crowd"
                        else in_a_flood(engine, contender, given.sleepers, given.span, Path(folder))
                    )
            show(
                f"{scene}, {engine} {lab.available_engines()[engine].version}",
                rows,
                {
                    name: float(row["wrong" if scene == "crowd" else "harmed"])
                    for name, row in rows.items()
                },
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
