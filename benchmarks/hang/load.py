"""The load of one trial: what is due when, and the process that sends it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hang.scenarios import Scenario
from unhang.lab.arrivals import Arrival, Page, schedule

_WORKER: Final = Path(__file__).with_name("load_worker.py")

FAST_PER_SECOND: Final = 60.0
WRITES_PER_SECOND: Final = 10.0
FAST_DEADLINE: Final = 10.0
SLOW_DEADLINE: Final = 60.0
SLOW_SECONDS: Final = (7.0, 9.0)

READ, WRITE, LEAK, SLOW = "read", "write", "leak", "slow"
FAST: Final = (READ, WRITE)
SLOW_PATHS: Final = ("/report/?seconds={seconds:.2f}", "/customers/?seconds={seconds:.2f}")

_CATEGORIES: Final = ("kettle", "lamp", "desk", "chair", "radio", "clock", "vase", "rug")
_READS: Final = (
    *(f"/product/{number}/" for number in range(1, 41)),
    *(f"/orders/?customer={number}" for number in range(1, 41)),
    *(f"/count/?category={name}" for name in _CATEGORIES * 5),
)
_SLACK_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Phases:
    """Seconds of a trial: fast requests alone, then slow queries too, then no new slow ones."""

    warm: float = 4.0
    slow: float = 24.0
    recovery: float = 6.0

    @property
    def slow_begin(self) -> float:
        return self.warm

    @property
    def slow_end(self) -> float:
        return self.warm + self.slow

    @property
    def end(self) -> float:
        return self.slow_end + self.recovery


@dataclass(frozen=True, slots=True)
class Request:
    """One request as its visitor saw it.

    Attributes:
        kind: `read`, `write`, `leak` or `slow`.
        due, sent, ended: Seconds after the load's start.
        status: HTTP status; 0 when no answer came until the deadline.
        process: Which worker process answered; 0 when none did.
    """

    kind: str
    due: float
    sent: float
    ended: float
    status: int
    process: int = 0

    @property
    def seconds(self) -> float:
        """How long the visitor waited, from when the request was due."""
        return self.ended - self.due

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def send(url: str, scenario: Scenario, phases: Phases, seed: int) -> list[Request]:
    """Send the whole load; returns when the last request was answered or given up."""
    host, port = url.removeprefix("http://").split(":")
    order = {
        "host": host,
        "port": int(port),
        "fast_deadline": FAST_DEADLINE,
        "arrivals": [dataclasses.asdict(arrival) for arrival in _arrivals(scenario, phases, seed)],
        "slow": {
            "name": SLOW,
            "clients": scenario.slow,
            "paths": SLOW_PATHS,
            "seconds": SLOW_SECONDS,
            "begin": phases.slow_begin,
            "end": phases.slow_end,
            "deadline": SLOW_DEADLINE,
            "seed": seed,
        },
    }
    return [Request(*record) for record in _sent(order, phases.end + SLOW_DEADLINE)]


def _arrivals(scenario: Scenario, phases: Phases, seed: int) -> list[Arrival]:
    """The open loop: the same for each contender of a round."""
    pages = [Page(READ, _READS, FAST_PER_SECOND - WRITES_PER_SECOND * scenario.writes)]
    if scenario.writes:
        share = WRITES_PER_SECOND / len(_ORDERS)
        pages += [Page(WRITE, ("/order/",), share, body=order) for order in _ORDERS]
    leak = Page(LEAK, ("/recommend/?ids=1,2,3&pool=request",), every=1.0)
    leaks = [a for a in schedule([leak], phases.end, seed) if a.due >= phases.slow_begin]
    return sorted([*schedule(pages, phases.end, seed), *leaks], key=lambda arrival: arrival.due)


# Different products, for the transactions are to wait for connections and not for row locks.
_ORDERS: Final = [
    {"customer": number, "lines": [{"product": 10 * number, "quantity": 1}]}
    for number in range(1, 21)
]


def _sent(order: dict[str, Any], seconds: float) -> list[list[Any]]:
    # Its own session: Ctrl-C of the terminal is for us, and subprocess.run ends the child then.
    done = subprocess.run(
        [sys.executable, str(_WORKER)],
        input=json.dumps(order),
        stdout=subprocess.PIPE,
        text=True,
        timeout=seconds + _SLACK_SECONDS,
        start_new_session=True,
        check=True,
    )
    records: list[list[Any]] = json.loads(done.stdout)
    return records
