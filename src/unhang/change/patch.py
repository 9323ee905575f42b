"""A change to a text as the few places that differ, so that it can be undone byte for byte.

A patch holds no more of the file than what is replaced: settings files are full of secrets.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Literal

_SECRET: Final = re.compile(
    r"""(?ix) ((?:password|passwd|secret|token|key)["']?\s*[:=]\s*) (["']).*?\2"""
)


@dataclass(frozen=True, slots=True)
class Hunk:
    """At `offset` of the old text, `old` becomes `new`."""

    offset: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Patch:
    """Hunks in the order of their offsets, with the lines around each as its anchor.

    Attributes:
        sha256_before, sha256_after: Digests of the whole text on either side.
    """

    hunks: tuple[Hunk, ...]
    sha256_before: str
    sha256_after: str

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

    def applied_to(self, text: str) -> str:
        """The text after the patch.

        Raises:
            ValueError: It is not the text the patch was made for.
        """
        if digest(text) != self.sha256_before:
            raise ValueError("the text is not the one this patch was made for")
        parts, position = [], 0
        for hunk in self.hunks:
            parts += [text[position : hunk.offset], hunk.new]
            position = hunk.offset + len(hunk.old)
        return "".join([*parts, text[position:]])


def digest(text: str) -> str:
    """SHA-256 of a text that was read with `surrogateescape`."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def between(before: str, after: str) -> Patch:
    """The smallest patch, by lines and then within the lines, from one text to the other."""
    old_lines, new_lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
    starts = [0]
    for line in old_lines:
        starts.append(starts[-1] + len(line))
    matcher = difflib.SequenceMatcher(None, old_lines, new_lines, autojunk=False)
    hunks = [
        _trimmed(Hunk(starts[a], "".join(old_lines[a:b]), "".join(new_lines[c:d])))
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal"
    ]
    return Patch(tuple(hunks), digest(before), digest(after))


def _trimmed(hunk: Hunk) -> Hunk:
    head = _common_length(hunk.old, hunk.new)
    old, new = hunk.old[head:], hunk.new[head:]
    tail = _common_length(old[::-1], new[::-1])
    return Hunk(hunk.offset + head, old[: len(old) - tail], new[: len(new) - tail])


def _common_length(one: str, other: str) -> int:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return sum(1 for _pair in pairs)


def as_diff(before: str, after: str, name: str) -> str:
    """A unified diff for people, without context lines and with secrets blotted out."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, name, lineterm="", n=0
    )
    return "\n".join(_SECRET.sub(r"\1\2…\2", line) for line in lines)
