"""UH206: a management command waits, and keeps its connection meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from unhang.i18n import _
from unhang.rules import long_lived
from unhang.rules.model import Finding, Rule
from unhang.rules.owner_kinds import of_kind
from unhang.survey.model import Survey
from unhang.survey.session import Session

_SHELL: Final = re.compile(r"(?:manage\w*\.py|django-admin|command) (?:db)?shell(?:_plus)?\b")


def judge(survey: Survey) -> Iterator[Finding]:
    found = of_kind(survey, ("command",))
    shells = [session for session in found if _is_shell(session)]
    others = [session for session in found if not _is_shell(session)]
    if others:
        yield long_lived.finding(RULE.id, survey, others, _why(), _cure())
    if shells:
        told = long_lived.finding(RULE.id, survey, shells, _why_shell(), _cure_shell())
        yield replace(told, severity="notice")


def _is_shell(session: Session) -> bool:
    owner = session.owner
    return owner is not None and _SHELL.search(f"{owner.program} {owner.work}") is not None


def _why_shell() -> str:
    return _("Somebody left a shell open: its connection stays until the shell ends.")


def _cure_shell() -> str:
    return _(
        "# leave the shell, or in it:\nfrom django.db import connections; connections.close_all()"
    )


def _why() -> str:
    return _(
        "A command has no request cycle: Django closes its connection only when the process ends."
    )


def _cure() -> str:
    return _(
        "# in the command, before it waits:\n"
        "from django.db import connections\n"
        "connections.close_all()      # the next query opens a new one\n"
    )


def _story() -> str:
    return _(
        "A management command runs outside the request cycle, so CONN_MAX_AGE says nothing about "
        "it: the connection of its first query stays open until the process ends. While the "
        "command waits, for a queue, a file, another service, its session sleeps and takes a "
        'slot; when it waits longer than wait_timeout, its next query fails with "MySQL server '
        'has gone away".\n\n'
        "unhang knows the command by the command line of the process at the other end, or by what "
        "the application wrote down when it connected. A sleeper of 5 s is a notice; from three "
        "sleepers, a minute, or half of wait_timeout on it is a warning. A shell that was left "
        "open stays a notice.\n\n"
        "Close the connections before each wait. Or use the ENGINE unhang.backends.mysql, which "
        "gives a connection back after each statement or transaction."
    )


RULE = Rule(
    "UH206", _("A management command that waits with its connection open"), _story, judge, "cause"
)
