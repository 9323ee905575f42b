"""Statements that look back at what an earlier one left in its session, as LAST_INSERT_ID()."""

from __future__ import annotations

from typing import Any, Final

from unhang.mysql.statements import Kind, looks_back
from unhang.pool import PooledConnection

NOBODYS: Final = (
    "This reads what an earlier statement left in its session, and there was none, or another "
    "borrower has had that connection since. Run both statements inside one transaction.atomic()."
)


class Hindsight:
    """Over which connections the last statement ran and the last new row went in, so that what
    looks back finds its own session again: never that of somebody else."""

    __slots__ = ("_inserted", "_inserted_uses", "_last", "_last_uses", "has_inserted")

    def __init__(self) -> None:
        self._last: PooledConnection | None = None
        self._last_uses = 0
        self._inserted: PooledConnection | None = None
        self._inserted_uses = 0
        self.has_inserted = False
        """Whether the session of the running lease is the one with our last row."""

    def remember(self, lease: PooledConnection, *, inserted: bool) -> None:
        """A statement of ours ran over this lease, which is about to end."""
        if inserted or self.continues_insert(lease):
            self._inserted, self._inserted_uses = lease, lease.uses
        self._last, self._last_uses = lease, lease.uses

    def continues_insert(self, lease: PooledConnection) -> bool:
        """Whether nobody else had this connection since we inserted a row over it."""
        return lease is self._inserted and lease.uses == self._inserted_uses + 1

    def wanted(self, query: Any) -> tuple[PooledConnection | None, int]:
        """The connection that a statement looks back at, and the number of our lease of it."""
        if reads_insert_id(query):
            return self._inserted, self._inserted_uses
        return self._last, self._last_uses

    def is_somebody_elses(self, kind: Kind, query: Any) -> bool:
        """Whether a statement on the running lease would take another borrower's id for ours."""
        return not self.has_inserted and may_look_back(kind, query) and reads_insert_id(query)


def may_look_back(kind: Kind, query: Any) -> bool:
    """Whether the statement may read what one before it left in the session."""
    return kind is Kind.READ_SESSION or (kind is Kind.OTHER and looks_back(query))


def reads_insert_id(query: Any) -> bool:
    """Whether it is the id of the last new row that it looks back at."""
    text = _lower(query)
    return "insert_id" in text or "identity" in text


def may_insert(query: Any) -> bool:
    """Whether a statement of no known kind may have set LAST_INSERT_ID()."""
    words = ("insert", "replace", "call", "execute", "load")
    return any(word in _lower(query) for word in words)


def _lower(query: Any) -> str:
    text = query.decode(errors="replace") if isinstance(query, bytes) else str(query)
    return text.lower()
