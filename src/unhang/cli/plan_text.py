"""A plan as people read it; also shown by apply before it asks."""

from __future__ import annotations

from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from unhang.change.actions import describe, statements
from unhang.change.plan import Plan
from unhang.change.steps import EditSettings, RestartApplication, SetVariable, Step
from unhang.cli.output import out
from unhang.i18n import _
from unhang.mysql.engine import identify


def print_plan(made: Plan) -> None:
    """The steps in order, each with what it does and how it is undone."""
    for server in made.servers:
        engine = identify(server.version)
        out.print(f"[bold]{escape(server.name)}[/]: {engine} {_('at')} {escape(server.address)}")
    for number, step in enumerate(made.steps, 1):
        out.print(f"\n[bold]{number}.[/] {escape(describe(step))}")
        out.print(Padding(_detail(step), (0, 0, 0, 3)))
        if not isinstance(step, RestartApplication):
            undo = _("undo: {text}").format(text=describe(step.inverse()))
            out.print(Padding(Text(undo, style="dim"), (0, 0, 0, 3)))
    for warning in made.warnings:
        out.print(f"\n[yellow]{_('NOTE')}[/] {escape(warning)}")


def _detail(step: Step) -> Text:
    if isinstance(step, SetVariable):
        why = _("it was {before}, from: {origin}").format(before=step.before, origin=step.origin)
        return Text.assemble(("\n".join(f"{s};" for s in statements(step)), "green"), f"\n{why}")
    if isinstance(step, EditSettings):
        if step.path is None:
            return Text(
                _("computed there, so nothing is edited; you set:\n{lines}").format(
                    lines=step.lines
                )
            )
        text = Text()
        for line in step.diff.splitlines():
            style = {"+": "green", "-": "red"}.get(line[:1], "dim")
            text.append(line + "\n", style=style)
        text.rstrip()
        return text
    if isinstance(step, RestartApplication):
        when = _("waits for it") if step.required else _("does not wait for it")
        return Text(f"{when}: {step.reason}")
    text = Text()
    for line in (step.after or "").splitlines():
        text.append(f"+ {line}\n", style="green")
    text.rstrip()
    if step.path is None:
        text.append("\n" + _("The file is out of reach from here; the content is printed for you."))
    return text
