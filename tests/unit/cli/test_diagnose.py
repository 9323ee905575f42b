"""What diagnose prints of a survey."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.projects import Ran, run_unhang
from support.surveys import a_server, a_sleeper, a_survey, an_alias
from unhang.survey.model import Survey
from unhang.survey.session import Owner


def diagnose(folder: Path, survey: Survey, *arguments: str, **environment: str) -> Ran:
    file = folder / "survey.json"
    file.write_text(json.dumps({"surveys": [survey.to_json()]}))
    return run_unhang("diagnose", "--from", str(file), *arguments, cwd=folder, **environment)


def test_connections_that_cannot_be_seen_are_counted_as_used(tmp_path: Path) -> None:
    survey = a_survey(a_server(status={"Threads_connected": 31}), sessions=(a_sleeper(),))
    ran = diagnose(tmp_path, survey)
    assert "30 of 100 connections used, of which 1 visible: 0 active, 1 asleep" in ran.text


def test_when_all_are_visible_nothing_is_said_of_it(tmp_path: Path) -> None:
    survey = a_survey(a_server(status={"Threads_connected": 2}), sessions=(a_sleeper(),))
    assert "1 of 100 connections used: 0 active, 1 asleep" in diagnose(tmp_path, survey).text


def test_the_wait_timeout_of_an_init_command_is_shown(tmp_path: Path) -> None:
    survey = a_survey(aliases=(an_alias(session_wait_timeout=30),))
    assert "init_command: wait_timeout 30 s" in diagnose(tmp_path, survey).text


@pytest.mark.parametrize("width", ["40", "120"])
def test_json_is_pure_at_any_width(tmp_path: Path, width: str) -> None:
    survey = a_survey(a_server(wait_timeout=28_800), sessions=(a_sleeper(),))
    ran = diagnose(tmp_path, survey, "--format", "json", COLUMNS=width)
    assert [finding["rule"] for finding in ran.json()["findings"]] == ["UH102", "UH103"]
    assert ran.err == ""


def test_a_narrow_terminal_shows_every_column(tmp_path: Path) -> None:
    sessions = tuple(a_sleeper(n, 100.0 * n) for n in range(1, 8))
    server = a_server(wait_timeout=3600, interactive_timeout=3600)
    ran = diagnose(tmp_path, a_survey(server, sessions=sessions), COLUMNS="40")
    assert all(len(line) <= 40 for line in ran.out.splitlines()), ran.out
    assert "shop  10.0.0.1  Sleep         7   700 s" in ran.out


def test_sleepers_are_shown_by_their_owner(tmp_path: Path) -> None:
    code = "shop/recommendations.py:53"
    sessions = [
        a_sleeper(
            n,
            10.0 * n,
            owner=Owner(
                ("owner file",),
                410 + n,
                "gunicorn shop.wsgi",
                thread=f"ThreadPoolExecutor-{n}_0",
                code=code,
                work="GET /recommend/",
            ),
        )
        for n in range(1, 5)
    ]
    behind = a_sleeper(9, owner=Owner(("proxy",), proxy="ProxySQL"))
    ran = diagnose(tmp_path, a_survey(sessions=(*sessions, behind, a_sleeper(10))), COLUMNS="80")
    lines = [line.rstrip() for line in ran.out.split("\n\n")[0].splitlines()]
    assert all(len(line) <= 80 for line in lines), ran.out
    (row,) = (n for n, line in enumerate(lines) if "gunicorn workers 411–414" in line)
    assert lines[row].split()[-5:] == ["shop", "Sleep", "4", "40", "s"]
    assert [line.strip() for line in lines[row + 1 : row + 4]] == [
        code,
        "executor threads",
        "GET /recommend/",
    ]
    assert "ProxySQL for shop at 10.0.0.1" in ran.text
    assert "stats_mysql_processlist" in ran.text
    assert any(line.startswith("shop at 10.0.0.1 ") for line in lines)
