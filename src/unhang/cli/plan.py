"""`unhang plan`: what would change and why, saved as a file that `apply` follows exactly."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.text import Text

from unhang.change import plan as plans
from unhang.change import promotion, services
from unhang.change.circumstances import look
from unhang.change.journal import keep_out_of_git
from unhang.change.option_file import DROP_IN, find_drop_in, likely_folder
from unhang.change.plan import Plan
from unhang.change.planner import Goal, Place, make_plan, refuse_unsafe
from unhang.cli import options
from unhang.cli.change_options import StateDirOption, state_folder
from unhang.cli.named import GroupOption, Named, TargetOption, at_address, resolve_named
from unhang.cli.options import Scope
from unhang.cli.output import Format, err, out, print_json
from unhang.cli.plan_text import print_plan
from unhang.errors import CannotConnect, NotPermitted, Refused, UsageProblem
from unhang.i18n import _, ngettext
from unhang.mysql.engine import POOLING
from unhang.reaper.providers import detect
from unhang.survey.collect import Target, prove_same_server, survey_over, targets_of
from unhang.survey.connect import Connection, connected
from unhang.survey.project import Settings
from unhang.survey.targets_file import TargetsFile, find, read

_NO_SERVICE = "none"


def plan(
    wait_timeout: Annotated[
        int | None,
        typer.Option("--wait-timeout", metavar="S", help="Seconds; default 300. Gives the rest."),
    ] = None,
    conn_max_age: Annotated[
        int | None,
        typer.Option("--conn-max-age", metavar="S", help="Seconds; default by the rule: 280."),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Where to save; default: .unhang/plan-ID.json."
        ),
    ] = None,
    option_dir: Annotated[
        Path | None,
        typer.Option("--option-dir", metavar="DIR", help="Folder the server reads drop-ins from."),
    ] = None,
    pool: Annotated[
        bool,
        typer.Option("--pool", help="Also switch ENGINE to unhang.backends.mysql, which pools."),
    ] = False,
    service: Annotated[
        str | None,
        typer.Option(
            "--service",
            metavar="NAME",
            help="rds, aurora, cloudsql, azure or none; default: found out.",
        ),
    ] = None,
    target: TargetOption = None,
    group: GroupOption = None,
    promote: Annotated[
        list[Path] | None,
        typer.Option(
            "--promote",
            metavar="PLAN",
            help="The same change as this plan, applied and watched; repeatable.",
        ),
    ] = None,
    settings: options.SettingsOption = None,
    project: options.ProjectOption = None,
    alias: options.AliasOption = None,
    dsn: options.DsnOption = None,
    option_file: options.OptionFileOption = None,
    login: options.LoginOption = None,
    workers: options.WorkersOption = None,
    python: options.PythonOption = None,
    state_dir: StateDirOption = None,
    output: options.FormatOption = Format.TEXT,
) -> None:
    """Show what would change and why. Changes nothing, and saves the plan."""
    named = resolve_named(
        target or (),
        group or (),
        login=login,
        beside={
            "--settings": settings,
            "--project": project,
            "--dsn": dsn,
            "--option-file": option_file,
            "--alias": alias,
        },
    )
    scope = (
        named.scope
        if named
        else options.resolve(
            settings=settings,
            project=project,
            python=python,
            dsn=dsn,
            option_file=option_file,
            login=login,
            aliases=alias or (),
            workers=workers,
        )
    )
    firsts = [plans.load(file) for file in promote or ()]
    goal = _same(firsts, named) if firsts else Goal.of(wait_timeout, conn_max_age, pool=pool)
    if firsts and (wait_timeout is not None or conn_max_age is not None or pool):
        raise UsageProblem(_("--promote takes the values of its plan; name no others."))
    if option_dir and not option_dir.is_dir():
        raise UsageProblem(_("There is no folder {path}.").format(path=option_dir))
    places = [_look(found, option_dir, service) for found in scope.targets]
    notes: list[str] = []
    if named and named.file:
        file: TargetsFile | None = named.file
        places = [replace(p, target=n) for p, n in zip(places, named.names, strict=True)]
        notes += _not_in_plan(named.file, places)
    else:
        file, places = _recognised(places)
    places += _neighbours(_left_out(scope), places, service, notes)
    if pool:
        notes += _pool_notes(scope.settings)
    refuse_unsafe(places, goal)
    made = make_plan(places, scope.settings, goal, notes)
    folder = state_folder(state_dir, scope.project.directory if scope.project else None)
    if file is not None:
        folder = state_folder(state_dir, file.path.parent)
        made = replace(made, targets_file=str(file.path))
        made = replace(made, promoted_from=tuple(dict.fromkeys(first.id for first in firsts)))
        _tell_about_promotion(made, folder)
    path = output_file or folder / f"plan-{made.id}.json"
    # Without steps, too: targets that are at the goal already are applied, watched and promoted.
    saved = bool(made.steps or named)
    if saved:
        plans.save(made, path)
        if output_file is None:
            keep_out_of_git(folder)
    if output is Format.JSON:
        print_json("plan", {"plan": made.to_json(), "file": str(path) if saved else None})
    else:
        print_plan(made)
        _print_next(made, path if saved else None)
    raise typer.Exit(1 if made.steps else 0)


def _same(firsts: Sequence[Plan], named: Named | None) -> Goal:
    """The goal of the plans that are promoted.

    Raises:
        UsageProblem: One was not made for targets of an `unhang.toml`, or this one is not; or they
            are different changes.
    """
    if named is None or not all(first.targets_file and first.goal for first in firsts):
        raise UsageProblem(_("--promote is for plans of --target and --group."))
    goals = [Goal.from_json(first.goal) for first in firsts]
    if any(goal != goals[0] for goal in goals):
        raise UsageProblem(
            _("The plans of --promote are different changes."),
            cure=_("Promote plans with the same timeouts, and all with --pool or none."),
        )
    return goals[0]


def _not_in_plan(file: TargetsFile, places: Sequence[Place]) -> Iterator[str]:
    """Other targets of the file that are on the plan's servers, as far as the file itself says."""
    named = {place.target for place in places}
    for place in places:
        others = [name for name in at_address(file, _addresses(place)) if name not in named]
        if others:
            yield _(
                "{address} is also what {file} calls {names}: what this plan changes there is "
                "changed for those, too, and nobody looked at their clients."
            ).format(address=place.survey.target, file=file.path.name, names=", ".join(others))


def _recognised(places: Sequence[Place]) -> tuple[TargetsFile | None, list[Place]]:
    """Servers that were not named, but that an `unhang.toml` in reach has under a name for which
    a promotion is asked: the plan keeps the name, so that apply asks for it as well."""
    path = find(Path.cwd())
    file = read(path) if path else None
    if file is None or not file.promotion:
        return None, list(places)
    found = [replace(p, also=at_address(file, _addresses(p))) for p in places]
    names = [name for place in found for name in place.also]
    return (file, found) if promotion.required(file, names) else (None, list(places))


def _addresses(place: Place) -> set[str]:
    return {place.survey.target, *(alias.host for alias in place.survey.aliases)}


def _left_out(scope: Scope) -> list[Target]:
    """What the project has beside the aliases that were named."""
    settings = scope.settings
    covered = {alias.name for found in scope.targets for alias in found.aliases}
    if settings is None or covered.issuperset(settings.mysql_aliases):
        return []
    return [t for t in targets_of(settings) if t.aliases[0].name not in covered]


def _tell_about_promotion(made: Plan, folder: Path) -> None:
    """What apply will refuse is said now."""
    try:
        promotion.check(made, folder)
    except Refused as refused:
        err.print(f"[yellow]{_('NOTE')}[/] {escape(refused.message)} " + _("apply will refuse it."))


def _pool_notes(settings: Settings | None) -> Iterator[str]:
    """What keeps an ENGINE from being switched.

    Raises:
        Refused: No alias could be, or the application could not start with it.
    """
    if settings is None:
        raise UsageProblem(_("--pool switches an ENGINE of Django; no project was given."))
    if not settings.has_unhang:
        raise Refused(
            _("{python} cannot import unhang: the application would not start.").format(
                python=settings.project.python
            ),
            cure=_("Install unhang where the application runs, or name it with --python."),
        )
    aliases = [settings.alias(name) for name in settings.mysql_aliases]
    others = [a for a in aliases if not a.pool and a.engine not in POOLING]
    if not any(a.engine in POOLING for a in aliases):
        raise Refused(_("No alias has an ENGINE of Django's own that a pool could replace."))
    for alias in others:
        text = _("The ENGINE of {alias}, {engine}, is not Django's own: it stays.")
        yield text.format(alias=alias.name, engine=alias.engine)


def _neighbours(
    others: Sequence[Target], places: Sequence[Place], service: str | None, notes: list[str]
) -> Iterator[Place]:
    """Aliases that were not named, but reach the same server by another address."""
    known = {place.survey.server.identity for place in places}
    for target in others:
        try:
            place = _look(target, None, service)
        except (CannotConnect, NotPermitted) as error:
            note = _("Whether {name} is on the same server could not be seen: {why}")
            notes.append(note.format(name=target.name, why=error.message))
            continue
        if place.survey.server.identity in known:
            yield place


def _look(target: Target, option_dir: Path | None, service: str | None) -> Place:
    prove_same_server(target)
    with connected(target.login) as connection:
        survey = survey_over(connection, target)
        drop_in = option_dir.resolve() / DROP_IN if option_dir else find_drop_in(connection)
        server, host = survey.server, (target.own or target.login).host
        around = replace(
            look(connection, server.engine, server.read_only),
            service=_service(connection, host, service),
            host=host,
            likely_folder=likely_folder(server.version, server.version_comment),
        )
    return Place(survey, drop_in, around)


def _service(connection: Connection, host: str, typed: str | None) -> str:
    if typed is None:
        return detect(connection, host).name
    if typed not in (*services.NAMES, _NO_SERVICE):
        raise UsageProblem(
            _("{name} is no service that unhang knows.").format(name=typed),
            cure=_("Known are: {names}.").format(names=", ".join((*services.NAMES, _NO_SERVICE))),
        )
    return "" if typed == _NO_SERVICE else typed


def _print_next(made: Plan, path: Path | None) -> None:
    if not made.steps:
        out.print(f"\n[green]{_('Nothing to change: everything is as the plan would have it.')}[/]")
    if path is None:
        return
    if not made.steps:
        out.print(_("The plan is saved all the same: it can be applied, watched and promoted."))
        out.print(Text(f"unhang apply {shlex.quote(str(path))}", style="bold"), soft_wrap=True)
        return
    total = ngettext("{n} step", "{n} steps", len(made.steps)).format(n=len(made.steps))
    out.print(f"\n{total}. " + _("Nothing was changed. To do exactly this:"))
    out.print(Text(f"unhang apply {shlex.quote(str(path))}", style="bold"), soft_wrap=True)
