"""Take samples at a steady pace, through whatever the server does meanwhile.

One connection is kept open, so the server still answers while others are refused with 1040.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from unhang.errors import CannotConnect
from unhang.monitor.history import History
from unhang.monitor.sample import Sample, app_counters, take_sample
from unhang.mysql.errorcodes import LOST, REFUSED_FOR_LOAD, UNREACHABLE, code_of

LONGEST_BACKOFF: Final = 10.0
"""Seconds between attempts to connect while the server is away; the first follow faster."""

# 0 is PyMySQL's InterfaceError(0, ''): the connection was lost before.
_TRANSIENT: Final = REFUSED_FOR_LOAD | LOST | UNREACHABLE | {0}


def watch(
    open_connection: Callable[[], Any],
    *,
    interval: float,
    samples: int | None = None,
    duration: float | None = None,
    history: History | None = None,
    run_dir: str | Path | None = None,
    on_sample: Callable[[Sample], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Take samples until told otherwise; Ctrl-C ends it cleanly.

    Args:
        open_connection: Makes a new DB-API connection in autocommit mode. It should time out, or a
            frozen server freezes the watch.
        interval: Seconds from one sample to the next. The schedule does not drift, and a moment
            that was missed is not made up for.
        samples: How many to take; `None` is no limit.
        duration: For how many seconds; `None` is no limit. A sample is taken at either end.
        history: Where to keep them.
        run_dir: Where the application records its response times.
        on_sample: Called with each sample, gaps included.
        clock, sleep: For tests.

    Returns:
        The number of samples taken. A server that refuses, restarts or is away makes gaps: samples
        with a reason instead of a server.

    Raises:
        Exception: What is not transient, such as a wrong password: what `open_connection` or the
            driver raised, unchanged.
    """
    lookout = _Lookout(open_connection, run_dir, clock)
    start = clock()
    taken = 0
    tick = 0
    try:
        while samples is None or taken < samples:
            sample = lookout.look()
            if history is not None:
                history.add(sample)
            taken += 1
            if on_sample is not None:
                on_sample(sample)
            tick = max(tick + 1, math.ceil((clock() - start) / interval))
            last = samples is not None and taken >= samples
            if last or (duration is not None and tick * interval > duration):
                break
            sleep(max(0.0, start + tick * interval - clock()))
    except KeyboardInterrupt:
        pass  # how a watch ends; every sample so far was kept when it was taken
    finally:
        lookout.close()
    return taken


@dataclass(slots=True)
class _Lookout:
    """A connection that is kept, and opened anew when it was lost."""

    open_connection: Callable[[], Any]
    run_dir: str | Path | None
    clock: Callable[[], float]
    _connection: Any = None
    _failures: int = 0
    _not_before: float = field(default=-math.inf)
    _reason: str = ""

    def look(self) -> Sample:
        """A sample, or a gap with its reason."""
        if self.clock() < self._not_before:
            return self._gap()
        try:
            return self._ask()
        except Exception as error:
            if not _is_transient(error):
                raise
            self.close()
            self._reason = _reason(error)
            self._failures += 1
            self._not_before = self.clock() + min(LONGEST_BACKOFF, 2.0 ** (self._failures - 2))
            return self._gap()

    def close(self) -> None:
        """Let go of the connection, dead or alive."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # A driver may complain about closing what the server has closed already.
            with contextlib.suppress(Exception):
                connection.close()

    def _ask(self) -> Sample:
        if self._connection is not None:
            try:
                return take_sample(self._connection, run_dir=self.run_dir)
            except Exception as error:
                if code_of(error) not in LOST | {0}:
                    raise
                # Killed, or asleep beyond wait_timeout between two samples: no gap of the server's.
                self.close()
        self._connection = self.open_connection()
        sample = take_sample(self._connection, run_dir=self.run_dir)
        self._failures = 0
        return sample

    def _gap(self) -> Sample:
        return Sample(datetime.now(UTC), app=app_counters(self.run_dir), gap=self._reason)


def _is_transient(error: Exception) -> bool:
    return isinstance(error, CannotConnect | OSError) or code_of(error) in _TRANSIENT


def _reason(error: Exception) -> str:
    """`1040: Too many connections`; drivers put the code first, then the text."""
    return ": ".join(str(part) for part in error.args) or type(error).__name__
