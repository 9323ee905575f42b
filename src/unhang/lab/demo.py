"""The demo: watch a site hang because of sleeping connections, see why, fix it, measure, undo it.

A play in two acts on a private server and a private site. The stage directions (what to show) go
to a `Show`; the facts come back as `DemoFacts`, which the report is made of.
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
from unhang.change.actions import Restart, Surroundings
from unhang.change.apply import Walk
from unhang.change.option_file import find_drop_in
from unhang.change.planner import Goal, Place, make_plan
from unhang.change.targets import Targets
from unhang.change.verify import Verification
from unhang.i18n import _
from unhang.lab.arrivals import Arrival, schedule
from unhang.lab.demo_facts import Act, DemoFacts, Script, Show, pages
from unhang.lab.load import Answer, Waits, run_load
from unhang.lab.server import Server, server
from unhang.lab.site import Site, site
from unhang.monitor.compare import compare
from unhang.monitor.history import History
from unhang.monitor.sample import Sample
from unhang.monitor.watch import watch
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
        show.chapter(_("Act two: the same load again"), _("same requests, same moments"))
        self._act("after", self._title_after())
        _survey, facts.findings_after = self._diagnose()
        facts.comparison = compare(*(act.compared_samples for act in facts.acts))
        facts.not_cured = tuple(_not_cured(facts))
        show.chapter("unhang compare before after", "")
        show.compared(facts)
        self._roll_back()
        return facts

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
        survey, _findings = self._diagnose()
        settings = survey.aliases[0]
        self.facts.restored = (
            ("wait_timeout", f"{survey.server.value('wait_timeout')} s"),
            ("interactive_timeout", f"{survey.server.value('interactive_timeout')} s"),
            ("CONN_MAX_AGE", f"{settings.conn_max_age} s"),
            ("CONN_HEALTH_CHECKS", str(settings.conn_health_checks)),
        )
        for name, value in self.facts.restored:
            self.show.tell(f"{name} {value}")


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


def _not_cured(facts: DemoFacts) -> Iterator[str]:
    """What is still wrong after the settings were changed, from what was measured."""
    before, after = facts.acts
    wait = facts.script.wait_timeout
    gone = _gone_away(after)
    if gone > 0:
        yield _(
            "{n} requests failed with a lost connection (before: {m}): threads outside the request "
            "cycle keep a connection longer than wait_timeout, and Django never checks it there."
        ).format(n=gone, m=_gone_away(before))
    peak = max((s.server.sleepers for s in after.compared_samples if s.server), default=0)
    still = [finding for finding in facts.findings_after if finding.rule == "UH201"]
    if still or peak > facts.script.processes * facts.script.threads:
        yield _(
            "Threads that views start still leave connections behind: up to {n} sleepers at a "
            "time. They now end after {wait} s instead of 8 h; a faster leak would fill the server "
            "again."
        ).format(n=peak, wait=wait)
    slow = Waits.of(a for a in after.compared_answers if a.name == "report")
    if slow.p50:
        yield _(
            "Slow queries are as slow as before (median {s:.1f} s) and still hold a connection and "
            "a worker each while they run."
        ).format(s=slow.p50)
    all_after = Waits.of(after.compared_answers)
    if all_after.failed:
        yield _("{n} of {all} requests of act two failed, for whatever reason.").format(
            n=all_after.failed, all=all_after.requests
        )


def _gone_away(act: Act) -> int:
    counts = [s.app.database_errors["gone_away"] for s in act.compared_samples if s.app]
    return counts[-1] - counts[0] if counts else 0
