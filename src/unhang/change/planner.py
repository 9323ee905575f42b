"""From a survey to a plan: what has to change so that the client lets go first."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import unhang
from unhang import timeouts
from unhang.change import option_file
from unhang.change.circumstances import Circumstances
from unhang.change.files import read_source, why_not_replaceable
from unhang.change.order import in_safe_order
from unhang.change.patch import Patch
from unhang.change.plan import AliasLimit, Plan, ProjectTarget, ServerTarget
from unhang.change.services import commands_for
from unhang.change.settings_edit import CannotEditError, Edit, edits
from unhang.change.steps import (
    AliasChange,
    ChangeParameters,
    DjangoValues,
    EditSettings,
    SetVariable,
    Step,
    WriteOptionFile,
)
from unhang.errors import NotPermitted, Refused, UsageProblem
from unhang.i18n import _, ngettext
from unhang.mysql.engine import POOLING
from unhang.reaper.providers import titled
from unhang.survey.codec import decode
from unhang.survey.model import Alias, Survey
from unhang.survey.project import Settings

VARIABLES: Final = ("wait_timeout", "interactive_timeout")


@dataclass(frozen=True, slots=True)
class Goal:
    """What the plan shall reach.

    Attributes:
        wait_timeout: For the server's two timeouts, seconds.
        conn_max_age: For Django, seconds.
        pool: Switch Django's own ENGINE to unhang's, which pools.
    """

    wait_timeout: int
    conn_max_age: int
    conn_health_checks: bool = True
    pool: bool = False

    @classmethod
    def of(
        cls, wait_timeout: int | None = None, conn_max_age: int | None = None, *, pool: bool = False
    ) -> Goal:
        """The goal by the rule: 300, 300 and 280 unless told otherwise.

        Raises:
            UsageProblem: A value that no server takes, or a client limit that is not below.
        """
        wait = timeouts.RECOMMENDED_WAIT_TIMEOUT if wait_timeout is None else wait_timeout
        try:
            limit = timeouts.client_limit(wait)
        except ValueError as error:
            raise UsageProblem(
                _("--wait-timeout {n} cannot be set: {reason}.").format(n=wait, reason=error),
                cure=_("A server takes 0 as 1 and ends every sleeper after one second."),
            ) from None
        age = limit if conn_max_age is None else conn_max_age
        if not 0 <= age <= limit:
            raise Refused(
                _("CONN_MAX_AGE {age} s is not safe with a wait_timeout of {wait} s.").format(
                    age=age, wait=wait
                ),
                cure=_("It may be from 0 to {limit} s.").format(limit=limit),
            )
        return cls(wait, age, pool=pool)

    @classmethod
    def from_json(cls, data: Mapping[str, int | bool]) -> Goal:
        """The goal that a plan keeps.

        Raises:
            UsageProblem: It is none.
        """
        try:
            return decode(cls, data)
        except ValueError as error:
            raise UsageProblem(_("That plan has no goal: {why}.").format(why=error)) from None


@dataclass(frozen=True, slots=True)
class Place:
    """A surveyed server.

    Attributes:
        drop_in: Where its drop-in option file belongs, if we may write it.
        around: What else it is.
        target: Its name in `unhang.toml`; empty if it was not named there.
        also: Further names there that lead to the same server.
    """

    survey: Survey
    drop_in: Path | None
    around: Circumstances = field(default_factory=Circumstances)
    target: str = ""
    also: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of its names in `unhang.toml`, the one to reach it by first."""
        return tuple(filter(None, (self.target, *self.also)))

    @property
    def persists(self) -> bool:
        """Whether its values are kept over a restart by `SET PERSIST`."""
        engine = self.survey.server.engine
        return engine.can_persist and self.around.loads_persisted and not self.around.service


def make_plan(
    places: Sequence[Place], settings: Settings | None, goal: Goal, notes: Sequence[str] = ()
) -> Plan:
    """The steps from what is to the goal, in safe order; none when it is reached already."""
    steps: list[Step] = []
    targets: list[ServerTarget] = []
    warnings: list[str] = list(notes)
    for place in _one_a_server(places):
        target = _target(place)
        targets.append(target)
        steps += _server_steps(target.name, place, goal)
        warnings += place.around.warnings(target.name)
        warnings += _warnings(place.survey, goal)
    if settings is not None:
        aliases = [alias for place in places for alias in place.survey.aliases]
        steps += _settings_steps(aliases, settings, goal)
    now = datetime.now(UTC)
    return Plan(
        id=f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        created_at=now.isoformat(timespec="seconds"),
        made_by=f"unhang {unhang.__version__}",
        servers=tuple(targets),
        project=_project(settings),
        steps=in_safe_order(steps),
        warnings=tuple(warnings),
        goal=dataclasses.asdict(goal),
    )


def _one_a_server(places: Sequence[Place]) -> list[Place]:
    """Two addresses may lead to one server: a socket and a port, a name and a number."""
    merged: dict[str, Place] = {}
    for place in places:
        identity = place.survey.server.identity
        known = merged.get(identity)
        if known is None:
            merged[identity] = place
            continue
        aliases = (*known.survey.aliases, *place.survey.aliases)
        drop_in = known.drop_in or place.drop_in
        survey = dataclasses.replace(known.survey, aliases=aliases)
        # The first one's stays the way to reach it; all names count for a promotion.
        names = dict.fromkeys((*known.names, *place.names))
        also = tuple(name for name in names if name != known.target)
        merged[identity] = dataclasses.replace(known, survey=survey, drop_in=drop_in, also=also)
    return list(merged.values())


def _target(place: Place) -> ServerTarget:
    survey = place.survey
    aliases = ", ".join(alias.name for alias in survey.aliases)
    return ServerTarget(
        name=": ".join(filter(None, (", ".join(place.names), aliases))) or survey.target,
        address=survey.target,
        identity=survey.server.identity,
        version=survey.server.version,
        wait_timeout=survey.server.value("wait_timeout") or 0,
        aliases=tuple(AliasLimit(a.name, a.conn_max_age) for a in survey.aliases),
        target=place.target,
        also=place.also,
    )


def _project(settings: Settings | None) -> ProjectTarget | None:
    if settings is None:
        return None
    project = settings.project
    return ProjectTarget(str(project.directory), project.settings_module, project.python)


def _server_steps(name: str, place: Place, goal: Goal) -> Iterator[Step]:
    server = place.survey.server
    variables = [v for n in VARIABLES if (v := server.variables.get(n)) is not None]
    if place.around.service:
        yield from _service_step(name, place, goal)
        return
    for variable in variables:
        persisted = goal.wait_timeout if place.persists else variable.persisted
        if (variable.value, variable.persisted) != (goal.wait_timeout, persisted):
            yield SetVariable(
                name,
                variable.name,
                variable.value,
                goal.wait_timeout,
                variable.origin,
                variable.persisted,
                persisted,
            )
    if not place.persists:
        yield from _drop_in_step(name, place, goal)


def _service_step(name: str, place: Place, goal: Goal) -> Iterator[Step]:
    server, around = place.survey.server, place.around
    before = {n: v for n in VARIABLES if (v := server.value(n)) is not None}
    after = dict.fromkeys(before, goal.wait_timeout)
    if before != after:
        made = commands_for(around.service, around.host, server.variables, after)
        title = titled(around.service)
        yield ChangeParameters(name, title, before, after, made.forward, made.back)


def _drop_in_step(name: str, place: Place, goal: Goal) -> Iterator[Step]:
    server = place.survey.server
    path = place.drop_in
    before = option_file.read(path) if path else None
    after = option_file.content_for(dict.fromkeys(VARIABLES, goal.wait_timeout), before)
    configured = all(
        v.value == goal.wait_timeout and v.origin.kind in ("option file", "command line")
        for n in VARIABLES
        if (v := server.variables.get(n)) is not None
    )
    if before == after or configured:
        return
    folder = place.around.likely_folder
    if path and why_not_replaceable(path):
        folder, path = str(path.parent), None  # by hand: the content is printed, for this folder
    raises = goal.wait_timeout > (server.value("wait_timeout") or 0)
    yield WriteOptionFile(name, str(path) if path else None, before, after, raises, folder)


def _settings_steps(
    aliases: Sequence[Alias], settings: Settings, goal: Goal
) -> Iterator[EditSettings]:
    """One step for each file that can be edited, and one for what a person has to set."""
    left = [change for alias in aliases if (change := _wanted(alias, goal)) is not None]
    refused: list[AliasChange] = []
    why: dict[str, None] = {}
    environment: dict[str, str] = {}
    for path in _candidates(settings):
        source = read_source(path)
        found: dict[AliasChange, list[Edit]] = {}
        for change in left:
            try:
                found[change] = edits(source, change.alias, change.values())
            except CannotEditError as error:
                # Another file may hold the alias only if this one says nothing of it.
                if not error.absent:
                    refused.append(change)
                    why[str(error)] = None
                    environment |= error.environment
        left = [change for change in left if change not in found and change not in refused]
        reason = why_not_replaceable(path) if found else ""
        if reason:
            refused += found
            why[reason] = None
        elif found:
            made = [edit for group in found.values() for edit in group]
            whole = Patch.of(source, (edit.hunk for edit in made))
            yield EditSettings(tuple(found), str(path), whole, _diff(source, made))
    if left:
        why[_("no file of the project says what the alias is")] = None
    if left or refused:
        by_hand = (*refused, *left)
        yield EditSettings(by_hand, None, None, why="; ".join(why), environment=environment)


def _wanted(alias: Alias, goal: Goal) -> AliasChange | None:
    """What the goal changes of an alias, or `None`.

    A pool keeps its own limits, and unhang's refuses a CONN_MAX_AGE.
    """
    age, checks = alias.conn_max_age, alias.conn_health_checks
    if alias.pool:
        return None
    if goal.pool and alias.engine in POOLING:
        before = DjangoValues(age, checks, alias.engine)
        return AliasChange(alias.name, before, DjangoValues(0, checks, POOLING[alias.engine]))
    before, after = (
        DjangoValues(age, checks),
        DjangoValues(goal.conn_max_age, goal.conn_health_checks),
    )
    return AliasChange(alias.name, before, after) if before != after else None


def _diff(source: str, made: Sequence[Edit]) -> str:
    """The edits as people read them: by line number, and without anything else of the file."""
    lines = []
    for edit in sorted(made, key=lambda edit: edit.hunk.offset):
        if edit.shown_after:
            lines.append(f"@@ {source.count(chr(10), 0, edit.hunk.offset) + 1} @@")
            lines += [f"-{text}" for text in edit.shown_before]
            lines += [f"+{text}" for text in edit.shown_after]
    return "\n".join(lines)


def _candidates(settings: Settings) -> list[Path]:
    """The settings module's file, then what it imported from the same project."""
    first = [settings.settings_file] if settings.settings_file else []
    inside = [
        path
        for path in settings.loaded_files
        if path not in first and path.is_relative_to(settings.project.directory)
    ]
    return [path for path in (*first, *inside) if path.suffix == ".py" and path.is_file()]


def _warnings(survey: Survey, goal: Goal) -> Iterator[str]:
    if not survey.aliases:
        yield _(
            "No Django project was given, so nobody checked what the clients of {target} do: each "
            "must let go of an idle connection within {limit} s."
        ).format(target=survey.target, limit=timeouts.client_limit(goal.wait_timeout))
    yield from _more_kept(survey, goal)
    if not survey.server.engine.can_persist and any(
        v.origin.kind == "command line"
        for n in VARIABLES
        if (v := survey.server.variables.get(n)) is not None
    ):
        yield _(
            "A timeout of {target} is given on the server's command line, which wins over option "
            "files: change it there as well, or the next restart brings it back."
        ).format(target=survey.target)
    waiting = sum(s.seconds > goal.wait_timeout for s in survey.sleepers)
    if waiting:
        text = ngettext(
            "{n} session of {target} has slept for more than {wait} s. It keeps its old limit "
            "until it ends; code that sleeps that long will find its next connection closed.",
            "{n} sessions of {target} have slept for more than {wait} s. They keep their old limit "
            "until they end; code that sleeps that long will find its next connection closed.",
            waiting,
        )
        yield text.format(n=waiting, target=survey.target, wait=goal.wait_timeout)


def _more_kept(survey: Survey, goal: Goal) -> Iterator[str]:
    """Connections that were closed after each request, and will be kept."""
    kept = [a.name for a in survey.aliases if _keeps_more(a, goal)]
    if not kept:
        return
    text = _(
        "CONN_MAX_AGE of {aliases} goes from 0 to {age} s: each worker thread then keeps a "
        "connection between requests. Under ASGI, and wherever a thread serves one request only, "
        "nothing is gained and more sleep: keep 0 there with --conn-max-age 0."
    )
    yield text.format(aliases=", ".join(kept), age=goal.conn_max_age)


def _keeps_more(alias: Alias, goal: Goal) -> bool:
    """Whether it closed each connection after its request, and will keep it."""
    return alias.conn_max_age == 0 and not _pools(alias, goal) and goal.conn_max_age > 0


def _pools(alias: Alias, goal: Goal) -> bool:
    """Whether a pool keeps its connections, now or after the plan."""
    return alias.pool is not None or (goal.pool and alias.engine in POOLING)


def refuse_unsafe(places: Sequence[Place], goal: Goal) -> None:
    """Whether the goal's CONN_MAX_AGE would do harm on these servers.

    Raises:
        Refused: An alias gives its sessions a shorter wait_timeout of its own, or the kept
            connections of all workers would fill a server.
        NotPermitted: What a server has persisted cannot be seen.
    """
    for alias in (alias for place in places for alias in place.survey.aliases):
        own = alias.session_wait_timeout
        if own and not _pools(alias, goal) and not timeouts.lets_go_first(goal.conn_max_age, own):
            raise Refused(
                _(
                    "The init_command of {alias} gives its sessions a wait_timeout of {own} s, "
                    "which CONN_MAX_AGE {age} s would not stay below."
                ).format(alias=alias.name, own=own, age=goal.conn_max_age),
                cure=f"unhang plan --conn-max-age {timeouts.client_limit(own)}",
            )
    for place in _one_a_server(places):
        place.around.check(goal.wait_timeout)
        _refuse_unknown_persisted(place)
        survey, limit = place.survey, place.survey.server.value("max_connections")
        kept = [a for a in survey.aliases if _keeps_more(a, goal)]
        slots = survey.workers.slots * len(kept) if survey.workers else 0
        if limit and slots > limit:
            raise Refused(
                _(
                    "With CONN_MAX_AGE {age} s, {slots} worker threads would keep a connection "
                    "each; {target} takes {limit}."
                ).format(age=goal.conn_max_age, slots=slots, target=survey.target, limit=limit),
                cure="unhang plan --conn-max-age 0",
            )


def _refuse_unknown_persisted(place: Place) -> None:
    """A way back that does not know what was persisted would reset what it never saw."""
    server = place.survey.server
    seen = [v for n in VARIABLES if (v := server.variables.get(n)) is not None]
    if place.persists and any(v.origin.kind == "unknown" for v in seen):
        raise NotPermitted(
            _(
                "What {target} has persisted cannot be seen with the account {account}: nobody "
                "could put it back."
            ).format(target=place.survey.target, account=place.survey.account),
            cure=f"GRANT SELECT ON performance_schema.* TO {place.survey.account};",
        )
