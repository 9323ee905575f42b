"""The process that sends a load with Locust; started by `unhang.lab.load`.

Reads a JSON document with `url`, `arrivals`, `timeout` on standard input, and prints one JSON line
for each request when its answer is there. A process of its own, because Locust replaces the
standard library's blocking calls for the whole process.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final

import gevent
from locust import FastHttpUser, events, task
from locust.env import Environment

MAX_IN_FLIGHT: Final = 400
"""Visitors at a time; more than the site has threads many times over."""

_START_DELAY: Final = 0.2


class Visitors(FastHttpUser):
    """All visitors: one greenlet for each request that is due."""

    concurrency = MAX_IN_FLIGHT
    plan: dict[str, Any]
    begin: float

    def on_start(self) -> None:
        self.in_flight = 0

    @task
    def come_as_they_are_due(self) -> None:
        """Send every arrival at its time, whatever has become of those before it."""
        sent = []
        for arrival in self.plan["arrivals"]:
            gevent.sleep(max(0.0, self.begin + arrival["due"] - time.monotonic()))
            sent.append(gevent.spawn(self.visit, arrival))
        gevent.joinall(sent, timeout=2 * self.plan["timeout"])
        self.environment.runner.quit()

    def visit(self, arrival: dict[str, Any]) -> None:
        """One request, timed from when it was due."""
        if self.in_flight >= MAX_IN_FLIGHT:
            report(arrival, 0, time.monotonic() - self.begin, "no visitor left to send it")
            return
        self.in_flight += 1
        try:
            with self.client.request(
                "POST" if arrival["body"] else "GET",
                arrival["path"],
                name=arrival["name"],
                json=arrival["body"],
                catch_response=True,
            ) as response:
                ended = time.monotonic() - self.begin
                # Locust's own statistics count from the due time, too.
                response.request_meta["response_time"] = 1000 * (ended - arrival["due"])
                if not 200 <= response.status_code < 300:
                    response.failure(response.status_code or str(response.error))
                reason = "" if response.status_code else type(response.error).__name__
                report(arrival, response.status_code, ended, reason)
        finally:
            self.in_flight -= 1


def report(arrival: dict[str, Any], status: int, ended: float, error: str) -> None:
    """One line for the parent; 0 is a request without an answer."""
    line = {
        "name": arrival["name"],
        "due": arrival["due"],
        "ended": round(ended, 4),
        "status": status,
        "error": error,
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Send the load that standard input describes."""
    plan = json.load(sys.stdin)
    logging.basicConfig(level=logging.CRITICAL)
    Visitors.host = plan["url"]
    Visitors.plan = plan
    Visitors.network_timeout = Visitors.connection_timeout = plan["timeout"]
    Visitors.begin = time.monotonic() + _START_DELAY
    environment = Environment(user_classes=[Visitors], events=events)
    runner = environment.create_local_runner()
    runner.start(1, spawn_rate=1)
    runner.greenlet.join()


if __name__ == "__main__":
    main()
