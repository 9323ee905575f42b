"""Who still lives by the old `wait_timeout`, since when, and until when.

A session copies the value when it connects, so lowering it changes nothing for those that are open:
they end when their client lets go, or when they have slept for the old value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unhang.change.facts import restarted_since
from unhang.change.journal import Journal
from unhang.change.states import state_of
from unhang.change.steps import ChangeParameters, SetVariable, wait_timeout_change
from unhang.change.targets import Targets
from unhang.i18n import _
from unhang.reaper.policy import Drain
from unhang.survey.collect import current_account
from unhang.survey.connect import Connection, fetch
from unhang.survey.grouping import OwnerGroup, owner_groups
from unhang.survey.model import Alias
from unhang.survey.owners import with_owners
from unhang.survey.server import read_server
from unhang.survey.session import Session
from unhang.survey.sessions import Listing, read_attributes, read_sessions


@dataclass(frozen=True, slots=True)
class DrainingGroup:
    """Old sessions of one owner.

    Attributes:
        owner: Who has them, as far as it can be told; see `survey.grouping`.
        oldest_seconds: How long the one that is asleep for longest has been so.
        gone_within_seconds: The last of them is ended by the server then, if all stay asleep.
        busy: Those that are not asleep, or in a transaction: nothing ends them but their client.
    """

    owner: str
    count: int
    oldest_seconds: float
    gone_within_seconds: float
    busy: int


@dataclass(frozen=True, slots=True)
class Draining:
    """Sessions of one server that connected before its `wait_timeout` was changed.

    Attributes:
        server: Its name in the plan.
        count: How many there are.
        oldest_seconds: How long the oldest of them has been asleep.
        gone_within_seconds: If they stay asleep, the last one is ended by the server then.
        seen: Whether all sessions are visible to this account.
        groups: The same by owner, the biggest first.
    """

    server: str
    count: int
    oldest_seconds: float
    gone_within_seconds: float
    seen: bool
    groups: tuple[DrainingGroup, ...] = ()


def draining(journal: Journal, targets: Targets) -> Sequence[Draining]:
    """One entry for each server whose `wait_timeout` the plan changes."""
    aliases = targets.aliases()
    run_dir = targets.run_dir
    found = []
    for server in journal.plan.servers:
        drain = drain_of(journal, targets, server.name)
        if drain is None:
            continue
        own = tuple(aliases[a.name] for a in server.aliases if a.name in aliases)
        listing = sessions_with_owners(targets.connections[server.name], own, run_dir)
        old = [session for session in listing.sessions if drain.holds(session)]
        found.append(_of_server(server.name, old, drain, seen=listing.sees_all))
    return found


def drain_of(journal: Journal, targets: Targets, server: str) -> Drain | None:
    """Which sessions of a server are old; `None` if its `wait_timeout` is not changed (yet)."""
    for number, step in enumerate(journal.plan.steps):
        change = wait_timeout_change(step)
        if change is None or not isinstance(step, SetVariable | ChangeParameters):
            continue
        if step.server == server:
            if state_of(step, targets) != "after":
                return None  # nobody has the new value yet
            over = restarted_since(step, targets, journal.fact(number, "server_started"))
            return Drain(journal.fact(number, "watermark"), change[0], over)
    return None


def _of_server(name: str, old: Sequence[Session], drain: Drain, *, seen: bool) -> Draining:
    groups = tuple(_of_group(group, drain) for group in owner_groups(old))
    return Draining(
        name,
        len(old),
        max((group.oldest_seconds for group in groups), default=0.0),
        max((group.gone_within_seconds for group in groups), default=0.0),
        seen,
        groups,
    )


def _of_group(group: OwnerGroup, drain: Drain) -> DrainingGroup:
    asleep = [session.seconds for session in group.sessions if session.is_sleeper]
    owner = " ".join(
        filter(None, (group.label, group.code and _("opened at {code}").format(code=group.code)))
    )
    return DrainingGroup(
        owner,
        len(group.sessions),
        max((s.seconds for s in group.sessions), default=0.0),
        max(0.0, drain.wait_timeout - min(asleep, default=0.0)),
        sum(not s.is_idle for s in group.sessions),
    )


def sessions_with_owners(
    connection: Connection, aliases: Sequence[Alias], run_dir: Path | None
) -> Listing:
    """All sessions that are shown, with their owners as far as they can be known."""
    account = current_account(connection)
    server = read_server(connection, account=account, unseen=_ignored)
    listing = read_sessions(connection, server.engine, account=account, unseen=_ignored)
    port = fetch(connection, "SELECT @@port AS port")[0]["port"]
    known = with_owners(
        listing.sessions,
        unseen=_ignored,
        attributes=read_attributes(connection),
        aliases=aliases,
        run_dir=run_dir,
        server_port=int(port) or None,
        server_uptime=server.status.get("Uptime"),
    )
    return Listing(known, listing.sees_all, listing.unique)


def _ignored(_unseen: object) -> None: ...
