"""Sending a load to a site, and what its visitors saw."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.lab.arrivals import Arrival

TIMEOUT_SECONDS: Final = 10.0
"""How long a visitor waits for an answer before giving up."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request as its visitor saw it.

    Attributes:
        due, ended: Seconds after the load's start.
        status: HTTP status; 0 when no answer came.
    """

    name: str
    due: float
    ended: float
    status: int
    error: str = ""

    @property
    def seconds(self) -> float:
        """How long the visitor waited, from when the request was due."""
        return self.ended - self.due

    @property
    def ok(self) -> bool:
        """Whether the visitor got what was asked."""
        return 200 <= self.status < 300


def run_load(
    url: str,
    arrivals: Sequence[Arrival],
    *,
    timeout: float = TIMEOUT_SECONDS,
    on_answer: Callable[[Answer], None] = lambda _answer: None,
) -> list[Answer]:
    """Send all arrivals and return the answers in the order they came.

    Args:
        on_answer: Called with each answer as it comes, in this thread.

    Raises:
        UsageProblem: Locust is not installed, or it failed.
    """
    if importlib.util.find_spec("locust") is None:
        raise UsageProblem(
            _("Sending a load needs Locust, which is not installed."),
            cure="pip install 'unhang[rehearse]'",
        )
    order = {"url": url, "timeout": timeout, "arrivals": [dataclasses.asdict(a) for a in arrivals]}
    answers: list[Answer] = []
    process = subprocess.Popen(
        [sys.executable, "-m", "unhang.lab.load_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C of the terminal is for us; we end the child below
    )
    with process:
        try:
            if process.stdin is None or process.stdout is None or process.stderr is None:
                raise AssertionError("the pipes were asked for")
            process.stdin.write(json.dumps(order))
            process.stdin.close()
            for line in process.stdout:
                answer = Answer(**json.loads(line))
                answers.append(answer)
                on_answer(answer)
            errors = process.stderr.read()
        finally:
            if process.poll() is None:
                process.kill()
    if len(answers) < len(arrivals):
        raise UsageProblem(
            _("The load ended early: {n} of {all} requests were answered or given up.").format(
                n=len(answers), all=len(arrivals)
            ),
            cure="\n".join(errors.strip().splitlines()[-3:]),
        )
    return answers


@dataclass(frozen=True, slots=True)
class Waits:
    """What visitors of some pages saw.

    Attributes:
        p50, p95, p99: Seconds from due to answered, of the requests that got what they asked; a
            site that fails everybody at once is not fast. `None` without any.
    """

    requests: int
    failed: int
    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, answers: Iterable[Answer]) -> Waits:
        """The statistics of some answers."""
        known = list(answers)
        seconds = sorted(answer.seconds for answer in known if answer.ok)
        quantiles = (_quantile(seconds, q) for q in (0.50, 0.95, 0.99))
        return cls(len(known), sum(not answer.ok for answer in known), *quantiles)


def _quantile(ordered: Sequence[float], q: float) -> float | None:
    """The smallest value that at least a share `q` of all does not exceed (nearest rank)."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else None
