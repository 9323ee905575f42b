"""UH101: Django keeps connections as long as, or longer than, the server does."""

from __future__ import annotations

from collections.abc import Iterator

from unhang import timeouts
from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.text import seconds
from unhang.survey.model import Alias, Survey


def judge(survey: Survey) -> Iterator[Finding]:
    servers = survey.server.value("wait_timeout")
    for alias in survey.aliases:
        wait_timeout = alias.session_wait_timeout or servers
        if wait_timeout is None or alias.own_pool:
            continue  # the pool asks each session itself, and knows no CONN_MAX_AGE
        if not timeouts.lets_go_first(alias.conn_max_age, wait_timeout):
            yield _finding(alias, wait_timeout)
        elif alias.conn_max_age and alias.conn_max_age > timeouts.client_limit(wait_timeout):
            yield _too_close(alias, wait_timeout)


def _finding(alias: Alias, wait_timeout: int) -> Finding:
    return Finding(
        RULE.id,
        "warning" if alias.conn_health_checks else "critical",
        alias.name,
        _(
            "Django keeps a connection {age}, but the server ends a sleeper after {wait}: the next "
            'query on it fails with "MySQL server has gone away".'
        ).format(age=seconds(alias.conn_max_age), wait=seconds(wait_timeout)),
        _evidence(alias, wait_timeout),
        _cure(alias, wait_timeout),
    )


def _too_close(alias: Alias, wait_timeout: int) -> Finding:
    return Finding(
        RULE.id,
        "notice",
        alias.name,
        _(
            "Django lets go {gap} s before the server does; {margin:.0f} s are needed to be sure "
            "that no request is caught in between."
        ).format(
            gap=wait_timeout - (alias.conn_max_age or 0), margin=timeouts.margin(wait_timeout)
        ),
        _evidence(alias, wait_timeout),
        _cure(alias, wait_timeout),
    )


def _evidence(alias: Alias, wait_timeout: int) -> tuple[tuple[str, str], ...]:
    own = alias.session_wait_timeout is not None
    return (
        ("CONN_MAX_AGE", seconds(alias.conn_max_age)),
        (_("wait_timeout by init_command") if own else "wait_timeout", seconds(wait_timeout)),
        ("CONN_HEALTH_CHECKS", str(alias.conn_health_checks)),
    )


def _cure(alias: Alias, wait_timeout: int) -> str:
    limit = timeouts.client_limit(wait_timeout)
    return (
        f'DATABASES["{alias.name}"]["CONN_MAX_AGE"] = {limit}\n'
        f'DATABASES["{alias.name}"]["CONN_HEALTH_CHECKS"] = True'
    )


def _story() -> str:
    return _(
        "A server ends a session that slept longer than its wait_timeout. If Django still believes "
        "in that connection, the next request that uses it fails with error 2006, 2013 or 4031, "
        '"MySQL server has gone away".\n\n'
        "So the client must let go first: CONN_MAX_AGE below wait_timeout, by a margin of a fifth "
        "of wait_timeout, at least 1 s and at most 20 s. The worked example is wait_timeout 300 s "
        "and CONN_MAX_AGE 280 s. CONN_MAX_AGE = None means for ever, and is never below. Where "
        "OPTIONS['init_command'] sets a wait_timeout for each session, that one counts.\n\n"
        "CONN_MAX_AGE counts from the moment of connecting and is looked at only when a request "
        "starts or ends. CONN_HEALTH_CHECKS = True makes Django test a connection once at the "
        "start of a request and replace a dead one; it softens this finding to a warning.\n\n"
        "When you lower wait_timeout, lower CONN_MAX_AGE first, restart the application, and only "
        "then change the server. `unhang plan` keeps that order."
    )


RULE = Rule("UH101", _("CONN_MAX_AGE is not below wait_timeout"), _story, judge)
