"""Samples kept on this machine, in an SQLite file that several processes may use at once."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from unhang.errors import UsageProblem
from unhang.i18n import _
from unhang.monitor.sample import Sample

KEEP: Final = timedelta(hours=48)
"""Two working days: enough to compare the same hours before and after a change."""

_APPLICATION_ID: Final = int.from_bytes(b"UHNG", "big")
_SCHEMA: Final = 1
_BUSY_SECONDS: Final = 10.0
_CREATE: Final = (
    "CREATE TABLE sample (at REAL NOT NULL, json TEXT NOT NULL)",
    "CREATE INDEX sample_at ON sample (at)",
    "CREATE TABLE mark (at REAL NOT NULL, label TEXT NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA}",
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment with a name, such as `before`; it lasts until the next mark."""

    label: str
    at: datetime


class History:
    """The samples of the last days, and marks among them.

    Args:
        path: The file; made when it is missing, in a folder that exists.
        keep: Samples and marks older than this, seen from the newest sample, are deleted.

    Raises:
        UsageProblem: From every method: the file is not a history of unhang, is damaged, was made
            by a newer unhang, or cannot be written.
    """

    def __init__(self, path: str | Path, *, keep: timedelta = KEEP) -> None:
        self.path = Path(path)
        self.keep = keep
        with self._explained():
            # autocommit: every statement is durable by itself, and no lock is held between them.
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def add(self, sample: Sample) -> None:
        """Keep a sample, and delete what is too old by now."""
        at = sample.at.timestamp()
        oldest = at - self.keep.total_seconds()
        with self._explained(), self._transaction():
            values = (at, json.dumps(sample.to_json(), separators=(",", ":")))
            self._db.execute("INSERT INTO sample VALUES (?, ?)", values)
            self._db.execute("DELETE FROM sample WHERE at < ?", (oldest,))
            self._db.execute("DELETE FROM mark WHERE at < ?", (oldest,))

    def window(self, start: datetime | None = None, end: datetime | None = None) -> list[Sample]:
        """The samples from `start` (included) to `end` (excluded), oldest first; `None` is open."""
        low = start.timestamp() if start else 0.0
        high = end.timestamp() if end else float("inf")
        with self._explained():
            rows = self._db.execute(
                "SELECT json FROM sample WHERE at >= ? AND at < ? ORDER BY at, rowid", (low, high)
            ).fetchall()
        return [Sample.from_json(json.loads(text)) for (text,) in rows]

    def mark(self, label: str, at: datetime | None = None) -> Mark:
        """Say that a period begins, such as `before` or `after`; it lasts until the next mark.

        Args:
            label: Its name.
            at: When it began; now, if not given.
        """
        mark = Mark(label, at or datetime.now(UTC))
        with self._explained():
            values = (mark.at.timestamp(), label)
            self._db.execute("INSERT INTO mark VALUES (?, ?)", values)
        return mark

    def marks(self) -> list[Mark]:
        """All marks, oldest first."""
        with self._explained():
            rows = self._db.execute("SELECT label, at FROM mark ORDER BY at, rowid").fetchall()
        return [Mark(label, datetime.fromtimestamp(at, UTC)) for label, at in rows]

    def marked(self, label: str) -> list[Sample]:
        """The samples of the period that the latest mark of this name began.

        Raises:
            UsageProblem: There is no such mark; the cure names those that there are.
        """
        marks = self.marks()
        found = [i for i, mark in enumerate(marks) if mark.label == label]
        if not found:
            raise UsageProblem(
                _("The history {path} has no mark {label!r}.").format(path=self.path, label=label),
                cure=_("Marks in it: {marks}.").format(
                    marks=", ".join(dict.fromkeys(m.label for m in marks)) or _("none")
                ),
            )
        following = marks[found[-1] + 1 :]
        return self.window(marks[found[-1]].at, following[0].at if following else None)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: a deferred transaction that turns into a writing one is refused at once when
        # another process writes, whatever the timeout.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _prepare(self) -> None:
        """Make the tables in a new file; refuse any other file before anything is written."""
        if self._pragma("application_id") != _APPLICATION_ID:
            with self._transaction():
                # Looked at again: another process may just have made the file.
                if self._pragma("application_id") != _APPLICATION_ID:
                    self._create()
        version = self._pragma("user_version")
        if version != _SCHEMA:
            raise UsageProblem(
                _("The history {path} has format {found}; this unhang knows {known}.").format(
                    path=self.path, found=version, known=_SCHEMA
                ),
                cure=_("Use the unhang that wrote it, or another file."),
            )
        # Readers then never wait for the writer. It is a property of the file: when another
        # process is faster, this has nothing to do and may find the file busy.
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")

    def _create(self) -> None:
        if self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            raise UsageProblem(
                _("{path} is an SQLite file of another program.").format(path=self.path),
                cure=_("Choose another file for the history."),
            )
        for statement in _CREATE:
            self._db.execute(statement)

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, json.JSONDecodeError) as error:
            raise UsageProblem(
                _("The history {path} cannot be used: {error}.").format(
                    path=self.path, error=error
                ),
                cure=_("Move the file away, or choose another one; a new history is then begun."),
            ) from error
