"""The demo: watch a site hang because of sleeping connections, see why, fix it, measure, undo it.

A play in three acts on a private server and a private site: as it is, with changed settings, and
with unhang's backend. The stage directions (what to show) go to a `Show`; the facts come back as
`DemoFacts`, which the report is made of.

Act three has the server and the settings of act one, not those of act two: then one line is all
that differs, and what it does is seen apart from what `wait_timeout` does.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import pymysql.cursors

from unhang import timeouts
from unhang.change import journal as journals
from unhang.change import plan as plans
from unhang.change import verify as verification
from unhang.change.apply import Walk
from unhang.change.option_file import find_drop_in
from unhang.change.planner import Goal, Place, make_plan
from unhang.change.surroundings import Restart, Surroundings
from unhang.change.targets import Targets
from unhang.change.verify import Verification
from unhang.i18n import _
from unhang.lab import demo_burst
from unhang.lab import demo_verdict as verdict
from unhang.lab.arrivals import Arrival, schedule
from unhang.lab.demo_facts import Act, DemoFacts, Script, Show, pages
from unhang.lab.load import Answer, Waits, run_load
from unhang.lab.server import Server, server
from unhang.lab.site import Site, site
from unhang.monitor.compare import Comparison, compare
from unhang.monitor.history import History
from unhang.monitor.sample import Sample
from unhang.monitor.watch import watch
from unhang.mysql.engine import OWN_ENGINE, STOCK_ENGINE
from unhang.rules import catalogue
from unhang.rules.model import Finding
from unhang.survey import login as logins
from unhang.survey.collect import Target, survey_over, targets_of
from unhang.survey.connect import connected, open_connection
from unhang.survey.login import Login
from unhang.survey.model import Survey
from unhang.survey.project import Project, load_settings

SAMPLE_SECONDS: Final = 0.5
SEED: Final = 280


def run(script: Script, show: Show) -> DemoFacts:
    """Play it from beginning to end; nothing is left running, however it ends."""
    show.chapter(
        _("Setting up"),
        _("a private {engine} with {n} connections and wait_timeout 28800 s, and a shop").format(
            engine=script.engine, n=script.max_connections
        ),
    )
    with (
        server(script.engine, max_connections=script.max_connections) as database,
        site(database, processes=script.processes, threads=script.threads) as shop,
    ):
        return _Play(script, show, database, shop).perform()


class _Play:
    def __init__(self, script: Script, show: Show, database: Server, shop: Site) -> None:
        self.script, self.show, self.database, self.shop = script, show, database, shop
        self.admin: Login = logins.from_dsn(database.dsn())
        self.state = shop.project_dir / ".unhang"
        self.state.mkdir()
        version = database.execute("SELECT VERSION() AS version")[0]["version"]
        self.facts = DemoFacts(script, str(version), datetime.now(UTC))
        self.arrivals: list[Arrival] = schedule(pages(), script.load_seconds, SEED)

    def perform(self) -> DemoFacts:
        facts, show = self.facts, self.show
        show.chapter(
            _("Act one: as it is"),
            _(
                "{n:.0f} requests a second for {s:.0f} s. One page looks things up in threads of "
                "its own, and nobody closes their connections."
            ).format(n=len(self.arrivals) / self.script.load_seconds, s=self.script.load_seconds),
        )
        self._act("before", _("before: CONN_MAX_AGE unset, wait_timeout 28800 s"))
        show.chapter("unhang diagnose", _("why does it hang?"))
        facts.survey, facts.findings = self._diagnose()
        show.diagnosis(facts.survey, facts.findings)
        self._change()
        show.chapter(_("Act two: changed settings"), _("same requests, same moments"))
        self._act("after", self._title_after())
        _survey, facts.findings_after = self._diagnose()
        facts.comparison = self._compared("before", "after")
        facts.not_cured = tuple(verdict.not_cured_by_settings(facts))
        show.chapter("unhang compare before after", "")
        show.compared(facts)
        self._roll_back()
        self._with_the_backend()
        show.chapter(
            _("A burst of reports"),
            _("{n} people open a report that takes {s:.0f} s; others want their page").format(
                n=demo_burst.REPORTS_AT_ONCE, s=demo_burst.REPORT_SECONDS
            ),
        )
        self._burst("backend", _("with unhang's backend"))
        self._put_back()
        self._burst("stock", _("with Django's own backend"))
        show.bursts(facts)
        return facts

    def _burst(self, name: str, title: str) -> None:
        self.show.tell(title)
        seconds = self.script.burst_seconds
        answers = run_load(self.shop.url, demo_burst.arrivals(seconds, SEED))
        begins = demo_burst.LEAD_SECONDS
        burst = demo_burst.Burst(name, title, begins, begins + seconds, tuple(answers))
        self.facts.bursts.append(burst)

    def _with_the_backend(self) -> None:
        facts, show = self.facts, self.show
        show.chapter(
            _("Act three: one line instead"),
            _("server and settings of act one, but for the ENGINE; same requests, same moments"),
        )
        self._set_engine(STOCK_ENGINE, OWN_ENGINE)
        self._act(
            "backend", _("backend: ENGINE {engine}, wait_timeout 28800 s").format(engine=OWN_ENGINE)
        )
        _survey, facts.findings_backend = self._diagnose()
        facts.backend_against_before = self._compared("before", "backend")
        facts.backend_against_after = self._compared("after", "backend")
        facts.not_cured_by_backend = tuple(verdict.not_cured_by_backend(facts))
        show.chapter(_("The three acts side by side"), "")
        show.side_by_side(facts)

    def _compared(self, one: str, other: str) -> Comparison:
        return compare(*(self.facts.act(name).compared_samples for name in (one, other)))

    # -- acts ---------------------------------------------------------------------------------

    def _title_after(self) -> str:
        wait = self.script.wait_timeout
        return _("after: wait_timeout {wait} s, CONN_MAX_AGE {age} s, health checks").format(
            wait=wait, age=timeouts.client_limit(wait)
        )

    def _act(self, name: str, title: str) -> None:
        answers: list[Answer] = []
        samples: list[Sample] = []
        started = datetime.now(UTC)

        def show_now(sample: Sample) -> None:
            samples.append(sample)
            seconds = (sample.at - started).total_seconds()
            recent = [a for a in list(answers) if a.ended > seconds - 5]
            self.show.during(seconds, sample, Waits.of(recent))

        with self._watched(name, show_now):
            run_load(self.shop.url, self.arrivals, on_answer=answers.append)
        act = Act(name, title, started, self.script.run_in_seconds, tuple(samples), tuple(answers))
        self.facts.acts.append(act)

    @contextmanager
    def _watched(self, mark: str, on_sample: Any) -> Iterator[None]:
        """`unhang watch` beside the block, into the history that compare reads."""
        ended = threading.Event()
        opener = functools.partial(open_connection, self.admin, pymysql.cursors.Cursor)
        # The watch's own connection is there before the load takes the last one.
        first = [opener()]
        failures: list[BaseException] = []

        def look() -> None:
            try:
                with History(self.state / "history.sqlite3") as history:
                    history.mark(mark)
                    watch(
                        lambda: first.pop() if first else opener(),
                        interval=SAMPLE_SECONDS,
                        history=history,
                        run_dir=self.shop.run_dir,
                        on_sample=on_sample,
                        sleep=lambda seconds: _sleep_or_end(ended, seconds),
                    )
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(error)

        thread = threading.Thread(target=look, name="unhang-watch")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        if failures:
            raise failures[0]

    # -- verbs --------------------------------------------------------------------------------

    def _target(self) -> Target:
        project = Project(self.shop.project_dir, self.shop.settings_module)
        (target,) = targets_of(load_settings(project), login=self.admin)
        return target

    def _diagnose(self) -> tuple[Survey, tuple[Finding, ...]]:
        target = self._target()
        with connected(target.login) as connection:
            survey = survey_over(connection, target)
        return survey, catalogue.judge(survey)

    def _change(self) -> None:
        wait, show, facts = self.script.wait_timeout, self.show, self.facts
        show.chapter(f"unhang plan --wait-timeout {wait}", _("what would change, in which order"))
        project = Project(self.shop.project_dir, self.shop.settings_module)
        target = self._target()
        with connected(target.login) as connection:
            place = Place(survey_over(connection, target), find_drop_in(connection))
        facts.plan = make_plan([place], load_settings(project), Goal.of(wait))
        plans.save(facts.plan, self.state / f"plan-{facts.plan.id}.json")
        show.plan(facts.plan)
        show.chapter("unhang apply", _("Django first, then the server"))
        with Targets(facts.plan, self.admin) as targets:
            journal = journals.open_for(facts.plan, self.state)
            Walk(journal, self._around(targets)).forward()
            show.chapter("unhang verify", _("a new connection, and the sessions from before"))
            facts.verification = self._verified(journal, targets)
        show.verified(facts.verification)

    def _around(self, targets: Targets) -> Surroundings:
        return Surroundings(targets, _Narrator(self.show), Restart(self.shop.reload))

    def _verified(self, journal: journals.Journal, targets: Targets) -> Verification:
        result = verification.verify(journal, targets)
        waiting = threading.Event()  # never set: sleeps, and Ctrl-C ends it
        for _second in range(int(self.script.drain_seconds)):
            if result.drained:
                break
            waiting.wait(1.0)
            result = verification.verify(journal, targets)
        return result

    def _roll_back(self) -> None:
        self.show.chapter("unhang rollback", _("and back: the server first, then Django"))
        plan = self.facts.plan
        if plan is None:
            raise AssertionError("the plan was made before")
        with Targets(plan, self.admin) as targets:
            journal = journals.open_for(plan, self.state)
            Walk(journal, self._around(targets)).back()
        self._tell_what_is()

    def _tell_what_is(self) -> None:
        """Look at every value that the play changes, and note it as what was restored."""
        survey, _findings = self._diagnose()
        alias = survey.aliases[0]
        self.facts.restored = (
            ("wait_timeout", f"{survey.server.value('wait_timeout')} s"),
            ("interactive_timeout", f"{survey.server.value('interactive_timeout')} s"),
            ("CONN_MAX_AGE", f"{alias.conn_max_age} s"),
            ("CONN_HEALTH_CHECKS", str(alias.conn_health_checks)),
            ("ENGINE", alias.engine),
        )
        for name, value in self.facts.restored:
            self.show.tell(f"{name} {value}")

    def _set_engine(self, before: str, after: str) -> None:
        """Edit the settings file by hand, as a person would: no verb of unhang does this."""
        old, new = (f'"ENGINE": "{engine}",' for engine in (before, after))
        text = self.shop.settings_file.read_text()
        self.shop.settings_file.write_text(text.replace(old, new))
        self.show.tell(f"- {old}")
        self.show.tell(f"+ {new}")
        self.shop.reload()

    def _put_back(self) -> None:
        self.show.chapter(_("And back"), _("the line as it was"))
        self._set_engine(OWN_ENGINE, STOCK_ENGINE)
        self._tell_what_is()


class _Narrator:
    """The person of the change engine: in a play nobody is asked."""

    def __init__(self, show: Show) -> None:
        self._show = show

    def tell(self, text: str) -> None:
        self._show.tell(text)

    def show(self, text: str) -> None:
        self._show.tell(text)

    def ask(self, text: str) -> bool:
        self._show.tell(text)
        return False


class _EndedError(KeyboardInterrupt):
    """Ends a watch the way Ctrl-C does."""


def _sleep_or_end(ended: threading.Event, seconds: float) -> None:
    if ended.wait(seconds):
        raise _EndedError
