"""UH203: connections that Django keeps for its threads take the server's room."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unhang.i18n import _
from unhang.mysql.engine import OWN_ENGINE
from unhang.rules import headroom
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids, is_pooled
from unhang.rules.text import owner_evidence, owners, seconds, sleepers
from unhang.survey.model import Alias, Survey
from unhang.survey.session import Session


def judge(survey: Survey) -> Iterator[Finding]:
    limit = survey.server.value("max_connections")
    for user in sorted(survey.app_users) if limit else ():
        keeping = [a for a in survey.aliases_of(user) if a.conn_max_age != 0 and not a.pool]
        found = [s for s in survey.sleepers if s.user == user and not is_pooled(survey, s)]
        share = 0.25 if headroom.is_low(survey) else 0.5
        if keeping and len(found) >= share * (limit or 0):
            yield _finding(survey, keeping[0], found)


def _finding(survey: Survey, alias: Alias, found: Sequence[Session]) -> Finding:
    workers, limit = survey.workers, survey.server.value("max_connections") or 1
    return Finding(
        RULE.id,
        "warning",
        alias.name,
        _(
            "{sleepers} take {share:.0%} of the server's {limit} connections: {owners}. "
            "CONN_MAX_AGE {age} keeps one for each thread, busy or not."
        ).format(
            sleepers=sleepers(len(found)),
            share=len(found) / limit,
            limit=limit,
            owners=owners(found),
            age=seconds(alias.conn_max_age),
        ),
        (
            ("CONN_MAX_AGE", seconds(alias.conn_max_age)),
            (
                _("processes × threads"),
                f"{workers.processes} × {workers.threads} ({workers.source})"
                if workers
                else _("unknown (--workers 4x16)"),
            ),
            ("max_connections", str(limit)),
            *owner_evidence(found),
        ),
        _(
            "# a pool that the threads of a process share:\n"
            '"ENGINE": "{engine}",     # and CONN_MAX_AGE = 0\n'
            "# or connect for each request:\n"
            'DATABASES["{name}"]["CONN_MAX_AGE"] = 0'
        ).format(engine=OWN_ENGINE, name=alias.name),
        ids(found),
    )


def _story() -> str:
    return _(
        "With CONN_MAX_AGE above 0 each thread of each process keeps a connection of its own, and "
        "looks whether it is too old only when it serves the next request. So in a quiet hour "
        "processes × threads sessions sleep, whatever CONN_MAX_AGE says, and nobody else gets "
        "their slots.\n\n"
        "It is reported when they take half of max_connections, or a quarter while headroom is "
        "low (UH301). Threads that serve no request (UH204), ASGI (UH205) and programs outside "
        "the request cycle (UH206 to UH208) are told by those rules where owners are known. Where "
        "they are not, such sleepers are counted here: compare their number with processes × "
        "threads.\n\n"
        "A pool shared by a process's threads needs as many connections as are busy at once, "
        "which is far fewer."
    )


RULE = Rule("UH203", _("Kept connections of many threads take the room"), _story, judge, "cause")
