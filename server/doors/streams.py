"""A stream of another protocol, as the one of `carryover.v1` that it asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from carryover.v1 import recognizer_pb2 as pb
from server.doors.audio import Samples
from server.errors import InvalidRequestError


@dataclass
class Part:
    """One message of a client, translated. What it asks for is done in the order of the fields."""

    config: pb.StreamingConfig | None = None
    """Its encoding and rate may be unset: then the audio begins with a WAV header."""
    update: pb.StreamUpdate | None = None
    audio: bytes | None = None
    finalize: bool = False
    """The utterance ends now."""
    request_id: str = ""
    """The client's own, where its protocol has one."""
    options: Any = None
    """With the configuration: what the door itself is to know of it."""


@dataclass
class ClientStream:
    """What a stream's client sends, and has sent so far."""

    parts: AsyncIterator[Part]
    config: pb.StreamingConfig = field(default_factory=pb.StreamingConfig)
    request_id: str = ""
    """The last one that was sent."""
    options: Any = None
    """Those of the configuration."""
    ended: bool = False
    """The client has said that there is no more audio."""
    update: pb.StreamUpdate | None = None
    """Goes before the next message of the client, once."""

    async def messages(self) -> AsyncIterator[pb.StreamingRecognizeRequest]:
        """The messages of `carryover.v1` that the client's are.

        Raises:
            InvalidRequestError: they are out of order, or the audio contradicts the configuration.
        """
        part = await anext(self.parts, None)
        if part is None:
            return  # the service says what is missing
        if part.config is None:
            raise InvalidRequestError("config", "send the configuration in the first message, before any audio")
        self.config, self.request_id, self.options = part.config, part.request_id, part.options
        samples = Samples(part.config.encoding, part.config.sample_rate_hertz)
        opened = samples.known
        if opened:
            yield pb.StreamingRecognizeRequest(config=self.config)
        async for part in self.parts:
            self.request_id = part.request_id or self.request_id
            if part.config is not None:
                raise InvalidRequestError("config", "was sent twice; send it once, in the first message")
            if part.audio is None and part.update is None and not part.finalize:
                raise InvalidRequestError("audio", "send audio in every message after the first")
            audio = samples.take(part.audio or b"")
            if not opened and samples.known:
                opened = True
                self.config.encoding, self.config.sample_rate_hertz = samples.encoding, samples.rate
                yield pb.StreamingRecognizeRequest(config=self.config)
            if opened:
                for update in (self.update, part.update):
                    if update is not None:
                        yield pb.StreamingRecognizeRequest(update=update)
                self.update = None
                yield pb.StreamingRecognizeRequest(audio=audio)  # without samples it keeps the stream open
                if part.finalize:
                    yield pb.StreamingRecognizeRequest(finalize=pb.Finalize())
            elif part.update is not None or part.finalize:
                raise InvalidRequestError("audio", "send some of it, with its WAV header, before anything else")
        self.ended = True
        if not opened:
            raise InvalidRequestError("audio", "the stream ended without any; send audio after the configuration")
