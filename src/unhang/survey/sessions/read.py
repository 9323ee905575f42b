"""Choosing the reader of an engine, and making sessions of what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from unhang.mysql.engine import Engine
from unhang.survey.connect import Connection
from unhang.survey.model import Unseen
from unhang.survey.session import Session
from unhang.survey.sessions import mariadb, mysql
from unhang.survey.sessions.sources import Sources

SYSTEM_USERS: Final = frozenset({"system user", "event_scheduler", "unauthenticated user"})
_SYSTEM_COMMANDS: Final = frozenset({"Daemon", "Slave_IO", "Slave_SQL", "Slave_worker"})


@dataclass(frozen=True, slots=True)
class Listing:
    """The sessions of one moment, oldest id first.

    Attributes:
        sees_all: Sessions of every account are among them.
        unique: On MariaDB the activity numbers that belong to one session only, now and later.
    """

    sessions: tuple[Session, ...]
    sees_all: bool
    unique: frozenset[int] = frozenset()


def read_sessions(
    connection: Connection,
    engine: Engine,
    *,
    account: str,
    unseen: Callable[[Unseen], None],
    thorough: float | None = None,
) -> Listing:
    """Every client session but our own.

    Without PROCESS a server shows an account its own sessions only.

    Args:
        account: Ours as GRANT wants it written, for the GRANT in an `Unseen`.
        unseen: Called with each thing that this account may not see.
        thorough: Look one by one, where an engine needs that (whether there may be a temporary
            table on MySQL, 0.6 ms each), at every sleeper idle for so many seconds; `None`: at
            the 50 that sleep longest.
    """
    reader = mariadb if engine.kind == "mariadb" else mysql
    sources = Sources(connection, account, unseen)
    sessions, unique = reader.read(sources, engine, thorough=thorough)
    kept = (
        session
        for session in sessions
        if session.user not in SYSTEM_USERS and session.command not in _SYSTEM_COMMANDS
    )
    in_order = tuple(sorted(kept, key=lambda session: session.id))
    return Listing(in_order, sources.sees_all, unique)
