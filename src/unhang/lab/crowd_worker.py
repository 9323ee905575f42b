"""The process behind `lab.crowd`: clients that use a connection, pause, and use it again.

Reads a JSON document on standard input: `login` (arguments of `pymysql.connect`), `clients`,
`seconds`, `least_pause` and `longest_pause`, `longest_statement` in seconds, `seed`. Prints "ready"
when all are connected, and at the end one JSON line for each time a client found its session ended:
`since_begin`, seconds from the beginning of its last statement until it noticed, and `executing`.
"""

from __future__ import annotations

import json
import random
import select
import sys
import threading
import time
from typing import Any

import pymysql

Ended = dict[str, Any]


class Client(threading.Thread):
    """One client. Between statements it watches its socket, so that it notices an end at once."""

    def __init__(self, order: dict[str, Any], number: int, until: float) -> None:
        super().__init__(daemon=True)
        self.order = order
        self.until = until
        self.random = random.Random(order["seed"] * 10_007 + number)  # noqa: S311 - load
        self.ended: list[Ended] = []
        self.statements = 0
        self.connection = self.connected()

    def connected(self) -> Any:
        return pymysql.connect(**self.order["login"], autocommit=True, read_timeout=20)

    def run(self) -> None:
        # They must not begin all at once.
        began = self.statement(0.0)
        while (now := time.monotonic()) < self.until:
            pause = self.random.uniform(self.order["least_pause"], self.order["longest_pause"])
            if self.watch(min(pause, self.until - now)):
                self.note(began, executing=False)
                began = self.statement(0.0)
            elif time.monotonic() < self.until:
                began = self.statement(self.random.uniform(0, self.order["longest_statement"]))
        self.connection.close()

    def watch(self, seconds: float) -> bool:
        """Wait; `True` as soon as the server has closed the connection."""
        poll = select.poll()
        poll.register(self.connection._sock, select.POLLIN | select.POLLHUP)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def statement(self, seconds: float) -> float:
        """Run one that takes so long; the moment it began."""
        began = time.monotonic()
        try:
            with self.connection.cursor() as cursor:
                cursor.execute("SELECT SLEEP(%s)", (round(seconds, 4),))
                cursor.fetchall()
            self.statements += 1
        except pymysql.err.MySQLError:
            self.note(began, executing=True)
        return began

    def note(self, began: float, *, executing: bool) -> None:
        self.ended.append({"since_begin": time.monotonic() - began, "executing": executing})
        self.connection._force_close()
        self.connection = self.connected()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    order = json.loads(sys.stdin.readline())
    began = time.monotonic()
    clients = [Client(order, n, began + order["seconds"]) for n in range(order["clients"])]
    say("ready")
    for client in clients:
        client.start()
    for client in clients:
        client.join(order["seconds"] + 30)
    for client in clients:
        for ended in client.ended:
            say(json.dumps(ended))
    say(json.dumps({"statements": sum(client.statements for client in clients)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
