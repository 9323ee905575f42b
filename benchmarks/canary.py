"""The canary of `unhang apply --watch`: how often it cries wolf, and how soon it finds harm.

Simulated watches of 10 minutes on systems that do not change, of several kinds; and watches in
which something gets worse with the change, or four minutes after it. It is the simulation of
`tests/unit/monitor/test_canary.py`, with more of everything.

    python benchmarks/canary.py [--watches 100] [--baseline 120] [--processes 2]

Measured in November 2026, a sample each second, seeds from 1000 on (the limits were chosen with
those from 0 on). False alarms in 100 watches of 10 minutes each:

    kind of system                                   baseline 120 s   60 s
    steady; bursty; autocorrelated; drift; 1, 20,
      500 requests/s; errors 0.1 % at 100 and at
      20 requests/s; slow batches (each of ten)              0           0
    unsteady in most of these ways, 20 requests/s            0           0
    errors in bursts of 1 to 3 s, every 5 minutes            1           1
    errors in bursts of 1 to 3 s, every minute               5           3

So 0 in 1,100 watches without bursts of errors: less than 0.3 % (95 % confidence; the second column
has the same seeds, so it adds little). The ten kinds were measured when errors had to show in four
samples and 10 s; since then it is four times 5 s, which can only take alarms away, and everything
else was measured with that. The hardest that was tried is "unsteady" with 0.1 % of errors, sampled
each 5 s: 2 false alarms in 400 watches.

With a burst of errors every minute the promise of 1 % is not kept; a baseline of 300 s helps (1 in
100). The four times 5 s were chosen at 60 of these seeds; with another 100 (from 2000 on, 120 s) it
was 0 every 5 minutes and 6 every minute, and before that rule 9 and 10 every minute.

Until harm is found (median; longest), baseline 120 s, 40 watches at each number of requests/s:

    all times x 2, slowest 10 % x 3     30 s; 33 s      within a minute 240/240
    1 % server errors, 20/s             33 s; 70 s                       39/40
    1 % server errors, 100/s, 500/s     17-18 s; 28 s                    80/80
    1 % lost connections, 20/s          33 s; 50 s                       40/40
    1 % lost connections, 100/s, 500/s  16-18 s; 28 s                    80/80
    1 refused per second                12-13 s; 17 s                   120/120
    the same, from 240 s after the change, 10 watches each              148/150

The two of the last line that took longer (73 and 76 s) are 1 % of errors at 20 requests/s. In
another 100 watches each of those from the change on: 94 within a minute when 0.05 % failed before,
98 when none did.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product
from multiprocessing.pool import Pool
from pathlib import Path

from tables import quantile, show

sys.path[:0] = [str(Path(__file__).parent.parent / "tests")]
from unit.monitor import test_canary as made_up  # noqa: E402 - found only with the path above

HARMS = {
    "all times x 2": made_up.DOUBLED,
    "slowest 10 % x 3": made_up.TAIL_SLOWER,
    "1 % server errors": made_up.SERVER_ERRORS,
    "1 % lost connections": made_up.GONE_AWAY,
    "1 refused per second": made_up.REFUSED,
}
RATES = (20, 100, 500)
LATER_SECONDS = 240.0
FIRST_SEED = 1000
"""The limits were chosen with those from 0 on, and what they were chosen with proves nothing."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--watches", type=int, default=100)
    parser.add_argument("--baseline", type=float, default=120)
    parser.add_argument("--only", choices=("alarms", "detection"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    with Pool(given.processes) as pool:
        if given.only != "detection":
            false_alarms(pool, given.watches, given.baseline)
        if given.only != "alarms":
            detection(pool, given.watches, given.baseline)
    return 0


def false_alarms(pool: Pool, watches: int, baseline: float) -> None:
    rows, bars = {}, {}
    for name, system in made_up.KINDS_OF_SYSTEMS.items():
        run = partial(made_up.watch, system, baseline=baseline)
        found = [one for one in pool.map(run, range(FIRST_SEED, FIRST_SEED + watches)) if one]
        why = Counter(worse.metric for _seconds, all_worse in found for worse in all_worse)
        by = ", ".join(f"{metric} {n}" for metric, n in why.items())
        rows[name] = {"watches": str(watches), "false alarms": str(len(found)), "by": by}
        bars[name] = len(found)
    show(f"10 minutes without a change, after a baseline of {baseline:.0f} s", rows, bars)


def detection(pool: Pool, watches: int, baseline: float) -> None:
    rows, bars = {}, {}
    for (name, harm), rate, after in product(HARMS.items(), RATES, (0.0, LATER_SECONDS)):
        run = partial(
            made_up.watch,
            made_up.System(rate=rate),
            baseline=baseline,
            seconds=after + 180,
            harm=replace(harm, after=after),
        )
        seeds = range(FIRST_SEED, FIRST_SEED + (watches // 4 if after else watches))
        # An alarm before the harm is none for it, and what was not found took "forever".
        took = [one[0] if one else math.inf for one in pool.map(run, seeds)]
        line = f"{name}, {rate}/s" + (f", after {after:.0f} s" if after else "")
        rows[line] = {
            "median": f"{quantile(took, 0.5):.0f} s",
            "99 %": f"{quantile(took, 0.99):.0f} s",
            "within 60 s": f"{sum(0 < t <= 60 for t in took)}/{len(took)}",
        }
        bars[line] = quantile(took, 0.5)
    show(f"until harm is found, after a baseline of {baseline:.0f} s", rows, bars)


if __name__ == "__main__":
    sys.exit(main())
