"""UH201: sleepers that CONN_MAX_AGE = 0 should have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from unhang.i18n import _
from unhang.mysql.engine import OWN_ENGINE
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import OLD_SECONDS, ids
from unhang.rules.text import owner_evidence, seconds, sleepers
from unhang.survey.model import Survey
from unhang.survey.session import Session

_FEW: Final = 2
"""One may be a request that calls somebody else."""


def judge(survey: Survey) -> Iterator[Finding]:
    for user in sorted(survey.app_users):
        aliases = [alias for alias in survey.aliases if alias.user == user]
        if any(alias.conn_max_age != 0 or alias.pool for alias in aliases):
            continue  # a kept connection of a worker looks just the same
        old = [s for s in survey.sleepers if s.user == user and s.seconds >= OLD_SECONDS]
        if len(old) >= _FEW:
            yield _finding(survey, user, old)


def _finding(survey: Survey, user: str, old: Sequence[Session]) -> Finding:
    hosts = Counter(session.host for session in old)
    oldest = max(session.seconds for session in old)
    limit = survey.server.value("max_connections") or 0
    return Finding(
        RULE.id,
        "critical" if limit and len(old) * 2 >= limit else "warning",
        ", ".join(alias.name for alias in survey.aliases if alias.user == user),
        _(
            "{sleepers} of {user} up to {oldest} old although CONN_MAX_AGE is 0: their owners live "
            "outside the request cycle, where Django never closes a connection."
        ).format(sleepers=sleepers(len(old)), user=user, oldest=seconds(oldest)),
        (
            ("CONN_MAX_AGE", "0 s"),
            (_("sleepers older than {s:.0f} s").format(s=OLD_SECONDS), str(len(old))),
            (_("oldest"), seconds(oldest)),
            (_("from"), ", ".join(f"{host} ({n})" for host, n in hosts.most_common(5))),
            *(owner_evidence(old) if any(session.owner for session in old) else ()),
            ("max_connections", str(limit)),
        ),
        _(
            "# in the code that runs in the thread, task or command, when its queries are done:\n"
            "from django.db import connections\n"
            "connections.close_all()\n"
            "# and a shorter wait_timeout, so that what is still forgotten ends by itself:\n"
            "unhang plan\n"
            "# or, for all threads at once, the backend that lends a connection only while it is "
            "used:\n"
            '"ENGINE": "{engine}",'
        ).format(engine=OWN_ENGINE),
        ids(old),
    )


def _story() -> str:
    return _(
        "CONN_MAX_AGE = 0 does not mean that nothing sleeps. Django closes a connection when the "
        "request that opened it ends, and in that request's own thread only. Threads that a view "
        "starts (ThreadPoolExecutor, Timer), management commands, schedulers, Celery tasks that "
        "start threads, and helper threads under ASGI never see that signal. Their sessions sleep "
        "until wait_timeout, eight hours by default.\n\n"
        "So when CONN_MAX_AGE is 0 and sleepers of the application's own account are older than "
        "5 s, no value of CONN_MAX_AGE can cure them: the code that opened them must close them, "
        "or the backend must not let idle code hold a connection, as unhang.backends.mysql does "
        "not. A shorter wait_timeout limits the damage.\n\n"
        "One sleeper may be a request that waits for an outside service; two or more are reported. "
        "Sleepers whose owner is known are told by UH204 and UH206 to UH210 instead."
    )


RULE = Rule(
    "UH201", _("Sleepers whose owners live outside the request cycle"), _story, judge, "cause"
)
