"""The report of a comparison, as text. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from django_suite.outcomes import Difference, Run

_COUNTS: Final = {
    "ok": "ok",
    "failed": "failed",
    "errors": "error",
    "skipped": "skipped",
    "expected failures": "expected failure",
    "unexpected successes": "unexpected success",
    "did not end": "started",
}
_LABEL_WIDTH: Final = 22
_WIDTH: Final = 13


def table(runs: Sequence[Run]) -> str:
    """Counts, one column a run."""
    rows = [("", [run.backend for run in runs]), ("ran", [str(run.ran) for run in runs])]
    rows += [(label, [str(run.count(name)) for run in runs]) for label, name in _COUNTS.items()]
    rows += [
        ("seconds", [f"{run.seconds:.0f}" for run in runs]),
        ("connections opened", [str(run.connections) for run in runs]),
    ]
    return "\n".join(
        label.ljust(_LABEL_WIDTH) + "".join(cell.rjust(_WIDTH) for cell in cells).rstrip()
        for label, cells in rows
    )


def verdict(
    runs: Sequence[Run],
    found: Sequence[Difference],
    listed: Mapping[str, str],
    passing: Sequence[str],
) -> Iterator[str]:
    """Line by line: what differs, what is excused, what is excused in vain."""
    for run in runs:
        if run.trouble:
            yield f"{run.backend}: {run.trouble}"
    for difference in found:
        if difference.test not in listed:
            yield from _lines(difference)
    excused = sorted({difference.test for difference in found if difference.test in listed})
    for test in excused:
        yield f"listed, and differs: {test} ({listed[test]})"
    for test in passing:
        yield f"listed, but passes now; take it off the list: {test}"
    if not found and not any(run.trouble for run in runs):
        yield "No test differs."


def _lines(difference: Difference) -> Iterator[str]:
    was = f" (stock: {difference.stock})" if difference.stock else ""
    yield f"{difference.backend}: {difference.outcome.name}{was}: {difference.test}"
    if difference.outcome.last_line:
        yield f"    {difference.outcome.last_line}"
