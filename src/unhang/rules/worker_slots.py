"""UH302: the application can open more connections than the server takes."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.survey.model import Survey


def judge(survey: Survey) -> Iterator[Finding]:
    workers, limit = survey.workers, survey.server.value("max_connections")
    if workers is None or not limit:
        return
    aliases = max(1, len(survey.aliases))
    needed = workers.slots * aliases
    if needed <= limit:
        return
    yield Finding(
        RULE.id,
        "warning",
        survey.target,
        _(
            "{processes} processes × {threads} threads × {aliases} aliases can open {needed} "
            "connections; the server takes {limit}."
        ).format(
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
            "SET GLOBAL max_connections = {needed};"
        ).format(needed=needed + max(10, needed // 10)),
    )


def _story() -> str:
    return _(
        "Each worker thread may hold one connection for each alias it uses. When all are busy at "
        "once, processes × threads × aliases connections are needed on this host alone; other "
        "hosts, task workers, commands, monitoring and replication come on top.\n\n"
        "unhang takes the numbers from --workers 4x16, else from UNHANG = {'WORKERS': '4x16'} in "
        "the settings, else from a gunicorn it sees running in the project's folder. Threads that "
        "views start themselves are not counted, since nobody can know them beforehand."
    )


RULE = Rule("UH302", _("More worker slots than connections"), _story, judge)
