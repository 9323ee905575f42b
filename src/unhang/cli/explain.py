"""`unhang explain`: the whole story of a rule."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from unhang.cli.output import out
from unhang.i18n import _
from unhang.rules import catalogue


def explain(
    rule_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Such as UH101; none lists all rules.")
    ] = None,
) -> None:
    """Tell what a finding means, how it is judged, and what to do."""
    if rule_id is None:
        for rule in catalogue.RULES:
            out.print(f"[bold]{rule.id}[/]  {_(rule.title)}")
        return
    rule = catalogue.rule(rule_id)
    out.print(f"[bold]{rule.id}  {_(rule.title)}[/]\n")
    out.print(Text(rule.story()))
