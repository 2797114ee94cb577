"""One address before several servers on this machine: each new connection goes to the next one that answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

_PIECE = 65_536
_CONNECT_S = 2.0


@asynccontextmanager
async def balanced(port: int, backends: Sequence[int]) -> AsyncIterator[int]:
    """Carry connections to 127.0.0.1:port (0: a free one) on to the backends' ports while inside; yields the port.

    Raises OSError when the port is taken.
    """
    turn = itertools.count()
    open_connections: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        try:
            await _carry(reader, writer, backends, next(turn))
        finally:
            open_connections.discard(task)
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(open_connections):
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backends: Sequence[int], first: int
) -> None:
    for offset in range(len(backends)):
        backend = backends[(first + offset) % len(backends)]
        try:
            async with asyncio.timeout(_CONNECT_S):
                answers, requests = await asyncio.open_connection("127.0.0.1", backend)
        except (OSError, TimeoutError):
            continue
        ways = [asyncio.create_task(_pump(reader, requests)), asyncio.create_task(_pump(answers, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            requests.close()
        return


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(_PIECE):
            sink.write(data)
            await sink.drain()
