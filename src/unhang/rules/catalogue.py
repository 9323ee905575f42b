"""All rules, and judging a survey by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.rules import (
    client_limit,
    headroom,
    health_checks,
    idle_in_transaction,
    interactive_timeout,
    long_wait_timeout,
    outside_requests,
    pool_budget,
    pool_init_command,
    pool_lease,
    pool_refused,
    refused,
    worker_slots,
)
from unhang.rules.model import SEVERITIES, Finding, Rule
from unhang.survey.model import Survey

RULES: Final[tuple[Rule, ...]] = (
    client_limit.RULE,
    long_wait_timeout.RULE,
    interactive_timeout.RULE,
    health_checks.RULE,
    outside_requests.RULE,
    idle_in_transaction.RULE,
    headroom.RULE,
    worker_slots.RULE,
    refused.RULE,
    pool_refused.RULE,
    pool_budget.RULE,
    pool_lease.RULE,
    pool_init_command.RULE,
)


def judge(survey: Survey) -> tuple[Finding, ...]:
    """The findings of every rule, the worst first."""
    found = (finding for rule in RULES for finding in rule.judge(survey))
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


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
