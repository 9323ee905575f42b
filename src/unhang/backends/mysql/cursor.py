"""The cursor that Django's wrapper gets: it holds rows, never a connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import MySQLdb as Database
from django.db import IntegrityError
from django.db.backends.mysql.base import CursorWrapper

if TYPE_CHECKING:
    from unhang.backends.mysql.virtual import VirtualConnection
    from unhang.mysql.drivers import PhysicalConnection

# Codes that the drivers call OperationalError and Django an IntegrityError.
_INTEGRITY_CODES = frozenset(CursorWrapper.codes_for_integrityerror)


class VirtualCursor:
    """A PEP 249 cursor on a virtual connection, in the place of Django's `CursorWrapper`.

    Its rows are read from the server before `execute` returns. After a statement that pinned the
    connection, such as CALL, it is a shell around a cursor of the driver, with `nextset()`.
    """

    __slots__ = (
        "_connection",
        "_executed",
        "_position",
        "_raw",
        "_rows",
        "arraysize",
        "description",
        "description_flags",
        "lastrowid",
        "rowcount",
        "warning_count",
    )

    def __init__(self, connection: VirtualConnection) -> None:
        self._connection: VirtualConnection | None = connection
        self._raw: Any = None
        self._rows: Sequence[Any] | None = None
        self._position = 0
        self._executed: Any = None
        self.arraysize = 1
        self.description: Any = None
        self.description_flags: Any = None
        self.lastrowid: int | None = None
        self.rowcount = -1
        self.warning_count = 0

    # ---- run ----

    def execute(self, query: Any, args: Any = None) -> Any:
        """Run a statement; returns the number of rows."""
        try:
            return self._open().run(self, query, args)
        except Database.OperationalError as error:
            if error.args and error.args[0] in _INTEGRITY_CODES:
                raise IntegrityError(*error.args) from error
            raise

    def executemany(self, query: Any, args: Any) -> Any:
        """Run a statement for each set of arguments; returns the number of rows."""
        if not args:
            return None  # as the drivers do
        try:
            return self._open().run(self, query, args, many=True)
        except Database.OperationalError as error:
            if error.args and error.args[0] in _INTEGRITY_CODES:
                raise IntegrityError(*error.args) from error
            raise

    def callproc(self, procname: str, args: Sequence[Any] = ()) -> Any:
        """Call a stored procedure; it may leave anything in the session."""
        virtual = self._open()
        raw = virtual.pinned_cursor("CALL")
        with virtual.watched():
            result = raw.callproc(procname, args)
        self.take_cursor(raw)
        return result

    def take(self, physical: PhysicalConnection) -> None:
        """Take the result over from the connection's own cursor."""
        raw = physical.cursor
        self._raw = None
        self._rows = raw.fetchall()
        self._position = 0
        self.description = raw.description
        self.rowcount = raw.rowcount
        self.lastrowid = raw.lastrowid
        self.warning_count = raw.warning_count
        self._executed = raw._executed

    def take_cursor(self, raw: Any) -> None:
        """Pass everything on to this cursor of the driver from now on."""
        self._raw = raw
        self._rows = None
        self._executed = raw._executed
        self.description = raw.description
        self.rowcount = raw.rowcount
        self.lastrowid = raw.lastrowid
        self.warning_count = raw.warning_count

    def _open(self) -> VirtualConnection:
        if self._connection is None:
            raise Database.ProgrammingError("cursor closed")
        return self._connection

    # ---- fetch ----

    def fetchone(self) -> Any:
        """The next row, or `None`."""
        if self._raw is not None:
            return self._raw.fetchone()
        rows, position = self._fetchable(), self._position
        if position >= len(rows):
            return None
        self._position = position + 1
        return rows[position]

    def fetchmany(self, size: int | None = None) -> Any:
        """The next `size` rows; an empty tuple at the end."""
        if self._raw is not None:
            return self._raw.fetchmany(size or self.arraysize)
        rows, begin = self._fetchable(), self._position
        end = begin + (size or self.arraysize)
        if begin == 0 and end >= len(rows):
            self._position = len(rows)
            return rows or ()
        self._position = min(end, len(rows))
        return rows[begin:end] or ()

    def fetchall(self) -> Any:
        """The rows that are left."""
        if self._raw is not None:
            return self._raw.fetchall()
        rows, begin = self._fetchable(), self._position
        self._position = len(rows)
        return rows[begin:] if begin else rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.fetchone, None)

    def nextset(self) -> Any:
        """The next result of a statement that has several, or `None`."""
        if self._raw is None:
            return None
        with self._open().watched():
            more = self._raw.nextset()
        self.take_cursor(self._raw)
        return more

    @property
    def rownumber(self) -> Any:
        """The index of the next row, or `None` if there is no result."""
        if self._raw is not None:
            return self._raw.rownumber
        return self._position if self._rows is not None else None

    def scroll(self, value: int, mode: str = "relative") -> None:
        """Move to another row of the result."""
        if self._raw is not None:
            self._raw.scroll(value, mode)
            return
        target = self._position + value if mode == "relative" else value
        if not 0 <= target < len(self._fetchable()):
            raise IndexError("out of range")
        self._position = target

    def mogrify(self, query: Any, args: Any = None) -> Any:
        """The statement as it would be sent, with its arguments in it."""
        return self._open().briefly(lambda raw: raw.cursor().mogrify(query, args))

    def _fetchable(self) -> Sequence[Any]:
        if self._rows is None:
            raise Database.ProgrammingError("execute() first")
        return self._rows

    # ---- the rest of PEP 249, and what Django looks at ----

    def close(self) -> None:
        """Forget the rows."""
        raw, self._raw = self._raw, None
        self._rows = self._connection = None
        if raw is not None:
            raw.close()

    def __enter__(self) -> VirtualCursor:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def setinputsizes(self, *_args: object) -> None:
        """Does nothing, as PEP 249 allows."""

    def setoutputsizes(self, *_args: object) -> None:
        """Does nothing, as PEP 249 allows."""

    @property
    def connection(self) -> VirtualConnection | None:
        """What it runs on."""
        return self._connection
