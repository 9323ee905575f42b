"""UH304: sessions of other accounts take the slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from unhang.i18n import _
from unhang.rules import headroom
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids
from unhang.rules.text import owner_evidence, owners, seconds
from unhang.survey.model import Survey

_SHARE: Final = 0.5
_LOW_SHARE: Final = 0.25


def judge(survey: Survey) -> Iterator[Finding]:
    limit = survey.server.value("max_connections")
    if not limit or not survey.aliases:
        return
    others = [session for session in survey.sessions if session.user not in survey.app_users]
    ours = len(survey.sessions) - len(others)
    low = headroom.is_low(survey) and len(others) > ours
    if len(others) < (_LOW_SHARE if low else _SHARE) * limit:
        return
    asleep = [session for session in others if session.is_sleeper]
    ((biggest, count), *_rest) = Counter(session.user for session in others).most_common()
    yield Finding(
        RULE.id,
        "warning",
        survey.target,
        _(
            "Other accounts have {n} of the server's {limit} connections, this application {ours}: "
            "most are {user}'s ({count}): {owners}."
        ).format(
            n=len(others),
            limit=limit,
            ours=ours,
            user=biggest,
            count=count,
            owners=owners([s for s in others if s.user == biggest]),
        ),
        (
            (_("of other accounts"), str(len(others))),
            (_("of these asleep"), str(len(asleep))),
            (_("oldest"), seconds(max((s.seconds for s in asleep), default=0.0))),
            (_("of this application"), str(ours)),
            ("max_connections", str(limit)),
            *owner_evidence(others),
        ),
        _(
            "# a limit for the other account, so that it cannot take all:\n"
            "ALTER USER '{user}'@'%' WITH MAX_USER_CONNECTIONS {room};\n"
            "# and unhang diagnose in that application's project, where its settings are"
        ).format(user=biggest, room=max(1, limit // 3)),
        ids(others),
    )


def _story() -> str:
    return _(
        "max_connections is shared by everybody. When another application, a report tool or a "
        "backup holds most of it, this one is refused, and nothing in its own settings helps.\n\n"
        "Sessions of accounts that are not in DATABASES are counted. It is reported when they "
        "take half of max_connections, or a quarter and more than this application while headroom "
        "is low (UH301). Two applications with one account cannot be told apart on the server, "
        "only by their hosts and processes: give each its own.\n\n"
        "MAX_USER_CONNECTIONS bounds an account. It refuses that application's clients with error "
        "1226, so agree on the number with its owners."
    )


RULE = Rule("UH304", _("Other applications take the connections"), _story, judge, "cause")
