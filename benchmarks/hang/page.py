"""The results for people who do not run databases: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from django.template import Context, Engine
from django.utils.safestring import mark_safe

from hang import chart
from hang.load import FAST_PER_SECOND, SLOW_SECONDS
from hang.measure import Summary
from hang.scenarios import CONNECTIONS, LIMIT, LIMIT_CONNECTIONS, OWN, PROCESSES, Scenario

_HERE: Final = Path(__file__).parent


def render(results: Sequence[Sequence[Summary]]) -> str:
    """The page.

    Args:
        results: For each scenario all contenders.
    """
    # The colours of the demo's report, so that the two look like one thing.
    report = resources.files("unhang.web") / "static/unhang/report.css"
    style = report.read_text(encoding="utf-8") + (_HERE / "page.css").read_text(encoding="utf-8")
    context = {
        "style": mark_safe(style),  # noqa: S308 - our own files
        "connections": CONNECTIONS,
        "limit_connections": LIMIT_CONNECTIONS,
        "per_second": f"{FAST_PER_SECOND:.0f}",
        "slow_from": f"{SLOW_SECONDS[0]:.0f}",
        "slow_to": f"{SLOW_SECONDS[1]:.0f}",
        "scenarios": [_scenario(summaries) for summaries in results],
    }
    template = Engine(dirs=[str(_HERE)]).get_template("page.html")
    return str(template.render(Context(context, use_l10n=False)))


def _scenario(summaries: Sequence[Summary]) -> dict[str, Any]:
    scenario = summaries[0].scenario
    return {
        "title": f"{scenario.slow} slow queries at a time",
        "how": _how(scenario),
        "sentence": _sentence(summaries),
        "bars": chart.bars(summaries),
        "timelines": [chart.timeline(summary) for summary in summaries],
        "rows": [_row(summary) for summary in summaries],
    }


def _how(scenario: Scenario) -> str:
    """Who serves, for those who know what that is."""
    serving = {
        "gthread": f"gunicorn, {PROCESSES} processes × {scenario.threads} threads",
        "sync": f"gunicorn, {PROCESSES} sync workers: each serves one visitor at a time",
        "asgi": f"uvicorn, {PROCESSES} processes",
    }[scenario.worker]
    return f"{serving}{'; some visitors order something' if scenario.writes else ''}"


def _sentence(summaries: Sequence[Summary]) -> str:
    """What the bars say, in words."""
    numbers = {s.contender.name: chart.of_hundred(s.in_time) for s in summaries}
    own = numbers.get(OWN)
    stock = next((s for s in summaries if not s.contender.own and s.contender.name != LIMIT), None)
    if own is None or stock is None:
        return ""
    return (
        f"With unhang {own} of 100 visitors got their page within half a second; "
        f"with {stock.contender.plain}, {numbers[stock.contender.name]}."
    )


def _row(summary: Summary) -> dict[str, str]:
    """The same for engineers."""
    slow = summary.slow
    return {
        "name": summary.contender.name,
        "fast": str(summary.fast),
        "p50": f"{1000 * summary.p50:.0f} ms",
        "p99": f"{1000 * summary.p99:.0f} ms",
        "errors": str(summary.errors_outside),
        "served": str(slow.served),
        "refused": str(slow.refused),
        "bad": str(slow.bad),
        "recovery": summary.recovery_text,
        "crowd": str(summary.crowd),
        "sessions": str(summary.peak_sessions),
    }
