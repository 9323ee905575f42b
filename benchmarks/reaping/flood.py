"""Thousands of idle sessions, and some that wake up while the others are ended."""

from __future__ import annotations

import contextlib
import json
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pymysql

_PATIENCE = 60.0
_QUIET = 1.5
"""Nobody was ended for so long: it is over."""


class Flood(NamedTuple):
    """What happened.

    Attributes:
        ended: Sleepers that were ended; those of the wakers that had not woken up, too.
        seconds: From the first end to the last.
        woken: Wakers that ran a statement before anybody ended them.
        harmed: Of those, how many were ended afterwards.
    """

    ended: int
    seconds: float
    woken: int
    harmed: int


@dataclass
class Running:
    process: subprocess.Popen[str]

    def result(self) -> Flood:
        out, __ = self.process.communicate(timeout=_PATIENCE + 30)
        return Flood(**json.loads(out.splitlines()[-1]))


@contextmanager
def flood(
    login: dict[str, Any], *, sleepers: int, wakers: int, idle: float, span: float
) -> Iterator[Running]:
    """All connected in a process of their own, and idle for so many seconds.

    Args:
        span: Seconds over which the wakers wake up, from the first end of a session on.
    """
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdin
            assert process.stdout
            order = {"login": login, "sleepers": sleepers, "wakers": wakers, "span": span}
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            assert process.stdout.readline().strip() == "connected"
            time.sleep(idle)
            yield Running(process)
        finally:
            process.kill()


def connect(login: dict[str, Any]) -> Any:
    connection = pymysql.connect(**login, autocommit=True, read_timeout=20)
    run(connection)
    return connection


def run(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchall()


class Scene:
    def __init__(self, order: dict[str, Any]) -> None:
        chance = random.Random(1)  # noqa: S311 - load
        every = order["sleepers"] // max(1, order["wakers"])
        self.span: float = order["span"]
        self.wakers: dict[int, float] = {}
        self.poll = select.epoll()
        self.open: dict[int, Any] = {}
        for number in range(order["sleepers"]):
            self.add(connect(order["login"]))
            # Spread among the others, as they would be.
            if number % every == 0 and len(self.wakers) < order["wakers"]:
                fd = self.add(connect(order["login"]))
                self.wakers[fd] = chance.uniform(0, order["span"])
        self.woken: set[int] = set()
        self.harmed = 0
        self.times: list[float] = []

    def add(self, connection: Any) -> int:
        fd = connection._sock.fileno()
        self.open[fd] = connection
        self.poll.register(fd, select.EPOLLIN | select.EPOLLHUP | select.EPOLLRDHUP)
        return int(fd)

    def play(self) -> Flood:
        due: list[tuple[float, int]] = []
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            now = time.monotonic()
            for fd, __ in self.poll.poll(0.001):
                self.ended(fd, now)
            if self.times and not due and not self.woken:
                due = sorted((self.times[0] + at, fd) for fd, at in self.wakers.items())
            while due and due[0][0] <= time.monotonic():
                __, fd = due.pop(0)
                if fd in self.open:
                    self.work(fd)
                    due.append((time.monotonic() + 1.0, fd))
                    due.sort()
            is_over = self.times and now - self.times[-1] > _QUIET
            if is_over and now - self.times[0] > self.span:
                break
        span = self.times[-1] - self.times[0] if self.times else 0.0
        return Flood(len(self.times), span, len(self.woken), self.harmed)

    def ended(self, fd: int, now: float) -> None:
        with contextlib.suppress(OSError):  # PyMySQL closes a socket that failed
            self.poll.unregister(fd)
        self.open.pop(fd)._force_close()
        if fd in self.woken:
            self.harmed += 1
        else:
            self.times.append(now)

    def work(self, fd: int) -> None:
        if self.poll_one(fd):
            return  # ended before it woke up: the loop notes it
        self.woken.add(fd)
        try:
            run(self.open[fd])
        except pymysql.err.MySQLError:
            self.ended(fd, time.monotonic())

    def poll_one(self, fd: int) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(0))


def main() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20_000, hard), hard))
    scene = Scene(json.loads(sys.stdin.readline()))
    print("connected", flush=True)
    print(json.dumps(scene.play()._asdict()))


if __name__ == "__main__":
    main()
