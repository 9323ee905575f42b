"""A change to a text as the few places that differ, so that it can be undone byte for byte.

A patch holds no more of the file than what is replaced: settings files are full of secrets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Hunk:
    """At `offset` of the old text, `old` becomes `new`."""

    offset: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Patch:
    """Hunks in the order of their offsets, none overlapping another.

    Attributes:
        sha256_before, sha256_after: Digests of the whole text on either side.
    """

    hunks: tuple[Hunk, ...]
    sha256_before: str
    sha256_after: str

    @classmethod
    def of(cls, text: str, hunks: Iterable[Hunk]) -> Patch:
        """The patch that makes these changes to this text."""
        ordered = tuple(sorted(hunks, key=lambda hunk: hunk.offset))
        return cls(ordered, digest(text), digest(_replaced(text, ordered)))

    def inverse(self) -> Patch:
        """The patch that undoes this one."""
        shift, hunks = 0, []
        for hunk in self.hunks:
            hunks.append(Hunk(hunk.offset + shift, hunk.new, hunk.old))
            shift += len(hunk.new) - len(hunk.old)
        return Patch(tuple(hunks), self.sha256_after, self.sha256_before)

    def state_of(self, text: str) -> Literal["before", "after", "other"]:
        """Which side of the patch a text is."""
        now = digest(text)
        if now == self.sha256_after:
            return "after"
        return "before" if now == self.sha256_before else "other"

    def moved_to(self, text: str) -> str | None:
        """The text after the patch, though it was changed elsewhere since.

        Returns:
            `None` when the places cannot be told for certain.
        """
        if any(len(h.old) < _LONG_ENOUGH or text.count(h.old) != 1 for h in self.hunks):
            return None
        return _replaced(
            text,
            sorted(
                (Hunk(text.index(h.old), h.old, h.new) for h in self.hunks), key=lambda h: h.offset
            ),
        )

    def applied_to(self, text: str) -> str:
        """The text after the patch.

        Raises:
            ValueError: It is not the text the patch was made for.
        """
        if digest(text) != self.sha256_before:
            raise ValueError("the text is not the one this patch was made for")
        return _replaced(text, self.hunks)


_LONG_ENOUGH: Final = 16
"""Characters: a replaced text this long that occurs once is the one that is meant."""


def _replaced(text: str, hunks: Iterable[Hunk]) -> str:
    parts, position = [], 0
    for hunk in hunks:
        parts += [text[position : hunk.offset], hunk.new]
        position = hunk.offset + len(hunk.old)
    return "".join([*parts, text[position:]])


def digest(text: str) -> str:
    """SHA-256 of a text that was read with `surrogateescape`."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
