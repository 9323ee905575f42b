"""The process that sends a load; started by `hang.load`.

Reads its orders as JSON on standard input and prints `[kind, due, sent, ended, status, process]` of
all requests at the end. Bare HTTP on asyncio, for it shares the machine with what it measures; what
it sends late is seen in `sent`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import sys
import time
from typing import Any, Final, NamedTuple

_RETRY_SECONDS: Final = 1.0
_START_DELAY: Final = 0.3


class Answer(NamedTuple):
    """What a client reads: the status, in how many seconds to come again, who answered."""

    status: int
    retry: float
    process: int


NO_ANSWER: Final = Answer(0, _RETRY_SECONDS, 0)


class Load:
    """All visitors of one site."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._begin = time.monotonic() + _START_DELAY
        self.records: list[tuple[str, float, float, float, int, int]] = []

    def _now(self) -> float:
        return time.monotonic() - self._begin

    async def send(self) -> None:
        """Everything, until the last answer."""
        slow = range(self._order["slow"]["clients"])
        async with asyncio.TaskGroup() as group:
            for number in slow:
                group.create_task(self._slow_client(number))
            for arrival in self._order["arrivals"]:
                await asyncio.sleep(arrival["due"] - self._now())
                group.create_task(self._visit(arrival))

    async def _visit(self, arrival: dict[str, Any]) -> None:
        """Open loop: sent when due, whatever has become of those before it."""
        deadline = self._order["fast_deadline"]
        await self._ask(arrival["name"], arrival["due"], arrival["path"], arrival["body"], deadline)

    async def _slow_client(self, number: int) -> None:
        """Closed loop: one slow query at a time, the next at once, or when asked to come again."""
        slow = self._order["slow"]
        chance = random.Random(f"{slow['seed']}/{number}")  # noqa: S311 - no secret
        await asyncio.sleep(slow["begin"] + chance.random() - self._now())
        while (due := self._now()) < slow["end"]:
            path = slow["paths"][number % len(slow["paths"])]
            path = path.format(seconds=chance.uniform(*slow["seconds"]))
            answer = await self._ask(slow["name"], due, path, None, slow["deadline"])
            if answer.status != 200:
                # Not past the end, which would only make the trial longer.
                await asyncio.sleep(min(answer.retry, slow["end"] - self._now()))

    async def _ask(self, kind: str, due: float, path: str, body: Any, deadline: float) -> Answer:
        sent = self._now()
        answer = NO_ANSWER
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(deadline - (sent - due)):
                answer = await self._exchange(_request(path, body))
        self.records.append((kind, due, sent, self._now(), answer.status, answer.process))
        return answer

    async def _exchange(self, request: bytes) -> Answer:
        reader, writer = await asyncio.open_connection(self._order["host"], self._order["port"])
        try:
            writer.write(request)
            return _answer(await reader.read())
        finally:
            writer.transport.abort()


def _request(path: str, body: Any) -> bytes:
    """A connection for each request: kept ones would tie a visitor to one worker process."""
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: localhost"]
    head += ["Connection: close", f"Content-Length: {len(content)}"]
    return "\r\n".join([*head, "", ""]).encode() + content


def _answer(response: bytes) -> Answer:
    """A response that was cut off before its headers ended is none."""
    head, end, _body = response.partition(b"\r\n\r\n")
    status, *headers = head.decode("latin-1").split("\r\n")
    if not end:
        return NO_ANSWER
    named = dict(line.lower().split(": ", 1) for line in headers)
    # The other form, a date, is not used by anything that is measured here.
    retry = float(named.get("retry-after", _RETRY_SECONDS))
    return Answer(int(status.split()[1]), retry, int(named.get("x-process", 0)))


def main() -> None:
    """Send the load that standard input describes."""
    order = json.load(sys.stdin)
    gc.freeze()  # a collection would walk the whole plan again and again
    load = Load(order)
    asyncio.run(load.send())
    json.dump(load.records, sys.stdout)


if __name__ == "__main__":
    main()
