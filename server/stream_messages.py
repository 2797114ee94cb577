"""A client's messages on a stream: checked, counted, and waited for no longer than the limits allow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from enum import Enum
from typing import TypeAlias

from asr.audio import Samples, decode_pcm
from carryover.v1 import recognizer_pb2 as pb
from server.errors import IdleError, InvalidRequestError, LimitError
from server.settings import Limits

LEAVING_S = 0.5
"""gRPC may tell that a client has left first as the end of its messages, and then, even on a busy machine not so long
after that, by cancelling the call."""


class Muted(Enum):
    """The client has sent nothing for `limits.idle_seconds`, and its connection lives."""

    MUTED = "muted"


Part: TypeAlias = Samples | pb.Finalize | pb.StreamUpdate | Muted


class StreamMessages:
    """A client's messages. Close it when no more of them are wanted.

    seconds: audio so far. problem: why the audio ended before the client said so.
    """

    def __init__(self, messages: AsyncIterator[pb.StreamingRecognizeRequest], limits: Limits) -> None:
        self._messages = messages
        self._limits = limits
        self._coming: asyncio.Future[pb.StreamingRecognizeRequest | None] | None = None
        self._patience_s = limits.stream_seconds + limits.idle_seconds  # left of waiting for messages, of all together
        self.seconds = 0.0
        self.problem: LimitError | IdleError | None = None

    async def config(self) -> pb.StreamingConfig:
        """The first message's configuration. Raises InvalidRequestError, IdleError."""
        if not await self._wait(self._limits.idle_seconds):
            raise self._idle(self._limits.idle_seconds)
        message = await self._next()
        if message is None:
            raise InvalidRequestError("config", "the stream is empty; send the configuration first, then audio")
        if message.WhichOneof("request") != "config":
            raise InvalidRequestError("config", "send the configuration in the first message, before any audio")
        return message.config

    async def parts(self, encoding: str, rate: int) -> AsyncIterator[Part]:
        """What the messages that follow hold, until the client is done, sends nothing more, or sent too much.

        Raises InvalidRequestError, AudioError.
        """
        while True:
            waited_s, longest_s = 0.0, self._limits.muted_seconds if self.seconds else self._limits.idle_seconds
            while not await self._wait(step_s := min(self._limits.idle_seconds, longest_s - waited_s)):
                waited_s += step_s
                if waited_s >= longest_s or self._patience_s <= 0:
                    self.problem = self._idle(longest_s)
                    return
                if waited_s == step_s:
                    yield Muted.MUTED
            message = await self._next()
            if message is None:
                return
            kind = message.WhichOneof("request")
            if kind == "finalize":
                yield message.finalize
            elif kind == "update":
                yield message.update
            elif kind == "audio":
                samples = self._samples(message.audio, encoding)
                room = max(0, int(self._limits.stream_seconds * rate - self.seconds * rate))
                self.seconds += len(samples) / rate
                if room:
                    yield samples[:room]
                if len(samples) > room:
                    self.problem = too_long(self._limits.stream_seconds, "stream_seconds", "streams")
                    return
            else:
                raise InvalidRequestError(*_UNEXPECTED[kind])

    async def close(self) -> None:
        """Stop waiting for a message."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)

    def _samples(self, audio: bytes, encoding: str) -> Samples:
        if len(audio) > self._limits.audio_bytes:
            raise LimitError("audio_bytes", f"audio: {len(audio)} bytes in a message; send smaller pieces")
        return decode_pcm(audio, encoding)

    async def _wait(self, longest_s: float) -> bool:
        """Wait for a message, or the end of them; False: it has not come so soon."""
        if self._coming is None:
            self._coming = asyncio.ensure_future(anext(self._messages, None))
        began_s = time.monotonic()
        await asyncio.wait({self._coming}, timeout=max(0.0, min(longest_s, self._patience_s)))
        self._patience_s -= time.monotonic() - began_s
        return self._coming.done()

    async def _next(self) -> pb.StreamingRecognizeRequest | None:
        """The message that has been waited for; None at the end. Raises what reading it raises."""
        assert self._coming is not None
        coming, self._coming = self._coming, None
        message = await coming
        if message is None and not self.seconds:  # a mistake of the client, unless it has left
            await asyncio.sleep(LEAVING_S)
        return message

    def _idle(self, longest_s: float) -> IdleError:
        limits = self._limits
        if self._patience_s <= 0:
            patience_s = limits.stream_seconds + limits.idle_seconds
            advice = f"the stream's audio came too slowly for {patience_s:g} s; open another one"
            return IdleError(f"{advice} (the server's settings are limits.stream_seconds and limits.idle_seconds)")
        name = "muted_seconds" if self.seconds else "idle_seconds"
        advice = f"no message for {longest_s:g} s; send audio as it comes and half-close the stream at its end"
        return IdleError(f"{advice} (the server's setting is limits.{name})")


_UNEXPECTED = {
    "config": ("config", "was sent twice; send it once"),
    None: ("audio", "send audio, finalize or update in every message but the first"),
}


def too_long(seconds: float, limit: str, pieces: str) -> LimitError:
    """The error of audio that is longer than a limit allows."""
    return LimitError(limit, f"the audio is longer than {seconds:g} s; send it in several {pieces}")
