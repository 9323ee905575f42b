"""The processes of `fleet_real.py`: each has a pool, and borrowers that come at random.

Reads its orders as JSON on standard input, forks, and leaves a file with what it saw for each
process; SIGTERM ends all at once, without a goodbye to the server.
"""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import django
from django.conf import settings
from django.db import connections

import unhang.backends.mysql.base  # noqa: F401 - here once, and not in each process
from unhang.mysql import errorcodes
from unhang.pool import Pool, PoolOverloaded, PoolTimeout
from unhang.pool.connection import PooledConnection

SAMPLE_SECONDS = 0.05


class Process:
    """One of them. Its borrowers never ask for more at a time than there are threads."""

    def __init__(self, order: dict[str, Any], number: int) -> None:
        self._order = order
        self._number = number
        self._rng = random.Random(order["seed"] * 100_003 + number)  # noqa: S311 - no secret
        self._pool: Pool = connections["default"].pool  # type: ignore[attr-defined]  # ours
        self._due: queue.SimpleQueue[tuple[float, float]] = queue.SimpleQueue()
        self._free = threading.Semaphore(order["threads"])
        self._waits: list[float] = []
        self._errors: list[str] = []
        self._late = self._away = self._refused = 0
        self._connection_seconds = 0.0
        is_refusal: Callable[[BaseException], bool] = self._pool.driver.is_refusal

        def count_refusal(error: BaseException) -> bool:
            self._refused += is_refusal(error)
            return is_refusal(error)

        self._pool.driver.is_refusal = count_refusal  # type: ignore[method-assign]  # counts

    def run(self) -> None:
        """Until the end of the run, or SIGTERM."""
        order = self._order
        signal.signal(signal.SIGTERM, self._end)
        for _ in range(order["threads"]):
            threading.Thread(target=self._serve, daemon=True).start()
        time.sleep(max(0.0, order["begin"] + order["from"] - time.monotonic()))
        for _ in range(order["backlog"]):
            self._arrive()
        self._let_arrive()
        self._end()

    def _let_arrive(self) -> None:
        sampled = now = self._now()
        due = now + self._rng.expovariate(self._rate(now))
        while (now := self._now()) < self._order["end"]:
            if now - sampled >= SAMPLE_SECONDS:
                if now >= self._order["event"]:
                    self._connection_seconds += self._pool.size * (now - sampled)
                sampled = now
            if now >= due:
                due += self._rng.expovariate(self._rate(due))
                self._arrive()
            time.sleep(max(0.0, min(due, sampled + SAMPLE_SECONDS) - self._now()))

    def _now(self) -> float:
        return time.monotonic() - float(self._order["begin"])

    def _rate(self, now: float) -> float:
        burst = self._order["burst"]
        rate = float(self._order["rate"])
        if burst and self._number % 5 == 0 and burst["from"] <= now < burst["to"]:
            return rate * float(burst["times"])
        return rate

    def _arrive(self) -> None:
        if self._free.acquire(blocking=False):
            self._due.put((time.monotonic(), self._rng.uniform(*self._order["hold"])))
        else:
            self._away += 1

    def _serve(self) -> None:
        while True:
            asked, hold = self._due.get()
            try:
                while not self._borrow(asked, hold):
                    asked = time.monotonic()  # cut off in the middle: once more, as if it were new
            except (PoolTimeout, PoolOverloaded):
                self._late += 1
            except Exception as error:  # noqa: BLE001 - counted and shown
                self._errors.append(repr(error)[:200])
            self._free.release()

    def _borrow(self, asked: float, hold: float) -> bool:
        connection = self._pool.lend(careful=False)
        self._waits.append(time.monotonic() - asked)
        try:
            self._sleep(connection, hold)
        except self._pool.driver.operational_error as error:
            self._pool.discard(connection)
            if errorcodes.is_lost(error):
                return False
            raise
        self._pool.give_back(connection)
        return True

    def _sleep(self, connection: PooledConnection, seconds: float) -> None:
        cursor = connection.raw.cursor
        cursor.execute(f"SELECT SLEEP({seconds:.4f})")
        (interrupted,) = cursor.fetchone()
        if interrupted:
            raise self._pool.driver.operational_error(1053, "the sleep was interrupted")

    def _end(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        counters = self._pool.stats()
        found = {
            "number": self._number,
            "waits": self._waits,
            "late": self._late,
            "away": self._away,
            "refused": self._refused,
            "errors": self._errors,
            "connection_seconds": self._connection_seconds,
            "let_go": counters.let_go,
            "connects": counters.connects,
            "connect_errors": counters.connect_errors,
        }
        Path(self._order["out"], f"{os.getpid()}.json").write_text(json.dumps(found))
        os._exit(0)  # no goodbye: as if it were killed


def main() -> None:
    """Fork as many as asked for, and wait for them."""
    order = json.load(sys.stdin)
    settings.configure(DATABASES={"default": order["database"]}, USE_TZ=True)
    django.setup()
    for number in range(order["processes"]):
        if os.fork() == 0:
            Process(order, number).run()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(order["processes"]):
        os.wait()


if __name__ == "__main__":
    main()
