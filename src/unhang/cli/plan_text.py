"""A plan as people read it; also shown by apply before it asks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from rich.markup import escape
from rich.text import Text

from unhang.change.plan import Plan
from unhang.change.steps import (
    ChangeParameters,
    EditSettings,
    RestartApplication,
    SetVariable,
    Step,
    WriteOptionFile,
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
        out.print(f"\n[bold]{number}.[/] {escape(_printable(describe(step)))}")
        for line, style in _detail(step):
            # Not broken to fit the terminal: people copy these lines.
            out.print(Text(f"   {_printable(line)}", style=style), soft_wrap=True)
        if not isinstance(step, RestartApplication):
            undo = _("undo: {text}").format(text=describe(step.inverse()))
            out.print(Text(f"   {_printable(undo)}", style="dim"), soft_wrap=True)
    for warning in made.warnings:
        out.print(f"\n[yellow]{_('NOTE')}[/] {escape(_printable(warning))}")


def _printable(text: str) -> str:
    """Bytes of a file that are not UTF-8 are `?` here: no terminal takes them."""
    return text.encode("utf-8", "replace").decode("utf-8")


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
        yield from _coloured(step.diff.splitlines())
    elif isinstance(step, RestartApplication):
        when = _("apply waits for it") if step.required else _("apply does not wait for it")
        yield f"{when}: {step.reason}", ""
    else:
        yield from _coloured(_difference(step))
        if step.path is None:
            yield _("The file is out of reach from here; the content is printed for you."), ""


def _difference(step: WriteOptionFile) -> Iterator[str]:
    old, new = (step.before or "").splitlines(), (step.after or "").splitlines()
    # The lines with ? point at single characters.
    return (line for line in difflib.ndiff(old, new) if not line.startswith("?"))


def _coloured(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        yield line, {"+": "green", "-": "red"}.get(line[:1], "dim")
