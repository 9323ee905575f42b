"""UH204: threads that serve no request opened connections, and nobody closes them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from unhang.i18n import _
from unhang.mysql.engine import OWN_ENGINE
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids, in_threads_of_its_own, kind_of, old_sleepers
from unhang.rules.text import owner_evidence, owners, seconds, sleepers
from unhang.survey.model import Survey
from unhang.survey.session import Session

_FEW: Final = 2


def judge(survey: Survey) -> Iterator[Finding]:
    seen = [s for s in old_sleepers(survey) if kind_of(s) in ("web", "asgi")]
    known = [s for s in seen if s.owner and in_threads_of_its_own(s.owner)]
    names = frozenset(ids(known))
    counted = _too_many(survey, [s for s in seen if s.id not in names])
    if len(known) + len(counted) >= _FEW:
        yield _finding(survey, known, counted)


def _too_many(survey: Survey, sessions: Sequence[Session]) -> list[Session]:
    """Those of processes that hold more sleepers than they have request threads.

    Only where nothing is kept on purpose, and the number of threads is known.
    """
    workers = survey.workers
    if workers is None or any(a.conn_max_age != 0 or a.pool for a in survey.aliases):
        return []
    of_process: defaultdict[int, list[Session]] = defaultdict(list)
    for session in sessions:
        owner = session.owner
        if owner and owner.pid is not None and in_threads_of_its_own(owner) is None:
            of_process[owner.pid].append(session)
    each = workers.threads * max(1, len(survey.aliases))
    return [s for found in of_process.values() if len(found) > each for s in found]


def _finding(survey: Survey, known: Sequence[Session], counted: Sequence[Session]) -> Finding:
    found = [*known, *counted]
    limit = survey.server.value("max_connections") or 0
    oldest = max(session.seconds for session in found)
    return Finding(
        RULE.id,
        "critical" if limit and len(found) * 2 >= limit else "warning",
        survey.target,
        _(
            "{sleepers} up to {oldest} old: {owners}. {how}; threads never fire request_finished, "
            "so nobody closes what they open."
        ).format(
            sleepers=sleepers(len(found)),
            oldest=seconds(oldest),
            owners=owners(found),
            how=_how(known),
        ),
        (
            *owner_evidence(found),
            ("max_connections", str(limit)),
        ),
        _(
            "# at the end of the function that the threads run:\n"
            "from django.db import connections\n"
            "connections.close_all()\n"
            "# or, for all threads at once, the backend that lends a connection only while it is "
            "used:\n"
            '"ENGINE": "{engine}",'
        ).format(engine=OWN_ENGINE),
        ids(found),
    )


def _how(known: Sequence[Session]) -> str:
    if not known:
        return _("The processes hold more than one for each of their request threads")
    if _executors_per_process(known) >= _FEW:
        return _("They come from several executors in a process, one for each request it seems")
    return _("They come from one executor or set of threads in each process")


def _executors_per_process(known: Sequence[Session]) -> int:
    """At most how many executors of one process opened them.

    Threads are numbered within an executor, and executors without a name within a process:
    `ThreadPoolExecutor-EXECUTOR_THREAD`. One name twice in a process is two executors.
    """
    names = Counter((s.owner.pid, s.owner.thread) for s in known if s.owner)
    unnamed: defaultdict[int | None, set[str]] = defaultdict(set)
    for pid, thread in names:
        executor, _line, number = thread.rpartition("_")
        if executor.startswith("ThreadPoolExecutor-") and number.isdigit():
            unnamed[pid].add(executor)
    return max([*names.values(), *map(len, unnamed.values())], default=0)


def _story() -> str:
    return _(
        "Django closes a connection when the request that opened it ends, in that request's own "
        "thread. A thread that a view, a signal handler or a module starts (ThreadPoolExecutor, "
        "Thread, Timer, asyncio.to_thread) opens its own connection with its first query, and no "
        "signal ever reaches it. An executor at module level keeps as many connections as it has "
        "threads, in each process, for as long as that lives. An executor made for each request "
        "leaves connections behind with every request, until Python's garbage collector happens to "
        "find them.\n\n"
        "The threads are known by name where the application writes down who connects (the app "
        "unhang in INSTALLED_APPS): request threads of gunicorn and asgiref are told from others. "
        "One name twice in a process, or several numbers of executors, means one executor a "
        "request. Without names, more sleepers in a process than it has request threads prove it "
        "where CONN_MAX_AGE is 0.\n\n"
        "No CONN_MAX_AGE cures it. Close at the end of the function that the threads run, or use "
        "the ENGINE unhang.backends.mysql."
    )


RULE = Rule(
    "UH204", _("Connections opened in threads that serve no request"), _story, judge, "cause"
)
