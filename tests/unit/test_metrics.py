"""Pools as Prometheus sees them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from support.fake_driver import make_pool
from unhang import metrics


def exported(registry: CollectorRegistry) -> dict[str, float]:
    """Sample lines by name and labels."""
    lines = generate_latest(registry).decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#")
    }


def test_a_pools_counters_and_lease_times_are_exported() -> None:
    pool, _ = make_pool(max_size=4)
    pool.name = "exported"
    held = pool.lend()
    for _ in range(3):
        pool.give_back(pool.lend())
    registry = CollectorRegistry()
    metrics.register(registry)
    metrics.register(registry)  # a second time changes nothing
    seen = exported(registry)
    assert seen['unhang_pool_connections{pool="exported",state="leased"}'] == 1
    assert seen['unhang_pool_connections{pool="exported",state="idle"}'] == 1
    assert seen['unhang_pool_max_size{pool="exported"}'] == 4
    assert seen['unhang_pool_lends_total{pool="exported"}'] == 4
    assert seen['unhang_pool_connects_total{pool="exported"}'] == 2
    assert seen['unhang_pool_lease_seconds_bucket{le="+Inf",pool="exported"}'] == 3
    assert seen['unhang_pool_lease_seconds_count{pool="exported"}'] == 3
    pool.give_back(held)
    assert exported(registry)['unhang_pool_lease_seconds_count{pool="exported"}'] == 4


def test_every_name_that_is_promised_is_exported() -> None:
    pool, _ = make_pool()
    pool.give_back(pool.lend())
    registry = CollectorRegistry()
    metrics.register(registry)
    families = {family.name for family in registry.collect()}
    assert families == {name.removesuffix("_total") for name in metrics.names()}
