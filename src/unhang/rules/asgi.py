"""UH205: persistent connections under ASGI."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids, is_applications, is_pooled, kind_of
from unhang.rules.text import owner_evidence, owners, seconds, sleepers
from unhang.survey.model import Alias, Survey


def judge(survey: Survey) -> Iterator[Finding]:
    found = [
        session
        for session in survey.sleepers
        if kind_of(session) == "asgi"
        and is_applications(survey, session)
        and not is_pooled(survey, session)
    ]
    told: set[str] = set()
    for alias in survey.aliases:
        own = [session for session in found if session.user == alias.user]
        # Which of an account's aliases opened one is not known here: told once.
        if own and alias.conn_max_age != 0 and not alias.pool and alias.user not in told:
            told.add(alias.user)
            yield Finding(
                RULE.id,
                "warning",
                alias.name,
                _(
                    "{sleepers} of an ASGI server: {owners}. CONN_MAX_AGE is {age}, but under ASGI "
                    "nobody comes back to a kept connection for sure."
                ).format(
                    sleepers=sleepers(len(own)),
                    owners=owners(own),
                    age=seconds(alias.conn_max_age),
                ),
                (("CONN_MAX_AGE", seconds(alias.conn_max_age)), *owner_evidence(own)),
                _cure(alias),
                ids(own),
            )


def _cure(alias: Alias) -> str:
    return _(
        'DATABASES["{name}"]["CONN_MAX_AGE"] = 0\n'
        "# and a pool for what it cost to connect: ENGINE unhang.backends.mysql"
    ).format(name=alias.name)


def _story() -> str:
    return _(
        "Under ASGI a request's synchronous code runs in a helper thread, and each request may "
        "get another one. CONN_MAX_AGE above 0 keeps a connection for the thread that opened it; "
        "when that thread serves nobody any more, the session sleeps until wait_timeout. Django's "
        "manual says the same: disable persistent connections under ASGI.\n\n"
        "The server is known by the process at the other end: uvicorn, daphne, hypercorn or "
        "granian, or gunicorn with a worker class of theirs.\n\n"
        "Set CONN_MAX_AGE to 0. If connecting for each request is too dear, use a pool, which all "
        "threads of a process share: the ENGINE unhang.backends.mysql."
    )


RULE = Rule("UH205", _("Persistent connections under ASGI"), _story, judge, "cause")
