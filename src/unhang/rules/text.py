"""How numbers are written in findings."""

from __future__ import annotations

from unhang.i18n import _, ngettext


def seconds(value: float | None) -> str:
    """`300 s`, with a reading in minutes, hours or days from two minutes on; `None` is for ever."""
    if value is None:
        return _("for ever")
    whole = f"{value:.0f} s" if value >= 10 or value == int(value) else f"{value:.1f} s"
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= 2 * unit or (unit > 60 and value >= unit):
            return f"{whole} ({value / unit:.3g} {name})"
    return whole


def sleepers(count: int) -> str:
    """`1 sleeper`, `12 sleepers`."""
    return ngettext("{n} sleeper", "{n} sleepers", count).format(n=count)
