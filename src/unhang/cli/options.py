"""Options that several verbs share, and what they resolve to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from unhang.cli.output import Format
from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.survey import login as logins
from unhang.survey.collect import Target, targets_of
from unhang.survey.project import Project, Settings, find_project, load_settings
from unhang.survey.workers import find_workers

SettingsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--settings", metavar="MODULE", help="Django settings module, as in shop.settings."
    ),
]
ProjectOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--project", metavar="DIR", help="Folder of manage.py; default: this folder."),
]
PythonOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--python", metavar="PATH", help="Interpreter that can import the project."),
]
DsnOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--dsn",
        metavar="URL",
        # Not by envvar=: a typed option that names a project wins over the environment.
        help="A server without a project: mysql://USER:PASSWORD@HOST:PORT/DATABASE. "
        "\\[env var: UNHANG_DSN]",
    ),
]
OptionFileOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--option-file", metavar="FILE", help="The same from a my.cnf, group \\[client]."),
]
LoginOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--login",
        envvar="UNHANG_LOGIN",
        show_envvar=True,
        metavar="FILE|URL",
        help="Account that looks at and changes the server, if the application's own may not.",
    ),
]
AliasOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--alias", metavar="NAME", help="Only this entry of DATABASES; repeatable."),
]
WorkersOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--workers", metavar="PxT", help="Processes × threads of the application: 4x16."),
]
FormatOption: TypeAlias = Annotated[
    Format, typer.Option("--format", help="text for people, json for machines.")
]


@dataclass(frozen=True, slots=True)
class Scope:
    """What the options of one call lead to.

    Attributes:
        settings: `None` when the call named a server only.
    """

    targets: tuple[Target, ...]
    settings: Settings | None = None

    @property
    def project(self) -> Project | None:
        """The project the settings belong to."""
        return self.settings.project if self.settings else None

    @property
    def single(self) -> Target:
        """The only server.

        Raises:
            UsageProblem: There are several.
        """
        if len(self.targets) > 1:
            names = ", ".join(target.name for target in self.targets)
            raise UsageProblem(
                _("The project has several servers: {names}.").format(names=names),
                cure=_("Name one of them with --alias."),
            )
        return self.targets[0]


_directory: Path | None = None


def use_directory(directory: Path) -> None:
    """Take the project of this folder when no option names one, as `manage.py` wants it."""
    global _directory
    _directory = directory


def resolve(
    *,
    settings: str | None = None,
    project: Path | None = None,
    python: str | None = None,
    dsn: str | None = None,
    option_file: Path | None = None,
    login: str | None = None,
    aliases: Sequence[str] = (),
    workers: str | None = None,
) -> Scope:
    """The servers (and the project) that a call is about.

    A DSN in the environment counts when no option names something else.

    Raises:
        UsageProblem: Nothing names a server, or two things do.
    """
    other = logins.parse(login) if login else None
    _refuse_two_ways(
        {"--dsn": dsn, "--option-file": option_file},
        {"--settings": settings, "--project": project, "--alias": aliases},
    )
    if not (option_file or settings or project or aliases or _directory):
        dsn = dsn or os.environ.get("UNHANG_DSN")
    if dsn or option_file:
        own = logins.from_dsn(dsn) if dsn else logins.from_option_file(option_file or Path())
        count = find_workers(workers, {}, None)
        acting = own.acting_as(other) if other else own
        return Scope((Target(acting, (), count, applications=(own,)),))
    found = find_project(settings_module=settings, directory=project or _directory, python=python)
    if found is None:
        raise UsageProblem(
            _("There is no manage.py in this folder, and nothing names a server."),
            cure=_(
                "Run it in the folder of manage.py, or give --settings MODULE, --dsn URL or "
                "--option-file FILE."
            ),
        )
    loaded = load_settings(found)
    count = find_workers(workers, loaded.unhang, found.directory)
    return Scope(targets_of(loaded, only=aliases, login=other, workers=count), loaded)


def _refuse_two_ways(to_a_server: Mapping[str, object], to_a_project: Mapping[str, object]) -> None:
    servers = [name for name, value in to_a_server.items() if value]
    projects = [name for name, value in to_a_project.items() if value]
    if len(servers) > 1 or (servers and projects):
        names = _(" and ").join([*servers, *projects])
        raise UsageProblem(
            _("{names} cannot be used together.").format(names=names),
            cure=_("--dsn and --option-file name a server, the others a Django project."),
        )
