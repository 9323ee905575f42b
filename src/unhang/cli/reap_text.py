"""What `unhang reap` prints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from unhang.cli.output import out
from unhang.i18n import _, ngettext
from unhang.mysql.engine import Engine
from unhang.reaper.choose import Spared
from unhang.reaper.ending import Result
from unhang.reaper.policy import Policy
from unhang.reaper.providers import Provider
from unhang.reaper.reaper import Round
from unhang.rules.text import seconds
from unhang.survey.codec import encode
from unhang.survey.session import Session

_SHOWN: Final = 20


def print_header(engine: Engine, policy: Policy, provider: Provider, *, execute: bool) -> None:
    """Where, whose, how long, and whether anything will be ended."""
    where = f"{engine}" + (f" · {provider.title}" if provider.title else "")
    doing = _("ending") if execute else _("dry run, nothing is ended")
    out.print(
        f"[bold]{where}[/] · {doing} · "
        + _("sessions of {users} idle for {idle:g} s or longer").format(
            users=escape(", ".join(sorted(policy.accounts)) or _("(nobody)")),
            idle=policy.idle_seconds,
        )
    )
    if policy.accepted:
        accepted = ", ".join(sorted(policy.accepted))
        out.print(f"[magenta]{_('you vouch for')}[/] {accepted}")


def print_round(found: Round, *, execute: bool) -> None:
    """Victims, every spared sleeper with its reason, transactions, and what came of it."""
    choice = found.choice
    if choice.victims:
        _print_victims(found, execute=execute)
    _print_spared(choice.spared)
    chosen = {session.id for session in choice.victims}
    _print_transactions([s for s in choice.transactions if s.id not in chosen])
    _print_result(found, execute=execute)


def _print_victims(found: Round, *, execute: bool) -> None:
    victims = found.choice.victims
    results = {o.session.id: o.result.value for o in found.outcomes}
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in (_("session"), _("idle")):
        table.add_column(title, justify="right", no_wrap=True)
    for title in (_("user"), _("from"), _("last statement or owner"), _("result")):
        table.add_column(title, overflow="fold")
    for session in victims[:_SHOWN]:
        table.add_row(
            str(session.id),
            seconds(round(session.seconds, 1)),
            escape(session.user),
            escape(_place(session)),
            escape(_about(session)),
            results.get(session.id, _("not tried") if execute else _("would be ended")),
        )
    out.print(table)
    if len(victims) > _SHOWN:
        out.print(_("… and {n} more").format(n=len(victims) - _SHOWN))


def _place(session: Session) -> str:
    return f"{session.host}:{session.port}" if session.port else session.host


def _about(session: Session) -> str:
    owner = session.owner
    if owner and (owner.code or owner.program):
        return " ".join(filter(None, (owner.program, owner.code)))
    return (session.statement or "")[:60]


def _print_spared(spared: Sequence[Spared]) -> None:
    reasons: dict[str, list[int]] = defaultdict(list)
    for entry in spared:
        if entry.rule == "own":
            continue  # no news
        # "idle for 12.3 s, …" differs for each: those are one line.
        key = entry.reason if entry.rule != "idle" else _("not idle for long enough")
        reasons[key].append(entry.session.id)
    for reason, ids in sorted(reasons.items(), key=lambda item: -len(item[1])):
        out.print(f"[cyan]{_('spared')}[/] {len(ids):>4}  {escape(reason)} [dim]{_ranges(ids)}[/]")


def _print_transactions(sessions: Sequence[Session]) -> None:
    for session in sessions:
        waits = ngettext(
            "{n} session waits for it", "{n} sessions wait for it", len(session.blocks or ())
        )
        out.print(
            f"[yellow]{_('in a transaction')}[/] "
            + _(
                "session {id} of {user}, asleep {asleep}, transaction {age}, {rows} rows locked"
            ).format(
                id=session.id,
                user=escape(session.user),
                asleep=seconds(round(session.seconds, 1)),
                age=seconds(round(session.transaction_seconds or 0, 1)),
                rows=_("unknown") if session.rows_locked is None else session.rows_locked,
            )
            + (
                f"; {waits.format(n=len(session.blocks))} {_ranges(session.blocks)}"
                if session.blocks
                else ""
            )
            + (f" [dim]{_('holds')} {escape(_held(session))}[/]" if session.locks else "")
        )
    if sessions:
        out.print(
            "[dim]"
            + _("Its work is lost if it is ended; that needs its id: --session ID --execute")
            + "[/]"
        )


def _held(session: Session) -> str:
    names = dict.fromkeys(f"{lock.mode} {lock.name}".strip() for lock in session.locks or ())
    return ", ".join(list(names)[:4])


def _print_result(found: Round, *, execute: bool) -> None:
    count = len(found.choice.victims)
    if not execute:
        if count:
            text = ngettext("{n} session could be ended", "{n} sessions could be ended", count)
            out.print(f"[bold]{text.format(n=count)}[/]: {_('the same again with --execute')}")
        else:
            out.print(_("Nothing could be ended."))
        return
    ended = len(found.ended)
    text = ngettext("{n} session ended", "{n} sessions ended", ended).format(n=ended)
    rest = [
        f"{sum(o.result is result for o in found.outcomes)} {result.value}"
        for result in Result
        if result is not Result.ENDED and any(o.result is result for o in found.outcomes)
    ]
    proof = _("all gone when listed again") if ended and not found.still_there else ""
    at = datetime.now(UTC).strftime("%H:%M:%S")
    out.print(f"{at} [bold]{text}[/] " + " · ".join(filter(None, [proof, *rest])))
    if ended and found.compared:
        out.print(f"[dim]{found.compared}[/]")
    if found.surprise:
        out.print(f"[bold red]{_('stopped')}:[/] {escape(found.surprise)}")


def _ranges(ids: Iterable[int]) -> str:
    """`33, 35–38`: every id, shortly."""
    parts: list[list[int]] = []
    for number in sorted(ids):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("–".join(map(str, part)) for part in parts)


def as_json(policy: Policy, found: Round) -> dict[str, Any]:
    """The round as documented in `docs/reference/json.md`."""
    choice = found.choice
    return {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "idle_seconds": policy.idle_seconds,
        "accounts": sorted(policy.accounts),
        "accepted": sorted(policy.accepted),
        "victims": [encode(session) for session in choice.victims],
        "spared": [{"id": s.session.id, "rule": s.rule, "reason": s.reason} for s in choice.spared],
        "transactions": [encode(session) for session in choice.transactions],
        "outcomes": [
            {"id": o.session.id, "result": o.result.value, "code": o.code} for o in found.outcomes
        ],
        "compared": found.compared or None,
        "still_there": sorted(found.still_there),
        "surprise": found.surprise or None,
    }
