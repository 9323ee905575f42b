"""What an operator allows the reaper to do. Pure data; `floor` says what is too short."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from unhang import timeouts
from unhang.errors import Refused, UsageProblem
from unhang.i18n import _
from unhang.survey.model import Alias
from unhang.survey.session import Session

Unknown = Literal["transactions", "empty-transactions", "locks", "temporary-tables", "threads"]
"""What a server or an account may not show of a session. Each protects it, unless accepted.

transactions: whether it holds a transaction (no PROCESS).
empty-transactions: whether it sent BEGIN or XA START and touched nothing yet (MariaDB).
locks: GET_LOCK, LOCK TABLES, metadata locks (MariaDB without metadata_lock_info, MySQL without
    SELECT on performance_schema).
temporary-tables: whether it has one (MariaDB; MySQL, if it ever ran CREATE TABLE or CALL).
threads: whether it is an ordinary client (MySQL without SELECT on performance_schema).
"""

UNKNOWNS: Final[tuple[Unknown, ...]] = get_args(Unknown)

HARD_FLOOR_SECONDS: Final = 60.0
"""Shorter than this, a call to an outside service in the middle of a request looks idle."""
USUAL_IDLE_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Drain:
    """Sessions from before a change of `wait_timeout`: each keeps the value it connected with.

    Attributes:
        before_id: Connection ids only grow while a server runs; lower ones are from before. `None`
            is not known: then any may be.
        wait_timeout: The value of before, seconds, to compare with where a session's own is seen.
        over: The server was started again since, which ended them all.
    """

    before_id: int | None
    wait_timeout: int
    over: bool = False

    def holds(self, session: Session) -> bool:
        """Whether the session may still live by the old value."""
        if self.over or (self.before_id is not None and session.id >= self.before_id):
            return False
        return session.wait_timeout is None or session.wait_timeout == self.wait_timeout


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may be ended, and how many at a time.

    Attributes:
        accounts: User names whose sessions may be ended, letter for letter.
        idle_seconds: How long a session must have been idle, by the server's clock.
        accepted: Unknowns that the operator vouches for.
        keep: Idle sessions of each user and host that are left, the most recently used ones.
        most: Sessions ended in one round.
        rate: Sessions ended a second; 0 is without limit.
        gap_seconds: Between the two looks.
        protected: Accounts that are never ended, whatever else is said; `name*` is a prefix.
        drain: Only sessions that live by an old `wait_timeout`; `None` is any.
    """

    accounts: frozenset[str]
    idle_seconds: float = USUAL_IDLE_SECONDS
    accepted: frozenset[Unknown] = frozenset()
    keep: int = 2
    most: int = 20
    rate: float = 10.0
    gap_seconds: float = 2.0
    protected: frozenset[str] = field(default_factory=frozenset)
    drain: Drain | None = None

    def protects(self, user: str) -> bool:
        """Whether this account is never touched. Empty and anonymous users are protected."""
        return not user or any(
            user.startswith(name[:-1]) if name.endswith("*") else user == name
            for name in self.protected
        )


def unknowns(names: Iterable[str]) -> frozenset[Unknown]:
    """The unknowns that were typed.

    Raises:
        UsageProblem: There is no such one.
    """
    by_name = {str(name): name for name in UNKNOWNS}
    for name in names:
        if name not in by_name:
            raise UsageProblem(
                _("{name} is not something that can be unknown.").format(name=name),
                cure=_("Known are: {names}.").format(names=", ".join(UNKNOWNS)),
            )
    return frozenset(by_name[name] for name in names)


def usual_idle(aliases: Iterable[Alias]) -> float:
    """Idle seconds after which nobody can still want a session of these aliases."""
    return max([USUAL_IDLE_SECONDS, *(limit for limit, _why in _limits(aliases))])


def check_floor(idle_seconds: float, aliases: Iterable[Alias]) -> None:
    """Refuse an idle time within which an application may still count on its connection.

    Raises:
        Refused: It is too short, or no idle time is long enough.
    """
    aliases = tuple(aliases)
    for alias in aliases:
        if alias.conn_max_age is None and not alias.conn_health_checks and not alias.pool:
            raise Refused(
                _(
                    "{alias} keeps connections for ever (CONN_MAX_AGE is None) and does not test "
                    "them: the next request on an ended one would fail."
                ).format(alias=alias.name),
                cure=_("Set CONN_HEALTH_CHECKS = True first (unhang plan does), or say --i-know."),
            )
    floor, why = max(
        [
            (HARD_FLOOR_SECONDS, _("a request may pause that long for somebody else")),
            *_limits(aliases),
        ]
    )
    if idle_seconds < floor:
        raise Refused(
            _("{idle:g} s idle is too short: {why}; {floor:g} s is the least.").format(
                idle=idle_seconds, why=why, floor=floor
            ),
            cure=_("Name a longer --idle, or say --i-know."),
        )


def _limits(aliases: Iterable[Alias]) -> Iterable[tuple[float, str]]:
    for alias in aliases:
        pool = alias.own_pool
        if pool and pool.max_idle is not None:
            # The warm minimum is kept this long, and what is beyond it for max_idle.
            seconds = max(pool.max_idle, float(timeouts.client_limit(300)))
            yield seconds, _("the pool of {alias} keeps connections").format(alias=alias.name)
        elif alias.conn_max_age:
            yield (
                alias.conn_max_age + timeouts.margin(alias.conn_max_age),
                _("CONN_MAX_AGE of {alias} is {age} s").format(
                    alias=alias.name, age=alias.conn_max_age
                ),
            )
