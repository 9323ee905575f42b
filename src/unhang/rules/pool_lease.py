"""UH403: connections are lent for a whole request, and threads wait for them."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import OLD_SECONDS
from unhang.survey.model import Alias, Survey


def judge(survey: Survey) -> Iterator[Finding]:
    for alias in survey.aliases:
        pool = alias.own_pool
        if pool is None or pool.lease != "request" or not pool.max_size:
            continue
        threads = survey.workers.threads if survey.workers else 1
        held = _held_outside(survey, alias)
        if threads > pool.max_size or held:
            yield _finding(alias, threads, pool.max_size, held)


def _held_outside(survey: Survey, alias: Alias) -> int:
    """Sleepers that no pool keeps on purpose, so that somebody holds them."""
    if survey.workers is None or alias.own_pool is None:
        return 0  # each process keeps min_size, and nobody knows how many there are
    kept = survey.workers.processes * (alias.own_pool.min_size or 0)
    oldest_idle = max(OLD_SECONDS, alias.own_pool.max_idle or 0)
    old = [s for s in survey.sleepers if s.user == alias.user and s.seconds > oldest_idle]
    return max(0, len(old) - kept)


def _finding(alias: Alias, threads: int, max_size: int, held: int) -> Finding:
    return Finding(
        RULE.id,
        "notice",
        alias.name,
        _sentence(held).format(threads=threads, size=max_size, held=held),
        (
            ("lease", "request"),
            (_("threads of a process"), str(threads)),
            ("max_size", str(max_size)),
            (_("sleepers beyond what the pools keep"), str(held)),
        ),
        _(
            '# DATABASES["{alias}"]["OPTIONS"]["pool"]: for a statement or a transaction, the '
            "default\n"
        ).format(alias=alias.name)
        + '"lease": "transaction",',
    )


def _sentence(held: int) -> str:
    if held:
        return _(
            "Each request keeps its connection to the end, also while it computes or calls "
            "somebody, and {held} connections sleep in the hands of code that never ends a request."
        )
    return _(
        "Each request keeps its connection to the end, also while it computes or calls somebody: "
        "{threads} threads share {size} connections, and the others wait."
    )


def _story() -> str:
    return _(
        'With "lease": "request" a connection is lent with the first query and comes back when '
        "Django closes it, at the end of the request. That is how Django's pool for PostgreSQL "
        "works, and it keeps everything a session knows for the length of a request.\n\n"
        "What is lost: a connection sleeps while its request renders a page or waits for another "
        "service, so as many are needed as there are requests at once; and a thread, a command or "
        "a task that never ends a request keeps its connection until its thread ends. With more "
        "threads than max_size the others wait, and fail after the pool's timeout.\n\n"
        "Reported when a process has more threads than max_size, or when more sessions sleep "
        "longer than max_idle than the pools keep with min_size.\n\n"
        "The default, transaction, gives a connection back after each statement or transaction. "
        "Code that needs one session for several statements, such as GET_LOCK or a temporary "
        "table, keeps it there as well: such a statement pins it until the end of the request."
    )


RULE = Rule("UH403", _("Connections lent for a whole request"), _story, judge)
