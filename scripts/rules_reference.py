"""Print `docs/reference/rules.md`, made from the rules themselves.

.venv/bin/python scripts/rules_reference.py > docs/reference/rules.md
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from unhang.rules import catalogue
from unhang.rules.model import Rule

_WIDTH = 100
_HEAD = """\
# Rules

<!-- Made by scripts/rules_reference.py; do not edit. -->

A rule asks one question of a survey; what it finds wrong is a finding. `unhang diagnose` asks all
of them, and `unhang explain ID` prints the story of one. An id never changes its meaning, and a
retired id is not used again.

A finding is *critical* when something hangs or fails now, or will at any moment; a *warning* when
it will under load or after a pause; a *notice* when it is worth knowing. Which of them a rule
gives depends on the numbers it finds.
"""


def page() -> str:
    """The whole page."""
    table = "\n".join(f"| [{r.id}](#{r.id.lower()}) | {r.title} |" for r in catalogue.RULES)
    parts = [
        _HEAD,
        f"| id | what it finds |\n|---|---|\n{table}\n",
        *map(_section, catalogue.RULES),
    ]
    return "\n".join(parts)


def _section(rule: Rule) -> str:
    return "\n".join([f"({rule.id.lower()})=", f"## {rule.id}: {rule.title}\n", *_paragraphs(rule)])


def _paragraphs(rule: Rule) -> Iterator[str]:
    for paragraph in rule.story().split("\n\n"):
        yield (
            textwrap.fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"
        )


if __name__ == "__main__":
    sys.stdout.write(page())
