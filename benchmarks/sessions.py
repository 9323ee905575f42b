"""Reading 5,000 sessions: time and CPU of the whole look, on each engine that is here.

The target is 0.2 s. Beside it: one bare listing without anything that a session holds, as most
tools take it, so that the price of knowing more shows.

    python benchmarks/sessions.py [--sessions 5000] [--engine mariadb]
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import psutil
from tables import median, show

from unhang import lab
from unhang.lab import Server
from unhang.survey.connect import Connection, fetch_rows, open_connection
from unhang.survey.login import from_dsn
from unhang.survey.server import read_server
from unhang.survey.sessions import read_sessions

ROUNDS = 7
TARGET_SECONDS = 0.2


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sessions", type=int, default=5000)
    parser.add_argument("--engine", action="append")
    given = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20_000, hard), hard))
    missed = [
        engine
        for engine in given.engine or lab.available_engines()
        if not measure(engine, given.sessions)
    ]
    return 1 if missed else 0


def measure(engine: str, count: int) -> bool:
    with lab.server(engine, max_connections=count + 100) as server:
        if server.kind == "mariadb":
            server.execute("INSTALL SONAME 'metadata_lock_info'")
        clients = [server.connect(unix_socket=server.socket) for _ in range(count)]
        inspector = open_connection(from_dsn(server.dsn()))
        about = read_server(inspector, account="", unseen=lambda _: None)

        def whole() -> int:
            listing = read_sessions(
                inspector, about.engine, account="", unseen=lambda _unseen: None
            )
            return len(listing.sessions)

        ways = {"whole": whole, "bare": lambda: len(bare(inspector, server))}
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                taken[name].append(cost(server, way, count))
        rows = {
            name: {
                "s": f"{median([t[0] for t in times]):.3f}",
                "least": f"{min(t[0] for t in times):.3f}",
                "own CPU s": f"{median([t[1] for t in times]):.3f}",
                "server CPU s": f"{median([t[2] for t in times]):.3f}",
            }
            for name, times in taken.items()
        }
        show(f"{count} sessions, {engine}", rows, {n: float(r["s"]) for n, r in rows.items()})
        for client in clients:
            client._force_close()
        return float(rows["whole"]["least"]) <= TARGET_SECONDS


def bare(inspector: Connection, server: Server) -> tuple[tuple[object, ...], ...]:
    schema = "information_schema" if server.kind == "mariadb" else "performance_schema"
    return fetch_rows(
        inspector,
        f"SELECT ID, USER, HOST, DB, COMMAND, TIME, STATE, INFO FROM {schema}.processlist",
    )


def cost(server: Server, way: Callable[[], int], least: int) -> tuple[float, float, float]:
    process = psutil.Process(server.pid)
    before = process.cpu_times()
    began, own = time.perf_counter(), time.process_time()
    assert way() >= least
    seconds, own = time.perf_counter() - began, time.process_time() - own
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return seconds, own, spent


if __name__ == "__main__":
    raise SystemExit(main())
