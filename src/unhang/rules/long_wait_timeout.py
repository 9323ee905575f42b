"""UH102: wait_timeout is far longer than anybody needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from unhang import timeouts
from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.text import seconds
from unhang.survey.model import Survey

NEEDED_SECONDS: Final = 3600
"""No pause inside a request lasts an hour; a session that slept longer has no owner who waits."""


def judge(survey: Survey) -> Iterator[Finding]:
    wait_timeout = survey.server.value("wait_timeout")
    if wait_timeout is None or wait_timeout <= NEEDED_SECONDS:
        return
    oldest = max((session.seconds for session in survey.sleepers), default=0.0)
    recommended = timeouts.RECOMMENDED_WAIT_TIMEOUT
    over = sum(session.seconds > recommended for session in survey.sleepers)
    variable = survey.server.variables["wait_timeout"]
    yield Finding(
        RULE.id,
        "warning",
        survey.target,
        _(
            "A forgotten connection keeps its slot for {wait}: wait_timeout is far longer than "
            "anybody needs."
        ).format(wait=seconds(wait_timeout)),
        (
            ("wait_timeout", seconds(wait_timeout)),
            (_("its origin"), str(variable.origin)),
            (_("sleepers"), str(len(survey.sleepers))),
            (_("sleepers older than {s} s").format(s=recommended), str(over)),
            (_("oldest sleeper"), seconds(oldest)),
        ),
        _cure(survey, recommended),
    )


def _cure(survey: Survey, wait: int) -> str:
    if survey.aliases and all(alias.own_pool for alias in survey.aliases):
        text = _("wait_timeout {wait} s; the pools read it and let go earlier")
    else:
        text = _("wait_timeout {wait} s and CONN_MAX_AGE {limit} s, in the safe order")
    return "unhang plan      # " + text.format(wait=wait, limit=timeouts.client_limit(wait))


def _story() -> str:
    return _(
        "wait_timeout is how long the server lets a session sleep before it ends it. The default, "
        "28800 s, is eight hours. Every connection that the application forgets (a thread that "
        "ended, a worker that was killed behind a dead network path, a command that waits) takes "
        "one of max_connections for that long, and nothing but a KILL frees it earlier.\n\n"
        "Everything above 3600 s is reported. 300 s suits nearly everybody: longer than any pause "
        "within a request, short enough that leaks do not pile up. CONN_MAX_AGE must be lower "
        "(UH101), and a change reaches new sessions only: those that are open keep the value they "
        "were born with until they end.\n\n"
        "Code that sleeps longer between two queries than the new value (a consumer, a scheduler, "
        "a notebook) must close its connection before it waits: django.db.close_old_connections()."
    )


RULE = Rule("UH102", _("wait_timeout is far longer than anybody needs"), _story, judge)
