"""What every verb shares for talking to people and to machines."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from unhang.errors import UnhangError
from unhang.i18n import _
from unhang.rules.model import Finding, Severity

# What commands a terminal: control characters, those that turn the direction of a text, and bytes
# that are no text.
_COMMANDS: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


class _SafeConsole(Console):
    """Names of locks, accounts and programs are chosen by others: none may command the terminal.

    Rich adds its own styles later.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control is None and _COMMANDS.search(segment.text):
                yield Segment(_COMMANDS.sub("?", segment.text), segment.style)
            else:
                yield segment


# Rich honours NO_COLOR, and drops colour by itself when the output is no terminal.
out: Final = _SafeConsole(highlight=False, soft_wrap=False)
err: Final = _SafeConsole(stderr=True, highlight=False)

SCHEMA: Final = 1

_STYLES: Final[Mapping[Severity, str]] = {
    "critical": "bold red",
    "warning": "yellow",
    "notice": "cyan",
}


class Format(StrEnum):
    """How a verb prints."""

    TEXT = "text"
    JSON = "json"


def print_json(command: str, content: Mapping[str, Any]) -> None:
    """One JSON document on standard output, with the schema's number and the verb's name."""
    document = {"schema": SCHEMA, "command": command, **content}
    text = json.dumps(document, indent=2, ensure_ascii=False)
    # Bytes of a file that are no text would end the output.
    sys.stdout.write(text.encode("utf-8", "replace").decode() + "\n")


def print_error(error: UnhangError) -> None:
    """What happened and what to do, on standard error."""
    err.print(f"[bold red]{_('error')}:[/] {escape(error.message)}")
    if error.cure:
        for line in error.cure.splitlines():
            err.print(Text(f"  {line}"), soft_wrap=True)


def print_finding(finding: Finding) -> None:
    """A finding with its evidence and its cure; severity is a word, not only a colour."""
    style = _STYLES[finding.severity]
    out.print(
        f"[{style}]{_(finding.severity).upper():8}[/] [bold]{finding.rule}[/] "
        f"[dim]{escape(_one_line(finding.subject))}[/]"
    )
    out.print(Padding(Text(_one_line(finding.sentence)), (0, 0, 0, 2)))
    evidence = " · ".join(f"{name} {value}" for name, value in finding.evidence)
    out.print(Padding(Text(_one_line(evidence), style="dim"), (0, 0, 0, 2)))
    print_paste(finding.cure)
    out.print()


def _one_line(text: str) -> str:
    """Statements and names may have breaks of their own, which would look like our lines."""
    return " ".join(text.split())


def print_paste(text: str) -> None:
    """Lines that people copy: indented, and never broken to fit the terminal."""
    for line in text.rstrip().splitlines():
        out.print(Text(f"    {line}", style="green"), soft_wrap=True)


def confirm(question: str) -> bool:
    """Whether a person typed `yes`, the only word that confirms.

    Without a terminal nobody can, and at the end of input nobody did: the answer is no.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    if not sys.stdin.isatty():
        return False
    try:
        # Not typer.prompt(): it makes one and the same Abort of Ctrl-C and the end of input.
        return input(f"{question}: ") == "yes"
    except EOFError:
        return False
