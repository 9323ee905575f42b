"""Where things are in the charts: pure arithmetic; the markup is in `page.html`.

Lengths along x are percentages and texts have no scale, so that a chart is as readable on a phone
as on a wide screen, without a script.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from hang.load import FAST_DEADLINE
from hang.measure import IN_TIME_SECONDS, Summary

BAR_HEIGHT: Final = 18
ROW_HEIGHT: Final = 50
PLOT_HEIGHT: Final = 130
PLOT_TOP: Final = 8
"""Pixels above the highest value."""

_GOOD, _FAIR = 0.99, 0.9
_LOWEST_SECONDS: Final = 0.005
_GRID: Final = ((0.01, "10 ms"), (0.1, "0.1 s"), (IN_TIME_SECONDS, "½ s"), (FAST_DEADLINE, "10 s"))


def of_hundred(share: float) -> str:
    """How many of 100; rounded down, so that 100 means all of them."""
    tenths = math.floor(1000 * share + 1e-9)
    return f"{tenths / 10:.1f}".removesuffix(".0")


def mark(share: float) -> str:
    """The colour's name."""
    if share >= _GOOD:
        return "good"
    return "between" if share >= _FAIR else "bad"


def bars(summaries: Sequence[Summary]) -> dict[str, Any]:
    """A bar for each contender."""
    rows = [
        {
            "name": summary.contender.plain,
            "own": summary.contender.own,
            "number": of_hundred(summary.in_time),
            "width": f"{100 * summary.in_time:.2f}",
            "mark": mark(summary.in_time),
            "text_y": number * ROW_HEIGHT + 16,
            "bar_y": number * ROW_HEIGHT + 23,
        }
        for number, summary in enumerate(summaries)
    ]
    return {"rows": rows, "height": ROW_HEIGHT * len(rows), "bar_height": BAR_HEIGHT}


def timeline(summary: Summary) -> dict[str, Any]:
    """The response times of one contender, second by second."""
    phases = summary.phases
    points = [f"{second + 0.5:.1f},{_y(value):.1f}" for second, value in summary.timeline]
    shade = 100 * phases.slow_begin / phases.end, 100 * phases.slow / phases.end
    return {
        "name": summary.contender.plain,
        "own": summary.contender.own,
        "mark": mark(summary.in_time),
        "height": PLOT_HEIGHT,
        "seconds": f"{phases.end:.0f}",
        "points": " ".join(points),
        "shade_x": f"{shade[0]:.2f}",
        "shade_width": f"{shade[1]:.2f}",
        "shade_middle": f"{shade[0] + shade[1] / 2:.2f}",
        "grid": [
            {"y": f"{_y(seconds):.1f}", "label": label, "limit": seconds == IN_TIME_SECONDS}
            for seconds, label in _GRID
        ],
        "begin": f"{phases.slow_begin:.0f}",
        "slow_end": f"{phases.slow_end:.0f}",
        "slow_end_x": f"{100 * phases.slow_end / phases.end:.2f}",
    }


def _y(seconds: float) -> float:
    """Pixels from the top, on a scale on which every tenfold is equally high."""
    share = math.log(max(seconds, _LOWEST_SECONDS) / _LOWEST_SECONDS)
    share /= math.log(FAST_DEADLINE / _LOWEST_SECONDS)
    return PLOT_TOP + (PLOT_HEIGHT - PLOT_TOP) * (1 - min(share, 1.0))
