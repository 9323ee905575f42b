"""Watching servers while something else is done, and saying when it does harm.

Each server is sampled by a thread of its own, from the baseline on and through all steps, so that
a step whose harm shows at once is not followed by the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from unhang.i18n import _
from unhang.monitor.canary import Canary, Limits, name_of
from unhang.monitor.sample import Sample
from unhang.monitor.watch import watch

_POLL_SECONDS = 0.2


class HarmSeen(Exception):
    """The system is worse than before, or can no longer be watched; the text says how."""


@dataclass(slots=True)
class _Lookout:
    """One server: its samples before, and the judge of those after."""

    name: str
    before: list[Sample] = field(default_factory=list)
    canary: Canary | None = None
    worse: list[str] = field(default_factory=list)
    failure: BaseException | None = None


class Vigil:
    """Watches; use as a context manager, which begins and ends the sampling.

    Args:
        openers: Makes a DB-API connection, by the server's name.
        run_dir: Where the application records its response times; `None` if it does not.
        interval: Seconds between two samples.
    """

    def __init__(
        self,
        openers: Mapping[str, Callable[[], Any]],
        *,
        run_dir: Path | None,
        interval: float = 1.0,
        limits: Limits | None = None,
    ) -> None:
        self._openers = openers
        self._run_dir = run_dir
        self._interval = interval
        self._limits = limits or Limits()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._lookouts = [_Lookout(name) for name in openers]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Vigil:
        for number, lookout in enumerate(self._lookouts):
            # The application's counters are the same for all servers.
            run_dir = self._run_dir if number == 0 else None
            thread = threading.Thread(target=self._sample, args=(lookout, run_dir), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=5)

    def baseline(self, seconds: float, each: Callable[[float], None] = lambda _left: None) -> None:
        """Look for that long at how it is before anything is changed.

        Args:
            each: Called now and then with the seconds that are left.

        Raises:
            HarmSeen: It cannot be watched.
        """
        self._wait(seconds, each)
        with self._lock:
            for lookout in self._lookouts:
                lookout.canary = Canary(lookout.before, self._limits)

    def watch(self, seconds: float, each: Callable[[float], None] = lambda _left: None) -> None:
        """Look for that long at how it is now.

        Raises:
            HarmSeen: It is worse.
        """
        self._wait(seconds, each)

    def settle(self, seconds: float) -> None:
        """The application was restarted: for so long, slow answers prove nothing."""
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        with self._lock:
            for lookout in self._lookouts:
                if lookout.canary:
                    lookout.canary.settle_until = until

    def check(self) -> None:
        """Whether anything is worse by now.

        Raises:
            HarmSeen: It is.
        """
        with self._lock:
            for lookout in self._lookouts:
                if lookout.failure is not None:
                    text = _("{server} can no longer be watched: {why}")
                    raise HarmSeen(text.format(server=lookout.name, why=lookout.failure))
            worse = [
                f"{lookout.name}: {text}" if len(self._lookouts) > 1 else text
                for lookout in self._lookouts
                for text in lookout.worse
            ]
        if worse:
            raise HarmSeen("; ".join(dict.fromkeys(worse)))

    def blind(self) -> Sequence[str]:
        """What cannot be judged, or only slowly: metrics with one reason together."""
        by_reason: dict[str, dict[str, None]] = {}
        with self._lock:
            for lookout in self._lookouts:
                for one in lookout.canary.blind if lookout.canary else ():
                    by_reason.setdefault(one.reason, {})[name_of(one.metric)] = None
        return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]

    def to_json(self) -> dict[str, Any]:
        """What was seen, by server."""
        with self._lock:
            return {
                lookout.name: lookout.canary.to_json()
                for lookout in self._lookouts
                if lookout.canary
            }

    def _wait(self, seconds: float, each: Callable[[float], None]) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            each(left)
            time.sleep(min(_POLL_SECONDS, left))
        self.check()

    def _sample(self, lookout: _Lookout, run_dir: Path | None) -> None:
        try:
            watch(
                self._openers[lookout.name],
                interval=self._interval,
                run_dir=run_dir,
                on_sample=lambda sample: self._add(lookout, sample),
                sleep=self._sleep,
            )
        except BaseException as error:  # noqa: BLE001 - a thread; whoever asks next is told
            with self._lock:
                lookout.failure = error

    def _sleep(self, seconds: float) -> None:
        if self._over.wait(seconds):
            raise KeyboardInterrupt  # how a watch ends

    def _add(self, lookout: _Lookout, sample: Sample) -> None:
        with self._lock:
            if lookout.canary is None:
                lookout.before.append(sample)
            else:
                lookout.worse += [one.sentence() for one in lookout.canary.add(sample)]
