"""What the rules about programs outside the request cycle have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from unhang.i18n import ngettext
from unhang.rules.model import Finding, Severity
from unhang.rules.owner_kinds import ids, own_wait_timeout
from unhang.rules.text import owner_evidence, owners, seconds
from unhang.survey.model import Survey
from unhang.survey.session import Session

LONG_SECONDS: Final = 60.0
MANY: Final = 3


def severity(survey: Survey, found: Sequence[Session]) -> Severity:
    """A notice for one or two that sleep for seconds, a warning from then on."""
    if len(found) >= MANY:
        return "warning"
    long = any(
        session.seconds >= min(LONG_SECONDS, (own_wait_timeout(survey, session) or 1e9) / 2)
        for session in found
    )
    return "warning" if long else "notice"


def finding(rule: str, survey: Survey, found: Sequence[Session], why: str, cure: str) -> Finding:
    """`3 sleepers up to 60 s old: python manage.py close_day (pid 77). WHY`."""
    oldest = max(session.seconds for session in found)
    return Finding(
        rule,
        severity(survey, found),
        survey.target,
        ngettext(
            "{n} sleeper, {oldest} old: {owners}. {why}",
            "{n} sleepers up to {oldest} old: {owners}. {why}",
            len(found),
        ).format(n=len(found), oldest=seconds(oldest), owners=owners(found), why=why),
        (
            *owner_evidence(found),
            ("wait_timeout", seconds(own_wait_timeout(survey, found[0]))),
        ),
        cure,
        ids(found),
    )
