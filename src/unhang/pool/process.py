"""What all pools of one process share: the keeper, the background threads, and the fork hook."""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final, Protocol

from unhang.pool import owners
from unhang.pool.background import Background, Task

if TYPE_CHECKING:
    from unhang.pool.pool import Pool

logger = logging.getLogger("unhang.pool")

_LONGEST_NAP_SECONDS: Final = 1.0
_SHORTEST_NAP_SECONDS: Final = 0.05
_GATE_NAP_SECONDS: Final = 0.001
_FORK_WAITS_SECONDS: Final = 2.0
"""A connect that takes longer waits for the network, and then holds no lock of a library."""


class Kept(Protocol):
    """A pool, or what belongs to one."""

    @property
    def needs_keeper(self) -> bool:
        """Whether there is anything to look after."""

    def keep(self) -> float:
        """Look after it. Returns the seconds until the next look."""

    def start_over_in_child(self) -> None:
        """After a fork, in the child."""

    def close(self) -> None:
        """At exit."""


_kept: list[weakref.ref[Kept]] = []


def register(one: Kept) -> None:
    """Have it kept, and survive forks."""
    _kept[:] = [known for known in _kept if known() is not None]
    _kept.append(weakref.ref(one))


def kept() -> list[Kept]:
    """All that is kept in this process."""
    # A copy first: another thread may register one meanwhile.
    return [one for known in list(_kept) if (one := known()) is not None]


def pools() -> list[Pool]:
    """Every pool of this process."""
    from unhang.pool.pool import Pool

    return [one for one in kept() if isinstance(one, Pool)]


class Keeper:
    """The one thread that looks after idle connections, of all pools.

    It starts with the first connection and ends when there is none any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = False
        # SimpleQueue.put may be called from a finaliser, whatever that interrupted.
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def start(self) -> None:
        """See that it runs."""
        if self._running:
            return
        with self._lock:
            if self._running:
                return
            self._running = True
        try:
            threading.Thread(target=self._work, name="unhang-pool-keeper", daemon=True).start()
        except RuntimeError:  # no more threads: borrowers still check what they get
            self._running = False
        except BaseException:
            self._running = False
            raise

    def call(self) -> None:
        """Have it look now. Safe in a finaliser."""
        self._calls.put(None)

    def _work(self) -> None:
        while True:
            nap = min((_look_after(one) for one in kept()), default=_LONGEST_NAP_SECONDS)
            with self._lock:
                if not any(one.needs_keeper for one in kept()):
                    self._running = False
                    return
            try:
                self._calls.get(timeout=min(_LONGEST_NAP_SECONDS, max(_SHORTEST_NAP_SECONDS, nap)))
                while True:
                    self._calls.get_nowait()
            except queue.Empty:
                pass


def _look_after(one: Kept) -> float:
    try:
        with io():
            return one.keep()
    except Exception:  # one pool's trouble must not cost the others their keeper
        logger.exception("%r: the keeper failed", one)
        return _LONGEST_NAP_SECONDS


class ForkGate:
    """Keeps a fork out of the middle of our own threads' I/O.

    A C library may hold a lock of its own while it connects (Connector/C with OpenSSL does). The
    child would inherit the lock without the thread that opens it again, and its first connect would
    hang for ever. Programs that never had threads before must not get that from us.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._forking = 0

    def __enter__(self) -> None:
        while True:
            with self._lock:
                if self._forking == 0:
                    self._inside += 1
                    return
            time.sleep(_GATE_NAP_SECONDS)

    def __exit__(self, *_exc_info: object) -> None:
        with self._lock:
            self._inside -= 1

    def close(self) -> None:
        """Before a fork: let nobody in, and wait until those inside are out, for a while."""
        with self._lock:
            self._forking += 1
        deadline = time.monotonic() + _FORK_WAITS_SECONDS
        while self._inside and time.monotonic() < deadline:
            time.sleep(_GATE_NAP_SECONDS)

    def open(self) -> None:
        """After the fork, in the parent."""
        with self._lock:
            self._forking -= 1


class _Process:
    """Made anew in each forked child: locks may be held by threads that did not come along."""

    def __init__(self) -> None:
        self.keeper = Keeper()
        self.background = Background()
        self.gate = ForkGate()


_process = _Process()


def keeper() -> Keeper:
    """This process's keeper."""
    return _process.keeper


def in_background(task: Task) -> bool:
    """Run a task that may take long in another thread; `False` if none can be started."""
    return _process.background.run(task)


def io() -> ForkGate:
    """What the pool's own threads hold while they call the driver."""
    return _process.gate


def _before_fork() -> None:
    _process.gate.close()


def _after_fork_in_parent() -> None:
    _process.gate.open()


def _after_fork_in_child() -> None:
    global _process
    _process = _Process()
    owners.forget_all()
    for one in kept():
        one.start_over_in_child()


def _say_goodbye() -> None:
    """At exit: end sessions politely, or the server counts them as aborted."""
    for one in kept():
        one.close()


atexit.register(_say_goodbye)
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
