"""Both clients behind one face, so that a test is of either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carryover import Client, aio

DEADLINE_S = 60.0


def pieces(pcm: bytes) -> list[bytes]:
    """LINEAR16 audio of 16 kHz in pieces of 0.2 s."""
    return [pcm[start : start + 6400] for start in range(0, len(pcm), 6400)]


class Waiting:
    """The asyncio client, called from a thread as the other one is; the loop runs in another thread."""

    def __init__(self, target: str, loop: asyncio.AbstractEventLoop, **arguments: Any) -> None:
        self._client = aio.Client(target, **arguments)
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **named: self._run(getattr(self._client, name)(*arguments, **named))

    def stream(self, *arguments: Any, **named: Any) -> WaitingStream:
        async def opened() -> aio.Stream[Any]:
            return self._client.stream(*arguments, **named)

        return WaitingStream(self._run(opened()), self._run)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)


class WaitingStream:
    """A stream of the asyncio client."""

    def __init__(self, stream: aio.Stream[Any], run: Callable[[Any], Any]) -> None:
        self._stream, self._run = stream, run

    def __iter__(self) -> WaitingStream:
        return self

    def __next__(self) -> Any:
        try:
            return self._run(anext(self._stream))
        except StopAsyncIteration:
            raise StopIteration from None

    @property
    def phrase_report(self) -> Any:
        return self._stream.phrase_report

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **named: self._run(getattr(self._stream, name)(*arguments, **named))


@dataclass
class Clients:
    """Makes clients of one kind, and closes them."""

    kind: str
    loop: asyncio.AbstractEventLoop
    made: list[Any]

    def __call__(self, target: int | str, **arguments: Any) -> Any:
        address = f"127.0.0.1:{target}" if isinstance(target, int) else target
        made = Client(address, **arguments) if self.kind == "sync" else Waiting(address, self.loop, **arguments)
        self.made.append(made)
        return made
