"""Who is compared, and under what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import unhang.middleware
from unhang.mysql.engine import OWN_ENGINE
from unhang.pool.options import OptionError, parse_options

PROCESSES: Final = 4
CONNECTIONS: Final = 40
LIMIT_CONNECTIONS: Final = 400

OWN: Final = "unhang"
LIMIT: Final = "limit"

_COMMON: Final = ["visitors.middleware.tell_process", "django.middleware.common.CommonMiddleware"]
_REFUSES: Final = "ServiceUnavailable"
"""unhang's middleware that answers 503 when the pool has no connection to lend."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way of connecting.

    Attributes:
        plain: What the page for managers calls it; short, for a phone's width is one line.
        database: What its `DATABASES["default"]` has besides the address and the account.
        max_connections: Of its server.
    """

    name: str
    plain: str
    database: Mapping[str, Any] = field(default_factory=dict)
    max_connections: int = CONNECTIONS

    @property
    def own(self) -> bool:
        return self.database.get("ENGINE") == OWN_ENGINE

    @property
    def middleware(self) -> list[str]:
        """unhang's is part of its installation; no other contender can make use of it."""
        known = hasattr(unhang.middleware, _REFUSES)
        return [f"unhang.middleware.{_REFUSES}", *_COMMON] if self.own and known else _COMMON

    @property
    def refusal_seconds(self) -> float:
        """When a query that is not served is refused at the latest, as the pool's options say.

        A slow one waits for a place in its lane, one that is not known as slow yet in the queue.
        """
        options = parse_options(self.database.get("OPTIONS", {}).get("pool", {}))
        lane = getattr(options, "slow_lane", None)
        return max(options.timeout, lane.timeout if lane else 0.0)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What the site is put through.

    Attributes:
        slow: Clients that keep one slow query each in flight.
        writes: Transactions among the fast requests.
        in_time, ratio: Targets for unhang: the share of fast requests in time, and how many times
            the limit's p99 its own may be.
    """

    key: str
    slow: int
    worker: Literal["gthread", "sync", "asgi"] = "gthread"
    threads: int = 16
    writes: bool = False
    in_time: float = 0.999
    ratio: float = 1.5

    @property
    def title(self) -> str:
        """Short, for tables."""
        serving = {
            "gthread": f"{PROCESSES} processes × {self.threads} threads",
            "sync": f"{PROCESSES} sync workers",
            "asgi": f"uvicorn, {PROCESSES} processes",
        }[self.worker]
        return f"{self.key}: {self.slow} slow, {serving}{', with writes' if self.writes else ''}"


SCENARIOS: Final = {
    scenario.key: scenario
    for scenario in (
        Scenario(key="A", slow=24),
        Scenario(key="B", slow=30),
        Scenario(key="C", slow=60, threads=40, in_time=0.99, ratio=2.0),
        Scenario(key="D", slow=60, in_time=0.99, ratio=2.0),
        Scenario(key="E", slow=24, worker="sync"),
        Scenario(key="F", slow=30, worker="asgi"),
        Scenario(key="G", slow=30, writes=True),
    )
}


def contenders() -> dict[str, Contender]:
    """All that can be compared with this version of unhang."""
    found = [
        Contender(name="stock, CONN_MAX_AGE 0", plain="Django as it comes"),
        Contender(
            name="stock, CONN_MAX_AGE 280",
            plain="Django, connections kept 280 s",
            database={"CONN_MAX_AGE": 280},
        ),
        Contender(
            name="django-db-connection-pool",
            plain="django-db-connection-pool",
            database={
                "ENGINE": "dj_db_conn_pool.backends.mysql",
                # 4 processes × 9 fit into the server's 40; its own wait, 30 s, is past any visitor.
                "POOL_OPTIONS": {"POOL_SIZE": 5, "MAX_OVERFLOW": 4, "TIMEOUT": 3},
            },
        ),
        Contender(name=OWN, plain="unhang", database={"ENGINE": OWN_ENGINE}),
        Contender(
            name=LIMIT,
            plain=f"Django with {LIMIT_CONNECTIONS} connections",
            max_connections=LIMIT_CONNECTIONS,
        ),
    ]
    if _can(slow_lane=False):
        database = {"ENGINE": OWN_ENGINE, "OPTIONS": {"pool": {"slow_lane": False}}}
        no_lane = Contender(
            name=f"{OWN}, no lane", plain="unhang without its slow lane", database=database
        )
        found.insert(-1, no_lane)
    return {contender.name: contender for contender in found}


def _can(**options: Any) -> bool:
    """Whether this version of the pool knows these options."""
    try:
        parse_options(options)
    except OptionError:
        return False
    return True
