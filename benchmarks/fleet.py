"""Whether pools on many hosts share one server without a coordinator: 10 to 10,000 processes with
the real `Headroom` in a SimPy model, beside the same pools without it.

    make bench ARGS=fleet                    # 10, 100 and 1,000: two minutes
    python benchmarks/fleet.py --all         # 10,000, too: some minutes more
    python benchmarks/fleet.py --seed 2 10   # other chances; only this number of processes

`blind` is a weaker mode: where the server's sessions cannot be read, as behind some proxies, a pool
learns from its own refusals alone, and nobody else's reach it. It is shown, and held only to what
it can do. Ends with 1 when a target is missed. `fleet_real.py` checks the model.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product

from fleet_model import SCENARIOS, Policy, Result, Scenario, limit_for, simulate
from rich.table import Table
from tables import console

SIZES = (10, 100, 1_000)
ALL_SIZES = (*SIZES, 10_000)
POLICIES: tuple[Policy, ...] = ("none", "headroom")
WORKERS = 2

Check = Callable[[Result], bool]

REQUIREMENTS: dict[str, Check] = {
    # The server's limit is hard, so to be above it is to be refused.
    "below the limit: nobody is refused any more once settled": lambda r: (
        r.scenario == "blind" or math.isfinite(r.settled_seconds)
    ),
    "refused at most 3 times per process": lambda r: r.scenario == "blind" or r.refused <= 3,
    "above the ceiling for 5 s at most": lambda r: r.scenario == "blind" or r.above_seconds <= 5,
    "settled within 15 s": lambda r: r.scenario == "blind" or r.settled_seconds <= 15,
    "fair shares: Jain's index 0.85 or more among equals": lambda r: (
        r.scenario in ("burst", "blind") or r.jain >= 0.85
    ),
    "no oscillation: swings below 5 %, or below the noise": lambda r: r.swing <= max(0.05, r.noise),
    "98 % get a connection within 20 s": lambda r: r.in_time >= 0.98,
}


def run(job: tuple[int, Scenario, Policy, int]) -> tuple[Result, float]:
    """One run, and its seconds of CPU."""
    processes, scenario, policy, seed = job
    began = time.process_time()
    result = simulate(scenario, processes, policy=policy, seed=seed)
    return result, time.process_time() - began


def cells(result: Result, cpu: float) -> dict[str, str]:
    settled = result.settled_seconds
    return {
        "peak": f"{result.peak:.0%}",
        "above s": f"{result.above_seconds:.1f}",
        "1040s each": f"{result.refused:.2f}",
        "per s": f"{result.refused_peak}",
        "in time": f"{result.in_time:.1%}",
        "p50 s": f"{result.wait_p50:.2f}",
        "p99 s": f"{result.wait_p99:.2f}",
        "Jain": f"{result.jain:.2f}",
        "settled s": "never" if math.isinf(settled) else f"{settled:.1f}",
        "swing": f"{result.swing:.1%}",
        "connects/s": f"{result.connects:.0f}",
        "CPU s": f"{cpu:.0f}",
    }


def tabulate(processes: int, results: Sequence[tuple[Result, float]]) -> None:
    title = f"{processes:,} processes, max_connections {limit_for(processes):,}"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("", no_wrap=True)
    rows = {f"{r.scenario}, {r.policy}": cells(r, cpu) for r, cpu in results}
    for column in next(iter(rows.values())):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *row.values(), end_section=name.endswith("headroom"))
    console.print(table)
    console.print()


def judge(results: Sequence[Result]) -> bool:
    """Print a line per requirement; whether `headroom` meets all of them."""
    all_met = True
    for text, check in REQUIREMENTS.items():
        missed = [r for r in results if r.policy == "headroom" and not check(r)]
        without = sum(check(r) for r in results if r.policy == "none")
        of = sum(r.policy == "none" for r in results)
        where = ", ".join(f"{r.scenario} × {r.processes:,}" for r in missed)
        verdict = f"[red]NO[/red]  ({where})" if missed else "[green]yes[/green]"
        console.print(f"{text}: {verdict}; without headroom {without} of {of} runs")
        all_met = all_met and not missed
    return all_met


def main() -> int:
    """Print a table for each number of processes, and the verdicts."""
    parser = argparse.ArgumentParser(description="Do the pools of many processes share a server?")
    parser.add_argument("sizes", nargs="*", type=int, help="numbers of processes")
    parser.add_argument("--all", action="store_true", help="10,000 processes, too")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sizes = options.sizes or list(ALL_SIZES if options.all else SIZES)
    console.rule("the headroom of a fleet")
    jobs = list(product(sizes, SCENARIOS, POLICIES, [options.seed]))
    with ProcessPoolExecutor(WORKERS) as workers:
        done = []
        for result, cpu in workers.map(run, jobs):
            done.append((result, cpu))
            print(".", end="", file=sys.stderr, flush=True)
    for processes in sizes:
        tabulate(processes, [d for d in done if d[0].processes == processes])
    return 0 if judge([result for result, _cpu in done]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
