"""The demo's report: one HTML file that needs nothing else, from the demo's facts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

from django.template import Context, Engine
from django.utils.safestring import SafeString, mark_safe

_PACKAGE: Final = "unhang.web"


def render(facts: Mapping[str, Any]) -> str:
    """The report as HTML.

    Args:
        facts: What `lab.demo_json.to_json` returns.
    """
    folder = resources.files(_PACKAGE)
    engine = Engine(dirs=[str(folder / "templates")])
    before, after = facts["acts"]
    context = {
        "facts": facts,
        "before": before,
        "after": after,
        "run_in": f"{before['run_in_seconds']:.0f} s",
        "headline": _headline(before, after),
        "pages": _pages(before, after),
        "rows": [_row(row) for row in facts["comparison"]["rows"]],
        "steps": [_step(step) for step in facts["plan"]["steps"]],
        "data": _script_data({"acts": facts["acts"]}),
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


def _headline(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, str]]:
    """The three numbers a manager reads."""
    failed = [act["waits"]["all"] for act in (before, after)]
    asleep = [_mean(_after_run_in(act, "idle")) for act in (before, after)]
    worst = [act["waits"]["pages"].get("product", act["waits"]["all"]) for act in (before, after)]
    return [
        {
            "what": "requests that failed",
            "before": _share(failed[0]["failed"], failed[0]["requests"]),
            "after": _share(failed[1]["failed"], failed[1]["requests"]),
        },
        {
            "what": f"connections asleep, of {before['sessions']['max_connections']}",
            "before": f"{asleep[0]:.0f}",
            "after": f"{asleep[1]:.0f}",
        },
        {
            "what": "product pages answered",
            "before": _share(worst[0]["requests"] - worst[0]["failed"], worst[0]["requests"]),
            "after": _share(worst[1]["requests"] - worst[1]["failed"], worst[1]["requests"]),
        },
    ]


def _after_run_in(act: Mapping[str, Any], name: str) -> list[int]:
    sessions = act["sessions"]
    pairs = zip(sessions["t"], sessions[name], strict=True)
    return [value for t, value in pairs if t >= act["run_in_seconds"] and value is not None]


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _pages(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = before["waits"]["pages"].keys() | after["waits"]["pages"].keys()
    return [
        {"name": name, "sides": [_side(act["waits"]["pages"].get(name)) for act in (before, after)]}
        for name in sorted(names)
    ]


def _side(waits: Mapping[str, Any] | None) -> dict[str, str]:
    if waits is None:
        return dict.fromkeys(("requests", "failed", "p50", "p95", "p99"), "–")
    times = {key: _milliseconds(waits[key]) for key in ("p50", "p95", "p99")}
    return {"requests": str(waits["requests"]), "failed": str(waits["failed"]), **times}


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.0f} ms"


def _row(row: Mapping[str, Any]) -> dict[str, str]:
    low_high = row["interval"]
    return {
        "label": row["label"],
        "unit": row["unit"],
        "before": _value(row, row["before"]),
        "after": _value(row, row["after"]),
        "difference": _value(row, row["difference"]),
        "interval": " … ".join(_value(row, value) for value in low_high) if low_high else "–",
        "verdict": row["verdict"],
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
