"""Production only gets a plan that was applied and watched somewhere else before.

Which group must go first is said in `unhang.toml`; that it did is said by the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from unhang.change import journal as journals
from unhang.change.journal import Journal
from unhang.change.plan import Plan
from unhang.errors import Refused, UsageProblem
from unhang.i18n import _, ngettext
from unhang.survey.targets_file import TargetsFile, read

CLEAN: Final = "nothing worse"
"""What a journal says of a watch that went through."""
HARM: Final = "worse: "
"""What it begins with for one that saw harm."""


def prerequisites(plan: Plan) -> tuple[tuple[str, frozenset[str]], ...]:
    """The groups that go before the targets of a plan, and their targets.

    A target counts for every group it belongs to, whether the group was named or the target alone.

    Raises:
        UsageProblem: The plan's `unhang.toml` cannot be read any more.
    """
    return required(read(Path(plan.targets_file)), plan.targets) if plan.targets_file else ()


def required(file: TargetsFile, targets: Iterable[str]) -> tuple[tuple[str, frozenset[str]], ...]:
    """The same for targets of a file that was read."""
    found: dict[str, frozenset[str]] = {}
    for target in sorted(targets):
        for group in file.groups_of(target):
            before = file.requires(group)
            if before is not None:
                found[before] = frozenset(file.groups[before])
    return tuple(found.items())


def check(plan: Plan, state_dir: Path) -> None:
    """Refuse a plan that skips a group which goes first.

    Raises:
        Refused: It was not promoted, or something it was promoted from was not applied, not
            watched, was rolled back, or was another change; or they were not for the whole group.
    """
    for group, members in prerequisites(plan):
        if plan.targets <= members:
            continue  # it is the plan for the group that goes first
        if not plan.promoted_from:
            raise Refused(
                _("This plan was not applied and watched in {group} before.").format(group=group),
                cure=_(
                    "unhang plan --group {group}, unhang apply --watch 10m, then\n"
                    "unhang plan --group … --promote PLAN\n"
                    'or say why not: unhang apply … --force "REASON"'
                ).format(group=group),
            )
        firsts = [_journal(plan_id, state_dir) for plan_id in plan.promoted_from]
        check_proven(firsts, group, members)
        for first in firsts:
            if first.plan.goal != plan.goal:
                raise Refused(
                    _("The plan {id} is another change than this one.").format(id=first.plan.id)
                )


def check_proven(firsts: Sequence[Journal], group: str, members: frozenset[str]) -> None:
    """Refuse unless plans went through in a whole group, were watched, and are still there.

    A plan is for one Django project: a group of several takes one for each.

    Raises:
        Refused: Which of these it is.
    """
    left = members.difference(*(first.plan.targets for first in firsts))
    if left:
        ids = ", ".join(first.plan.id for first in firsts)
        raise Refused(
            ngettext(
                "The plan {ids} is not for all targets of {group}: {left} is missing.",
                "The plans {ids} are not for all targets of {group}: {left} is missing.",
                len(firsts),
            ).format(ids=ids, group=group, left=", ".join(sorted(left))),
            cure=_("Make a plan for those, apply and watch it, and name it with --promote, too."),
        )
    for first in firsts:
        _check_one(first, group)


def _check_one(first: Journal, group: str) -> None:
    name = {"id": first.plan.id, "group": group}
    if first.rolled_back:
        raise Refused(_("The plan {id} was rolled back.").format(**name))
    if not first.finished:
        raise Refused(
            _("The plan {id} is not applied whole.").format(**name), cure="unhang apply --resume"
        )
    if first.watched != CLEAN:
        raise Refused(
            _("The plan {id} was applied in {group}, but not watched to the end.").format(**name),
            cure=_("Roll it back, and apply it again with --watch 10m."),
        )


def _journal(plan_id: str, state_dir: Path) -> Journal:
    try:
        return journals.read(journals.path_for(plan_id, state_dir))
    except UsageProblem as error:
        raise Refused(
            _("There is no journal of the plan {id} it was promoted from.").format(id=plan_id),
            cure=error.message,
        ) from None
