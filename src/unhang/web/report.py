"""The demo's report: one HTML file that needs nothing else, from the demo's facts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

from django.template import Context, Engine
from django.utils.safestring import SafeString, mark_safe

from unhang.mysql.engine import OWN_ENGINE, STOCK_ENGINE

_PACKAGE: Final = "unhang.web"

_BURST_MARKS: Final = ((0.99, "good"), (0.9, "between"), (0.0, "bad"))

Acts = Sequence[Mapping[str, Any]]


def render(facts: Mapping[str, Any]) -> str:
    """The report as HTML.

    Args:
        facts: What `lab.demo_json.to_json` returns.
    """
    folder = resources.files(_PACKAGE)
    engine = Engine(dirs=[str(folder / "templates")])
    acts = facts["acts"]
    context = {
        "facts": facts,
        "max_connections": acts[0]["sessions"]["max_connections"],
        "run_in": f"{acts[0]['run_in_seconds']:.0f} s",
        "headline": _headline(acts),
        "pages": _pages(acts),
        "rows": _rows(facts),
        "bursts": [_burst(burst) for burst in facts["bursts"]],
        "stock_engine": STOCK_ENGINE,
        "own_engine": OWN_ENGINE,
        "steps": [_step(step) for step in facts["plan"]["steps"]],
        "data": _script_data({"acts": acts, "bursts": facts["bursts"]}),
        "uplot_js": _trusted("static/unhang/vendor/uplot/uPlot.iife.min.js"),
        "uplot_css": _trusted("static/unhang/vendor/uplot/uPlot.min.css"),
        "style": _trusted("static/unhang/report.css"),
        "script": _trusted("static/unhang/report.js"),
    }
    return str(engine.get_template("unhang/report.html").render(Context(context, use_l10n=False)))


def _trusted(name: str) -> SafeString:
    """A file of this package, as it is."""
    text = (resources.files(_PACKAGE) / name).read_text(encoding="utf-8")
    return mark_safe(text)  # noqa: S308 - our own files


def _script_data(data: Mapping[str, Any]) -> SafeString:
    """JSON for a <script>; no text in it can end the element."""
    text = json.dumps(data, separators=(",", ":"))
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(sign, code)
    return mark_safe(text)  # noqa: S308 - escaped on the lines above


def _headline(acts: Acts) -> list[dict[str, Any]]:
    """The three numbers a manager reads, each for every act."""
    failed = [_failed_share(act["waits"]["all"]) for act in acts]
    asleep = [_mean(_after_run_in(act, "idle")) for act in acts]
    product = [act["waits"]["pages"].get("product", act["waits"]["all"]) for act in acts]
    unanswered = [_failed_share(waits) for waits in product]
    limit = acts[0]["sessions"]["max_connections"]
    return [
        _card(acts, "requests that failed", failed, [_percent(share) for share in failed]),
        _card(acts, f"connections asleep, of {limit}", asleep, [f"{n:.0f}" for n in asleep]),
        _card(
            acts,
            "product pages answered",
            unanswered,
            [_percent(None if share is None else 1 - share) for share in unanswered],
        ),
    ]


def _card(
    acts: Acts, what: str, badness: Sequence[float | None], texts: Sequence[str]
) -> dict[str, Any]:
    """A number of each act; the colour says which is best and worst, not which act it is."""
    known = [value for value in badness if value is not None]
    marks = [_mark(value, known) for value in badness]
    sides = zip(acts, texts, marks, strict=True)
    return {
        "what": what,
        "sides": [{"label": a["name"], "text": text, "mark": mark} for a, text, mark in sides],
    }


def _mark(value: float | None, known: Sequence[float]) -> str:
    if value is None or min(known) == max(known):
        return "neutral"
    return {min(known): "good", max(known): "bad"}.get(value, "between")


def _after_run_in(act: Mapping[str, Any], name: str) -> list[int]:
    sessions = act["sessions"]
    pairs = zip(sessions["t"], sessions[name], strict=True)
    return [value for t, value in pairs if t >= act["run_in_seconds"] and value is not None]


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def _failed_share(waits: Mapping[str, Any]) -> float | None:
    return waits["failed"] / waits["requests"] if waits["requests"] else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _pages(acts: Acts) -> list[dict[str, Any]]:
    names = {name for act in acts for name in act["waits"]["pages"]}
    return [
        {
            "name": name,
            "sides": [
                {"label": act["name"], **_side(act["waits"]["pages"].get(name))} for act in acts
            ],
        }
        for name in sorted(names)
    ]


def _side(waits: Mapping[str, Any] | None) -> dict[str, str]:
    if waits is None:
        return dict.fromkeys(("requests", "failed", "p50", "p95", "p99"), "–")
    times = {key: _milliseconds(waits[key]) for key in ("p50", "p95", "p99")}
    return {"requests": str(waits["requests"]), "failed": str(waits["failed"]), **times}


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.0f} ms"


def _burst(burst: Mapping[str, Any]) -> dict[str, Any]:
    """What one backend made of the burst: of 100 visitors, how many had their page in time."""
    share = burst["in_time"] / max(1, burst["pages"])
    number = f"{math.floor(1000 * share) / 10:.1f}".removesuffix(".0")
    mark = next(name for least, name in _BURST_MARKS if share >= least)
    return {"title": burst["title"], "number": number, "mark": mark, **burst["reports"]}


def _rows(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each metric in every act, and each pair of acts judged."""
    names = ("comparison", "backend_against_before", "backend_against_after")
    triples = zip(*(facts[name]["rows"] for name in names), strict=True)
    return [_row(*triple) for triple in triples]


def _row(
    settings: Mapping[str, Any], backend: Mapping[str, Any], both: Mapping[str, Any]
) -> dict[str, Any]:
    values = (settings["before"], settings["after"], backend["after"])
    return {
        "label": settings["label"],
        "values": [_value(settings, value) for value in values],
        "verdicts": [_verdict(row) for row in (settings, backend, both)],
    }


def _verdict(row: Mapping[str, Any]) -> dict[str, str]:
    ends = row["interval"]
    return {
        "text": row["verdict"],
        "interval": " … ".join(_value(row, value) for value in ends) if ends else "",
        "mark": row["verdict"] if row["verdict"] in ("better", "worse") else "neutral",
    }


def _value(row: Mapping[str, Any], value: float | None) -> str:
    if value is None:
        return "–"
    return f"{1000 * value:.1f} ms" if row["unit"] == "seconds" else f"{value:.1f}"


def _step(step: Mapping[str, Any]) -> dict[str, str]:
    """A step of the plan in a line, and what it looks like to whoever does it by hand."""
    kind = step["kind"]
    if kind == "set-variable":
        title = f"{step['variable']}: {step['before']} → {step['after']} s"
        return {"title": title, "code": f"SET GLOBAL {step['variable']} = {step['after']};"}
    if kind == "edit-settings":
        lines = [line for line in step["diff"].splitlines() if line[:1] in "+-"]
        return {"title": "Django's settings", "code": "\n".join(lines)}
    if kind == "write-option-file":
        return {"title": "option file, for the next restart", "code": step["after"] or ""}
    return {"title": "the application runs with the new settings", "code": ""}
