"""UH601: a request pauses so long that its session will be gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from unhang.i18n import _
from unhang.rules.long_wait_timeout import NEEDED_SECONDS
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import (
    ids,
    in_threads_of_its_own,
    kind_of,
    old_sleepers,
    own_wait_timeout,
)
from unhang.rules.text import owner_evidence, owners, seconds
from unhang.survey.model import Survey
from unhang.survey.session import Session

NEAR_SHARE: Final = 0.5


def judge(survey: Survey) -> Iterator[Finding]:
    found = [session for session in old_sleepers(survey) if _pauses(survey, session)]
    if not found:
        return
    certain = any(s.owner and in_threads_of_its_own(s.owner) is False for s in found)
    oldest = max(found, key=lambda session: session.seconds)
    wait = own_wait_timeout(survey, oldest)
    yield Finding(
        RULE.id,
        "critical",
        survey.target,
        (
            _(
                "A request pauses with its connection open for {asleep} of the {wait} that the "
                'server allows: then its next query fails with "MySQL server has gone away" '
                "({owners})."
            )
            if certain
            else _(
                "A web process holds a connection that has slept {asleep} of the {wait} that the "
                "server allows: a request that waits for something else, whose next query will "
                "find the server gone away, or a thread that nobody closes ({owners})."
            )
        ).format(asleep=seconds(oldest.seconds), wait=seconds(wait), owners=owners(found)),
        (
            ("wait_timeout", seconds(wait)),
            (_("asleep"), seconds(oldest.seconds)),
            ("CONN_MAX_AGE", "0 s"),
            *owner_evidence(found),
        ),
        _(
            "# in the view, before it waits for the other service:\n"
            "from django.db import connection\n"
            "connection.close()      # not inside atomic(); the next query opens a new one\n"
            "# and a limit for the wait: requests.get(url, timeout=(3, 20))"
        ),
        ids(found),
    )


def _pauses(survey: Survey, session: Session) -> bool:
    """A web process's session that sleeps although no connection is kept between requests."""
    wait = own_wait_timeout(survey, session)
    aliases = survey.aliases_of(session.user)
    if wait is None or not aliases or any(a.conn_max_age != 0 or a.pool for a in aliases):
        return False
    if kind_of(session) not in ("web", "asgi") or session.owner is None:
        return False
    if session.seconds < NEAR_SHARE * wait or session.seconds > NEEDED_SECONDS:
        return False
    return not in_threads_of_its_own(session.owner)


def _story() -> str:
    return _(
        "wait_timeout also runs within a request. A view that queries, then waits for a slow "
        "service or a big upload for longer than wait_timeout, and queries again, finds its "
        "session ended: error 2006, 2013 or 4031. CONN_HEALTH_CHECKS does not help, since it "
        "tests only before a request's first query.\n\n"
        "It is reported when CONN_MAX_AGE is 0 and a web process's session has slept for half of "
        "its wait_timeout or longer: nothing is kept between requests then, so the request is "
        "still running. Unless the name of the thread is known, a thread that the view started "
        "(UH204) looks the same; the sentence then says both. The line of code, where known, "
        "tells them apart. With CONN_MAX_AGE above 0 a connection kept between requests looks the "
        "same, and nothing is reported.\n\n"
        "Close the connection before the wait, bound the wait, or keep wait_timeout above the "
        "longest pause. The ENGINE unhang.backends.mysql holds no connection while a view waits "
        "outside a transaction."
    )


RULE = Rule("UH601", _("A pause in a request near wait_timeout"), _story, judge, "cause")
