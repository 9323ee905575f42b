"""The ledger: which statements are slow, as far as this host knows.

Every statement has a score in the shared table: the moving average of "took longer than the
threshold", 1 for one that always does. One overrun makes an unknown statement slow; one that has
been fast needs three in a row, so that a hiccup of the server condemns nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from unhang.lanes.table import ENTRIES, TEXT_BYTES, Table, key_of
from unhang.shape import shape_of

UNKNOWN: Final = -1.0
PROVEN: Final = 0.0
SLOW_FROM: Final = 0.5
_WEIGHT: Final = 0.25
"""Of the newest run: three overruns take a score of 0 over 0.5, three fast runs take 1 below it."""
_AS_GOOD_AS_PROVEN: Final = 0.05

FORGET_SECONDS: Final = 3600.0
"""A statement that nobody ran for so long is a stranger again."""

_SEEN_SECONDS: Final = 1.0
"""How exactly the time of the last run is kept."""

_PROBES: Final = 8
_LONG: Final = 2000
_TEXTS: Final = 4096
"""SQL texts that a process remembers the entry of. Those with values in them are many: when the
memory is full it starts anew."""


class Entry:
    """A statement's place in the table, as this process remembers it."""

    __slots__ = ("index", "key", "noted", "shape")

    def __init__(self, shape: str) -> None:
        self.shape = shape
        self.key = key_of(shape)
        self.index = 0
        self.noted = -math.inf
        """When its last run was written down."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one statement.

    Attributes:
        score: Share of slow runs, the newest counting most; `None` before the first has ended.
        runs, slow_runs: Counted at most once a second, and always when it was slow.
        mean_seconds: Of its slow runs.
        idle_seconds: Since it last ran.
    """

    text: str
    score: float | None
    runs: int
    slow_runs: int
    mean_seconds: float
    idle_seconds: float

    @property
    def is_slow(self) -> bool:
        """Whether it belongs into the slow lane."""
        return self.score is not None and self.score >= SLOW_FROM


class Ledger:
    """The statements of one table.

    Args:
        threshold: Seconds from which a run is slow.
        clock: Seconds that all processes of the host count alike.
    """

    def __init__(
        self, table: Table, threshold: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.threshold = threshold
        self.clock = clock
        self.learned = 0
        self.forgotten = 0
        self._by_text: dict[Any, Entry] = {}
        self.use(table)

    def use(self, table: Table) -> None:
        """Go on with this table."""
        self._table = table
        self._by_text.clear()
        self._scores, self._keys = table.scores, table.keys

    def entry_of(self, query: Any) -> Entry:
        """The entry of a statement, by its text before parameters are bound."""
        try:
            # Of a long text only the hash: INSERTs of a thousand rows would be many megabytes.
            name = query if len(query) <= _LONG else hash(query)
            entry = self._by_text.get(name)
        except TypeError:  # not hashable, or without a length; a driver may take it all the same
            name = str(query)
            entry = self._by_text.get(name)
        if entry is None:
            entry = Entry(shape_of(query))
            if len(self._by_text) >= _TEXTS:
                self._by_text.clear()
            self._by_text[name] = entry
            self.find(entry)
        return entry

    def is_proven(self, entry: Entry) -> bool:
        """Known to be fast: the way of nearly every statement."""
        index = entry.index
        return bool(self._scores[index] == PROVEN and self._keys[index] == entry.key)

    def is_slow(self, entry: Entry) -> bool:
        """Known to be slow."""
        index = entry.index
        return bool(
            self._keys[index] == entry.key
            and self._scores[index] >= SLOW_FROM
            and self.clock() - self._table.seen[index] < FORGET_SECONDS
        )

    def is_unknown(self, entry: Entry) -> bool:
        """Not one run has ended or has taken too long."""
        index = entry.index
        if self._keys[index] != entry.key or self._scores[index] < 0:
            return True
        return bool(self._scores[index] >= SLOW_FROM and not self.is_slow(entry))  # long ago

    def mean_seconds(self, entry: Entry) -> float:
        """Of its slow runs; the threshold while there is none."""
        index = entry.index
        overs = self._table.overs[index]
        if self._keys[index] != entry.key or overs == 0:
            return self.threshold
        return max(self.threshold, float(self._table.seconds[index] / overs))

    def was_fast(self, entry: Entry) -> None:
        """A run ended below the threshold."""
        index = self.find(entry)
        score = self._scores[index]
        if score < 0:
            self._scores[index] = PROVEN
        elif score > 0:
            lower = score * (1 - _WEIGHT)
            self._scores[index] = PROVEN if lower < _AS_GOOD_AS_PROVEN else lower
            if score >= SLOW_FROM > lower:
                self.forgotten += 1
        self._note(entry, index)

    def overran(self, entry: Entry) -> bool:
        """A run, ended or not, is over the threshold. Returns whether that makes it slow now."""
        index, now = self.find(entry), self.clock()
        score = self._scores[index]
        higher = 1.0 if score < 0 else score + (1 - score) * _WEIGHT
        if score >= 0 and now - self._table.over_at[index] < self.threshold:
            higher = score  # one stall, however many it holds up at a time, is one
        else:
            self._table.over_at[index] = now
        self._scores[index] = higher
        self._table.overs[index] += 1
        self._table.seconds[index] += self.threshold  # so long by now; `took` adds the rest
        self._note(entry, index, always=True)
        if score < SLOW_FROM <= higher:
            self.learned += 1
            return True
        return False

    def took(self, entry: Entry, seconds: float) -> None:
        """How long a slow run was in the end."""
        self._table.seconds[self.find(entry)] += max(0.0, seconds - self.threshold)

    def note(self, entry: Entry, now: float) -> None:
        """It runs, so it must not be forgotten. Cheap: every statement comes by here."""
        if now - entry.noted >= _SEEN_SECONDS:
            self._note(entry, self.find(entry))

    def _note(self, entry: Entry, index: int, *, always: bool = False) -> None:
        now = self.clock()
        if always or now - entry.noted >= _SEEN_SECONDS:
            entry.noted = now
            self._table.counts[index] += 1
            self._table.seen[index] = now

    def find(self, entry: Entry) -> int:
        """Its index; made, in the place of the statement unused for longest, if it has none."""
        index = entry.index
        if self._keys[index] != entry.key:
            first = entry.key % ENTRIES
            places = [(first + step) % ENTRIES for step in range(_PROBES)]
            with self._table.alone():
                index = next((p for p in places if self._keys[p] == entry.key), -1)
                if index < 0:
                    index = min(places, key=lambda p: (self._keys[p] != 0, self._table.seen[p]))
                    self._make(entry, index)
            entry.index = index
        if self.clock() - self._table.seen[index] >= FORGET_SECONDS:
            with self._table.alone():
                self._make(entry, index)
        return int(index)

    def _make(self, entry: Entry, index: int) -> None:
        if self._keys[index] != 0 and self._scores[index] >= SLOW_FROM:
            self.forgotten += 1
        table = self._table
        self._scores[index] = UNKNOWN
        table.counts[index] = table.overs[index] = 0
        table.seconds[index] = 0.0
        table.over_at[index] = -math.inf
        table.seen[index] = self.clock()
        table.set_text(index, entry.shape)
        # Last: whoever sees the key sees an entry that is complete.
        self._keys[index] = entry.key


def known(table: Table, now: float) -> list[Known]:
    """Every statement of a table, the slowest first, then the busiest."""
    found = [
        Known(
            text=table.text(index),
            score=None if table.scores[index] < 0 else float(table.scores[index]),
            runs=table.counts[index],
            slow_runs=table.overs[index],
            mean_seconds=table.seconds[index] / table.overs[index] if table.overs[index] else 0.0,
            idle_seconds=max(0.0, now - table.seen[index]),
        )
        for index in range(ENTRIES)
        if table.keys[index]
    ]
    found.sort(key=lambda k: (-(k.score or 0.0), -k.runs))
    return found


def is_cut(text: str) -> bool:
    """Whether a kept text is only the beginning of the statement."""
    return len(text.encode()) >= TEXT_BYTES
