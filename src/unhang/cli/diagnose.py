"""`unhang diagnose`: look, judge, and say what is wrong."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from unhang.cli import options
from unhang.cli.output import Format, err, out, print_error, print_finding, print_json, print_paste
from unhang.errors import CannotConnect, NotPermitted, UnhangError, UsageProblem
from unhang.i18n import _, ngettext
from unhang.rules import catalogue
from unhang.rules.model import Finding
from unhang.rules.text import seconds
from unhang.survey.collect import take_survey
from unhang.survey.grouping import OwnerGroup, owner_groups
from unhang.survey.model import Alias, Survey
from unhang.survey.proxies import where_to_ask
from unhang.survey.session import Session

_SHOWN_GROUPS = 12
_WIDE = 60


def diagnose(
    settings: options.SettingsOption = None,
    project: options.ProjectOption = None,
    alias: options.AliasOption = None,
    dsn: options.DsnOption = None,
    option_file: options.OptionFileOption = None,
    login: options.LoginOption = None,
    workers: options.WorkersOption = None,
    python: options.PythonOption = None,
    saved: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Judge a saved `--format json` instead."),
    ] = None,
    output: options.FormatOption = Format.TEXT,
) -> None:
    """Show why sessions sleep and what will hang. Changes nothing."""
    surveys: list[Survey]
    errors: list[UnhangError] = []
    if saved:
        surveys = read_saved(saved)
    else:
        scope = options.resolve(
            settings=settings,
            project=project,
            python=python,
            dsn=dsn,
            option_file=option_file,
            login=login,
            aliases=alias or (),
            workers=workers,
        )
        surveys = []
        for target in scope.targets:
            try:
                surveys.append(take_survey(target))
            except (CannotConnect, NotPermitted) as error:
                errors.append(error)
    judged = [(survey, catalogue.judge(survey)) for survey in surveys]
    (_print_json if output is Format.JSON else _print_text)(judged, errors)
    if errors:
        raise typer.Exit(errors[0].exit_code)
    raise typer.Exit(1 if any(findings for _survey, findings in judged) else 0)


def read_saved(path: Path) -> list[Survey]:
    """The surveys of a diagnosis that was saved as JSON.

    Raises:
        UsageProblem: The file holds none.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        surveys = document.get("surveys") if isinstance(document, dict) else None
        if not isinstance(surveys, list) or not surveys:
            raise ValueError(_("it holds no surveys"))
        return [Survey.from_json(survey) for survey in surveys]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageProblem(
            _("{path} is not a saved diagnosis: {error}.").format(path=path, error=reason),
            cure="unhang diagnose --format json > survey.json",
        ) from None


Judged = list[tuple[Survey, tuple[Finding, ...]]]


def _print_json(judged: Judged, errors: list[UnhangError]) -> None:
    content: dict[str, Any] = {
        "surveys": [survey.to_json() for survey, _findings in judged],
        "findings": [finding.to_json() for _survey, found in judged for finding in found],
        "errors": [
            {"message": e.message, "cure": e.cure, "exit_code": e.exit_code} for e in errors
        ],
    }
    print_json("diagnose", content)


def _print_text(judged: Judged, errors: list[UnhangError]) -> None:
    for survey, findings in judged:
        print_survey(survey)
        for finding in findings:
            print_finding(finding)
        _print_unseen(survey)
    for error in errors:
        print_error(error)
    _print_summary([finding for _survey, found in judged for finding in found], bool(judged))


def print_survey(survey: Survey) -> None:
    """The server in three lines, and its sessions by owner."""
    server = survey.server
    out.print(
        f"[bold]{server.engine}[/] {_('at')} {escape(survey.target)}"
        + (f" [dim]({_('read-only')})[/]" if server.read_only else "")
        + f" · {_('seen as')} {escape(survey.account)}"
    )
    for name in ("wait_timeout", "interactive_timeout"):
        variable = server.variables.get(name)
        if variable:
            origin = escape(str(variable.origin))
            out.print(f"{name} {seconds(variable.value)} [dim]({origin})[/]")
    for alias in survey.aliases:
        out.print(
            f"Django [bold]{escape(alias.name)}[/]: {_how_kept(alias)} · {escape(alias.engine)}"
            + _own_wait(alias)
        )
    out.print(_session_line(survey))
    if survey.sessions:
        out.print(_session_table(survey.sessions))
    out.print()


def _how_kept(alias: Alias) -> str:
    """What decides how long its connections live."""
    pool = alias.own_pool
    if pool is None or pool.problem:
        return (
            f"CONN_MAX_AGE {seconds(alias.conn_max_age)}"
            f" · CONN_HEALTH_CHECKS {alias.conn_health_checks}"
        )
    return _("pool of at most {count} a process, leases by {lease}").format(
        count=pool.max_size, lease=pool.lease
    )


def _own_wait(alias: Alias) -> str:
    if alias.session_wait_timeout is None:
        return ""
    return f" · init_command: wait_timeout {seconds(alias.session_wait_timeout)}"


def _session_line(survey: Survey) -> str:
    held = sum(session.is_idle_in_transaction for session in survey.sessions)
    unknown = any(session.in_transaction is None for session in survey.sleepers)
    visible = len(survey.sessions)
    # Our own session is no news. Without PROCESS an account sees its own sessions only.
    used = max(visible, survey.server.status.get("Threads_connected", 0) - 1)
    text = (
        _(
            "{used} of {limit} connections used, of which {visible} visible: {active} active,"
            " {asleep} asleep ({held} of them in a transaction)"
        )
        if used > visible
        else _(
            "{used} of {limit} connections used: {active} active, {asleep} asleep"
            " ({held} of them in a transaction)"
        )
    )
    return text.format(
        used=used,
        visible=visible,
        limit=survey.server.value("max_connections"),
        active=len(survey.sessions) - len(survey.sleepers),
        asleep=len(survey.sleepers),
        held=_("unknown") if unknown else held,
    )


def _session_table(sessions: tuple[Session, ...]) -> Table:
    """A row for each owner and what its sessions do; below it, where they come from."""
    known = any(session.owner for session in sessions)
    by_doing: defaultdict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        by_doing[_doing(session)].append(session)
    groups = [(doing, group) for doing, its in by_doing.items() for group in owner_groups(its)]
    groups.sort(key=lambda entry: -len(entry[1].sessions))
    table = Table(box=None, pad_edge=False, header_style="dim")
    whose = (_("owner"), _("user")) if known else (_("user"), _("from"))
    for title in (*whose, _("doing")):
        table.add_column(title, overflow="fold")
    for title in (_("sessions"), _("oldest")):
        table.add_column(title, justify="right", no_wrap=True)
    for doing, group in groups[:_SHOWN_GROUPS]:
        first = group.sessions[0]
        owner = (f"{escape(group.label)}{_details(group)}", escape(first.user))
        cells = owner if known else (escape(first.user), escape(first.host))
        oldest = max(session.seconds for session in group.sessions)
        age = seconds(round(oldest, 1)) if out.width >= _WIDE else f"{oldest:.0f} s"
        table.add_row(*cells, doing, str(len(group.sessions)), age)
    if len(groups) > _SHOWN_GROUPS:
        table.add_row(_("… {n} more groups").format(n=len(groups) - _SHOWN_GROUPS))
    return table


def _details(group: OwnerGroup) -> str:
    """The line of code, the threads and the work, a line below the owner."""
    owner = group.sessions[0].owner
    parts = [part for part in (group.code, group.threads, group.work) if part]
    if owner is not None and owner.proxy:
        parts.append(where_to_ask(owner.proxy))
    return "".join(f"\n  [dim]{escape(part)}[/]" for part in parts)


def _doing(session: Session) -> str:
    if not session.is_sleeper:
        return session.command
    return _("Sleep, in transaction") if session.is_idle_in_transaction else "Sleep"


def _print_unseen(survey: Survey) -> None:
    for unseen in survey.unseen:
        out.print(f"[magenta]{_('NOT SEEN')}[/] {escape(unseen.what)}: {escape(unseen.why)}.")
        if unseen.grant:
            print_paste(unseen.grant)
    if survey.unseen:
        out.print()


def _print_summary(findings: list[Finding], looked: bool) -> None:
    if not looked:
        return
    if not findings:
        out.print(f"[green]{_('Nothing to worry about: no findings.')}[/]")
        return
    counts = Counter(finding.severity for finding in findings)
    parts = ", ".join(f"{counts[s]} {_(s)}" for s in ("critical", "warning", "notice") if counts[s])
    total = ngettext("{n} finding", "{n} findings", len(findings)).format(n=len(findings))
    err.print(
        f"{total} ({parts}). " + _("Whole story: unhang explain {id}").format(id=findings[0].rule)
    )
