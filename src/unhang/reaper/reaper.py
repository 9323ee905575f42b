"""One round after another: look, wait, look again, choose, end, prove that they are gone."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pymysql

from unhang.errors import Refused
from unhang.i18n import _
from unhang.mysql.engine import Engine
from unhang.reaper.audit import Audit
from unhang.reaper.choose import Choice, Look, Spared, choose
from unhang.reaper.ending import Ender, Outcome, Result, ender_for
from unhang.reaper.ending.outcome import Kill, plain_kill
from unhang.reaper.lead import leads
from unhang.reaper.policy import Policy
from unhang.reaper.rules import Looks, protected_because
from unhang.survey.connect import Connection, fetch_rows
from unhang.survey.session import Session
from unhang.survey.sessions import read_sessions

_GUARD_SECONDS: Final = 0.25
"""Between two looks at whether to go on, while sessions are ended one after the other."""
_PING_SECONDS: Final = 1.0
_PROOF_SECONDS: Final = 5.0
"""A session whose client does not read goes when its thread notices; 50 ms is usual."""
_RECORDED: Final = 500
"""Sessions whose records are made durable at once."""
_BUSIER: Final = 20
"""More statements running than before, on top of twice as many: something else is happening."""

_LISTED: Final = "SELECT ID FROM performance_schema.processlist"
_LISTED_OLD: Final = "SELECT ID FROM information_schema.PROCESSLIST"
_PROCESSLIST_SINCE: Final = (8, 0, 22)


@dataclass(frozen=True, slots=True)
class Round:
    """What one round found and did.

    Attributes:
        outcomes: Of those that were tried, in order; empty in a dry run.
        surprise: Why the reaper stopped; empty if nothing unexpected happened.
        still_there: Ids that were ended and are listed all the same.
        compared: How it was made sure that nobody had gone back to work.
    """

    choice: Choice
    outcomes: tuple[Outcome, ...] = ()
    surprise: str = ""
    still_there: frozenset[int] = frozenset()
    ending_seconds: float = 0.0
    compared: str = ""

    @property
    def ended(self) -> tuple[Session, ...]:
        """Those that the server ended."""
        return tuple(o.session for o in self.outcomes if o.result is Result.ENDED)


@dataclass(slots=True)
class Reaper:
    """Works over connections that are open, and leads on its server.

    Attributes:
        inspector: Sees; holds the lead.
        killers: The connection of each account whose sessions may be ended, by user name.
        account: The inspector's, as GRANT wants it written.
        stop_file: As long as it exists, nothing is ended.
        audit: `None` in a dry run.
        pause: Waits; clock: seconds, monotonic.
    """

    inspector: Connection
    killers: Mapping[str, Connection]
    engine: Engine
    account: str
    policy: Policy
    stop_file: Path
    audit: Audit | None = None
    kill: Kill = plain_kill
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _previous: Look | None = field(default=None, init=False)
    _unique: frozenset[int] = field(default=frozenset(), init=False)
    _running_before: int = field(default=0, init=False)
    _guarded_at: float = field(default=0.0, init=False)

    def round(self) -> Round:
        """One round; the first one takes the gap between two looks longer."""
        if self._previous is None:
            self._previous = self._look()
        self._wait(self._previous.at + self.policy.gap_seconds - self.clock())
        now = self._look()
        choice = choose(now, self._previous, self.policy, self._own())
        self._previous = now
        return self._end(choice, choice.victims)

    def end_named(self, ids: Sequence[int]) -> Round:
        """End these sessions, whatever they hold: an operator named them one by one.

        Whose they are, and that they sleep, is checked all the same.
        """
        now = self._look()
        known = {session.id: session for session in now.sessions}
        victims, spared = [], []
        for id_ in dict.fromkeys(ids):
            session = known.get(id_)
            if session is None:
                raise Refused(
                    _("There is no session {id}, or this account may not see it.").format(id=id_)
                )
            looks = Looks(session, None, 0.0, now.uptime, self._own())
            found = protected_because(looks, self.policy)
            if found:
                spared.append(Spared(session, *found))
            else:
                victims.append(session)
        self._unique = frozenset()  # a few are compared one by one
        held = tuple(session for session in victims if session.in_transaction)
        return self._end(Choice(tuple(victims), tuple(spared), held), victims)

    def _wait(self, seconds: float) -> None:
        """Wait, and keep the connections: the lead would end with the inspector's."""
        while seconds > 0:
            self.pause(min(seconds, _PING_SECONDS))
            seconds -= _PING_SECONDS
            if seconds > 0:
                self.keep_connections()

    def keep_connections(self) -> None:
        """A sign of life over each connection."""
        for connection in (self.inspector, *self.killers.values()):
            connection.ping(reconnect=False)

    # ---- looking ----

    def _look(self) -> Look:
        at = self.clock()
        listing = read_sessions(
            self.inspector,
            self.engine,
            account=self.account,
            unseen=lambda _unseen: None,
            # The earlier look says who was there, the later one what they hold.
            thorough=None if self._previous is None else self.policy.idle_seconds,
        )
        self._unique = listing.unique
        return Look(listing.sessions, at, float(self._status("Uptime")))

    def _status(self, name: str) -> int:
        return int(fetch_rows(self.inspector, f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1])

    def _own(self) -> frozenset[int]:
        connections = (self.inspector, *self.killers.values())
        return frozenset(int(c.thread_id()) for c in connections)  # type: ignore[no-untyped-call]  # not in the stubs

    # ---- ending ----

    def _end(self, choice: Choice, victims: Sequence[Session]) -> Round:
        if self.audit is None or not victims:
            return Round(choice)
        self._running_before = self._status("Threads_running")
        outcomes: list[Outcome] = []
        tried: list[Session] = []
        began, surprise, compared = self.clock(), "", ""
        try:
            for ender, sessions in self._by_account(victims):
                compared = ender.how
                self.audit.ending(sessions)
                surprise = self._end_each(ender, sessions, tried, outcomes)
                if surprise:
                    break
        except BaseException:
            # The proof must not take the place of what went wrong, least of all of a Ctrl-C: that
            # closes the connection whose answer it interrupts.
            with contextlib.suppress(pymysql.err.MySQLError, OSError):
                self._prove(_may_be_ended(tried, outcomes))
            raise
        seconds = self.clock() - began
        left = self._prove(_may_be_ended(tried, outcomes))
        if left and not surprise:
            surprise = _("{n} sessions are still there {s:g} s after they were ended").format(
                n=len(left), s=_PROOF_SECONDS
            )
        return Round(choice, tuple(outcomes), surprise, left, seconds, compared)

    def _by_account(self, victims: Sequence[Session]) -> Iterator[tuple[Ender, Sequence[Session]]]:
        """Hundreds at a time: what is about to be ended is on disk before, once for all of them."""
        by_user: dict[str, list[Session]] = defaultdict(list)
        for session in victims:
            by_user[session.user].append(session)
        for user, sessions in by_user.items():
            ender = ender_for(
                self.engine,
                self.inspector,
                self.killers[user],
                self._unique,
                self.kill,
                many=len(victims),
            )
            # The server finds the newest session first.
            sessions.sort(key=lambda session: -session.id)
            for start in range(0, len(sessions), _RECORDED):
                yield ender, sessions[start : start + _RECORDED]

    def _end_each(
        self,
        ender: Ender,
        sessions: Sequence[Session],
        tried: list[Session],
        outcomes: list[Outcome],
    ) -> str:
        """Why it stopped; empty if it came to the end. What was done so far is in the lists."""
        size, rate = ender.batch, self.policy.rate
        if rate:
            size = max(1, min(size, int(rate / 5)))
        for start in range(0, len(sessions), size):
            batch = sessions[start : start + size]
            surprise = self._go_on()
            if not surprise:
                tried += batch
                found = ender.end(batch)
                outcomes += found
                if self.audit:
                    self.audit.ended(found)
                surprise = _surprise(found)
            if surprise:
                return surprise
            if rate:
                self._wait(len(batch) / rate)
        return ""

    def _go_on(self) -> str:
        """Why not to go on; empty if all is as it should be."""
        if self.stop_file.exists():
            return _("the stop file {path} is there").format(path=self.stop_file)
        if self.clock() - self._guarded_at < _GUARD_SECONDS:
            return ""
        self._guarded_at = self.clock()
        if not leads(self.inspector):
            return _("the lock that makes this the only reaper is lost")
        running = self._status("Threads_running")
        if running > 2 * self._running_before + _BUSIER:
            return _("{n} statements run at once, before the first was ended {before}").format(
                n=running, before=self._running_before
            )
        return ""

    def _prove(self, ids: Iterable[int]) -> frozenset[int]:
        wanted = set(ids)
        if not wanted or self.audit is None:
            return frozenset()
        began, left = self.clock(), wanted
        while True:
            left = self._still_listed(left)
            seconds = self.clock() - began
            if not left or seconds > _PROOF_SECONDS:
                break
            self.pause(0.05)
        self.audit.gone(wanted, left, seconds)
        return frozenset(left)

    def _still_listed(self, ids: set[int]) -> set[int]:
        listed = _LISTED_OLD if self.engine.release < _PROCESSLIST_SINCE else _LISTED
        if self.engine.kind == "mariadb":
            listed = _LISTED_OLD
        return {int(row[0]) for row in fetch_rows(self.inspector, listed)} & ids


def _may_be_ended(tried: Iterable[Session], outcomes: Iterable[Outcome]) -> set[int]:
    """After an interrupt the results of the last batch are unknown: it may have ended some."""
    others = {o.session.id for o in outcomes if o.result is not Result.ENDED}
    return {session.id for session in tried} - others


def _surprise(outcomes: Iterable[Outcome]) -> str:
    for outcome in outcomes:
        if outcome.result is Result.DENIED:
            return _(
                "the server does not let this account end session {id} of {user}: it belongs to "
                "another account of that name"
            ).format(id=outcome.session.id, user=outcome.session.user)
        if outcome.is_surprise:
            return _("ending session {id} gave error {code}").format(
                id=outcome.session.id, code=outcome.code
            )
    return ""


def replay(before: Look | None, now: Look, policy: Policy) -> Round:
    """What a round would do with saved sessions.

    With one look only, it is taken for both: nobody is known to have been used in between.
    """
    if before is None:
        before = replace(
            now,
            at=now.at - policy.gap_seconds,
            uptime=now.uptime - policy.gap_seconds,
            sessions=[replace(s, seconds=s.seconds - policy.gap_seconds) for s in now.sessions],
        )
    return Round(choose(now, before, policy))
