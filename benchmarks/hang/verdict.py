"""Whether unhang reaches its targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hang.measure import Summary, against

SETTLED: Final = 0.99


@dataclass(frozen=True)
class Verdict:
    """One target: what was asked, what was found."""

    met: bool
    text: str


def verdicts(own: Summary, limit: Summary | None) -> list[Verdict]:
    """All targets of one scenario.

    A pool cannot make a machine do more than it does with connections to spare. Where the limit
    itself, measured in the same rounds, misses a target, its own figure takes the target's place.
    """
    found = [_share(own, limit), _errors(own, limit), _settled(own, limit), _recovery(own, limit)]
    return found if limit is None else [*found, _ratio(own, limit)]


def _share(own: Summary, limit: Summary | None) -> Verdict:
    wanted = own.scenario.in_time
    asked = _lowered(wanted, limit.in_time if limit else None)
    return Verdict(
        own.in_time >= asked[0],
        f"fast requests in time: {own.in_time:.2%} (target {wanted:.1%}{asked[1]})",
    )


def _errors(own: Summary, limit: Summary | None) -> Verdict:
    allowed = limit.errors_outside if limit else 0
    more = f"; the limit itself: {allowed}" if allowed else ""
    return Verdict(
        own.errors_outside <= allowed,
        f"errors outside the lanes: {own.errors_outside} (target 0{more})",
    )


def _settled(own: Summary, limit: Summary | None) -> Verdict:
    asked = _lowered(SETTLED, limit.slow.settled if limit else None)
    return Verdict(
        own.slow.settled >= asked[0],
        f"slow ones served or refused in time: {own.slow.settled:.2%} "
        f"(target {SETTLED:.0%}{asked[1]})",
    )


def _recovery(own: Summary, limit: Summary | None) -> Verdict:
    allowed = limit.recovery if limit else 0.0
    more = f"; the limit itself: {limit.recovery_text}" if limit and allowed else ""
    return Verdict(own.recovery <= allowed, f"recovery: {own.recovery_text} (target 0 s{more})")


def _ratio(own: Summary, limit: Summary) -> Verdict:
    ratio, wanted = against(own, limit), own.scenario.ratio
    return Verdict(ratio <= wanted, f"p99: {ratio:.2f} × the limit's (target {wanted:.1f} ×)")


def _lowered(wanted: float, limit: float | None) -> tuple[float, str]:
    """What can be asked, and how to say so."""
    if limit is None or limit >= wanted:
        return wanted, ""
    return limit, f"; the limit itself: {limit:.2%}"
