"""Whose session is it? What the application wrote down, sockets, and connect attributes, merged.

Each source says how it knows. Where two disagree, the one that cannot be wrong wins: the holder of
a socket is a fact, a number may have been given twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from unhang.i18n import _
from unhang.openers.reader import Opening, by_number, read_all
from unhang.survey import proxies
from unhang.survey.local import Host, ThisHost, is_root
from unhang.survey.model import Alias, Unseen
from unhang.survey.session import Owner, Session

Attributes = Mapping[int, Mapping[str, str]]
"""Of each session by its id: what its client said when it connected."""

_UPTIME_SECONDS: Final = 1.0
"""A server tells its age in whole seconds."""


def with_owners(
    sessions: Sequence[Session],
    *,
    unseen: Callable[[Unseen], None],
    attributes: Attributes | None = None,
    aliases: Sequence[Alias] = (),
    run_dir: Path | None = None,
    server_port: int | None = None,
    server_uptime: float | None = None,
    host: Host | None = None,
) -> tuple[Session, ...]:
    """The same sessions, with their owners as far as they can be known.

    Args:
        attributes: The server's `session_connect_attrs`; `None` if it has none.
        aliases: Django's on this server. What the application wrote down counts for these only.
        run_dir: Where it wrote.
        server_port: `@@port`, to tell the server's sockets from others.
        server_uptime: Seconds. A server that starts again gives the same numbers again.
        host: This one if left out.
    """
    if not sessions:
        return ()
    host = host or ThisHost()
    openings, closed = read_all(run_dir) if run_dir else ((), ())
    for folder in closed:
        unseen(
            Unseen(
                _("who opened connections, as the application wrote it down"),
                _("{path} belongs to user {uid}: run unhang as that user, or as root").format(
                    path=folder.path, uid=folder.uid
                ),
            )
        )
    oldest = time.time() - server_uptime - _UPTIME_SECONDS if server_uptime is not None else 0.0
    finder = _Finder(
        host,
        {session.id for session in sessions if session.host and host.is_here(session.host)},
        by_number([opening for opening in openings if opening.at >= oldest]),
        {alias.name: alias.user for alias in aliases},
        attributes or {},
    )
    if any(session.port and session.id in finder.local for session in sessions):
        finder.sockets = host.sockets(server_port).pids
    found = tuple(replace(session, owner=finder.owner(session)) for session in sessions)
    _tell_hidden(finder.hidden, unseen)
    return found


class _Finder:
    """Merges the sources for one session after the other."""

    def __init__(
        self,
        host: Host,
        local: set[int],
        openings: Mapping[tuple[str, int], Sequence[Opening]],
        users: Mapping[str, str],
        attributes: Attributes,
    ) -> None:
        self._host = host
        self.local = local
        self._openings = openings
        self._users = users
        self._attributes = attributes
        self.sockets: Mapping[int, tuple[int, ...]] = {}
        self.hidden = 0
        """Sessions of this host whose process we may not see."""
        # Thousands of sessions have a handful of owners.
        self._at_socket: dict[Sequence[int], Owner] = {}
        self._merged: dict[object, Owner | None] = {}

    def owner(self, session: Session) -> Owner | None:
        """What is known of this one; `None` if nothing."""
        said = self._attributes.get(session.id, {})
        pids = self.sockets.get(session.port) if session.id in self.local and session.port else None
        at_socket = self._known(pids or ())
        proxy = proxies.of_session(session.user, said) or proxies.of_program(at_socket.program)
        opening = self._opening(session, pids or (), proxy)
        if opening is None and not said:
            key = (at_socket, proxy)
            if key not in self._merged:
                self._merged[key] = self._merge(session, None, at_socket, said, proxy)
            owner = self._merged[key]
        else:
            owner = self._merge(session, opening, at_socket, said, proxy)
        if pids == () and (owner is None or owner.pid is None):
            self.hidden += 1
        return owner

    def _known(self, pids: Sequence[int]) -> Owner:
        """The process at the other end of a socket."""
        known = self._at_socket.get(pids)
        if known is None:
            known = self._at_socket[pids] = self._holder(pids)
        return known

    def _holder(self, pids: Sequence[int]) -> Owner:
        for pid in pids:
            if (process := self._host.process(pid)) is not None:
                return Owner(("socket",), pid, process.program, process.container)
        return Owner(())

    def _opening(
        self, session: Session, pids: Sequence[int], proxy: proxies.Proxy | None
    ) -> Opening | None:
        """What the application wrote down of it."""
        if proxy is not None and proxy.renumbers:
            return None  # the application knows it by another number
        for opening in (
            opening
            for alias, user in self._users.items()
            if user == session.user
            for opening in self._openings.get((alias, session.id), ())
        ):
            if proxy is None and opening.port and session.port not in (None, opening.port):
                continue  # the same number, by chance or at another server
            in_sight = opening.pid_namespace == self._host.pid_namespace
            if proxy is None and pids and in_sight and opening.pid not in pids:
                continue
            return opening
        return None

    def _merge(
        self,
        session: Session,
        opening: Opening | None,
        at_socket: Owner,
        said: Mapping[str, str],
        proxy: proxies.Proxy | None,
    ) -> Owner | None:
        owner = self._written(opening) if opening else Owner(())
        if proxy is not None:
            owner = replace(owner, known_by=(*owner.known_by, "proxy"), proxy=proxy.name)
            if opening is None:
                return replace(owner, pid=at_socket.pid)
            return owner
        if at_socket.pid is not None:
            container = at_socket.container or owner.container
            pid, program = owner.pid, owner.program
            if opening is None or opening.pid_namespace == self._host.pid_namespace:
                pid, program = owner.pid or at_socket.pid, at_socket.program or owner.program
            how = (*owner.known_by, "socket")
            owner = replace(owner, known_by=how, pid=pid, program=program, container=container)
        owner = self._with_attributes(session, owner, said)
        return owner if owner.known_by else None

    def _written(self, opening: Opening) -> Owner:
        in_sight = opening.pid_namespace == self._host.pid_namespace
        return Owner(
            ("owner file",),
            opening.pid,
            opening.program,
            # Where we are ourselves is no news.
            "" if in_sight else opening.container,
            opening.thread,
            opening.code,
            opening.work,
            opening.pool,
            conn_max_age=opening.conn_max_age,
        )

    def _with_attributes(self, session: Session, owner: Owner, said: Mapping[str, str]) -> Owner:
        """With what the driver said. Its process id is one of the client's own host."""
        number = said.get("_pid", "")
        pid = int(number) if number.isdecimal() else None
        process = None
        if pid is not None and session.id in self.local and owner.pid is None:
            process = self._host.process(pid)
        name = _printable(said.get("program_name", ""))
        if process is None and not name and (pid is None or owner.pid not in (None, pid)):
            return owner
        how = (*owner.known_by, "connect attributes")
        if process is not None:
            return replace(
                owner, known_by=how, pid=pid, program=process.program, container=process.container
            )
        return replace(owner, known_by=how, pid=owner.pid or pid, program=owner.program or name)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:60]


def _tell_hidden(count: int, unseen: Callable[[Unseen], None]) -> None:
    if count and not is_root():
        unseen(
            Unseen(
                _("which processes of this host own {n} sessions").format(n=count),
                _("they belong to other users: run unhang as root to see them"),
            )
        )
