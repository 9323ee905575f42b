"""One session as the server sees it, and who owns it. `None` is unknown, never no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LockKind = Literal["metadata", "table", "user", "backup", "global", "other"]


@dataclass(frozen=True, slots=True)
class Lock:
    """Something a session holds that can make others wait.

    Attributes:
        kind: `metadata` (a transaction or HANDLER uses a table), `table` (LOCK TABLES), `user`
            (GET_LOCK), `backup` (BACKUP STAGE, LOCK INSTANCE FOR BACKUP), `global` (FLUSH TABLES
            WITH READ LOCK), or `other`.
        mode: The server's own word for how strong it is, such as `SHARED_READ`.
        name: What is locked: `database.table`, or the name given to GET_LOCK. May be empty.
    """

    kind: LockKind
    mode: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who opened a session, as far as it can be known.

    Attributes:
        known_by: How it is known, best first: `owner file` (the application wrote it down),
            `socket` (the other end of the connection belongs to a process of this host),
            `connect attributes` (the driver said so when it connected), `proxy`.
        pid: Process id as that process sees it; in a container it is not this host's.
        program: What runs there: a command line, shortened, or the name the driver gave.
        container: Id or name of the container, if the process runs in one.
        thread: Name of the thread that connected.
        code: Line of the application that needed the connection: `shop/views.py:88`.
        work: What that was part of: `GET /product/7/`, `task shop.tasks.mail`, `command close_day`.
        pool: Name of the pool that keeps it, if one of ours does.
        proxy: The proxy in between (`ProxySQL`, `RDS Proxy`, …): the owner must be read there.
        conn_max_age: The CONN_MAX_AGE its process runs with, seconds or `None` as text; empty where
            the process did not write it down.
    """

    known_by: tuple[str, ...]
    pid: int | None = None
    program: str = ""
    container: str = ""
    thread: str = ""
    code: str = ""
    work: str = ""
    pool: str = ""
    proxy: str = ""
    conn_max_age: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One connection as the server sees it.

    Attributes:
        port: The client's TCP port; `None` for a socket, or when the server resolved nothing.
        seconds: How long the session has been in its command: idle seconds of a sleeper, from the
            source of this engine that a client cannot fake, where this account may read it.
        activity: A counter that every command of the session moves, a ping too.
        memory: Bytes the session uses; they grow while a long statement is being received.
        in_transaction: A transaction holds a snapshot, locks, or changes.
        transaction_seconds: Age of the open transaction.
        empty_transaction: BEGIN was sent, and nothing touched yet: nothing is lost with it, but
            its client would get an error.
        xa: The transaction is a distributed one (XA START).
        locks: Everything it holds except row locks; `None` when this cannot be seen.
        temporary_tables: It has a temporary table, which ends with it.
        blocks: Ids of the sessions that wait for it.
        wait_timeout: The session's own copy, seconds; `None` where the engine does not show it.
        statement: The last statement, without values; `None` when it is not shown.
        is_client: An ordinary client connection, no thread of the server's own.
    """

    id: int
    user: str
    host: str
    database: str | None
    command: str
    seconds: float
    state: str = ""
    in_transaction: bool | None = None
    transaction_seconds: float | None = None
    rows_locked: int | None = None
    rows_modified: int | None = None
    wait_timeout: int | None = None
    port: int | None = None
    activity: int | None = None
    empty_transaction: bool | None = None
    xa: bool | None = None
    locks: tuple[Lock, ...] | None = None
    temporary_tables: bool | None = None
    blocks: tuple[int, ...] | None = None
    statement: str | None = None
    is_client: bool | None = None
    owner: Owner | None = None
    memory: int | None = None

    @property
    def is_sleeper(self) -> bool:
        """Connected, and doing nothing at this moment."""
        return self.command == "Sleep"

    @property
    def is_idle(self) -> bool:
        """A sleeper that is known to be outside any transaction."""
        return self.is_sleeper and self.in_transaction is False

    @property
    def is_idle_in_transaction(self) -> bool:
        """A sleeper that holds a transaction open."""
        return self.is_sleeper and self.in_transaction is True
