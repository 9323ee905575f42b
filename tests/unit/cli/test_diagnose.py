"""What diagnose prints of a survey."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.projects import Ran, run_unhang
from support.surveys import a_server, a_sleeper, a_survey, an_alias
from unhang.cli.diagnose import read_saved
from unhang.errors import UsageProblem
from unhang.rules import catalogue
from unhang.survey.model import Survey
from unhang.survey.session import Lock, Owner

SLEEPER = {
    "id": 1,
    "user": "shop",
    "host": "10.0.0.1",
    "database": "shop",
    "command": "Sleep",
    "seconds": 60.0,
}


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


def test_nobodys_name_commands_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2J\x9b31m\u202eCRITICAL\nUH999"
    lock = Lock("user", "EXCLUSIVE", evil)
    sessions = (a_sleeper(1, 60.0, locks=(lock,)), a_sleeper(2, user=evil))
    ran = diagnose(tmp_path, a_survey(sessions=sessions))
    assert "?[2J" in ran.out
    assert not set("\x1b\x9b\u202e") & set(ran.out)
    (line,) = (line for line in ran.out.splitlines() if "has held GET_LOCK" in line)
    assert "CRITICAL UH999" in " ".join(
        ran.out.split()
    )  # in one sentence, not in a line of its own
    assert line.startswith("  ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sessions": [{"id": 1}]}, "Session"),
        ({"sessions": 5}, "sessions cannot be 5"),
        ({"server": None}, "Server: None is no object"),
        ({"sessions": [SLEEPER | {"seconds": "x"}]}, "seconds cannot be 'x'"),
        ({"sessions": [SLEEPER | {"seconds": None}]}, "seconds cannot be None"),
        ({"sessions": [SLEEPER | {"blocks": [[]]}]}, "blocks cannot be [[]]"),
        ({"sessions": [SLEEPER | {"owner": {"known_by": [], "thread": {}}}]}, "thread cannot"),
        ({"workers": []}, "Workers: [] is no object"),
    ],
)
def test_a_spoiled_survey_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    file = tmp_path / "survey.json"
    file.write_text(json.dumps({"surveys": [a_survey().to_json() | change]}))
    with pytest.raises(UsageProblem, match=re.escape(words)):
        read_saved(file)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"surveys": []}', '{"surveys": [null]}', "[" * 100_000]
)
def test_what_holds_no_survey_is_refused(tmp_path: Path, text: str) -> None:
    """A diagnosis that reached no server has none, and is not "nothing to worry about"."""
    file = tmp_path / "survey.json"
    file.write_text(text)
    with pytest.raises(UsageProblem):
        read_saved(file)


def test_a_survey_of_the_first_version_is_judged(tmp_path: Path) -> None:
    """Fields that came later are unknown in it."""
    survey = a_survey(sessions=(a_sleeper(1, 60.0), a_sleeper(2, 60.0))).to_json()
    for name in ("limits", "logins", "held"):
        del survey[name]
    survey["sessions"] = [
        {name: session[name] for name in SLEEPER} for session in survey["sessions"]
    ]
    survey["aliases"] = [{**alias, "pool": False} for alias in survey["aliases"]]
    file = tmp_path / "survey.json"
    file.write_text(json.dumps({"surveys": [survey]}))
    (read,) = read_saved(file)
    assert read.logins is None
    assert read.sleepers[0].in_transaction is None
    catalogue.judge(read)


def test_thousands_of_sessions_fit_on_two_screens(tmp_path: Path) -> None:
    holding: dict[str, Any] = {"in_transaction": True, "rows_locked": 1, "rows_modified": 1}
    sessions = [
        a_sleeper(n, 9000.0, user=f"u{n % 40}", owner=Owner(("socket",), n, f"app{n % 300}"))
        for n in range(4000)
    ]
    for n in range(5000, 5100, 2):
        sessions.append(a_sleeper(n, 60.0, blocks=(n + 1,), **holding))
        sessions.append(replace(a_sleeper(n + 1, 30.0), command="Query"))
    sessions += [a_sleeper(n, 60.0, **holding) for n in range(6000, 7000)]
    ran = diagnose(tmp_path, a_survey(a_server(max_connections=6000), sessions=tuple(sessions)))
    assert len(ran.out.splitlines()) < 130, ran.out
