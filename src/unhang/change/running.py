"""With which CONN_MAX_AGE the application runs, as far as its sessions tell.

A process that writes down who opens connections (`"unhang"` in INSTALLED_APPS) also writes down the
CONN_MAX_AGE it runs with. So a worker that was not restarted is seen by the sessions it still has;
one that has none at the moment is not. What is seen can therefore contradict a person who says that
everything was restarted, and can take their word's place only when every process is accounted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unhang import timeouts
from unhang.change.drain import sessions_with_owners
from unhang.change.targets import Targets
from unhang.i18n import _
from unhang.survey.session import Session


@dataclass(frozen=True, slots=True)
class Running:
    """What the sessions of the application's accounts tell.

    Attributes:
        old: Processes that keep connections for too long, in words.
        new: How many processes are seen to run with settings that are short enough.
        unknown: Sessions of which it is not known.
    """

    old: tuple[str, ...]
    new: int
    unknown: int

    def proves(self, processes: int | None) -> bool:
        """Whether nobody needs to be asked: all processes that there are were seen to be new.

        Args:
            processes: A number that somebody wrote down (`workers.explicit_processes`); never one
                that was counted, since others may run elsewhere or start in a moment.
        """
        return not self.old and not self.unknown and processes is not None and self.new >= processes


def look(targets: Targets, wait_timeouts: Mapping[str, int]) -> Running:
    """Look at the sessions of every server that is to get a shorter `wait_timeout`.

    Args:
        wait_timeouts: The shorter values, by server.
    """
    aliases = targets.aliases()
    run_dir = targets.run_dir
    old: dict[str, None] = {}
    new: set[tuple[str, int | None]] = set()
    unknown = 0
    for server in targets.plan.servers:
        if server.name not in wait_timeouts:
            continue
        own = tuple(aliases[a.name] for a in server.aliases if a.name in aliases)
        users = {alias.user for alias in own if not alias.pool}
        listing = sessions_with_owners(targets.connections[server.name], own, run_dir)
        for session in _of(listing.sessions, users):
            limit = _limit(session)
            if limit == "":
                unknown += 1
            elif timeouts.lets_go_first(_seconds(limit), wait_timeouts[server.name]):
                new.add(_process(session))
            else:
                old[_in_words(session, limit)] = None
    return Running(tuple(old), len(new), unknown)


def _of(sessions: Sequence[Session], users: set[str]) -> list[Session]:
    # A pool of ours keeps its own limit, learnt from the session itself.
    return [s for s in sessions if s.user in users and not (s.owner and s.owner.pool)]


def _limit(session: Session) -> str:
    return session.owner.conn_max_age if session.owner else ""


def _seconds(limit: str) -> int | None:
    try:
        return max(0, int(float(limit)))
    except (ValueError, OverflowError):
        return None  # None is for ever, and so is what is no number


def _process(session: Session) -> tuple[str, int | None]:
    owner = session.owner
    return (owner.container, owner.pid) if owner else ("", None)


def _in_words(session: Session, limit: str) -> str:
    owner = session.owner
    return _("{program}, process {pid}: CONN_MAX_AGE {limit}").format(
        program=owner.program if owner else "?", pid=owner.pid if owner else "?", limit=limit
    )
