"""Made-up samples for the tests of `unhang.monitor`."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from unhang.latency.counters import KINDS, N_BUCKETS, Counters, bucket_of
from unhang.monitor.sample import Sample, Server

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

_QUIET: Mapping[str, Any] = {
    "engine": "mysql",
    "version": "9.7.4",
    "active": 2,
    "sleepers": 10,
    "idle_in_transaction": 1,
    "sleepers_by_age": (4, 3, 2, 1, 0),
    "sessions_by_user": {"app": 12},
    "threads_connected": 13,
    "threads_running": 2,
    "max_connections": 100,
    "wait_timeout": 300,
    "max_used_connections": 20,
    "connection_errors_max_connections": 0,
    "aborted_connects": 0,
    "aborted_connects_preauth": None,
    "access_denied_errors": None,
    "aborted_clients": 0,
    "connections": 1000,
    "uptime": 5000,
}


def server(**changes: Any) -> Server:
    """A quiet MySQL server, but for the changes."""
    return Server(**{**_QUIET, **changes})


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def sample(seconds: float = 0, **changes: Any) -> Sample:
    """A sample of that server, so many seconds after the start."""
    return Sample(at(seconds), server(**{"uptime": 5000 + int(seconds), **changes}))


def memory_walk(rng: random.Random, n: int, phi: float) -> list[float]:
    """A stationary AR(1) series with variance 1 whose neighbours correlate with `phi`."""
    x = rng.gauss(0, 1)
    walk = []
    for _ in range(n):
        walk.append(x)
        x = phi * x + math.sqrt(1 - phi * phi) * rng.gauss(0, 1)
    return walk


def period(
    seed: int,
    *,
    n: int = 60,
    phi: float = 0.5,
    idle: float = 200,
    rate: float = 8,
    median: float = 0.05,
    errors: float = 0.002,
    gone_away: float = 0.001,
    refused: float = 0.02,
    interval: float = 5,
) -> list[Sample]:
    """A period of an application under a load that wanders, with errors at these rates."""
    rng = random.Random(seed)
    buckets = [0] * N_BUCKETS
    failed = gone = turned_away = 0
    total = 0.0
    samples = []
    for i, load in enumerate(memory_walk(rng, n, phi)):
        for _ in range(max(0, round(rate * interval * (1 + 0.2 * load)))):
            seconds = rng.lognormvariate(math.log(median), 0.8)
            buckets[bucket_of(seconds)] += 1
            total += seconds
            failed += rng.random() < errors
            gone += rng.random() < gone_away
        turned_away += rng.randint(1, 5) if rng.random() < refused else 0
        kinds = dict.fromkeys(KINDS, 0) | {"gone_away": gone}
        now = server(
            active=max(0, round(5 + 2 * load)),
            sleepers=max(0, round(idle * (1 + 0.1 * load))),
            idle_in_transaction=rng.randint(0, 2),
            threads_running=max(1, round(5 + 2 * load)),
            connection_errors_max_connections=turned_away,
            uptime=5000 + int(i * interval),
        )
        app = Counters(tuple(buckets), total, failed, kinds, 0)
        samples.append(Sample(at(i * interval), now, app))
    return samples
