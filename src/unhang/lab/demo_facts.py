"""The demo's script, what it finds, and whom it tells."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from unhang.change.plan import Plan
from unhang.change.verify import Verification
from unhang.lab.arrivals import Page
from unhang.lab.demo_burst import Burst
from unhang.lab.load import Answer, Waits
from unhang.monitor.compare import Comparison
from unhang.monitor.sample import Sample
from unhang.rules.model import Finding
from unhang.survey.model import Survey


@dataclass(frozen=True, slots=True)
class Script:
    """The numbers of the play.

    Attributes:
        run_in_seconds: The load's first part, shown but not compared: sessions pile up, or settle.
        act_seconds: How long the part of each act lasts that is compared.
        wait_timeout: What the plan sets, seconds. On this stage a minute passes in a second, and
            5 s stand for the 300 s one would set in earnest.
        drain_seconds: How long verify may wait for the old sessions to end.
        burst_seconds: How long the burst of reports goes on.
    """

    run_in_seconds: float = 28.0
    act_seconds: float = 30.0
    wait_timeout: int = 5
    max_connections: int = 40
    processes: int = 2
    threads: int = 8
    drain_seconds: float = 20.0
    engine: str = "mariadb"
    burst_seconds: float = 12.0

    @property
    def load_seconds(self) -> float:
        """How long visitors come in each act."""
        return self.run_in_seconds + self.act_seconds


def pages() -> list[Page]:
    """What visitors do: mostly quick things; a few slow ones; and one page that leaks threads."""
    products = tuple(f"/product/{number}/" for number in range(1, 400))
    customers = tuple(f"/orders/?customer={number}" for number in range(1, 100))
    order = {"customer": 1, "lines": [{"product": 7, "quantity": 1}]}
    return [
        Page("product", products, per_second=30.0),
        Page("orders", customers, per_second=4.0),
        Page("order", ("/order/",), per_second=1.0, body=order),
        Page("report", ("/report/?seconds=3",), per_second=0.5),
        Page("recommend", ("/recommend/?ids=1,2,3&pool=request",), per_second=0.7),
        # A thread pool that is used now and then: its connections outlive wait_timeout.
        Page("recommend again", ("/recommend/?ids=4,5,6&pool=shared",), every=7.0),
    ]


@dataclass(frozen=True, slots=True)
class Act:
    """One run of the load.

    Attributes:
        name: `before`, `after` (with changed settings) or `backend`.
        run_in_seconds: The first part, which is not compared.
        samples: What the server looked like, every half second.
        answers: What the visitors saw.
    """

    name: str
    title: str
    started: datetime
    run_in_seconds: float
    samples: tuple[Sample, ...]
    answers: tuple[Answer, ...]

    @property
    def compared_samples(self) -> tuple[Sample, ...]:
        """Those after the run-in."""
        first = self.started + timedelta(seconds=self.run_in_seconds)
        return tuple(sample for sample in self.samples if sample.at >= first)

    @property
    def compared_answers(self) -> tuple[Answer, ...]:
        """Answers to requests that were due after the run-in."""
        return tuple(answer for answer in self.answers if answer.due >= self.run_in_seconds)

    @property
    def waits(self) -> Waits:
        """What all visitors saw after the run-in."""
        return Waits.of(self.compared_answers)

    @property
    def lost_connections(self) -> int:
        """Requests that ended with an error of a connection that was gone, after the run-in."""
        counts = [s.app.database_errors["gone_away"] for s in self.compared_samples if s.app]
        return counts[-1] - counts[0] if counts else 0

    @property
    def most_asleep(self) -> int:
        """The most sleepers at a time, after the run-in."""
        return max((s.server.sleepers for s in self.compared_samples if s.server), default=0)


@dataclass(slots=True)
class DemoFacts:
    """Everything the demo found; the report tells nothing else.

    Attributes:
        findings, findings_after, findings_backend: Of diagnose at the end of each act.
        comparison: Act two against act one.
        backend_against_before, backend_against_after: Act three against each of the others.
        not_cured, not_cured_by_backend: Sentences on what acts two and three left as it was.
        bursts: The burst of reports, with the backend and without.
        restored: Name and value of what was changed, read again at the end.
    """

    script: Script
    server: str
    started: datetime
    acts: list[Act] = field(default_factory=list)
    survey: Survey | None = None
    findings: tuple[Finding, ...] = ()
    findings_after: tuple[Finding, ...] = ()
    findings_backend: tuple[Finding, ...] = ()
    plan: Plan | None = None
    verification: Verification | None = None
    comparison: Comparison | None = None
    backend_against_before: Comparison | None = None
    backend_against_after: Comparison | None = None
    not_cured: tuple[str, ...] = ()
    not_cured_by_backend: tuple[str, ...] = ()
    bursts: list[Burst] = field(default_factory=list)
    restored: tuple[tuple[str, str], ...] = ()

    def act(self, name: str) -> Act:
        """The act of that name; it has been played."""
        return next(act for act in self.acts if act.name == name)


class Show(Protocol):
    """Whoever tells the play to the audience."""

    def chapter(self, title: str, text: str) -> None:
        """Something new begins."""

    def during(self, seconds: float, sample: Sample, waits: Waits) -> None:
        """The load runs; called about twice a second with the visitors' last few seconds."""

    def diagnosis(self, survey: Survey, findings: tuple[Finding, ...]) -> None:
        """What diagnose says."""

    def plan(self, plan: Plan) -> None:
        """What plan says."""

    def tell(self, text: str) -> None:
        """A line of a longer story."""

    def verified(self, result: Verification) -> None:
        """What verify says."""

    def compared(self, facts: DemoFacts) -> None:
        """What compare says of the first two acts, and what the settings did not cure."""

    def side_by_side(self, facts: DemoFacts) -> None:
        """The three acts in one table, and what the backend did not cure."""

    def bursts(self, facts: DemoFacts) -> None:
        """The burst of reports, with the backend and without."""
