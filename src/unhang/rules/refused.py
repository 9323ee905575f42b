"""UH303: clients were refused for want of a connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from unhang.i18n import _
from unhang.rules import headroom
from unhang.rules.model import Finding, Rule
from unhang.rules.text import seconds
from unhang.survey.model import Survey

RECENT_SECONDS: Final = 3600
"""The counters tell no time. On a server that runs for less than this, a refusal was just now."""


def judge(survey: Survey) -> Iterator[Finding]:
    yield from (_exact if survey.server.engine.counts_refusals else _inferred)(survey)


def _exact(survey: Survey) -> Iterator[Finding]:
    status = survey.server.status
    refused = status.get("Connection_errors_max_connections", 0)
    if refused:
        yield _finding(
            survey,
            _("{n} clients were refused with error 1040 since the server started{ago}.").format(
                n=refused, ago=_ago(survey)
            ),
            (("Connection_errors_max_connections", str(refused)),),
        )


def _inferred(survey: Survey) -> Iterator[Finding]:
    """MariaDB: the limit was reached, and connects failed for another reason than a password."""
    status, limit = survey.server.status, survey.server.value("max_connections")
    peak = status.get("Max_used_connections", 0)
    aborted = status.get("Aborted_connects", 0)
    others = sum(
        status.get(name, 0) for name in ("Access_denied_errors", "Aborted_connects_preauth")
    )
    failed = aborted - others
    # The high-water mark passes the limit as soon as one client was refused (MariaDB 10.11, 11.8).
    if not limit or peak <= limit or failed <= 0:
        return
    yield _finding(
        survey,
        _(
            "The limit was reached ({peak} of {limit}) and up to {n} clients were refused since "
            "the server started{ago}."
        ).format(peak=peak, limit=limit, n=failed, ago=_ago(survey)),
        (
            ("Max_used_connections", str(peak)),
            ("Aborted_connects", str(aborted)),
            (_("of these wrong logins and probes"), str(others)),
            (
                "Connection_errors_max_connections",
                _("{n} (MariaDB does not count these refusals there)").format(
                    n=status.get("Connection_errors_max_connections", 0)
                ),
            ),
        ),
    )


def _finding(survey: Survey, sentence: str, evidence: tuple[tuple[str, str], ...]) -> Finding:
    recent = survey.server.status.get("Uptime", 0) < RECENT_SECONDS
    return Finding(
        RULE.id,
        "critical" if recent or headroom.is_low(survey) else "warning",
        survey.target,
        sentence,
        (
            *evidence,
            ("max_connections", str(survey.server.value("max_connections"))),
            (_("since"), seconds(survey.server.status.get("Uptime", 0))),
        ),
        _("unhang watch     # see when it happens, and what takes the connections then"),
    )


def _ago(survey: Survey) -> str:
    uptime = survey.server.status.get("Uptime")
    return "" if uptime is None else _(", {time} ago").format(time=seconds(uptime))


def _story() -> str:
    return _(
        'A refused client gets error 1040, "Too many connections", and its request fails.\n\n'
        "MySQL counts each refusal in Connection_errors_max_connections. MariaDB does not: there "
        "that counter stays at 0 while clients are refused, because it counts only a client that "
        "also found the connection reserved for administrators taken. So on MariaDB unhang looks "
        "at two things: Max_used_connections went above max_connections, which happens with the "
        "first refusal, and Aborted_connects is higher than the failed logins "
        "(Access_denied_errors) and port probes (Aborted_connects_preauth) together. A login to an "
        'unknown database and an account at its own limit raise it too, hence "up to".\n\n'
        "Both count since the server started and never go back. So the finding is critical while "
        "headroom is low (UH301) or when the server started less than an hour ago; later it is a "
        "warning: it happened, and nobody knows when. unhang watch sees when it happens again."
    )


RULE = Rule("UH303", _("Clients were refused"), _story, judge, "effect")
