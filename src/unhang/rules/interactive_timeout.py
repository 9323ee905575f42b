"""UH103: interactive_timeout and wait_timeout say different things."""

from __future__ import annotations

from collections.abc import Iterator

from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.rules.text import seconds
from unhang.survey.model import Survey


def judge(survey: Survey) -> Iterator[Finding]:
    wait, interactive = (
        survey.server.value(name) for name in ("wait_timeout", "interactive_timeout")
    )
    if wait is None or interactive is None or wait == interactive:
        return
    yield Finding(
        RULE.id,
        "notice",
        survey.target,
        _(
            "interactive_timeout is {interactive} and wait_timeout {wait}: how long a session may "
            "sleep depends on the kind of client."
        ).format(interactive=seconds(interactive), wait=seconds(wait)),
        (
            ("wait_timeout", seconds(wait)),
            ("interactive_timeout", seconds(interactive)),
        ),
        f"SET GLOBAL interactive_timeout = {wait};   -- "
        + _("and in the option file; `unhang plan` does both"),
    )


def _story() -> str:
    return _(
        "A client that calls itself interactive (the command-line clients on a terminal) gets "
        "interactive_timeout as its wait_timeout when it connects. Amazon Aurora looks at both. "
        "Two different values make every later question "
        '"why was this session ended?" twice as hard, and a console left open holds its slot, and '
        "maybe its locks, by the longer one.\n\n"
        "Set both to the same number unless you know why not."
    )


RULE = Rule("UH103", _("interactive_timeout is out of step with wait_timeout"), _story, judge)
