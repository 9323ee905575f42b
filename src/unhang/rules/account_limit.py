"""UH305: an account has reached its own limit of connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids
from unhang.rules.text import owner_evidence
from unhang.survey.model import Survey

NEAR_SHARE: Final = 0.8


def judge(survey: Survey) -> Iterator[Finding]:
    own = {limit.user: limit.connections for limit in survey.limits}
    users = survey.app_users or {session.user for session in survey.sessions}
    for user in sorted(users):
        limit = own.get(user) or survey.server.value("max_user_connections")
        found = [session for session in survey.sessions if session.user == user]
        # Our own session is not listed, and it counts.
        count = len(found) + survey.account.startswith(f"'{user}'@")
        if not limit or count < NEAR_SHARE * limit or count < 2:
            continue
        full = count >= limit
        yield Finding(
            RULE.id,
            "critical" if full else "warning",
            survey.target,
            (
                _(
                    "{user} has all {limit} connections that this account may have: its next "
                    "client is refused with error 1226 (1203 for the global limit)."
                )
                if full
                else _("{user} has {count} of the {limit} connections that this account may have.")
            ).format(user=user, count=count, limit=limit),
            (
                (_("connections of {user}").format(user=user), str(count)),
                (_("of these asleep"), str(sum(session.is_sleeper for session in found))),
                (
                    _("MAX_USER_CONNECTIONS of the account")
                    if user in own
                    else "max_user_connections",
                    str(limit),
                ),
                ("max_connections", str(survey.server.value("max_connections"))),
                *owner_evidence(found),
            ),
            _cure(user, limit, of_account=user in own),
            ids(found),
        )


def _cure(user: str, limit: int, *, of_account: bool) -> str:
    raised = (
        f"ALTER USER '{user}'@'%' WITH MAX_USER_CONNECTIONS {limit * 2};"
        if of_account
        else f"SET GLOBAL max_user_connections = {limit * 2};"
    )
    return (
        _("# sleepers give back their slots sooner:\nunhang plan\n# or a higher limit:\n") + raised
    )


def _story() -> str:
    return _(
        "Besides max_connections there are limits for each account: the server's "
        "max_user_connections, and MAX_USER_CONNECTIONS of CREATE USER, which wins. Hosting "
        "companies set them low. A client above the limit is refused with error 1203 or 1226 "
        "though the server has plenty of room, and headroom (UH301) does not show it.\n\n"
        "unhang reads the limit of the account that it looks with, and those of the others if it "
        "may read mysql.user. At the limit it is critical, from four fifths of it on a warning.\n\n"
        "First find who holds them: sleepers count in full. Then raise the limit, or bound the "
        "application by a pool."
    )


RULE = Rule("UH305", _("An account at its own limit of connections"), _story, judge, "cause")
