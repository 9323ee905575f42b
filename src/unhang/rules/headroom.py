"""UH301: how many more slow queries until the server refuses connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from unhang.i18n import _, ngettext
from unhang.rules.model import Finding, Rule, Severity
from unhang.survey.model import Survey

LOW_SHARE: Final = 0.30
CRITICAL_SHARE: Final = 0.10
"""Shares of max_connections. Monitoring templates warn at 80 % used for minutes; a single look
must warn earlier, since a burst of slow queries fills the rest within seconds."""


def headroom(survey: Survey) -> int | None:
    """Connections that ordinary accounts can still open, or `None` if the server does not say."""
    limit = survey.server.value("max_connections")
    connected = survey.server.status.get("Threads_connected")
    if limit is None or connected is None:
        return None
    # Our own connection ends with the survey. The one reserved for administrators is on top of
    # max_connections, not part of it (MariaDB 10.11, MySQL 9.7).
    return max(0, limit - (connected - 1))


def is_low(survey: Survey) -> bool:
    """Whether so little is left that it is a finding; `False` if the server does not say."""
    left, limit = headroom(survey), survey.server.value("max_connections")
    return left is not None and bool(limit) and left <= (limit or 0) * LOW_SHARE


def judge(survey: Survey) -> Iterator[Finding]:
    left, limit = headroom(survey), survey.server.value("max_connections")
    if left is None or not limit or not is_low(survey):
        return
    severity: Severity = "critical" if left <= limit * CRITICAL_SHARE else "warning"
    asleep = len(survey.sleepers)
    yield Finding(
        RULE.id,
        severity,
        survey.target,
        ngettext(
            "{n} more slow query and this server refuses connections.",
            "{n} more slow queries and this server refuses connections.",
            left,
        ).format(n=left)
        if left
        else _("This server has no connection left: it refuses the next client."),
        (
            ("max_connections", str(limit)),
            ("Threads_connected", str(survey.server.status["Threads_connected"])),
            (_("of these asleep"), str(asleep)),
            ("Threads_running", str(survey.server.status.get("Threads_running", "?"))),
            (_("headroom"), str(left)),
        ),
        _("unhang plan      # sleepers give back their slots sooner\n")
        if asleep * 2 >= limit - left
        else _("# Find what runs so long:\nSHOW FULL PROCESSLIST;"),
    )


def _story() -> str:
    return _(
        "A query needs a connection for as long as it runs. When a table scan or a lock wait makes "
        "queries slow, each new request opens one more, and none comes back. The number of free "
        "connections is therefore the number of slow queries that the service survives; after "
        'that every request fails with error 1040, "Too many connections", fast pages too.\n\n'
        "Headroom is max_connections less the sessions there are. Sleepers count in full: a "
        "forgotten session takes as much room as a busy one. It is a warning at 30 % left and "
        "critical at 10 %.\n\n"
        "The cure depends on what takes the room: sleepers end sooner with a shorter wait_timeout; "
        "running queries need an index, a limit (max_statement_time, max_execution_time) or fewer "
        "workers. Raising max_connections costs memory and moves the wall; it does not remove it."
    )


RULE = Rule("UH301", _("Little headroom: slow-query tolerance"), _story, judge, "effect")
