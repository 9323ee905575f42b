"""A finding, and the rule that makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from unhang.survey.codec import encode
from unhang.survey.model import Survey

Severity = Literal["critical", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "notice")
"""Worst first. critical: it hangs or fails now, or will at any moment; warning: it will under
load or after a pause; notice: worth knowing."""


Role = Literal["cause", "effect", "setting"]
ROLES: tuple[Role, ...] = ("cause", "effect", "setting")
"""What a rule is about, in the order of telling. cause: sessions that are there now, and why;
effect: what people feel of it; setting: what it will lead to one day."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One judged problem.

    Attributes:
        rule: The rule's stable id, such as `UH101`.
        subject: The alias or the server it is about.
        sentence: What is wrong, with the number that shows it.
        evidence: Name and value (with its unit) of each fact it rests on.
        cure: What to do; lines that can be pasted.
        sessions: Ids of the sessions that it explains: holders, sleepers, and who waits for them.
    """

    rule: str
    severity: Severity
    subject: str
    sentence: str
    evidence: tuple[tuple[str, str], ...]
    cure: str
    sessions: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain dict; `evidence` as a mapping."""
        plain: dict[str, Any] = encode(self)
        return plain | {"evidence": dict(self.evidence)}


@dataclass(frozen=True, slots=True)
class Rule:
    """A question that a survey answers.

    Attributes:
        id: Stable for ever; a retired id is never used again.
        title: A few words.
        story: Returns what `unhang explain` tells: why it matters, how it is judged, what to do.
        judge: The findings of one survey; none when all is well or the facts are missing.
        role: What it is about; it decides who is told first among equals.
    """

    id: str
    title: str
    story: Callable[[], str]
    judge: Callable[[Survey], Iterable[Finding]]
    role: Role = "setting"
