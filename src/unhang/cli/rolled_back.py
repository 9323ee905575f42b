"""The end of a rollback in words, whoever began it: a person, or a watch that saw harm."""

from __future__ import annotations

from rich.markup import escape

from unhang.change.journal import Journal
from unhang.change.steps import WriteOptionFile
from unhang.change.wording import describe
from unhang.cli.output import out
from unhang.i18n import _


def print_rolled_back(journal: Journal) -> None:
    """That it went through, and what it leaves."""
    if print_left(journal):
        out.print(f"[green]{_('Rolled back: what this plan did is undone.')}[/]")
    else:
        out.print(f"[green]{_('Rolled back: everything is as it was before.')}[/]")


def print_left(journal: Journal) -> bool:
    """What a rollback leaves, and what is left to a person; whether there is any of it."""
    was_so = [describe(journal.plan.steps[number]) for number in journal.found_done()]
    by_hand = [
        describe(step.inverse())
        for number in journal.ever_begun()
        if isinstance(step := journal.plan.steps[number], WriteOptionFile) and step.path is None
    ]
    for title, texts in (
        (_("Left as it is, since it was so before this plan came to it:"), was_so),
        (_("Left to you, since it cannot be done from here:"), by_hand),
    ):
        if texts:
            out.print(title)
            for text in texts:
                out.print(f"- {escape(text)}")
    return bool(was_so or by_hand)
