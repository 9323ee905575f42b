"""The demo's facts as plain data: what `report.json` holds and the report is drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import unhang
from unhang.lab.demo_burst import IN_TIME_SECONDS, Burst
from unhang.lab.demo_facts import Act, DemoFacts
from unhang.lab.load import Answer, Waits
from unhang.monitor.compare import Comparison
from unhang.monitor.metrics import METRICS, label
from unhang.monitor.sample import Server
from unhang.survey.codec import encode

SCHEMA: Final = 1

_COUNTS: Final[dict[str, Callable[[Server], int | None]]] = {
    "active": lambda server: server.active,
    "idle": lambda server: server.idle,
    "idle_in_transaction": lambda server: server.idle_in_transaction,
}


def to_json(facts: DemoFacts) -> dict[str, Any]:
    """Everything the demo found; times in seconds from each act's start unless a key says ms."""
    return {
        "schema": SCHEMA,
        "command": "demo",
        "made_by": f"unhang {unhang.__version__}",
        "started": facts.started.isoformat(timespec="seconds"),
        "server": facts.server,
        "script": encode(facts.script),
        "acts": [_act(act, facts.script.max_connections) for act in facts.acts],
        "survey": facts.survey.to_json() if facts.survey else None,
        "findings": [finding.to_json() for finding in facts.findings],
        "findings_after": [finding.to_json() for finding in facts.findings_after],
        "findings_backend": [finding.to_json() for finding in facts.findings_backend],
        "plan": facts.plan.to_json() if facts.plan else None,
        "verification": facts.verification.to_json() if facts.verification else None,
        "comparison": _comparison(facts.comparison),
        "backend_against_before": _comparison(facts.backend_against_before),
        "backend_against_after": _comparison(facts.backend_against_after),
        "not_cured": list(facts.not_cured),
        "not_cured_by_backend": list(facts.not_cured_by_backend),
        "bursts": [_burst(burst) for burst in facts.bursts],
        "restored": dict(facts.restored),
    }


def _act(act: Act, max_connections: int) -> dict[str, Any]:
    names = sorted({answer.name for answer in act.answers})
    compared = act.compared_answers
    return {
        "name": act.name,
        "title": act.title,
        "run_in_seconds": act.run_in_seconds,
        "lost_connections": act.lost_connections,
        "sessions": _sessions(act, max_connections),
        "responses": responses_by_second(act.answers),
        "waits": {
            "all": encode(act.waits),
            "pages": {n: encode(Waits.of(a for a in compared if a.name == n)) for n in names},
        },
    }


def _burst(burst: Burst) -> dict[str, Any]:
    answered, refused, failed = burst.reports
    return {
        "name": burst.name,
        "title": burst.title,
        "begins": burst.begins,
        "ends": burst.ends,
        "pages": len(burst.pages),
        "in_time": burst.in_time,
        "in_time_ms": 1000 * IN_TIME_SECONDS,
        "waits": encode(burst.waits),
        "reports": {"answered": answered, "told_to_come_again": refused, "failed": failed},
        "responses": responses_by_second([a for a in burst.answers if a.name != "report"]),
    }


def _sessions(act: Act, max_connections: int) -> dict[str, Any]:
    seen = [
        (round((sample.at - act.started).total_seconds(), 2), sample.server)
        for sample in act.samples
        if sample.server
    ]
    series: dict[str, Any] = {
        name: [count(server) for _t, server in seen] for name, count in _COUNTS.items()
    }
    return {"t": [t for t, _server in seen], "max_connections": max_connections, **series}


def responses_by_second(answers: Sequence[Answer]) -> dict[str, list[float | int | None]]:
    """The visitors' view, by the second in which a request was due.

    Returns:
        Lists of one length: `t`; `answered` and `failed` requests; `p50_ms` and `p95_ms` of those
        that were answered, `None` for a second without any.
    """
    seconds = range(math.ceil(max((answer.due for answer in answers), default=0.0)))
    found: dict[str, list[float | int | None]] = {
        key: [] for key in ("t", "answered", "failed", "p50_ms", "p95_ms")
    }
    for second in seconds:
        due = [answer for answer in answers if int(answer.due) == second]
        good = Waits.of(answer for answer in due if answer.ok)
        row = (second, good.requests, len(due) - good.requests, _ms(good.p50), _ms(good.p95))
        for key, value in zip(found, row, strict=True):
            found[key].append(value)
    return found


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 1)


def _comparison(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    plain = comparison.to_json()
    rows = [
        row | {"label": label(row["metric"]), "unit": METRICS[row["metric"]].unit}
        for row in plain["rows"]
    ]
    return plain | {"rows": rows}
