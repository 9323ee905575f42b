"""A driver whose connections can be told how to behave."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from unhang.pool import Driver, Pool, PoolOptions


class FakeError(Exception):
    """The fake driver's OperationalError."""


class RefusalError(FakeError):
    """The fake server has no connection left."""


class FakeConnection:
    """What the fake driver calls a connection."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_alive = True
        self.answers = True
        self.is_closed = False
        self.is_abandoned = False
        self.resets = 0


class FakeDriver(Driver):
    """Opens `FakeConnection`s; each method can be made to fail or to wait."""

    operational_error = FakeError

    def __init__(self) -> None:
        self.opened: list[FakeConnection] = []
        self.connect_problem: BaseException | None = None
        self.reset_problem: BaseException | None = None
        self.look_problem: BaseException | None = None
        self.transient = True
        self.room: tuple[int, int] | None = None
        self.idle_seconds = math.inf
        self.pings = 0
        self.looks = 0
        self.gate = threading.Event()
        self.gate.set()

    def connect(self) -> FakeConnection:
        self.gate.wait(10)
        if self.connect_problem is not None:
            raise self.connect_problem
        connection = FakeConnection(len(self.opened) + 1)
        self.opened.append(connection)
        return connection

    def is_alive(self, raw: FakeConnection) -> bool:
        self.looks += 1
        if self.look_problem is not None:
            raise self.look_problem
        return raw.is_alive

    def ping(self, raw: FakeConnection, timeout: float) -> bool:
        self.pings += 1
        return raw.answers

    def reset(self, raw: FakeConnection) -> None:
        if self.reset_problem is not None:
            raise self.reset_problem
        raw.resets += 1

    def close(self, raw: FakeConnection) -> None:
        raw.is_closed = True

    def abandon(self, raw: FakeConnection) -> None:
        raw.is_abandoned = True

    def idle_limit(self, raw: FakeConnection) -> float:
        return self.idle_seconds

    def look(self, raw: FakeConnection) -> tuple[int, int] | None:
        return self.room

    def is_refusal(self, error: BaseException) -> bool:
        return isinstance(error, RefusalError)

    def is_transient(self, error: BaseException) -> bool:
        return self.transient


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_pool(
    driver: FakeDriver | None = None, clock: Callable[[], float] = time.monotonic, **options: object
) -> tuple[Pool, FakeDriver]:
    """A pool of fake connections."""
    driver = driver or FakeDriver()
    values = {"timeout": 5.0, **options}
    return Pool(driver, PoolOptions(**values), clock=clock), driver  # type: ignore[arg-type]


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.002)
