"""The record of every session that was ended: one JSON line before, one after."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from unhang.reaper.ending import Outcome
from unhang.survey.codec import encode
from unhang.survey.session import Session

FILE: Final = "reaped.jsonl"


class Audit:
    """Appends to a file; what is to be ended is on disk before the first KILL goes out.

    Args:
        path: Made if it is not there, readable by its owner only.
        facts: What every record says: server, account, rules.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self._facts = facts
        self._fd = -1

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def ending(self, sessions: Iterable[Session]) -> None:
        """These are about to be ended."""
        self._write("ending", [{"before": encode(session)} for session in sessions])

    def ended(self, outcomes: Iterable[Outcome]) -> None:
        """What the server said to each."""
        self._write(
            "result",
            [
                {"id": outcome.session.id, "result": outcome.result.value, "code": outcome.code}
                for outcome in outcomes
            ],
            durable=False,  # the proof that follows makes it so
        )

    def gone(self, ids: Iterable[int], left: Iterable[int], seconds: float) -> None:
        """The proof: of those ended, who was gone when the sessions were listed again."""
        remaining = sorted(left)
        self._write(
            "proof",
            [
                {
                    "gone": sorted(set(ids) - set(remaining)),
                    "still_there": remaining,
                    "after_seconds": round(seconds, 3),
                }
            ],
        )

    def _write(
        self, event: str, records: Iterable[dict[str, Any]], *, durable: bool = True
    ) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        lines = [
            json.dumps({"at": at, "event": event, **self._facts, **record}, ensure_ascii=False)
            for record in records
        ]
        rest = ("\n".join(lines) + "\n").encode(errors="backslashreplace")
        while rest:  # a disk that is nearly full takes a part, and says so only the next time
            rest = rest[os.write(self._fd, rest) :]
        if durable:
            os.fsync(self._fd)
