"""`unhang watch`: sessions, refusals and response times, live and kept for comparing."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Annotated, Self

import pymysql.cursors
import typer
from rich.live import Live

from unhang.change.journal import keep_out_of_git
from unhang.cli import options
from unhang.cli.change_options import StateDirOption, state_folder
from unhang.cli.live import LiveTable
from unhang.cli.options import Scope
from unhang.cli.output import Format, err, out
from unhang.i18n import _
from unhang.monitor.history import History
from unhang.monitor.sample import Sample
from unhang.monitor.watch import watch as take_samples
from unhang.survey.connect import open_connection

HISTORY = "history.sqlite3"


def watch(
    interval: Annotated[
        float, typer.Option("--interval", metavar="S", min=0.1, help="Between two samples.")
    ] = 1.0,
    duration: Annotated[
        float | None, typer.Option("--for", metavar="S", help="Seconds; default: until Ctrl-C.")
    ] = None,
    mark: Annotated[
        str | None,
        typer.Option("--mark", metavar="NAME", help="Name this period for compare: before, after."),
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
    """Watch sessions, refused connections and response times; keep them in a local history."""
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
    folder.mkdir(parents=True, exist_ok=True)
    keep_out_of_git(folder)
    opener = functools.partial(open_connection, scope.single.login, pymysql.cursors.Cursor)
    # A wrong address or password is said at once; later failures are gaps in the watch.
    first = [opener()]
    with History(folder / HISTORY) as history:
        if mark:
            history.mark(mark)
        with _Shown(output) as shown:
            taken = take_samples(
                lambda: first.pop() if first else opener(),
                interval=interval,
                duration=duration,
                history=history,
                run_dir=_run_dir(scope),
                on_sample=shown.add,
            )
    err.print(
        _("{n} samples kept in {path}").format(n=taken, path=folder / HISTORY), soft_wrap=True
    )


def _run_dir(scope: Scope) -> Path | None:
    """Where the application's middleware leaves its counters; `None` when it is not in use."""
    found = scope.settings
    if found is None or "unhang.middleware.ResponseTimes" not in found.middleware:
        return None
    return found.run_dir


class _Shown:
    """A table drawn anew on a terminal, a line a sample elsewhere, JSON lines on request."""

    def __init__(self, output: Format) -> None:
        self._json = output is Format.JSON
        self._table = LiveTable()
        drawn = out.is_terminal and not self._json
        self._live = Live(console=out, auto_refresh=False) if drawn else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._live:
            self._live.stop()

    def add(self, sample: Sample) -> None:
        if self._json:
            sys.stdout.write(json.dumps(sample.to_json()) + "\n")
            sys.stdout.flush()
            return
        self._table.add(sample)
        if self._live:
            self._live.update(self._table.render(), refresh=True)
        else:
            out.print(self._table.line(), soft_wrap=True)
