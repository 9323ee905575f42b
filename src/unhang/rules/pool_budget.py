"""UH402: the pools of all processes can open more connections than there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from unhang.i18n import _
from unhang.rules.model import Finding, Rule
from unhang.survey.model import Alias, Survey

RESERVE: Final = 5
"""Room for a person, a backup and monitoring, none of which may be refused."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the aliases of one limit may open, and what there is.

    Attributes:
        limit: Name and value of the server's variable.
        reserved: Connections of it that are for others.
        processes: That each open so many; `assumed` when nobody said how many there are.
        pooled: Largest sizes of the pools, by alias.
        unpooled: Connections of one process through aliases without a pool: a thread, one each.
    """

    limit: tuple[str, int]
    reserved: int
    processes: int
    assumed: bool
    pooled: tuple[tuple[Alias, int], ...]
    unpooled: int

    @property
    def room(self) -> int:
        """What is left for the application."""
        return max(0, self.limit[1] - self.reserved)

    @property
    def needed(self) -> int:
        """What all processes together can open."""
        return self.processes * (sum(size for _alias, size in self.pooled) + self.unpooled)

    @property
    def largest_max_size(self) -> int:
        """The same for each pool; 0 or less when not even one connection each fits."""
        each = self.room // self.processes - self.unpooled
        return each // len(self.pooled)


def judge(survey: Survey) -> Iterator[Finding]:
    for budget in _budgets(survey):
        if budget.pooled and budget.needed > budget.room:
            yield _finding(survey, budget)


def _budgets(survey: Survey) -> Iterator[Budget]:
    limit = survey.server.value("max_connections")
    if limit:
        others = sum(session.user not in survey.app_users for session in survey.sessions)
        yield _budget(survey, survey.aliases, ("max_connections", limit), max(RESERVE, others))
    # 0 is no limit. An account's own one, given with CREATE USER, is not looked for.
    own = survey.server.value("max_user_connections")
    for user in sorted(survey.app_users) if own else ():
        aliases = [alias for alias in survey.aliases if alias.user == user]
        yield _budget(survey, aliases, ("max_user_connections", own or 0), 0)


def _budget(
    survey: Survey, aliases: Sequence[Alias], limit: tuple[str, int], reserved: int
) -> Budget:
    workers = survey.workers
    sizes = [(a, a.own_pool.max_size) for a in aliases if a.own_pool]
    return Budget(
        limit=limit,
        reserved=reserved,
        processes=workers.processes if workers else 1,
        assumed=workers is None,
        pooled=tuple((alias, size) for alias, size in sizes if size),
        unpooled=(workers.threads if workers else 1) * sum(not a.own_pool for a in aliases),
    )


def _finding(survey: Survey, budget: Budget) -> Finding:
    name, value = budget.limit
    sizes = ", ".join(f"{alias.name} {size}" for alias, size in budget.pooled)
    source = survey.workers.source if survey.workers else _("assumed: nobody said (--workers 4x16)")
    return Finding(
        RULE.id,
        "warning",
        survey.target,
        _(
            "The pools of {processes} processes can open {needed} connections together; "
            "{room} of the {limit} {name} are there for them."
        ).format(
            processes=budget.processes,
            needed=budget.needed,
            room=budget.room,
            limit=value,
            name=name,
        ),
        (
            (_("processes"), f"{budget.processes} ({source})"),
            ("max_size", sizes),
            *(((_("without a pool"), str(budget.unpooled)),) if budget.unpooled else ()),
            (name, str(value)),
            (_("reserved for others"), str(budget.reserved)),
            (_("largest max_size that fits"), str(max(0, budget.largest_max_size))),
        ),
        _cure(budget),
    )


def _cure(budget: Budget) -> str:
    fits = budget.largest_max_size
    if fits < 1:
        name, value = budget.limit
        return _(
            "# not even one connection for each pool fits: fewer processes, or more room:\n"
            "SET GLOBAL {name} = {needed};"
        ).format(name=name, needed=value - budget.room + budget.needed)
    return "\n".join(
        f'# DATABASES["{alias.name}"]["OPTIONS"]:\n"pool": {{{_sizes(alias, fits)}}},'
        for alias, size in budget.pooled
        if size > fits
    )


def _sizes(alias: Alias, fits: int) -> str:
    kept = alias.own_pool.min_size if alias.own_pool else None
    # A min_size above it would be refused.
    return f'"max_size": {fits}' + (f', "min_size": {fits}' if kept and kept > fits else "")


def _story() -> str:
    return _(
        "Each process has a pool of its own for each alias, and each pool may grow to max_size, "
        "whatever number of threads the process has. When all are busy at once, processes × the "
        "sum of max_size is what the server has to give; what is above its limit is refused with "
        "error 1040. A borrower then waits within its timeout instead of failing at once, but "
        "others, who have no pool, fail.\n\n"
        "The limit is max_connections less what others hold at this moment, at least {reserve}: a "
        "person, a backup and monitoring must get in. Where max_user_connections is set, it is "
        "looked at for each account as well. An alias without a pool counts with one connection a "
        "thread.\n\n"
        "The number of processes comes from --workers 4x16, else from UNHANG = {{'WORKERS': "
        "'4x16'}} in the settings, else from a gunicorn seen running in the project's folder; if "
        "nobody knows, one process is assumed, and the finding says so. Other hosts, task workers "
        "and commands come on top: give the number of all of them together.\n\n"
        "A max_size above the number of things a process does at once costs nothing: connections "
        "are opened when they are needed, and let go after max_idle."
    ).format(reserve=RESERVE)


RULE = Rule("UH402", _("Pools that are larger than the server's room"), _story, judge)
