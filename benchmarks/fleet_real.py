"""Does the model of `fleet.py` say what really happens? 40 real processes on a private MariaDB with
room for 60 connections, and the same in the model, side by side.

Each process has Django's settings, the real pool and 8 threads; together they want half as many
connections again as the ceiling. They start, a fifth of them gets a burst, all are killed and start
anew at the same moment, and the server is restarted. Sessions are counted on the server, over a
door of its own.

    make bench ARGS=fleet_real
    python benchmarks/fleet_real.py steady burst     # only these; each takes 40 s

Ends with 1 when reality is outside the band around the prediction.
"""

from __future__ import annotations

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pymysql
from fleet_model import (
    BURST_SECONDS,
    EVENT_AT,
    Demand,
    Scenario,
    ceiling_of,
    settled_seconds,
    simulate,
)
from rich.table import Table
from tables import console, quantile

from unhang import lab
from unhang.lab import Server
from unhang.lab.process import free_port

PROCESSES: Final = 40
LIMIT: Final = 60
END_AT: Final = 35.0
THREADS: Final = 8
HOLD: Final = (0.02, 0.2)
BACKLOG: Final = 3
DOWN_SECONDS: Final = 5.0
SAMPLE_SECONDS: Final = 0.05
READY_SECONDS: Final = 4.0
"""To import everything and to fork."""

CONNECT_SECONDS: Final = (0.004, 0.020)
"""What a connect takes here: login, settings, and a look at the server."""

SCENARIOS: Final[dict[Scenario, float]] = {
    "steady": 1.5,
    "burst": 0.2,
    "deploy": 1.5,
    "restart": 1.5,
}
"""With what is wanted on average, as a part of the ceiling."""

_WORKER: Final = Path(__file__).with_name("fleet_worker.py")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What counts, of a real run or of a predicted one; named as in `fleet_model.Result`."""

    peak: float
    above_seconds: float
    refused: float
    in_time: float
    wait_p50: float
    wait_p99: float
    jain: float
    settled_seconds: float
    utilisation: float


@dataclass(frozen=True)
class Band:
    """How far reality may be from the prediction.

    Attributes:
        add: In the number's own unit.
        times: And as a part of the prediction.
        show: The number as text.
        only_worse: Being better than predicted is fine: 1 if more is worse, -1 if less is.
    """

    title: str
    add: float
    times: float
    show: Callable[[float], str]
    only_worse: int = 0

    def holds(self, real: float, predicted: float) -> bool:
        """Whether reality is inside."""
        if math.isinf(predicted) or math.isinf(real):
            return real == predicted
        off = real - predicted
        if self.only_worse:
            off = max(0.0, off * self.only_worse)
        return abs(off) <= self.add + self.times * abs(predicted)


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _seconds(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.2f} s"


BANDS: Final = {
    "peak": Band("peak of the limit", 0.05, 0, _percent),
    "above_seconds": Band("above the ceiling", 2.0, 0.5, _seconds, only_worse=1),
    "refused": Band("refused per process", 0.5, 0.5, "{:.2f}".format, only_worse=1),
    "in_time": Band("in time", 0.01, 0, "{:.2%}".format, only_worse=-1),
    "wait_p50": Band("wait, p50", 0.1, 0.5, _seconds),
    "wait_p99": Band("wait, p99", 0.5, 0.5, _seconds),
    "jain": Band("Jain's index", 0.05, 0, "{:.2f}".format),
    "settled_seconds": Band("settled", 5.0, 0.5, _seconds, only_worse=1),
    "utilisation": Band("in use of the ceiling", 0.07, 0, _percent),
}


class Watch:
    """Samples the server's sessions, and counts those it refused, over the extra port."""

    def __init__(self, server: Server, port: int, begin: float) -> None:
        self._server, self._port, self._begin = server, port, begin
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="sessions")
        self.samples: list[tuple[float, int, int]] = []
        """Seconds, sessions, refused so far."""
        self._refused_before = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.is_set():
            try:
                with closing(self._server.connect(port=self._port)) as connection:
                    self._sample(connection)
            except pymysql.Error:  # it is down
                before = self.samples[-1][2] if self.samples else 0
                self._refused_before = before
                self.samples.append((time.monotonic() - self._begin, 0, before))
                self._ended.wait(SAMPLE_SECONDS)

    def _sample(self, connection: Any) -> None:
        with connection.cursor() as cursor:
            while not self._ended.wait(SAMPLE_SECONDS):
                cursor.execute(
                    "SHOW GLOBAL STATUS WHERE variable_name IN "
                    "('Threads_connected', 'Connection_errors_max_connections')"
                )
                found = {name: int(value) for name, value in cursor.fetchall()}
                self.samples.append(
                    (
                        time.monotonic() - self._begin,
                        found["Threads_connected"],
                        found["Connection_errors_max_connections"] + self._refused_before,
                    )
                )


class Generation:
    """Processes that started together."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER)], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self._group = self._process.pid
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            json.dump(order, pipe)

    def end(self) -> None:
        """All at once; each leaves its numbers."""
        if self._process.poll() is None:
            os.killpg(self._group, signal.SIGTERM)

    def wait(self) -> None:
        """Until all have ended."""
        self._process.wait(END_AT)


def run(scenario: Scenario, demand: Demand) -> tuple[Seen, float, Counter[str], list[str]]:
    """One scenario on real processes.

    Returns:
        What was seen, how long the server was down, counts, and errors of borrowers.
    """
    extra_port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="unhang-fleet-") as out,
        lab.server(
            "mariadb",
            max_connections=LIMIT,
            extra_port=extra_port,
            extra_max_connections=2,
            skip_name_resolve=True,
        ) as server,
    ):
        server.create_account("app", "pw", database="fleet")
        begin = time.monotonic() + READY_SECONDS
        order = _order(scenario, demand, server, begin, out)
        down = demand.down_seconds
        with Watch(server, extra_port, begin) as watch, _generations(scenario, order) as running:
            time.sleep(max(0.0, begin + EVENT_AT - time.monotonic()))
            if scenario == "deploy":
                running[0].end()
            if scenario == "restart":
                down = _restart(server)
            for generation in running:
                generation.wait()
        records = [json.loads(path.read_text()) for path in Path(out).iterdir()]
    seen = _seen(scenario, watch.samples, records, down)
    counts = Counter({n: sum(r[n] for r in records) for n in ("let_go", "connects", "refused")})
    return seen, down, counts, [error for record in records for error in record["errors"]]


def _order(
    scenario: Scenario, demand: Demand, server: Server, begin: float, out: str
) -> dict[str, Any]:
    return {
        "database": {
            "ENGINE": "unhang.backends.mysql",
            "NAME": "fleet",
            "USER": "app",
            "PASSWORD": "pw",
            "HOST": server.host,
            "PORT": server.port,
        },
        "processes": PROCESSES,
        "threads": demand.threads,
        "hold": demand.hold,
        "rate": demand.rate(LIMIT, PROCESSES),
        "burst": {"from": EVENT_AT, "to": EVENT_AT + BURST_SECONDS, "times": demand.burst}
        if scenario == "burst"
        else None,
        "seed": 1,
        "begin": begin,
        "from": 0.0,
        "backlog": 0,
        "event": EVENT_AT,
        "end": END_AT,
        "out": out,
    }


@contextmanager
def _generations(scenario: Scenario, order: dict[str, Any]) -> Iterator[list[Generation]]:
    running = [Generation(order)]
    if scenario == "deploy":
        # They are ready when the others are killed: what counts is the pool, not the imports.
        running.append(Generation(order | {"from": EVENT_AT, "backlog": BACKLOG, "seed": 2}))
    try:
        yield running
    finally:
        for generation in running:
            generation.end()


def _restart(server: Server) -> float:
    began = time.monotonic()
    server.stop()
    time.sleep(max(0.0, DOWN_SECONDS - (time.monotonic() - began)))
    server.start()
    return time.monotonic() - began


def _seen(
    scenario: Scenario,
    samples: Sequence[tuple[float, int, int]],
    records: Sequence[dict[str, Any]],
    down: float,
) -> Seen:
    samples = [sample for sample in samples if 0 <= sample[0] < END_AT]
    times = [at for at, _sessions, _refused in samples]
    sessions = _regular(times, [number for _at, number, _refused in samples])
    refused = _regular(times, [number for _at, _sessions, number in samples])
    waits = [wait for record in records for wait in record["waits"]]
    late = sum(record["late"] for record in records)
    # Processes that began after the event have no seconds before it; those killed then, none after.
    held = [r["connection_seconds"] for r in records if r["connection_seconds"]]
    middle = statistics.fmean(sessions[-100:])
    ceiling = ceiling_of(LIMIT)
    return Seen(
        # Less our own. One more than the limit may be there until it has logged in: the server
        # keeps that place for an administrator.
        peak=(max(number for _at, number, _refused in samples) - 1) / LIMIT,
        above_seconds=sum(number > ceiling for number in sessions) * 0.1,
        refused=(refused[-1] - refused[0]) / PROCESSES,
        in_time=len(waits) / (len(waits) + late),
        wait_p50=quantile(waits, 0.5),
        wait_p99=quantile(waits, 0.99),
        jain=sum(held) ** 2 / (PROCESSES * sum(seconds**2 for seconds in held)),
        settled_seconds=settled_seconds(scenario, sessions, refused, down),
        utilisation=middle / ceiling,
    )


def _regular(times: Sequence[float], values: Sequence[int]) -> list[int]:
    """A value for each tenth of a second, as the model has it: the last one seen."""
    found, number = [], 0
    for tenth in range(round(END_AT * 10)):
        while number + 1 < len(times) and times[number + 1] <= tenth / 10:
            number += 1
        found.append(values[number])
    return found


def predict(scenario: Scenario, demand: Demand) -> Seen:
    """The same in the model."""
    result = simulate(scenario, PROCESSES, limit=LIMIT, demand=demand)
    return Seen(**{name: getattr(result, name) for name in Seen.__dataclass_fields__})


def judge(scenario: Scenario, real: Seen, predicted: Seen) -> bool:
    """Print both beside each other; whether reality is inside each band."""
    title = f"{scenario}: {PROCESSES} processes, max_connections {LIMIT}"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    for name in ("real", "predicted", "band", "inside"):
        table.add_column(name, justify="right")
    all_hold = True
    values = asdict(predicted)
    for name, value in asdict(real).items():
        band = BANDS[name]
        if name == "jain" and scenario == "burst":
            continue  # demand is not equal
        holds = band.holds(value, values[name])
        all_hold = all_hold and holds
        table.add_row(
            band.title,
            band.show(value),
            band.show(values[name]),
            _width(band),
            "[green]yes[/green]" if holds else "[red]NO[/red]",
        )
    console.print(table)
    return all_hold


def _width(band: Band) -> str:
    sign = {0: "±", 1: "≤ +", -1: "≥ -"}[band.only_worse]
    relative = f" and {band.times:.0%}" if band.times else ""
    return f"{sign}{band.show(band.add)}{relative}"


def main() -> int:
    """Print a table for each scenario."""
    wanted = [s for s in SCENARIOS if s in (sys.argv[1:] or SCENARIOS)]
    console.rule("a real fleet")
    all_hold = True
    for scenario in wanted:
        demand = Demand(
            load=SCENARIOS[scenario],
            hold=HOLD,
            threads=THREADS,
            burst=30.0,
            down_seconds=DOWN_SECONDS,
            connect_seconds=CONNECT_SECONDS,
        )
        real, down, counts, errors = run(scenario, demand)
        predicted = predict(scenario, Demand(**(asdict(demand) | {"down_seconds": down})))
        all_hold = judge(scenario, real, predicted) and all_hold
        console.print(
            f"connects {counts['connects']}, let go at once {counts['let_go']}, refusals that "
            f"pools saw {counts['refused']}, errors of borrowers {len(errors)}"
        )
        for error, number in Counter(errors).most_common(3):
            console.print(f"  {number} × {error}", highlight=False)
        console.print()
    return 0 if all_hold else 1


if __name__ == "__main__":
    raise SystemExit(main())
