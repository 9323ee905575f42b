"""The report is one file that needs nothing else, and nothing in the facts can break out of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from unhang.web.report import render

EVIL = '</script><script>alert("1")</script>'


def burst(name: str, in_time: int) -> dict[str, Any]:
    return {
        "name": name,
        "title": f"with {name}",
        "pages": 374,
        "in_time": in_time,
        "reports": {"answered": 16, "told_to_come_again": 51, "failed": 0},
        "responses": {"t": [0], "p50_ms": [4.0], "p95_ms": [9.0]},
    }


@pytest.fixture
def facts() -> dict[str, Any]:
    waits = {"requests": 100, "failed": 97, "p50": None, "p95": None, "p99": 3.0}
    act = {
        "title": f"before {EVIL}",
        "run_in_seconds": 1.0,
        "sessions": {
            "t": [0.0, 1.0, 2.0],
            "max_connections": 40,
            "active": [1, 1, 1],
            "idle": [2, 30, 38],
            "idle_in_transaction": [0, None, 0],
        },
        "responses": {
            "t": [0, 1],
            "answered": [3, 0],
            "failed": [0, 3],
            "p50_ms": [4.0, None],
            "p95_ms": [9.0, None],
        },
        "waits": {"all": waits, "pages": {"product": waits, EVIL: waits}},
    }
    row = {
        "metric": "sessions",
        "label": "sessions",
        "unit": "sessions",
        "before": 39.0,
        "after": 13.0,
        "difference": -26.0,
        "interval": [-30.0, -22.0],
        "verdict": "better",
    }
    slow = row | {"after": 20.0, "interval": [-21.0, -17.0]}
    unknown = row | dict.fromkeys(("before", "difference", "interval")) | {"verdict": "worse"}
    return {
        "made_by": "unhang 0",
        "started": "2026-01-01",
        "server": f"10.11 {EVIL}",
        "script": {"wait_timeout": 5},
        "bursts": [burst("backend", 374), burst("stock", 26)],
        "acts": [
            {"name": "before", **act},
            {"name": "after", **act, "waits": act["waits"] | {"all": waits | {"failed": 6}}},
            {"name": "backend", **act, "waits": act["waits"] | {"all": waits | {"failed": 0}}},
        ],
        "findings": [
            {
                "rule": "UH201",
                "severity": "critical",
                "sentence": EVIL,
                "evidence": {EVIL: EVIL},
                "cure": EVIL,
            }
        ],
        "plan": {
            "steps": [
                {"kind": "set-variable", "variable": "wait_timeout", "before": 28800, "after": 5},
                {"kind": "edit-settings", "diff": '@@ 33 @@\n+"CONN_MAX_AGE": 4'},
                {"kind": "write-option-file", "after": "[mysqld]"},
                {"kind": "restart-application"},
            ]
        },
        "comparison": {"rows": [row, unknown]},
        "backend_against_before": {"rows": [slow, unknown]},
        "backend_against_after": {"rows": [slow | {"verdict": "worse"}, unknown]},
        "not_cured": [EVIL],
        "not_cured_by_backend": ["slow queries stay slow"],
        "restored": {"wait_timeout": "28800 s"},
    }


def test_it_needs_nothing_else(facts: dict[str, Any]) -> None:
    html = render(facts)
    assert not re.search(r"<(script|img|iframe|link)[^>]*\s(src|href)=", html)
    assert "@import" not in html
    assert "url(" not in html


def test_nothing_in_the_facts_can_break_out(facts: dict[str, Any]) -> None:
    html = render(facts)
    assert EVIL not in html
    assert html.count("<script") == 3, "uPlot, the data, and the drawing"


def test_the_data_for_the_charts_is_whole(facts: dict[str, Any]) -> None:
    html = render(facts)
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    assert json.loads(found[1]) == {"acts": facts["acts"], "bursts": facts["bursts"]}


def test_it_shows_numbers_steps_verdicts_and_what_was_not_cured(facts: dict[str, Any]) -> None:
    html = render(facts)
    for text in (
        "97.0 %",
        ">34<",  # sleepers after the run-in: (30 + 38) / 2
        "wait_timeout: 28800 → 5 s",
        "&quot;CONN_MAX_AGE&quot;: 4",
        "-30.0 … -22.0",
        "-21.0 … -17.0",
        "<td>39.0</td><td>13.0</td><td>20.0</td>",
        'class="verdict better"',
        'class="verdict worse"',
        "slow queries stay slow",
        '+"ENGINE": "unhang.backends.mysql"',
        "3000 ms",
        "28800 s",
        'name="viewport"',
    ):
        assert text in html, text
    assert "@@" not in html


def test_the_colour_of_a_number_follows_the_number(facts: dict[str, Any]) -> None:
    html = render(facts)
    shown = re.findall(r'<div class="(\w+)">([\d.]+ %)</div><div class="side">([^<]*)</div>', html)
    assert shown[:3] == [
        ("bad", "97.0 %", "before"),
        ("between", "6.0 %", "after"),
        ("good", "0.0 %", "backend"),
    ]
    assert {mark for mark, _text, _side in shown[3:]} == {"neutral"}, "all three are alike"


def test_each_act_has_its_charts(facts: dict[str, Any]) -> None:
    html = render(facts)
    for number, charts in enumerate((4, 4, 3)):  # two bursts have one each
        assert html.count(f'data-act="{number}"') == charts


def test_the_burst_says_how_many_of_100_had_their_page_in_time(facts: dict[str, Any]) -> None:
    html = render(facts)
    assert re.search(r'class="count good">100<', html)
    assert re.search(r'class="count bad">6\.9<', html), "rounded down: 100 means all of them"
    assert "16 shown, 51 told to come again" in html
