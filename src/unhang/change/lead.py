"""Only one change at a time on a server, wherever people sit: a lock that the server keeps.

`GET_LOCK` needs no privilege, and ends with the session that holds it, so a crash leaves nothing
behind. A second lock tells the step, by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from unhang.errors import Refused
from unhang.i18n import _
from unhang.survey.connect import Connection, fetch

LOCK: Final = "unhang:change"
WAIT_SECONDS: Final = 3
"""A session whose process was killed may take the server a moment to notice."""
_STEPS_LOOKED_AT: Final = 64


@dataclass(slots=True)
class Lead:
    """The right to change some servers.

    Args:
        connections: By the servers' names; the locks end with them.
    """

    connections: Mapping[str, Connection]
    _step: int | None = None

    def take(self) -> None:
        """Take the lock of every server, always in the same order.

        Raises:
            Refused: Somebody else changes one of them; the message says who, and at which step.
        """
        for name in sorted(self.connections):
            _take(name, self.connections[name])

    def at(self, step: int) -> None:
        """Make sure that the right is still ours, and let others see the step.

        A connection may have been opened anew meanwhile, and its locks are gone then.

        Raises:
            Refused: Somebody else has it by now.
        """
        for name, connection in self.connections.items():
            if not _is_ours(connection):
                _take(name, connection)
            if self._step is not None:
                fetch(connection, "SELECT RELEASE_LOCK(%s)", [_step_lock(self._step)])
            fetch(connection, "SELECT GET_LOCK(%s, 0)", [_step_lock(step)])
        self._step = step


def _step_lock(step: int) -> str:
    return f"{LOCK}:{step}"


def _is_ours(connection: Connection) -> bool:
    sql = "SELECT IS_USED_LOCK(%s) <=> CONNECTION_ID() AS ours"
    return bool(fetch(connection, sql, [LOCK])[0]["ours"])


def _take(name: str, connection: Connection) -> None:
    taken = fetch(connection, "SELECT GET_LOCK(%s, %s) AS taken", [LOCK, WAIT_SECONDS])
    if not taken[0]["taken"]:
        raise Refused(
            _("Somebody else changes {server} now: {who}.").format(
                server=name, who=_holder(connection)
            ),
            cure=_("Wait for them, or talk to them."),
        )


def _holder(connection: Connection) -> str:
    row = fetch(
        connection,
        "SELECT ID AS id, USER AS user, HOST AS host FROM information_schema.PROCESSLIST"
        " WHERE ID = IS_USED_LOCK(%s)",
        [LOCK],
    )
    # Without PROCESS only sessions of our own account are there.
    who = _("an account that this one may not see")
    if row:
        who = _("{user} from {host}, session {id}").format(**row[0])
    step = _step_of_holder(connection)
    return who if step is None else _("{who}, at step {n}").format(who=who, n=step + 1)


def _step_of_holder(connection: Connection) -> int | None:
    names = [_step_lock(number) for number in range(_STEPS_LOOKED_AT)]
    columns = ", ".join(f"IS_USED_LOCK(%s) AS s{number}" for number in range(len(names)))
    row = fetch(connection, f"SELECT {columns}", names)[0]
    return next((n for n in range(len(names)) if row[f"s{n}"] is not None), None)
