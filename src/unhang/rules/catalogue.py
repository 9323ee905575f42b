"""All rules, and judging a survey by them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.rules import (
    account_limit,
    asgi,
    client_gone,
    client_limit,
    forked,
    headroom,
    health_checks,
    idle_in_transaction,
    interactive_timeout,
    keepalive,
    kept_by_threads,
    lock_chain,
    long_wait_timeout,
    other_applications,
    outside_requests,
    own_threads,
    paused_request,
    pool_budget,
    pool_init_command,
    pool_lease,
    pool_refused,
    previous_timeout,
    read_only_transaction,
    refused,
    scheduler_loop,
    slow_logins,
    slow_queries,
    table_lock,
    task_worker,
    user_lock,
    waiting_command,
    worker_slots,
)
from unhang.rules.model import ROLES, SEVERITIES, Finding, Rule, Severity
from unhang.survey.model import Survey

RULES: Final[tuple[Rule, ...]] = (
    client_limit.RULE,
    long_wait_timeout.RULE,
    interactive_timeout.RULE,
    health_checks.RULE,
    previous_timeout.RULE,
    keepalive.RULE,
    outside_requests.RULE,
    idle_in_transaction.RULE,
    kept_by_threads.RULE,
    own_threads.RULE,
    asgi.RULE,
    waiting_command.RULE,
    task_worker.RULE,
    scheduler_loop.RULE,
    forked.RULE,
    client_gone.RULE,
    headroom.RULE,
    worker_slots.RULE,
    refused.RULE,
    other_applications.RULE,
    account_limit.RULE,
    pool_refused.RULE,
    pool_budget.RULE,
    pool_lease.RULE,
    pool_init_command.RULE,
    lock_chain.RULE,
    user_lock.RULE,
    table_lock.RULE,
    read_only_transaction.RULE,
    slow_queries.RULE,
    slow_logins.RULE,
    paused_request.RULE,
)

SPECIFIC_FIRST: Final[tuple[Rule, ...]] = (
    user_lock.RULE,
    table_lock.RULE,
    lock_chain.RULE,
    client_gone.RULE,
    forked.RULE,
    read_only_transaction.RULE,
    idle_in_transaction.RULE,
    slow_queries.RULE,
    own_threads.RULE,
    asgi.RULE,
    waiting_command.RULE,
    task_worker.RULE,
    scheduler_loop.RULE,
    paused_request.RULE,
    kept_by_threads.RULE,
    outside_requests.RULE,
)
"""Rules that explain single sessions, the most specific first. What one of them has explained, the
ones after it do not see: each session is told once, by the rule that knows most about it."""

_ROLES: Final = {rule.id: rule.role for rule in RULES}


def judge(survey: Survey) -> tuple[Finding, ...]:
    """The findings of every rule, in the order of telling.

    By severity; then causes before effects before settings; then who explains more sessions; then
    the more specific rule. A cause behind half of all sessions is as severe as the effect on room
    that it has.
    """
    found = [f for rule in RULES if rule not in SPECIFIC_FIRST for f in rule.judge(survey)]
    explained: set[int] = set()
    for rule in SPECIFIC_FIRST:
        new = list(rule.judge(survey.without(explained)))
        explained.update(number for finding in new for number in finding.sessions)
        found += new
    return tuple(sorted(_raised(found, survey), key=_place))


def _raised(found: Sequence[Finding], survey: Survey) -> Iterator[Finding]:
    effects = [f.severity for f in found if _ROLES[f.rule] == "effect"]
    worst: Severity = min(effects, key=SEVERITIES.index, default="notice")
    for finding in found:
        large = len(finding.sessions) * 2 >= max(1, len(survey.sessions))
        if _ROLES[finding.rule] == "cause" and finding.sessions and large:
            yield replace(finding, severity=min(finding.severity, worst, key=SEVERITIES.index))
        else:
            yield finding


def _place(finding: Finding) -> tuple[int, int, int]:
    """Where it is told; what is equal stays in the order of asking."""
    role = ROLES.index(_ROLES[finding.rule])
    return SEVERITIES.index(finding.severity), role, -len(finding.sessions)


def rule(rule_id: str) -> Rule:
    """The rule with this id, in whatever case it was typed.

    Raises:
        UsageProblem: There is no such rule.
    """
    for known in RULES:
        if known.id == rule_id.strip().upper():
            return known
    ids: Sequence[str] = [known.id for known in RULES]
    raise UsageProblem(
        _("There is no rule {id}.").format(id=rule_id),
        cure=_("The rules are {ids}.").format(ids=", ".join(ids)),
    )
