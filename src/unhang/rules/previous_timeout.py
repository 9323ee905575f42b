"""UH105: sessions still live by the wait_timeout of before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from unhang.i18n import _, ngettext
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import ids, is_applications
from unhang.rules.text import owner_evidence, seconds
from unhang.survey.model import Survey
from unhang.survey.session import Session

GRACE_SECONDS: Final = 5.0
"""A server looks at the clock now and then; Aurora up to 60 s late."""


def judge(survey: Survey) -> Iterator[Finding]:
    now = survey.server.value("wait_timeout")
    if now is None:
        return
    old = [s for s in survey.sleepers if is_applications(survey, s) and _is_old(survey, s, now)]
    if not old:
        return
    longest = max((s.wait_timeout for s in old if s.wait_timeout), default=None)
    yield Finding(
        RULE.id,
        "warning",
        survey.target,
        ngettext(
            "{n} session still lives by an older wait_timeout than the {now} that the server has "
            "now; it was born before the change.",
            "{n} sessions still live by an older wait_timeout than the {now} that the server has "
            "now; they were born before the change.",
            len(old),
        ).format(n=len(old), now=seconds(now)),
        (
            (_("wait_timeout of new sessions"), seconds(now)),
            (
                _("of the old ones"),
                seconds(longest) if longest else _("not shown; they sleep longer than that"),
            ),
            (_("oldest"), seconds(max(session.seconds for session in old))),
            *owner_evidence(old),
        ),
        _("# restart what holds them, so that it connects anew; or end them one by one:\n")
        + "\n".join(_kills(old)),
        ids(old),
    )


def _kills(old: Sequence[Session]) -> list[str]:
    idle = [f"KILL {session.id};" for session in old if session.is_idle]
    unsure = sum(session.in_transaction is None for session in old)
    return [
        *idle[:20],
        *([_("# {n} more").format(n=len(idle) - 20)] if len(idle) > 20 else ()),
        *(
            [_("# {n} may hold a transaction, which this account cannot see").format(n=unsure)]
            if unsure
            else ()
        ),
    ]


def _is_old(survey: Survey, session: Session, now: int) -> bool:
    own = {alias.session_wait_timeout for alias in survey.aliases_of(session.user)} - {None}
    if session.wait_timeout is not None:
        return session.wait_timeout > now and session.wait_timeout not in own
    # The engine does not show it (MariaDB): who sleeps longer than he may has another value.
    return not own and session.seconds > now + GRACE_SECONDS


def _story() -> str:
    return _(
        "A session copies wait_timeout when it connects and keeps it. SET GLOBAL wait_timeout "
        "reaches new sessions only, so a change is done only when the old ones have drained: a "
        "session born under 28800 s may sleep eight more hours.\n\n"
        "MySQL shows each session's own value. MariaDB does not: there a session that sleeps "
        "longer than the server's wait_timeout allows must have another one. Two more things look "
        "the same there: code that runs SET SESSION wait_timeout itself, and an interactive "
        "client, which copies interactive_timeout. An init_command in OPTIONS is known and not "
        "reported.\n\n"
        "Restart the application, or end the sleepers that are in no transaction. `unhang verify` "
        "counts them down."
    )


RULE = Rule("UH105", _("Sessions on the previous wait_timeout"), _story, judge, "cause")
