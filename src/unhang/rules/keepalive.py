"""UH106: something pings sleepers, so wait_timeout never ends them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids, is_pooled
from unhang.rules.text import owner_evidence, seconds
from unhang.survey.model import Survey

MANY_PINGS: Final = 100
FEW_SLEEPERS: Final = 3


def judge(survey: Survey) -> Iterator[Finding]:
    status, wait = survey.server.status, survey.server.value("wait_timeout")
    pings, questions = status.get("Com_admin_commands"), status.get("Questions")
    uptime, found = status.get("Uptime"), [s for s in survey.sleepers if not is_pooled(survey, s)]
    if not pings or not wait or questions is None or not uptime:
        return
    if pings < MANY_PINGS or pings < questions or len(found) < FEW_SLEEPERS:
        return
    interval = len(found) * uptime / pings
    oldest = max(session.seconds for session in found)
    # Pinged sleepers never grow old; one that did shows that nobody keeps it awake.
    if interval >= wait or oldest > max(interval * 3, wait / 2):
        return
    proxies = sorted({s.owner.proxy for s in found if s.owner and s.owner.proxy})
    yield Finding(
        RULE.id,
        "warning",
        survey.target,
        _(
            "{sleepers} sleepers, and none older than {oldest}: most commands here are pings "
            "({pings} to {questions} statements), so wait_timeout {wait} never ends them."
        ).format(
            sleepers=len(found),
            oldest=seconds(oldest),
            pings=pings,
            questions=questions,
            wait=seconds(wait),
        ),
        (
            (_("pings and the like (Com_admin_commands)"), str(pings)),
            (_("statements (Questions)"), str(questions)),
            (_("each sleeper is pinged about every"), seconds(interval)),
            ("wait_timeout", seconds(wait)),
            (_("proxy"), ", ".join(proxies) or _("none seen")),
            *owner_evidence(found),
        ),
        _(
            "# let the one who pings give up what nobody uses; ProxySQL's admin interface:\n"
            "SET mysql-free_connections_pct = 5; SET mysql-connection_max_age_ms = 280000;\n"
            "LOAD MYSQL VARIABLES TO RUNTIME; SAVE MYSQL VARIABLES TO DISK;\n"
            "# MaxScale: persistmaxtime of the server; a pool with a keepalive: its maximum "
            "lifetime"
        ),
        ids(found),
    )


def _story() -> str:
    return _(
        "A ping (COM_PING) is a command: it starts the clock of wait_timeout anew. A proxy or "
        "pool that pings its idle connections every few seconds, as ProxySQL and others do, keeps "
        "them for ever, so no wait_timeout, however short, frees a slot. What looks like "
        'protection against "gone away" is a leak that nothing ends.\n\n'
        "It is judged by two things together: the server counted more pings than statements since "
        "it started (Com_admin_commands, which also counts a few other rare commands, and "
        "Questions, which does not count pings), and no sleeper is older than the time between "
        "two pings allows. Django's CONN_HEALTH_CHECKS pings at most once a request, so it stays "
        "below.\n\n"
        "Who pings cannot be seen on the server unless the proxy says its name; look at the hosts "
        "that the sleepers come from. Bound the lifetime of idle connections there."
    )


RULE = Rule("UH106", _("Pings that defeat wait_timeout"), _story, judge, "cause")
