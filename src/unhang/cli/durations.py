"""Durations as people type them: `90`, `10s`, `5m`, `1.5h`."""

from __future__ import annotations

import math
import re
from typing import Final

import typer

from unhang.i18n import _

_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST: Final = 10 * 365 * 86400.0
"""Ten years: what is longer is a slip, and no clock can wait for it."""


def seconds_of(text: str) -> float:
    """Seconds of a duration that was typed; without a unit they are seconds.

    Raises:
        typer.BadParameter: It is none, is negative, or longer than ten years.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d|)", text.strip().lower())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else math.inf
    if seconds > _LONGEST:
        raise typer.BadParameter(
            _("{text!r} is no duration; write 90, 10s, 5m or 1h.").format(text=text)
        )
    return seconds
