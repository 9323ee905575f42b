"""Durations as people type them."""

from __future__ import annotations

import pytest
import typer

from unhang.cli.durations import seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0", 0),
        ("10s", 10),
        ("10 S ", 10),
        ("5m", 300),
        ("1.5h", 5400),
        (".5m", 30),
        ("300ms", 0.3),
        ("1d", 86400),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "-1", "+5", "1e3", "5 minutes", "1h30m", "nan", "inf", ".", "1,5", "9" * 400],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no duration"):
        seconds_of(text)
