"""Real servers, as tests/integration has them; bridges in front of them; and the Wyoming library's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from wyoming.asr import Transcribe
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.event import Event

from carryover import aio
from carryover_wyoming.bridge import Address, Bridge, info
from carryover_wyoming.conversations import Conversations
from carryover_wyoming.hass import HomeAssistant
from carryover_wyoming.hass_socket import websocket_url
from carryover_wyoming.recognition import Recognition
from tests.integration.conftest import dialogue, key, pcm, shared, shipped, tables, workshop
from tests.support.waiting import PATIENCE_S
from tests.wyoming.hass_stand_in import TOKEN

__all__ = ["dialogue", "key", "pcm", "shared", "shipped", "tables", "workshop"]

RATE, WIDTH, CHANNELS = FORMAT = 16_000, 2, 1


@dataclass
class Running:
    """A bridge that listens."""

    port: int
    bridge: Bridge
    hass: HomeAssistant | None
    conversations: Conversations | None
    client: aio.Client

    def connect(self) -> AsyncTcpClient:
        """A client of it; connects in `async with`."""
        return AsyncTcpClient("127.0.0.1", self.port, connect_timeout=PATIENCE_S, read_timeout=PATIENCE_S)


@asynccontextmanager
async def bridge(port: int, *, hass_url: str | None = None, ends_itself: bool = False) -> AsyncIterator[Running]:
    """A bridge in front of the server on a port, as the command makes it."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aio.Client(f"127.0.0.1:{port}"))
        server = await client.server_info()
        hass = HomeAssistant(websocket_url(hass_url), TOKEN) if hass_url else None
        conversations = Conversations(client, lambda: hass.names) if hass else None
        background = [hass.run(conversations), conversations.run()] if hass and conversations else []
        tasks = [asyncio.get_running_loop().create_task(task) for task in background]
        recognition = Recognition(client, server, names=hass, conversations=conversations, ends_itself=ends_itself)
        made = Bridge(info(server, ends_itself=ends_itself), recognition)
        address = await made.listen(Address("127.0.0.1", 0, None))
        try:
            yield Running(address.port, made, hass, conversations, client)
        finally:
            await made.drain(0.0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def until(holds: Callable[[], object]) -> None:
    """Waits in the event loop until a condition holds, as tests/support/waiting.py does outside."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.01)


def recording(audio: bytes, form: tuple[int, int, int] = FORMAT, chunk: int = 3200) -> list[Event]:
    """The events of a recording."""
    rate, width, channels = form
    pieces = [audio[start : start + chunk] for start in range(0, len(audio), chunk)]
    return [
        AudioStart(rate, width, channels).event(),
        *(AudioChunk(rate, width, channels, piece).event() for piece in pieces),
        AudioStop().event(),
    ]


async def answers(client: AsyncTcpClient, last: str = "transcript-stop") -> list[Event]:
    """Events up to one of a type, or to the connection's end."""
    events: list[Event] = []
    while (event := await client.read_event()) is not None:
        events.append(event)
        if event.type in (last, "error"):
            break
    return events


async def transcribed(client: AsyncTcpClient, audio: bytes, **transcribe: Any) -> dict[str, Any]:
    """The data of the `transcript` of a recording."""
    await send(client, [Transcribe(language="en", **transcribe).event(), *recording(audio)])
    (transcript,) = [event.data for event in await answers(client) if event.type == "transcript"]
    return transcript


async def send(client: AsyncTcpClient, events: Iterable[Event]) -> None:
    for event in events:
        await client.write_event(event)


def run(work: Awaitable[None], patience_s: float = 60) -> None:
    """Runs a test's coroutine."""

    async def bounded() -> None:
        async with asyncio.timeout(patience_s):
            await work

    asyncio.run(bounded())
