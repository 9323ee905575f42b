"""What the backend costs an application, against Django's own with CONN_MAX_AGE 0, 280 and None and
against django-db-connection-pool: CPU time, statements, pings and connects a request, and the
sleepers that threads leave behind.

Each contender is a process of its own on one private server; they take turns in rounds, so that a
machine that gets slower does so for all. CPU time and counts, not speed.

    make bench ARGS=backend
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tables import console, median, show, spread

from unhang import lab
from unhang.lab import Server

WORKER = Path(__file__).with_name("backend_worker.py")
ROUNDS = 12
REQUESTS = {"read by key": 400, "transaction of 3": 150}
SLEEPER_SECONDS = 10.0

CONTENDERS: dict[str, dict[str, Any]] = {
    "stock, CONN_MAX_AGE None": {"CONN_MAX_AGE": None},
    "stock, CONN_MAX_AGE 280": {"CONN_MAX_AGE": 280},
    "stock, CONN_MAX_AGE 0": {"CONN_MAX_AGE": 0},
    # Its own default, 30 s, would make the burst of threads take minutes.
    "django-db-connection-pool": {
        "ENGINE": "dj_db_conn_pool.backends.mysql",
        "POOL_OPTIONS": {"TIMEOUT": 3},
    },
    "unhang, lease request": {
        "ENGINE": "unhang.backends.mysql",
        "OPTIONS": {"pool": {"lease": "request"}},
    },
    "unhang": {"ENGINE": "unhang.backends.mysql"},
}
BASE = "stock, CONN_MAX_AGE None"


class Contender:
    """One process with one way of connecting, under an account of its own."""

    def __init__(self, server: Server, number: int, changes: dict[str, Any]) -> None:
        self._server = server
        self.user = f"app{number}"
        server.create_account(self.user, "pw")
        settings = {
            "ENGINE": "django.db.backends.mysql",
            "NAME": "bench",
            "USER": self.user,
            "PASSWORD": "pw",
            "HOST": server.host,
            "PORT": server.port,
            **changes,
        }
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str, times: int = 1) -> Any:
        """Have it do something so many times; what it answers."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        self._process.stdin.write(f"{json.dumps([what, times])}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def sessions(self) -> int:
        """How many sessions its account has."""
        rows = self._server.execute(
            f"SELECT id FROM information_schema.processlist WHERE user = '{self.user}'"
        )
        return len(rows)

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(30)
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def contenders() -> Iterator[tuple[Server, dict[str, Contender]]]:
    """All of them, on one server."""
    with lab.server("mariadb", max_connections=1500) as server:
        server.execute("CREATE DATABASE bench")
        server.execute(
            "CREATE TABLE bench.django_content_type (id INT PRIMARY KEY AUTO_INCREMENT, "
            "app_label VARCHAR(100), model VARCHAR(100)) ENGINE=InnoDB"
        )
        server.execute(
            "INSERT INTO bench.django_content_type (app_label, model) VALUES "
            + ", ".join(f"('shop', 'm{n}')" for n in range(200))
        )
        made = {
            name: Contender(server, number, changes)
            for number, (name, changes) in enumerate(CONTENDERS.items())
        }
        try:
            yield server, made
        finally:
            for contender in made.values():
                contender.close()


def counters(server: Server) -> dict[str, int]:
    """What the server has counted so far."""
    rows = server.execute(
        "SHOW GLOBAL STATUS WHERE variable_name IN "
        "('Questions', 'Com_admin_commands', 'Connections')"
    )
    return {str(row["Variable_name"]): int(row["Value"]) for row in rows}


def cost(server: Server, all_of_them: dict[str, Contender]) -> None:
    """CPU time and counts of a request."""
    for kind, requests in REQUESTS.items():
        for contender in all_of_them.values():
            contender.ask(kind, 50)  # warm
        cpu: dict[str, list[float]] = {name: [] for name in all_of_them}
        counted: dict[str, dict[str, float]] = {}
        for _round in range(ROUNDS):
            for name, contender in all_of_them.items():
                before = counters(server)
                cpu[name].append(contender.ask(kind, requests))
                after = counters(server)
                counted[name] = {
                    # Less the question itself.
                    what: (after[what] - before[what] - (what == "Questions")) / requests
                    for what in after
                }
        base = cpu[BASE]
        rows = {
            name: {
                "CPU µs": spread(times),
                "ratio": f"{median([t / b for t, b in zip(times, base, strict=True)]):.2f}",
                "statements": f"{counted[name]['Questions']:.2f}",
                "pings, resets": f"{counted[name]['Com_admin_commands']:.2f}",
                "connects a 1000": f"{1000 * counted[name]['Connections']:.0f}",
            }
            for name, times in cpu.items()
        }
        show(
            f"a request: {kind} ({ROUNDS} rounds of {requests}, in turns)",
            rows,
            {name: median(times) for name, times in cpu.items()},
        )


def sleepers(all_of_them: dict[str, Contender]) -> None:
    """What 64 request threads and 16 forgotten executor threads leave behind, three times over."""
    rows, bars = {}, {}
    for name, contender in all_of_them.items():
        left, failed = [], 0
        for _burst in range(3):
            failed += contender.ask("threads")
            time.sleep(SLEEPER_SECONDS)
            left.append(contender.sessions())
        rows[name] = {f"after burst {n + 1}": str(count) for n, count in enumerate(left)}
        rows[name]["errors"] = str(failed)
        bars[name] = left[-1]
    show(
        f"sessions of a process {SLEEPER_SECONDS:.0f} s after 64 request threads and 16 forgotten "
        "executor threads",
        rows,
        bars,
    )


def main() -> None:
    """Print the tables."""
    console.rule("the backend")
    with contenders() as (server, all_of_them):
        cost(server, all_of_them)
        sleepers(all_of_them)
        size = all_of_them["unhang"].ask("size")
        console.print(f"memory of an idle virtual connection: {size:.0f} bytes")


if __name__ == "__main__":
    main()
