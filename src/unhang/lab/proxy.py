"""A small TCP proxy that breaks connections on purpose.

It works in a thread of its own. Its methods may be called from any other thread, and have taken
effect when they return.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from unhang.lab.link import Faults, Link
from unhang.lab.process import HOST, free_port


class Listening(Protocol):
    """Anything with an address, such as a `Server`."""

    host: str
    port: int


@contextmanager
def proxy(target: Listening | tuple[str, int]) -> Iterator[Proxy]:
    """A running proxy in front of `target`; every connection is reset at the end of the block.

    Args:
        target: A server, or host and port. It is looked at for each new connection, so the server
            may restart in between.
    """
    between = Proxy(target)
    try:
        between.start()
        yield between
    finally:
        between.close()


class Proxy:
    """A proxy; `proxy()` makes it.

    Attributes:
        host, port: Where it listens.
    """

    def __init__(self, target: Listening | tuple[str, int]) -> None:
        self.host = HOST
        self.port = free_port()
        self._target = target
        self._faults = Faults()
        self._links: set[Link] = set()
        self._listener: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="lab-proxy", daemon=True
        )

    @property
    def connections(self) -> int:
        """How many connections go through the proxy now, swallowed ones included."""
        return len(self._links)

    @property
    def delay(self) -> float:
        """Seconds that everything takes in each direction; may be set at any time."""
        return self._faults.delay

    @delay.setter
    def delay(self, seconds: float) -> None:
        self._faults.delay = seconds

    def start(self) -> None:
        """Start the thread and listen."""
        self._thread.start()
        self.accept()

    def close(self) -> None:
        """Reset every connection and end the thread."""
        if self._thread.is_alive():
            self.refuse()
            self.cut()
            self._run(self._loop.shutdown_default_executor)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    # -- faults -----------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Stop listening: new connections are refused, existing ones go on."""
        self._run(self._stop_listening)

    def accept(self) -> None:
        """Listen (again), on the same port."""
        self._run(self._listen)

    def drop_silently(self) -> None:
        """Become a black hole: accept and swallow everything, forward nothing, close nothing."""
        self._faults.dropping = True

    def restore(self) -> None:
        """Forward again, without delay. Connections that lost bytes to the black hole are reset."""
        self._faults.dropping = False
        self._faults.delay = 0.0
        self._run(lambda: self._cut([link for link in self._links if link.damaged]))

    def cut(self) -> None:
        """Reset every connection, on both sides, now."""
        self._run(lambda: self._cut(list(self._links)))

    # -- in the proxy's thread --------------------------------------------------------------------

    def _run(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            await step()  # made here, so that only the proxy's thread looks at the links

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, self.host, self.port)

    async def _stop_listening(self) -> None:
        # No wait_closed(): from Python 3.12 on it waits for the connections too.
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer, self._faults)
        self._links.add(link)
        try:
            await link.run(self._address())
        finally:
            self._links.discard(link)

    def _address(self) -> tuple[str, int]:
        if isinstance(self._target, tuple):
            return self._target
        return self._target.host, self._target.port

    async def _cut(self, links: list[Link]) -> None:
        for link in links:
            await link.cut()
        # An aborted transport closes its socket in the loop's next round.
        await asyncio.sleep(0)
