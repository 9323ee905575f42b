"""One reaper at a time: whoever holds a named lock of the server."""

from __future__ import annotations

from typing import Final

from unhang.errors import Refused
from unhang.i18n import _
from unhang.survey.connect import Connection, fetch_rows

LOCK: Final = "unhang:reaper"


def take_lead(connection: Connection) -> None:
    """Become the only reaper of this server; the lock ends with the connection.

    Raises:
        Refused: Somebody else is.
    """
    if fetch_rows(connection, f"SELECT GET_LOCK('{LOCK}', 0)")[0][0] == 1:
        return
    holder = fetch_rows(connection, f"SELECT IS_USED_LOCK('{LOCK}')")[0][0]
    raise Refused(
        _("Another reaper works on this server: session {id}.").format(id=holder),
        cure=_("Stop that one first, or leave it the work."),
    )


def leads(connection: Connection) -> bool:
    """Whether this connection still holds the lock: a lost connection loses it."""
    row = fetch_rows(connection, f"SELECT IS_USED_LOCK('{LOCK}') = CONNECTION_ID()")[0]
    return bool(row[0] == 1)
