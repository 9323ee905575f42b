"""What the runs of the suite gave, and where they differ. Pure; reads nothing but text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

FILE_VARIABLE: Final = "DJANGO_SUITE_OUTCOMES"
"""The environment variable that tells the recorder where to write."""

RANKS: Final = (
    "started",
    "ok",
    "skipped",
    "expected failure",
    "unexpected success",
    "failed",
    "error",
)
"""From the least to the most telling: a test with subtests has several outcomes, and one counts."""

_LONGEST_LINE: Final = 300
_FINE: Final = frozenset({"ok", "skipped", "expected failure"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended; `started` if it did not end."""

    name: str
    error: str = ""

    @property
    def last_line(self) -> str:
        """The last line that begins with an exception's name, cut to a readable length."""
        lines = re.findall(r"^[A-Za-z_][\w.]*: .*", self.error, re.MULTILINE)
        return lines[-1][:_LONGEST_LINE] if lines else ""


@dataclass(frozen=True, slots=True)
class Run:
    """The suite, once.

    Attributes:
        backend: Its name on the command line.
        outcomes: By test.
        ran: Tests that were started.
        seconds: From start to end, databases included.
        connections: That the server accepted meanwhile.
        trouble: Why the outcomes are not all; empty if they are.
    """

    backend: str
    outcomes: Mapping[str, Outcome]
    ran: int
    seconds: float
    connections: int
    trouble: str = ""

    def count(self, name: str) -> int:
        return sum(outcome.name == name for outcome in self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Difference:
    """A test that ended otherwise than with the stock backend."""

    backend: str
    test: str
    stock: str
    outcome: Outcome

    @property
    def is_better(self) -> bool:
        """It fails with the stock backend and passes with ours: with PyMySQL, some do."""
        return self.outcome.name == "ok" and self.stock in ("failed", "error")


def read(lines: Sequence[str]) -> tuple[dict[str, Outcome], int]:
    """The outcomes that the recorder wrote, and the number of tests that were started."""
    outcomes: dict[str, Outcome] = {}
    started = 0
    for line in lines:
        event = json.loads(line)
        started += event["outcome"] == "started"
        known = outcomes.get(event["test"])
        if known is None or RANKS.index(event["outcome"]) > RANKS.index(known.name):
            outcomes[event["test"]] = Outcome(event["outcome"], event["error"])
    return outcomes, started


def differences(runs: Sequence[Run]) -> Iterator[Difference]:
    """Where a run differs from the stock backend's, or, without such a run, from success."""
    stock = next((run for run in runs if run.backend == "stock"), None)
    for run in runs:
        if run is not stock:
            yield from _differences(stock, run)


def _differences(stock: Run | None, run: Run) -> Iterator[Difference]:
    expected = stock.outcomes if stock else {}
    for test in sorted({*expected, *run.outcomes}):
        outcome = run.outcomes.get(test, Outcome("not run"))
        wanted = expected[test].name if test in expected else "not run"
        is_fine = outcome.name == wanted if stock else outcome.name in _FINE
        if not is_fine:
            yield Difference(run.backend, test, wanted if stock else "", outcome)


def now_passing(listed: Mapping[str, str], runs: Sequence[Run]) -> list[str]:
    """Listed tests that pass with every backend of ours that ran them."""
    ours = [run for run in runs if run.backend != "stock"]
    return [
        test
        for test in listed
        if (seen := {run.outcomes[test].name for run in ours if test in run.outcomes})
        and seen == {"ok"}
    ]


def parse_exceptions(text: str) -> dict[str, str]:
    """Test and reason of each line that is neither empty nor a comment.

    Raises:
        ValueError: A test has no reason.
    """
    listed = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            test, _space, reason = line.strip().partition(" ")
            if not reason.strip():
                raise ValueError(f"{test} is listed without a reason")
            listed[test] = reason.strip()
    return listed
