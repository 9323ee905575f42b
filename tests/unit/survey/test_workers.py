"""How many workers the application has, from what is written or seen."""

from __future__ import annotations

import pytest

from unhang.errors import UsageProblem
from unhang.survey.workers import find_workers, gunicorn_workers, parse_workers


@pytest.mark.parametrize(
    ("text", "slots"), [("4x16", 64), ("4", 4), (" 2 x 8 ", 16), ("3*2", 6), ("1X1", 1)]
)
def test_processes_times_threads(text: str, slots: int) -> None:
    assert parse_workers(text).slots == slots


@pytest.mark.parametrize("text", ["", "x8", "4x", "many", "0x4", "-1"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageProblem, match="4x16"):
        parse_workers(text)


def test_the_option_wins_over_the_settings() -> None:
    found = find_workers("2x2", {"WORKERS": "9x9"}, None)
    assert found is not None
    assert (found.slots, found.source) == (4, "--workers")


def test_the_settings_are_named_as_the_source() -> None:
    found = find_workers(None, {"WORKERS": "9x9"}, None)
    assert found is not None
    assert (found.slots, found.source) == (81, 'UNHANG["WORKERS"]')


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gunicorn", "-w", "4", "--threads", "16", "x.wsgi"], (4, 16)),
        (["gunicorn", "--workers=3", "--threads=2", "x.wsgi"], (3, 2)),
        (["gunicorn", "-w4", "x.wsgi"], (4, 1)),
        (["gunicorn", "x.wsgi"], (1, 1)),
        (["--threads", "2", "gunicorn", "--threads", "8"], (1, 8)),
    ],
)
def test_a_gunicorn_command_line_is_understood(
    arguments: list[str], expected: tuple[int, int]
) -> None:
    assert gunicorn_workers(arguments) == expected
