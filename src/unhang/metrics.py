"""The numbers of this process's pools, for prometheus-client.

The app registers them when prometheus-client is installed; without the app, call `register()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from unhang.lanes import Lanes
from unhang.pool import PoolStats, process
from unhang.pool.connection import LEASE_SECONDS

STATES: Final = ("idle", "leased", "resetting", "connecting")

GAUGES: Final = {
    "max_size": "Connections that the pool may open at most.",
    "allowance": "Connections that the pool may have now, as full as the server is.",
    "waiting": "Borrowers that wait for a connection.",
}

COUNTERS: Final = {
    "lends": "Leases.",
    "waits": "Borrowers that had to wait.",
    "wait_seconds": "Time that borrowers waited who got a connection.",
    "timeouts": "Borrowers that got none in time.",
    "overloads": "Borrowers that were not let into the queue (max_waiting).",
    "connects": "Connections opened.",
    "connect_errors": "Attempts to connect that failed.",
    "closed": "Connections closed or lost.",
    "let_go": "Connections closed as soon as they were open, since the server was full.",
    "found_dead": "Idle connections that the server had ended.",
    "resets": "Sessions cleaned before somebody else got them.",
    "reclaimed": "Leases of threads that ended with them.",
    "pins": "Leases kept for the state of their session.",
    "repeats": "Reads run again after their connection was lost.",
    "ended": "Reads ended on the server, since nobody waited for them any more.",
}

PREFIX: Final = "unhang_pool_"

LANE_PREFIX: Final = "unhang_lane_"

LANE_GAUGES: Final = {
    "running": "Statements that run in a lane.",
    "waiting": "Statements that wait for a place in a lane.",
}

LANE_COUNTERS: Final = {
    "admitted": "Statements that got a place in their lane.",
    "waits": "Statements that had to wait for their lane.",
    "wait_seconds": "Time that statements waited which got a place.",
    "refused": "Statements that were refused at once, since their lane was full.",
    "timeouts": "Statements that waited for their lane in vain.",
}

LEDGER_COUNTERS: Final = {
    "learned": "Statements that turned out to be slow, as this process found.",
    "forgotten": "Slow statements that became fast again, or were not seen for long.",
}


def names() -> list[str]:
    """Every metric as Prometheus shows it."""
    own = [f"{PREFIX}connections", *(PREFIX + name for name in GAUGES)]
    lanes = [LANE_PREFIX + name for name in LANE_GAUGES]
    lanes += [f"{LANE_PREFIX}{name}_total" for name in (*LANE_COUNTERS, *LEDGER_COUNTERS)]
    counters = [f"{PREFIX}{name}_total" for name in COUNTERS]
    return [*own, *counters, f"{PREFIX}lease_seconds", *lanes]


class PoolCollector:
    """What prometheus-client calls at each scrape."""

    def collect(self) -> Iterator[Any]:
        """The metric families of all pools of this process."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        found = [pool.stats() for pool in process.pools()]
        by_name = {name: [s for s in found if s.name == name] for name in {s.name for s in found}}

        family = GaugeMetricFamily(
            f"{PREFIX}connections", "Connections by state.", labels=["pool", "state"]
        )
        for name, group in by_name.items():
            for state in STATES:
                family.add_metric([name, state], _sum(group, state))
        yield family
        for field, text in GAUGES.items():
            family = GaugeMetricFamily(PREFIX + field, text, labels=["pool"])
            for name, group in by_name.items():
                family.add_metric([name], _sum(group, field))
            yield family
        for field, text in COUNTERS.items():
            counter = CounterMetricFamily(PREFIX + field, text, labels=["pool"])
            for name, group in by_name.items():
                counter.add_metric([name], _sum(group, field))
            yield counter
        histogram = HistogramMetricFamily(
            f"{PREFIX}lease_seconds", "How long connections were leased.", labels=["pool"]
        )
        for name, group in by_name.items():
            histogram.add_metric([name], _buckets(group), _sum(group, "lease_seconds"))
        yield histogram
        yield from _lanes(GaugeMetricFamily, CounterMetricFamily)


def _lanes(gauge: Any, counter: Any) -> Iterator[Any]:
    """The metric families of all lanes of this process."""
    owners = [one for one in process.kept() if isinstance(one, Lanes)]
    found = [stats for lanes in owners for stats in lanes.stats()]
    labels = sorted({(stats.pool, stats.lane) for stats in found})
    families = [(gauge, name, text) for name, text in LANE_GAUGES.items()]
    families += [(counter, name, text) for name, text in LANE_COUNTERS.items()]
    for kind, name, text in families:
        family = kind(LANE_PREFIX + name, text, labels=["pool", "lane"])
        for label in labels:
            values = [getattr(s, name) for s in found if (s.pool, s.lane) == label]
            family.add_metric(list(label), float(sum(values)))
        yield family
    for name, text in LEDGER_COUNTERS.items():
        family = counter(LANE_PREFIX + name, text, labels=["pool"])
        for pool in sorted({lanes.pool.name for lanes in owners}):
            values = [getattr(own.ledger, name) for own in owners if own.pool.name == pool]
            family.add_metric([pool], float(sum(values)))
        yield family


_registered: list[object] = []


def register(registry: Any = None) -> None:
    """Add the pools to a registry of prometheus-client, once; its default one if none is given.

    Raises:
        ImportError: prometheus-client is not installed.
    """
    from prometheus_client import REGISTRY

    chosen = REGISTRY if registry is None else registry
    if not any(known is chosen for known in _registered):
        chosen.register(PoolCollector())
        _registered.append(chosen)


def _sum(group: Iterable[PoolStats], field: str) -> float:
    return float(sum(getattr(stats, field) for stats in group))


def _buckets(group: list[PoolStats]) -> list[tuple[str, float]]:
    edges = [*map(str, LEASE_SECONDS), "+Inf"]
    total, buckets = 0, []
    for number, edge in enumerate(edges):
        total += sum(stats.lease_counts[number] for stats in group)
        buckets.append((edge, float(total)))
    return buckets
