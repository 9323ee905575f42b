"""UH302: the application can open more connections than the server takes."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.mysql.engine import OWN_ENGINE
from unhang.rules.model import Finding, Rule
from unhang.survey.model import Survey, Workers


def judge(survey: Survey) -> Iterator[Finding]:
    workers, limit = survey.workers, survey.server.value("max_connections")
    if workers is None or not limit or _only_pools(survey):
        return
    aliases = max(1, len(survey.aliases))
    needed = _needed(survey, workers)
    if needed <= limit:
        return
    yield Finding(
        RULE.id,
        "warning",
        survey.target,
        _sentence(survey).format(
            processes=workers.processes,
            threads=workers.threads,
            aliases=aliases,
            needed=needed,
            limit=limit,
        ),
        (
            (_("processes × threads"), f"{workers.processes} × {workers.threads}"),
            (_("said by"), workers.source),
            (_("aliases on this server"), str(aliases)),
            ("max_connections", str(limit)),
        ),
        _(
            "# fewer threads, or more room (about 0.1 MB each on MariaDB, 0.5 MB on MySQL):\n"
            "SET GLOBAL max_connections = {needed};\n"
            "# or a pool that the threads of a process share:\n"
            '"ENGINE": "{engine}",'
        ).format(needed=needed + max(10, needed // 10), engine=OWN_ENGINE),
    )


def _only_pools(survey: Survey) -> bool:
    """Nothing but unhang's own pools, whose sum UH402 judges."""
    return bool(survey.aliases) and all(alias.own_pool for alias in survey.aliases)


def _needed(survey: Survey, workers: Workers) -> int:
    """A thread holds one connection an alias, and the threads of a pool no more than its size."""
    if not survey.aliases:
        return workers.slots
    sizes = (alias.own_pool.max_size if alias.own_pool else None for alias in survey.aliases)
    each = sum(min(workers.threads, size or workers.threads) for size in sizes)
    return workers.processes * each


def _sentence(survey: Survey) -> str:
    if any(alias.own_pool for alias in survey.aliases):
        return _(
            "{processes} processes of {threads} threads can open {needed} connections over "
            "{aliases} aliases, pools counted by their max_size; the server takes {limit}."
        )
    return _(
        "{processes} processes × {threads} threads × {aliases} aliases can open {needed} "
        "connections; the server takes {limit}."
    )


def _story() -> str:
    return _(
        "Each worker thread may hold one connection for each alias it uses. When all are busy at "
        "once, processes × threads × aliases connections are needed on this host alone; other "
        "hosts, task workers, commands, monitoring and replication come on top. With the ENGINE "
        "unhang.backends.mysql the threads of a process share a pool, so no more than its max_size "
        "count; where every alias has such a pool, UH402 judges instead.\n\n"
        "unhang takes the numbers from --workers 4x16, else from UNHANG = {'WORKERS': '4x16'} in "
        "the settings, else from a gunicorn it sees running in the project's folder. Threads that "
        "views start themselves are not counted, since nobody can know them beforehand."
    )


RULE = Rule("UH302", _("More worker slots than connections"), _story, judge)
