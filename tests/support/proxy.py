"""A TCP relay between a client and a server, which a test can cut like a network.

While a direction is cut, its bytes are held, not lost: to TCP a partition is a
delay, and what was under way arrives once it heals, unless an end gave up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Direction = Literal["to_server", "to_client"]
_CHUNK_BYTES = 64 * 1024


class Relay:
    """Listens on `address`, and passes on to the server; made by `relay_to`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.address = ""
        self._loop = loop
        self._open: dict[Direction, asyncio.Event] = {
            "to_server": asyncio.Event(),
            "to_client": asyncio.Event(),
        }
        self._target: tuple[str, int] = ("127.0.0.1", 0)

    def cut(self, *directions: Direction) -> None:
        """Holds the bytes of these directions, or of both."""
        for direction in directions or ("to_server", "to_client"):
            self._loop.call_soon_threadsafe(self._open[direction].clear)

    def heal(self) -> None:
        """Lets everything pass again, what was held first."""
        for gate in self._open.values():
            self._loop.call_soon_threadsafe(gate.set)

    def retarget(self, address: str) -> None:
        """New connections go to another server."""
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))

    async def serve(self, started: threading.Event) -> None:
        """Runs until its task is cancelled."""
        for gate in self._open.values():
            gate.set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        started.set()
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            self._pass(reader, far_writer, "to_server"),
            self._pass(far_reader, writer, "to_client"),
            return_exceptions=True,
        )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction
    ) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                await self._open[direction].wait()
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@contextmanager
def relay_to(address: str) -> Iterator[Relay]:
    """A relay to the server at `address` ("127.0.0.1:port"), in a thread of its own."""
    loop = asyncio.new_event_loop()
    relay = Relay(loop)
    relay.retarget(address)
    started = threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        task = loop.create_task(relay.serve(started))
        loop.run_forever()
        task.cancel()
        pending = asyncio.all_tasks(loop)
        for one in pending:
            one.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, name="relay", daemon=True)
    thread.start()
    assert started.wait(10), "the relay does not listen"
    try:
        yield relay
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
