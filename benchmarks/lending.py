"""What lending and giving back costs, and how fair the queue is: our pool, SQLAlchemy's QueuePool
and psycopg_pool, each on connections that do nothing, in interleaved rounds of one process.

    make bench ARGS=lending
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from tables import console, median, quantile, show, spread

from unhang.pool import Driver, Pool, PoolOptions

ROUNDS = 15
TIMES = 20_000
THREADS, CONNECTIONS, TURNS, HOLD_SECONDS = 200, 10, 12, 0.002


class Nothing(Driver):
    """Opens connections that do nothing. `is_alive` looks at a real socket, as MySQL's does."""

    operational_error = RuntimeError

    def connect(self) -> Any:
        ends = socket.socketpair()
        poller = select.poll()
        poller.register(ends[0].fileno(), select.POLLIN)
        return poller.poll, ends

    def is_alive(self, raw: Any) -> bool:
        return not raw[0](0)

    def ping(self, raw: object, timeout: float) -> bool:  # noqa: ARG002
        return True

    def reset(self, raw: object) -> None: ...

    def close(self, raw: object) -> None: ...

    def abandon(self, raw: object) -> None: ...

    def idle_limit(self, raw: object) -> float:  # noqa: ARG002
        return math.inf

    def look(self, raw: object) -> None:  # noqa: ARG002
        return None

    def is_refusal(self, error: BaseException) -> bool:  # noqa: ARG002
        return False

    def is_transient(self, error: BaseException) -> bool:  # noqa: ARG002
        return False


Cycle = Callable[[Callable[[], None]], None]
"""Lend, do something, give back."""


def ours(size: int, *, careful: bool) -> Cycle:
    pool = Pool(Nothing(), PoolOptions(min_size=size, max_size=size, timeout=60))

    def cycle(use: Callable[[], None]) -> None:
        connection = pool.lend(careful=careful)
        use()
        pool.give_back(connection)

    return cycle


def sqlalchemy(size: int) -> Cycle:
    from sqlalchemy.pool import QueuePool

    class Connection:
        def rollback(self) -> None: ...

        def close(self) -> None: ...

    pool = QueuePool(Connection, pool_size=size, max_overflow=0, timeout=60)

    def cycle(use: Callable[[], None]) -> None:
        connection = pool.connect()
        use()
        connection.close()

    return cycle


def psycopg(size: int) -> Cycle:
    from psycopg.pq import TransactionStatus
    from psycopg_pool import ConnectionPool

    class Pg:
        transaction_status = TransactionStatus.IDLE

    class Connection:
        pgconn = Pg()
        closed = False

        @classmethod
        def connect(cls, *_args: Any, **_kwargs: Any) -> Connection:
            return cls()

        def close(self) -> None: ...

    pool: Any = ConnectionPool(
        "", connection_class=Connection, min_size=size, max_size=size, timeout=60, open=True
    )
    pool.wait()

    def cycle(use: Callable[[], None]) -> None:
        connection = pool.getconn()
        use()
        pool.putconn(connection)

    return cycle


def nothing() -> None:
    """What a borrower does whose use costs nothing."""


def cost() -> None:
    """One thread, an idle connection there."""
    contenders = {
        "unhang, trusting": ours(1, careful=False),
        "unhang, looking first": ours(1, careful=True),
        "SQLAlchemy QueuePool": sqlalchemy(1),
        "psycopg_pool": psycopg(1),
    }
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _round in range(ROUNDS):
        for name, cycle in contenders.items():
            began = time.thread_time()
            for _ in range(TIMES):
                cycle(nothing)
            found[name].append(1e6 * (time.thread_time() - began) / TIMES)
    base = found["unhang, trusting"]  # the other two do not look either
    rows = {
        name: {
            "µs of CPU": spread(times),
            "ratio": f"{median([t / b for t, b in zip(times, base, strict=True)]):.1f}",
        }
        for name, times in found.items()
    }
    show(
        f"lend + give back, uncontended ({ROUNDS} rounds of {TIMES}): median (min … max)",
        rows,
        {name: median(times) for name, times in found.items()},
    )


def fairness() -> None:
    """Many threads, few connections: how long each waits."""
    contenders = {
        "unhang": ours(CONNECTIONS, careful=True),
        "SQLAlchemy QueuePool": sqlalchemy(CONNECTIONS),
        "psycopg_pool": psycopg(CONNECTIONS),
    }
    rows, bars = {}, {}
    for name, cycle in contenders.items():
        waits = crowd(cycle)
        middle, high = median(waits), quantile(waits, 0.99)
        rows[name] = {
            "median ms": f"{1e3 * middle:.1f}",
            "p99 ms": f"{1e3 * high:.1f}",
            "p99 / median": f"{high / middle:.2f}",
        }
        bars[name] = high / middle
    show(f"waiting: {THREADS} threads share {CONNECTIONS} connections", rows, bars)


def crowd(cycle: Cycle) -> list[float]:
    """Seconds that each lease was waited for, once all threads are there."""
    waits: list[float] = []
    start = threading.Barrier(THREADS)

    def work() -> None:
        start.wait()
        for turn in range(TURNS):
            asked = time.perf_counter()
            got: list[float] = []

            def use(got: list[float] = got) -> None:
                got.append(time.perf_counter())
                time.sleep(HOLD_SECONDS)

            cycle(use)
            # The first turn and the last are those of a crowd that forms or thins out.
            if 2 <= turn < TURNS - 2:
                waits.append(got[0] - asked)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return waits


def main() -> None:
    """Print both tables."""
    console.rule("the pool")
    cost()
    fairness()


if __name__ == "__main__":
    main()
