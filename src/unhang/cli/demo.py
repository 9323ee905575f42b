"""`unhang demo`: watch a site hang, see why, cure it in two ways, measure; leaves a report."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule as Line
from rich.table import Table
from rich.text import Text

from unhang.change.plan import Plan
from unhang.change.verify import Verification
from unhang.cli.compare import print_comparison
from unhang.cli.diagnose import print_survey
from unhang.cli.live import bar, legend
from unhang.cli.output import out, print_finding
from unhang.cli.plan_text import print_plan
from unhang.cli.verify import print_verification
from unhang.i18n import _
from unhang.lab import demo as play
from unhang.lab.demo_facts import DemoFacts, Script
from unhang.lab.demo_json import to_json
from unhang.lab.load import Waits
from unhang.monitor.compare import Comparison, Row
from unhang.monitor.metrics import METRICS, label
from unhang.monitor.sample import Sample
from unhang.rules.model import Finding
from unhang.survey.model import Survey
from unhang.web.report import render

_LOG_EVERY_SECONDS = 5.0
_GOOD_SHARE = 0.99
_STYLES = {"better": "green", "worse": "bold red"}
_DEFAULTS = Script()


def demo(
    report: Annotated[
        Path, typer.Option("--report", metavar="FILE", help="HTML; the facts go beside it as JSON.")
    ] = Path("report.html"),
    seconds: Annotated[
        float,
        typer.Option("--seconds", metavar="S", min=5.0, help="Length of each act's measured part."),
    ] = _DEFAULTS.act_seconds,
    run_in: Annotated[
        float,
        typer.Option("--run-in", metavar="S", min=0.0, help="Load before it, not measured."),
    ] = _DEFAULTS.run_in_seconds,
    engine: Annotated[
        str, typer.Option("--engine", help="mariadb, mariadb118 or mysql97 (see make servers).")
    ] = _DEFAULTS.engine,
) -> None:
    """Show the whole story on a private server and site; touches nothing of yours."""
    burst = min(_DEFAULTS.burst_seconds, seconds)
    script = Script(run_in_seconds=run_in, act_seconds=seconds, engine=engine, burst_seconds=burst)
    started = time.monotonic()
    facts = to_json(play.run(script, _Stage(script)))
    facts_file = report.with_suffix(".json")
    facts_file.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    report.write_text(render(facts), encoding="utf-8")
    out.print()
    took = _("{s:.0f} s in all. Report: {html}, facts: {json}")
    out.print(
        took.format(s=time.monotonic() - started, html=report, json=facts_file), soft_wrap=True
    )


class _Stage:
    """Tells the play on a terminal: a live picture where there is one, lines elsewhere."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._live: Live | None = None
        self._logged = -_LOG_EVERY_SECONDS

    def chapter(self, title: str, text: str) -> None:
        if self._live:
            self._live.stop()
        self._live = None
        self._logged = -_LOG_EVERY_SECONDS
        out.print()
        out.print(Line(Text(title, style="bold"), align="left"))
        if text:
            out.print(Text(text, style="dim"))

    def during(self, seconds: float, sample: Sample, waits: Waits) -> None:
        if sample.server is None:
            return  # a gap
        line = _("{s:3.0f} of {all:.0f} s  {n:2} of {max} connections, {asleep} asleep").format(
            s=seconds,
            all=self._script.load_seconds,
            n=sample.server.sessions,
            max=sample.server.max_connections,
            asleep=sample.server.sleepers,
        )
        style = "bold red" if waits.failed * 10 > waits.requests else "green"
        visitors = _("last 5 s: {ok} answered, {failed} failed, p95 {p95}").format(
            ok=waits.requests - waits.failed,
            failed=waits.failed,
            p95="–" if waits.p95 is None else f"{1000 * waits.p95:.0f} ms",
        )
        if not out.is_terminal:
            self._log(seconds, f"{line}  {visitors}")
            return
        if self._live is None:
            self._live = Live(console=out, auto_refresh=False)
            self._live.start()
        picture = Group(bar(sample.server), legend(), Text(line), Text(visitors, style=style))
        self._live.update(picture, refresh=True)

    def _log(self, seconds: float, text: str) -> None:
        if seconds - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = seconds
            out.print(text, soft_wrap=True)

    def diagnosis(self, survey: Survey, findings: tuple[Finding, ...]) -> None:
        print_survey(survey)
        for finding in findings:
            print_finding(finding)

    def plan(self, plan: Plan) -> None:
        print_plan(plan)

    def tell(self, text: str) -> None:
        out.print(f"  {escape(text)}")

    def verified(self, result: Verification) -> None:
        print_verification(result)

    def compared(self, facts: DemoFacts) -> None:
        self._titles(facts)
        if facts.comparison:
            print_comparison(facts.comparison)
        self._list(_("What settings alone did not cure"), facts.not_cured)

    def side_by_side(self, facts: DemoFacts) -> None:
        self._titles(facts)
        if facts.backend_against_before and facts.backend_against_after:
            out.print(_three_sides(facts.backend_against_before, facts.backend_against_after))
        self._list(_("What the backend did not cure"), facts.not_cured_by_backend)

    def bursts(self, facts: DemoFacts) -> None:
        for burst in facts.bursts:
            answered, refused, failed = burst.reports
            share = burst.in_time / max(1, len(burst.pages))
            text = _(
                "{title}: {n} of {all} pages within half a second ({share:.1%}); reports: {ok} "
                "answered, {later} told to come again, {failed} failed"
            )
            out.print(
                text.format(
                    title=burst.title,
                    n=burst.in_time,
                    all=len(burst.pages),
                    share=share,
                    ok=answered,
                    later=refused,
                    failed=failed,
                ),
                style="green" if share > _GOOD_SHARE else "bold red",
            )

    def _titles(self, facts: DemoFacts) -> None:
        for act in facts.acts:
            text = _("{title}: {n} of {all} requests failed").format(
                title=act.title, n=act.waits.failed, all=act.waits.requests
            )
            out.print(text)
        out.print()

    def _list(self, title: str, sentences: Sequence[str]) -> None:
        out.print(f"\n[bold]{title}[/]")
        for sentence in sentences or (_("Nothing that this run could show."),):
            out.print(Padding(Text(f"- {sentence}"), (0, 0, 0, 2)))


def _three_sides(against_before: Comparison, against_after: Comparison) -> Table:
    """Every metric in each act, and the backend's verdicts."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for title in (_("before"), _("after"), _("backend")):
        table.add_column(title, justify="right", no_wrap=True)
    for title in (_("backend against before"), _("backend against after")):
        table.add_column(title)
    for first, second in zip(against_before.rows, against_after.rows, strict=True):
        numbers = (_number(first, v) for v in (first.before, second.before, first.after))
        table.add_row(label(first.metric), *numbers, _verdict(first), _verdict(second))
    return table


def _number(row: Row, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{1000 * value:.1f} ms" if METRICS[row.metric].unit == "seconds" else f"{value:.1f}"


def _verdict(row: Row) -> Text:
    return Text(_(row.verdict), style=_STYLES.get(row.verdict, "dim"))
