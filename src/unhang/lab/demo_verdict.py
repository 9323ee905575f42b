"""What the demo's two cures did not cure, in sentences made of what was measured."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.lab.demo_facts import Act, DemoFacts
from unhang.lab.load import Waits
from unhang.monitor.metrics import label

_SINCE_THE_START = frozenset({"UH303"})
"""Rules that judge counters since the server's start, and so act one as well."""

_LEAKS = frozenset({"UH201", "UH204"})
"""Connections of threads that serve no request, whether the threads are known or not."""


def not_cured_by_settings(facts: DemoFacts) -> Iterator[str]:
    """What is still wrong after the settings were changed."""
    before, after = facts.act("before"), facts.act("after")
    wait = facts.script.wait_timeout
    if after.lost_connections > 0:
        yield _(
            "{n} requests failed with a lost connection (before: {m}): threads outside the request "
            "cycle keep a connection longer than wait_timeout, and Django never checks it there."
        ).format(n=after.lost_connections, m=before.lost_connections)
    still = [finding for finding in facts.findings_after if finding.rule in _LEAKS]
    if still or after.most_asleep > facts.script.processes * facts.script.threads:
        yield _(
            "Threads that views start still leave connections behind: up to {n} sleepers at a "
            "time. They now end after {wait} s instead of 8 h; a faster leak would fill the server "
            "again."
        ).format(n=after.most_asleep, wait=wait)
    yield from _slow_queries(after)
    yield from _failed(after, _("act two"))


def not_cured_by_backend(facts: DemoFacts) -> Iterator[str]:
    """What is still wrong with the backend, and what the changed settings did better."""
    act = facts.act("backend")
    if act.lost_connections > 0:
        yield _("{n} requests failed with a lost connection.").format(n=act.lost_connections)
    if act.most_asleep > facts.script.processes * facts.script.threads:
        yield _("Up to {n} connections slept at a time.").format(n=act.most_asleep)
    yield from _slow_queries(act)
    yield from _failed(act, _("act three"))
    rows = facts.backend_against_after.rows if facts.backend_against_after else ()
    for row in rows:
        if row.verdict == "worse":
            yield _("Worse than with the changed settings: {metric}.").format(
                metric=label(row.metric)
            )
    for finding in facts.findings_backend:
        if finding.rule not in _SINCE_THE_START:
            yield _("unhang diagnose still says {rule}: {sentence}").format(
                rule=finding.rule, sentence=finding.sentence
            )


def _slow_queries(act: Act) -> Iterator[str]:
    slow = Waits.of(a for a in act.compared_answers if a.name == "report")
    if slow.p50:
        yield _(
            "Slow queries are as slow as before (median {s:.1f} s) and still hold a connection and "
            "a worker each while they run."
        ).format(s=slow.p50)


def _failed(act: Act, name: str) -> Iterator[str]:
    waits = act.waits
    if waits.failed:
        yield _("{n} of {all} requests of {act} failed, for whatever reason.").format(
            n=waits.failed, all=waits.requests, act=name
        )
