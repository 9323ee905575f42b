"""Threads that do the slow things, so that a borrower only ever waits for the pool itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

_LINGER_SECONDS: Final = 2.0

Task = Callable[[], None]


class Background:
    """Daemon threads on demand; each ends after a moment without work.

    Not an executor of the standard library: those are waited for at exit, and a connect that hangs
    would keep the process from ending.
    """

    def __init__(self) -> None:
        # Looked up now, not at import: gevent may have patched both in between.
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0

    def run(self, task: Task) -> bool:
        """Run it soon, elsewhere. `False` if no thread can be started: nothing was done then."""
        with self._lock:
            has_free = self._free > 0
            if has_free:
                self._free -= 1
        if has_free:
            self._tasks.put(task)
            return True
        try:
            threading.Thread(
                target=self._work, args=(task,), name="unhang-pool-worker", daemon=True
            ).start()
        except RuntimeError:  # no more threads, or the interpreter is about to end
            return False
        return True

    def _work(self, task: Task) -> None:
        while True:
            task()
            del task
            with self._lock:
                self._free += 1
            try:
                task = self._tasks.get(timeout=_LINGER_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._free > 0:
                        self._free -= 1
                        return
                # Somebody counted on this thread just now: the task is on its way.
                task = self._tasks.get()
