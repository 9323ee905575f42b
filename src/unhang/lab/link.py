"""One connection through the proxy: two sockets, and the faults between them. asyncio only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Final

_CHUNK: Final = 65_536
_CHUNKS_UNDER_WAY: Final = 64
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: close with RST instead of FIN."""

_Chunks = asyncio.Queue[tuple[float, bytes]]


@dataclass
class Faults:
    """What the proxy does to every connection, read each time that bytes pass.

    Attributes:
        delay: Seconds that bytes take in each direction.
        dropping: Nothing is forwarded, neither bytes nor the end of a connection.
    """

    delay: float = 0.0
    dropping: bool = False


class Link:
    """A client's connection and its counterpart behind the proxy.

    Attributes:
        damaged: Something was swallowed, so what could still be forwarded would make no sense.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: Faults
    ) -> None:
        self.damaged = False
        self._client = reader
        self._faults = faults
        self._writers = [writer]
        self._reset = False
        self._task = asyncio.current_task()

    async def run(self, target: tuple[str, int]) -> None:
        """Forward until one side ends the connection, or `cut` does."""
        try:
            await self._forward(target)
            if not self._reset:
                await self._close()
        except (OSError, asyncio.CancelledError):
            pass  # either way it ends with a reset
        finally:
            for writer in self._writers:
                _abort(writer)

    async def cut(self) -> None:
        """Reset both sides now."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _forward(self, target: tuple[str, int]) -> None:
        if self._faults.dropping:
            await self._swallow(self._client)
        reader, writer = await asyncio.open_connection(*target)
        self._writers.append(writer)
        directions = [
            asyncio.create_task(self._pump(self._client, writer)),
            asyncio.create_task(self._pump(reader, self._writers[0])),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _cancel(directions)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chunks: _Chunks = asyncio.Queue(_CHUNKS_UNDER_WAY)
        # Receiving goes on while sent bytes are under way, so that a delay is latency and does not
        # also divide the throughput.
        receiving = asyncio.create_task(self._receive(reader, chunks))
        try:
            await self._send(chunks, writer)
        except OSError:
            self._reset = True
        finally:
            await _cancel([receiving])

    async def _receive(self, reader: asyncio.StreamReader, chunks: _Chunks) -> None:
        """Queue what arrives with the time when it is due; b"" is the end."""
        data = b"more"
        while data:
            try:
                data = await reader.read(_CHUNK)
            except OSError:  # the peer's reset is passed on as a reset
                self._reset = True
                data = b""
            await chunks.put((asyncio.get_running_loop().time() + self._faults.delay, data))

    async def _send(self, chunks: _Chunks, writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
            if self._faults.dropping or self.damaged:
                self.damaged = True
                if not data:
                    await asyncio.Event().wait()  # the end is swallowed too; `cut` gets us out
            elif not data:
                return
            else:
                writer.write(data)
                await writer.drain()

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        """What happens to a client that connects to a black hole."""
        self.damaged = True
        with contextlib.suppress(OSError):
            while await reader.read(_CHUNK):
                pass
        await asyncio.Event().wait()

    async def _close(self) -> None:
        """What is still buffered goes out first, then FIN."""
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            await writer.wait_closed()


def _abort(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # closed already
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
