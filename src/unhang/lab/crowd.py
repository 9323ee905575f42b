"""Many clients with random pauses, to see whom a reaper takes from them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the crowd's sessions.

    Attributes:
        since_begin: For each session that was ended, seconds from the beginning of its client's
            last statement until the client noticed.
        executing: For each of those whose client had just sent a statement, the same.
        statements: That were answered.
    """

    since_begin: tuple[float, ...]
    executing: tuple[float, ...]
    statements: int

    @property
    def ended(self) -> int:
        """Sessions that were ended."""
        return len(self.since_begin) + len(self.executing)

    def wrong(self, threshold: float) -> int:
        """Sessions whose client had begun a statement less than `threshold` seconds before."""
        return sum(seconds < threshold for seconds in self.since_begin) + len(self.executing)

    def executing_longer_than(self, seconds: float) -> int:
        """Sessions that were ended in the middle of a statement that had run so long."""
        return sum(since > seconds for since in self.executing)


@contextmanager
def crowd(
    login: dict[str, Any],
    *,
    clients: int,
    seconds: float,
    least_pause: float,
    longest_pause: float,
    longest_statement: float = 0.03,
    seed: int = 1,
) -> Iterator[list[Verdict]]:
    """Clients in a process of their own; the list holds their verdict after the block.

    Args:
        login: Arguments of `pymysql.connect`.
        seconds: How long they go on; the block may end earlier, its end waits for theirs.
    """
    order = {
        "login": login,
        "clients": clients,
        "seconds": seconds,
        "least_pause": least_pause,
        "longest_pause": longest_pause,
        "longest_statement": longest_statement,
        "seed": seed,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "unhang.lab.crowd_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    verdict: list[Verdict] = []
    with process:
        try:
            if process.stdin is None or process.stdout is None:
                raise AssertionError("the pipes were asked for")
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            if process.stdout.readline().strip() != "ready":
                raise AssertionError("the crowd could not connect")
            yield verdict
            out, __ = process.communicate(timeout=seconds + 60)
            verdict.append(_verdict(out.splitlines()))
        finally:
            process.kill()


def _verdict(lines: list[str]) -> Verdict:
    records = [json.loads(line) for line in lines]
    ended = [record for record in records if "since_begin" in record]
    return Verdict(
        tuple(r["since_begin"] for r in ended if not r["executing"]),
        tuple(r["since_begin"] for r in ended if r["executing"]),
        records[-1]["statements"],
    )
