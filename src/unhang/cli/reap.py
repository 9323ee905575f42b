"""`unhang reap`: show which idle sleepers could be ended, and end them when told to."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import pymysql
import typer
from rich.markup import escape

from unhang.change import journal as journals
from unhang.change.drain import drain_of
from unhang.change.journal import keep_out_of_git
from unhang.cli import options, reap_text
from unhang.cli.change_options import StateDirOption, reached, state_folder
from unhang.cli.durations import seconds_of
from unhang.cli.output import SCHEMA, Format, err
from unhang.errors import CannotConnect, UsageProblem
from unhang.i18n import _
from unhang.mysql import errorcodes
from unhang.reaper import audit as audits
from unhang.reaper.choose import Look
from unhang.reaper.policy import Drain, Policy, check_floor, unknowns, usual_idle
from unhang.reaper.providers import Provider, protected_anywhere
from unhang.reaper.reaper import Reaper, Round, replay
from unhang.reaper.work import Work
from unhang.survey.collect import Target
from unhang.survey.connect import connected
from unhang.survey.model import Survey
from unhang.survey.server import read_server

STOP_FILE: Final = "reap.stop"
_SURPRISED: Final = 5
_FOUND: Final = 1
_LONGEST_RETRY_SECONDS: Final = 30.0
_LEAST_GAP_SECONDS: Final = 0.1
_SLICE_SECONDS: Final = 2.0
"""While it waits for the next round the daemon looks for the stop file and keeps its sessions."""


def reap(
    execute: Annotated[
        bool, typer.Option("--execute", help="End them; without it nothing is ended.")
    ] = False,
    idle: Annotated[
        str | None,
        typer.Option(
            "--idle",
            metavar="TIME",
            help="Idle for at least so long: 300, 10m; default: 300 s, or what Django keeps.",
        ),
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="TIME", help="Again and again, as a daemon.")
    ] = None,
    account: Annotated[
        list[str] | None,
        typer.Option(
            "--account", metavar="USER", help="Whose sessions; default: Django's own; repeatable."
        ),
    ] = None,
    accept_unknown: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-unknown",
            metavar="WHAT",
            help="Something this server does not show and you vouch for; repeatable.",
        ),
    ] = None,
    keep: Annotated[
        int, typer.Option("--keep", min=0, metavar="N", help="Left idle for each user and host.")
    ] = 2,
    most: Annotated[
        int, typer.Option("--most", min=1, metavar="N", help="Ended in one round at most.")
    ] = 20,
    rate: Annotated[
        float,
        typer.Option("--rate", min=0, max=1e6, metavar="N", help="Ended a second; 0: no limit."),
    ] = 10.0,
    gap: Annotated[
        str, typer.Option("--gap", metavar="TIME", help="Between the two looks.")
    ] = "2s",
    session: Annotated[
        list[int] | None,
        typer.Option(
            "--session",
            metavar="ID",
            help="Just this one, even in a transaction, whose work is lost; repeatable.",
        ),
    ] = None,
    saved: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="What it would do with a saved diagnosis; a second one is the later look.",
        ),
    ] = None,
    as_login: Annotated[
        bool,
        typer.Option("--as-login", help="End with the account of --login, not the application's."),
    ] = False,
    drain: Annotated[
        bool,
        typer.Option("--drain", help="Only sessions that live by the wait_timeout of before."),
    ] = False,
    i_know: Annotated[
        bool, typer.Option("--i-know", help="Allow an --idle that is shorter than is safe.")
    ] = False,
    stop_file: Annotated[
        Path | None,
        typer.Option(
            "--stop-file",
            metavar="FILE",
            help="As long as it exists nothing is ended; default: .unhang/reap.stop.",
        ),
    ] = None,
    providers: Annotated[
        Path | None,
        typer.Option("--providers", metavar="FILE", help="Your own data of managed services."),
    ] = None,
    settings: options.SettingsOption = None,
    project: options.ProjectOption = None,
    alias: options.AliasOption = None,
    dsn: options.DsnOption = None,
    option_file: options.OptionFileOption = None,
    login: options.LoginOption = None,
    python: options.PythonOption = None,
    state_dir: StateDirOption = None,
    output: options.FormatOption = Format.TEXT,
) -> None:
    """Show idle sleepers that could be ended, and why others are spared; end them if told to."""
    if math.isnan(rate):
        raise typer.BadParameter(_("--rate is not a number."))
    wanted = Policy(
        accounts=frozenset(account or ()),
        accepted=unknowns(accept_unknown or ()),
        keep=keep,
        most=most,
        rate=rate,
        gap_seconds=_gap(gap),
    )
    idle_seconds = seconds_of(idle) if idle else None
    show = _Shown(output, execute=execute and not saved)
    if saved:
        _refuse_beside_from(execute, every, session, drain)
        for policy, found in _replayed(saved, wanted, idle_seconds, i_know, providers):
            show(policy, found)
        raise typer.Exit(_FOUND if show.victims else 0)
    scope = options.resolve(
        settings=settings,
        project=project,
        python=python,
        dsn=dsn,
        option_file=option_file,
        login=login,
        aliases=alias or (),
    )
    folder = state_folder(state_dir, scope.project.directory if scope.project else None)
    if drain:
        if every is not None:
            # After a restart of the server its ids begin anew, and low ones are no longer old.
            raise UsageProblem(_("--drain looks back once; it does not go with --every."))
        wanted = replace(wanted, drain=_drain(folder, login, scope.single))
    work = Work(
        target=scope.single,
        wanted=wanted,
        idle_seconds=idle_seconds,
        i_know=i_know,
        execute=execute,
        as_login=as_login,
        stop_file=stop_file or folder / STOP_FILE,
        audit=folder / audits.FILE,
        providers=providers,
    )
    work.check_stop_file()
    if execute:
        folder.mkdir(parents=True, exist_ok=True)
        keep_out_of_git(folder)
    if every is None:
        with work.opened() as (reaper, provider):
            show.header(reaper, provider)
            show(reaper.policy, reaper.end_named(session) if session else reaper.round())
    elif session:
        raise UsageProblem(_("--session names sessions once; it does not go with --every."))
    else:
        _again_and_again(work, seconds_of(every), show)
    if show.surprise:
        raise typer.Exit(_SURPRISED)
    raise typer.Exit(_FOUND if show.victims and not execute else 0)


def _drain(folder: Path, login: str | None, target: Target) -> Drain:
    """Which sessions of the target are from before the last change.

    Raises:
        UsageProblem: No change of its `wait_timeout` was applied from here.
    """
    journal = journals.newest(folder)
    with reached(journal.plan, login) as targets, connected(target.login) as connection:
        identity = read_server(connection, account="", unseen=lambda _unseen: None).identity
        for server in journal.plan.servers:
            found = drain_of(journal, targets, server.name)
            if server.identity == identity and found is not None and not journal.rolled_back:
                return found
    raise UsageProblem(
        _("The last change from here did not change the wait_timeout of this server."),
        cure=_("Without --drain every idle session counts."),
    )


def _gap(text: str) -> float:
    seconds = seconds_of(text)
    if seconds < _LEAST_GAP_SECONDS:
        raise UsageProblem(
            _("--gap {text} makes the two looks one.").format(text=text),
            cure=_("{s:g} s is the least.").format(s=_LEAST_GAP_SECONDS),
        )
    return seconds


def _refuse_beside_from(
    execute: bool, every: str | None, session: list[int] | None, drain: bool
) -> None:
    beside = {"--execute": execute, "--every": every, "--session": session, "--drain": drain}
    for name, given in beside.items():
        if given:
            raise UsageProblem(
                _("{name} does not go with --from: what was saved is over.").format(name=name)
            )


def _again_and_again(work: Work, seconds: float, show: _Shown) -> None:
    """Until Ctrl-C, the stop file, or a surprise. A lost server is waited for."""
    retry = 1.0
    # As a service is stopped: what was begun is proven and written down, as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    while not show.surprise:
        try:
            with work.opened() as (reaper, provider):
                show.header(reaper, provider)
                while not show.surprise:
                    began = time.monotonic()
                    show(reaper.policy, reaper.round())
                    retry = 1.0
                    _wait(work, reaper, began + seconds)
        except (CannotConnect, pymysql.err.MySQLError) as error:
            if not _may_pass(error):
                raise
            text = _("{error} Trying again in {s:g} s.").format(error=error, s=retry)
            err.print(escape(text))
            time.sleep(retry)
            retry = min(retry * 2, _LONGEST_RETRY_SECONDS)


def _may_pass(error: Exception) -> bool:
    return isinstance(error, CannotConnect) or errorcodes.is_lost(error)


def _wait(work: Work, reaper: Reaper, until: float) -> None:
    work.check_stop_file()  # also when a round takes longer than the interval
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE_SECONDS))
        work.check_stop_file()
        reaper.keep_connections()


def _replayed(
    files: list[Path],
    wanted: Policy,
    idle_seconds: float | None,
    i_know: bool,
    providers: Path | None,
) -> Iterator[tuple[Policy, Round]]:
    from unhang.cli.diagnose import read_saved

    protected = protected_anywhere(providers)
    surveys = [survey for file in files for survey in read_saved(file)]
    by_server: dict[str, list[Survey]] = {}
    for survey in surveys:
        by_server.setdefault(survey.server.identity, []).append(survey)
    for found in by_server.values():
        found.sort(key=lambda survey: survey.taken_at)
        if len(found) > 2:
            raise UsageProblem(_("Two looks at one server are enough."))
        now = found[-1]
        users = wanted.accounts or now.app_users
        if not users:
            raise UsageProblem(
                _("The saved diagnosis names no account of Django's."),
                cure=_("Say whose sessions with --account USER."),
            )
        idle = usual_idle(now.aliases) if idle_seconds is None else idle_seconds
        if not i_know:
            check_floor(idle, now.aliases)
        policy = replace(wanted, accounts=users, idle_seconds=idle, protected=protected)
        looks = [_look(survey) for survey in found]
        yield policy, replay(looks[0] if len(looks) > 1 else None, looks[-1], policy)


def _look(survey: Survey) -> Look:
    from datetime import datetime

    at = datetime.fromisoformat(survey.taken_at).timestamp()
    return Look(survey.sessions, at, float(survey.server.status.get("Uptime", 0)))


class _Shown:
    """Prints rounds, and remembers what the exit code depends on."""

    def __init__(self, output: Format, *, execute: bool) -> None:
        self._json = output is Format.JSON
        self._execute = execute
        self.victims = 0
        self.surprise = ""

    def header(self, reaper: Reaper, provider: Provider) -> None:
        if not self._json:
            reap_text.print_header(reaper.engine, reaper.policy, provider, execute=self._execute)

    def __call__(self, policy: Policy, found: Round) -> None:
        self.victims += len(found.choice.victims)
        self.surprise = self.surprise or found.surprise
        if not self._json:
            reap_text.print_round(found, execute=self._execute)
            return
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "command": "reap",
            "executed": self._execute,
            **reap_text.as_json(policy, found),
        }
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        sys.stdout.flush()
