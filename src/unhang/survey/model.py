"""What a survey holds: facts only, immutable, printable as JSON and readable back.

No judgement lives here; `unhang.rules` judges. What could not be seen is `None` or an `Unseen`,
never a guess.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from unhang.mysql.engine import Engine, identify
from unhang.survey.codec import decode, encode
from unhang.survey.session import Session

SCHEMA = 1

OriginKind = Literal[
    "compiled default", "option file", "command line", "set global", "persisted", "unknown"
]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a variable's value came from.

    Attributes:
        kind: One of the ways a server gets a value.
        path: The option file, when the server names it.
    """

    kind: OriginKind
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.path}" if self.path else self.kind


@dataclass(frozen=True, slots=True)
class Variable:
    """A global variable of the server: its value in the variable's own unit, and its origin.

    Attributes:
        persisted: MySQL's `mysqld-auto.cnf` value; `None` when not persisted (or not MySQL).
    """

    name: str
    value: int
    origin: Origin = Origin("unknown")
    persisted: int | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """One server, as it was when asked.

    Attributes:
        identity: What tells this server from every other: host, port and data directory, and
            `server_uuid` where there is one; a cloned machine may have another's.
        variables: Integer variables by lower-case name.
        status: Integer status counters by their usual name (`Threads_connected`, …).
        read_only: The server takes no writes from ordinary accounts.
    """

    version: str
    version_comment: str
    identity: str
    variables: Mapping[str, Variable]
    status: Mapping[str, int]
    read_only: bool = False

    @property
    def engine(self) -> Engine:
        """Engine and release, from the version text."""
        return identify(self.version, self.version_comment)

    def value(self, name: str) -> int | None:
        """A variable's value, or `None` if this server does not have it."""
        variable = self.variables.get(name)
        return variable.value if variable else None


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What the settings say of a pool that keeps an alias's connections.

    Attributes:
        ours: The ENGINE is unhang's own. Of another one no more is known than that its `OPTIONS`
            hold a `pool`.
        problem: Why the options are refused; the numbers below are `None` then.
        max_idle: Seconds after which an unused connection beyond `min_size` is closed.
        lease: How long a borrower keeps a connection: `transaction` or `request`.
    """

    ours: bool
    problem: str = ""
    min_size: int | None = None
    max_size: int | None = None
    max_idle: float | None = None
    lease: str | None = None


@dataclass(frozen=True, slots=True)
class Alias:
    """One entry of Django's DATABASES, in effect, without secrets.

    Attributes:
        conn_max_age: Seconds; 0 closes at the end of each request, `None` never.
        session_wait_timeout: What `OPTIONS["init_command"]` gives each of its sessions instead of
            the server's `wait_timeout`, seconds; `None` if nothing.
        init_conflicts: Parts of the `init_command` after which transactions do not begin and end
            where the application says.
        autocommit: Django's `AUTOCOMMIT`, which has the last word after driver and `init_command`.
            When it is off, each read opens a transaction that somebody has to end.
    """

    name: str
    engine: str
    host: str
    user: str
    database: str
    conn_max_age: int | None
    conn_health_checks: bool
    atomic_requests: bool = False
    pool: PoolFacts | None = None
    session_wait_timeout: int | None = None
    init_conflicts: tuple[str, ...] = ()
    autocommit: bool = True

    @property
    def own_pool(self) -> PoolFacts | None:
        """The pool, if the ENGINE is unhang's own; CONN_MAX_AGE says nothing then."""
        return self.pool if self.pool and self.pool.ours else None


@dataclass(frozen=True, slots=True)
class Workers:
    """How many connections the application can open at a time.

    Attributes:
        source: Who said so: an option, the settings, or processes seen on this host.
    """

    processes: int
    threads: int
    source: str

    @property
    def slots(self) -> int:
        """Requests that can run at once: each may hold one connection an alias."""
        return self.processes * self.threads


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that could not be looked at, why, and the GRANT that would show it."""

    what: str
    why: str
    grant: str = ""


@dataclass(frozen=True, slots=True)
class AccountLimit:
    """How many connections an account may have at a time by itself (`MAX_USER_CONNECTIONS`)."""

    user: str
    connections: int


@dataclass(frozen=True, slots=True)
class Held:
    """Which processes of this host have a session's connection open.

    Attributes:
        session: The session's id.
        pids: None at all when the process that opened it has ended, and the server was not told;
            several when it was inherited by `fork()`.
    """

    session: int
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """One server and everything of ours that talks to it, at one moment.

    Attributes:
        taken_at: ISO 8601, UTC.
        target: How the server was reached, without a password.
        account: The account that looked, as the server names it (`CURRENT_USER()`).
        aliases: Django's aliases on this server; empty when only a login was given.
        limits: Accounts with a limit of their own, as far as this account may see them.
        logins: Seconds that each client which is just logging in has been at it; `None` when this
            account may not see them.
        held: Sessions whose connection no process has any more, or several have. Sessions that
            exactly one process has, and those of which nothing is known, are not listed.
    """

    taken_at: str
    target: str
    account: str
    server: Server
    sessions: tuple[Session, ...]
    aliases: tuple[Alias, ...] = ()
    workers: Workers | None = None
    unseen: tuple[Unseen, ...] = ()
    limits: tuple[AccountLimit, ...] = ()
    logins: tuple[float, ...] | None = None
    held: tuple[Held, ...] = ()
    schema: int = field(default=SCHEMA)

    @property
    def sleepers(self) -> tuple[Session, ...]:
        """Every session in `Sleep`, in a transaction or not."""
        return tuple(session for session in self.sessions if session.is_sleeper)

    @property
    def app_users(self) -> frozenset[str]:
        """The accounts that Django logs in with."""
        return frozenset(alias.user for alias in self.aliases)

    def aliases_of(self, user: str) -> tuple[Alias, ...]:
        """The aliases that log in with this account."""
        return tuple(alias for alias in self.aliases if alias.user == user)

    def without(self, ids: Collection[int]) -> Survey:
        """The same survey, as if these sessions were not there."""
        return replace(self, sessions=tuple(s for s in self.sessions if s.id not in ids))

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and scalars, as documented in `docs/reference/json.md`."""
        plain: dict[str, Any] = encode(self)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Survey:
        """The survey that `to_json` printed.

        Raises:
            ValueError: A schema this version does not know, or a missing field.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"a survey is an object, not {data!r}")
        if data.get("schema") != SCHEMA:
            raise ValueError(f"survey schema {data.get('schema')!r} is not {SCHEMA}")
        survey = decode(cls, {**data, "aliases": [_renewed(a) for a in data.get("aliases", ())]})
        identify(survey.server.version, survey.server.version_comment)
        return survey


def _renewed(alias: Mapping[str, Any]) -> Mapping[str, Any]:
    """An alias of a survey from before `pool` held facts: it was true or false."""
    if not isinstance(alias.get("pool"), bool):
        return alias
    return {**alias, "pool": {"ours": False} if alias["pool"] else None}
