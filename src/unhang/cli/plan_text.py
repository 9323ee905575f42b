"""A plan as people read it; also shown by apply before it asks."""

from __future__ import annotations

from collections.abc import Iterator

from rich.markup import escape
from rich.text import Text

from unhang.change.plan import Plan
from unhang.change.steps import (
    ChangeParameters,
    EditSettings,
    RestartApplication,
    SetVariable,
    Step,
)
from unhang.change.wording import describe, statements
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
        for line, style in _detail(step):
            # Not broken to fit the terminal: people copy these lines.
            out.print(Text(f"   {line}", style=style), soft_wrap=True)
        if not isinstance(step, RestartApplication):
            undo = _("undo: {text}").format(text=describe(step.inverse()))
            out.print(Text(f"   {undo}", style="dim"), soft_wrap=True)
    for warning in made.warnings:
        out.print(f"\n[yellow]{_('NOTE')}[/] {escape(warning)}")


def _detail(step: Step) -> Iterator[tuple[str, str]]:
    """Lines and their styles."""
    if isinstance(step, SetVariable):
        yield from ((f"{statement};", "green") for statement in statements(step))
        why = _("it was {before}, from: {origin}")
        yield why.format(before=step.before, origin=step.origin), ""
    elif isinstance(step, ChangeParameters):
        yield _("{service} refuses SET GLOBAL; you run:").format(service=step.service), ""
        yield from ((line, "green") for line in step.commands)
        yield _("and to undo it:"), ""
        yield from ((line, "dim") for line in step.undo_commands)
    elif isinstance(step, EditSettings):
        if step.path is None:
            yield _("not edited: {why}; you set:").format(why=step.why), ""
            yield from ((f"{n}={v}", "green") for n, v in step.environment.items())
            yield from ((line, "green") for line in step.lines.splitlines())
        for line in step.diff.splitlines():
            yield line, {"+": "green", "-": "red"}.get(line[:1], "dim")
    elif isinstance(step, RestartApplication):
        when = _("apply waits for it") if step.required else _("apply does not wait for it")
        yield f"{when}: {step.reason}", ""
    else:
        yield from ((f"+ {line}", "green") for line in (step.after or "").splitlines())
        if step.path is None:
            yield _("The file is out of reach from here; the content is printed for you."), ""
