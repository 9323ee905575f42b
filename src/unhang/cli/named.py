"""The targets that `--target` and `--group` name in `unhang.toml`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from unhang.cli.options import Scope
from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.survey import login as logins
from unhang.survey.collect import Target, targets_of
from unhang.survey.project import Settings, load_settings
from unhang.survey.targets_file import NamedTarget, TargetsFile, find, read

TargetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--target", metavar="NAME", help="A target of unhang.toml; repeatable."),
]
GroupOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--group", metavar="NAME", help="All targets of a group of it; repeatable."),
]


@dataclass(frozen=True, slots=True)
class Named:
    """What the names lead to.

    Attributes:
        file: The `unhang.toml`; `None` when nothing was named.
        names: The name of each target of the scope, by its place there.
    """

    scope: Scope
    file: TargetsFile | None = None
    names: tuple[str, ...] = ()

    @property
    def folder(self) -> Path | None:
        """Where the state folder of these targets is, if not the project's."""
        return self.file.path.parent if self.file else None


def resolve_named(
    targets: Sequence[str],
    groups: Sequence[str],
    *,
    login: str | None,
    beside: Mapping[str, object],
) -> Named | None:
    """The scope of what was named; `None` when nothing was.

    Args:
        login: An account instead of those that the file names.
        beside: Options that name something else, by how they are typed.

    Raises:
        UsageProblem: There is no file or no such name; something else is named, too; or two
            projects are.
    """
    if not targets and not groups:
        return None
    for name, value in beside.items():
        if value:
            raise UsageProblem(_("{name} does not go with --target and --group.").format(name=name))
    path = find(Path.cwd())
    if path is None:
        raise UsageProblem(
            _("There is no unhang.toml here."),
            cure=_("docs/reference/targets.md shows one; or name a server with --dsn."),
        )
    file = read(path)
    acting = logins.parse(login) if login else None
    chosen = file.chosen(targets, groups)
    settings = _project(chosen)
    found: list[Target] = []
    names: list[str] = []
    for named in chosen:
        made = _targets(named, settings, acting)
        found += made
        names += [named.name] * len(made)
    return Named(Scope(tuple(found), settings), file, tuple(names))


def said_address(target: NamedTarget) -> str:
    """Where the file itself says that a target is, as `Login.address` has it.

    Empty where only a project, an option file or a secret tells: none of them is asked.
    """
    account = target.account
    if account is None or account.dsn is not None:
        return ""
    if account.unix_socket:
        return account.unix_socket
    if not account.host or (account.option_file and account.port is None):
        return ""
    return f"{account.host}:{account.port or logins.DEFAULT_PORT}"


def at_address(file: TargetsFile, addresses: Collection[str]) -> tuple[str, ...]:
    """The targets that the file itself puts at one of these addresses; text is compared."""
    wanted = {address.lower() for address in addresses}
    return tuple(t.name for t in file.targets if said_address(t).lower() in wanted)


def _project(chosen: Sequence[NamedTarget]) -> Settings | None:
    projects = [named for named in chosen if named.project is not None]
    if len(projects) > 1:
        names = ", ".join(named.name for named in projects)
        raise UsageProblem(
            _("{names} are Django projects; a plan is for one.").format(names=names),
            cure=_("Make a plan for each: unhang plan --target …"),
        )
    project = projects[0].project if projects else None
    return load_settings(project) if project else None


def _targets(
    named: NamedTarget, settings: Settings | None, acting: logins.Login | None
) -> tuple[Target, ...]:
    own = named.login()
    if named.project is not None and settings is not None:
        return targets_of(settings, only=named.aliases, login=acting or own)
    if own is None:
        raise AssertionError("a target without a project has an account")
    login = own.acting_as(acting) if acting else own
    return (replace(Target(login), applications=(own,)),)
