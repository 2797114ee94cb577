"""The client for asyncio: the names and arguments of `carryover.Client`, to be awaited."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar, Unpack, overload

import grpc
import grpc.aio

from carryover import messages
from carryover.audio import Audio, Clock, PathLike, format_of, read_audio, recording
from carryover.connect import OPTIONS, Credentials
from carryover.errors import ChangeRequestError, error_of
from carryover.messages import Endpointing, Entities, Entry, InlineContext, Options, Phrases, StreamOptions
from carryover.readiness import Readiness
from carryover.results import (
    ContextStatus,
    Embedding,
    PhraseReport,
    Recognition,
    Rescored,
    Result,
    ServerInfo,
    SpeechEvent,
)
from carryover.v1 import context_pb2, recognizer_pb2
from carryover.v1.context_pb2_grpc import ContextStub
from carryover.v1.recognizer_pb2 import StreamingRecognizeRequest as Request
from carryover.v1.recognizer_pb2_grpc import RecognizerStub

Item = TypeVar("Item")

AudioSource: TypeAlias = PathLike | Audio | AsyncIterable[bytes] | Iterable[bytes]
"""As of `carryover.Client`, or an asynchronous iterable. One that is not is iterated over in another thread."""

_ACCEPTED_S = 1.0
"""Seconds that audio waits for the server to accept the configuration; some proxies keep the word back."""


class Client:
    """As `carryover.Client`, for one event loop: the one that runs at its first call."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        key: str | None = None,
        ca: PathLike | None = None,
        tls: bool = False,
        certificate: PathLike | None = None,
        certificate_key: PathLike | None = None,
        deadline_s: float = 30.0,
    ) -> None:
        self._target = target
        self._credentials = Credentials.load(
            target, key=key, ca=ca, tls=tls, certificate=certificate, certificate_key=certificate_key
        )
        self._deadline_s = deadline_s
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way end."""
        self._closed = True
        for stub in ("_recognizer", "_context"):
            self.__dict__.pop(stub, None)
        if self._channel is not None:
            await self._channel.close()

    @overload
    def stream(
        self,
        audio: AudioSource | None = None,
        *,
        voice_activity_events: Literal[False] = False,
        **options: Unpack[StreamOptions],
    ) -> Stream[Result]: ...
    @overload
    def stream(
        self,
        audio: AudioSource | None = None,
        *,
        voice_activity_events: bool,
        **options: Unpack[StreamOptions],
    ) -> Stream[Result | SpeechEvent]: ...
    def stream(
        self,
        audio: AudioSource | None = None,
        *,
        dialogue: str = "",
        turn: str = "",
        context: InlineContext | None = None,
        endpointing: Endpointing | None = None,
        voice_activity_events: bool = False,
        rate: int = 16_000,
        encoding: str = "LINEAR16",
        interim_results: bool = True,
        max_alternatives: int = 1,
        word_times: bool = False,
        phrases: Phrases = (),
        single_utterance: bool = False,
        automatic_punctuation: bool = False,
        real_time: bool = False,
        timeout_s: float | None = None,
    ) -> Stream[Any]:
        """Recognise audio while it comes in, as `carryover.Client.stream`. To be called in the event loop.

        Returns:
            An asynchronous iterator over the results, which also steers the stream. It raises too what reading a file
            raises.
        """
        loop = asyncio.get_running_loop()
        options = Options(
            rate, encoding, dialogue, turn, max_alternatives, word_times, phrases, automatic_punctuation,
            interim_results, single_utterance, context, endpointing, voice_activity_events,
        )  # fmt: skip
        call = self._recognizer.StreamingRecognize(timeout=timeout_s, metadata=self._credentials.metadata)
        sender = _Sender(call)
        sending = loop.create_task(sender.run(audio, options, real_time=real_time))
        return Stream(call, sender, sending, pushed=audio is None)

    async def recognize(
        self,
        audio: PathLike | bytes | Audio,
        *,
        dialogue: str = "",
        turn: str = "",
        context: InlineContext | None = None,
        endpointing: Endpointing | None = None,
        max_alternatives: int = 1,
        word_times: bool = False,
        phrases: Phrases = (),
        automatic_punctuation: bool = False,
        timeout_s: float | None = None,
    ) -> Recognition:
        """Recognise one recording as a whole, as `carryover.Client.recognize`."""
        content, rate, encoding = await asyncio.to_thread(recording, audio)
        options = Options(
            rate, encoding, dialogue, turn, max_alternatives, word_times, phrases, automatic_punctuation,
            context=context, endpointing=endpointing,
        )  # fmt: skip
        request = messages.recognize_request(content, options)
        return messages.recognition_of(await self._call(self._recognizer.Recognize, request, timeout_s))

    async def record(
        self,
        dialogue: str,
        turn: str,
        *,
        user: str | None = None,
        reply: str | None = None,
        contacts: Sequence[str | Entry] = (),
        entities: Entities | None = None,
        transcribe: bool = False,
        speak: bool = False,
        expect_speech: bool = False,
        time: datetime | float | None = None,
        timeout_s: float | None = None,
    ) -> bool:
        """Record what happened in a turn, as `carryover.Client.record`."""
        request = messages.record_request(
            dialogue, turn, secret=self._credentials.secret, user=user, reply=reply, contacts=contacts,
            entities=entities, transcribe=transcribe, speak=speak, expect_speech=expect_speech, time=time,
        )  # fmt: skip
        return bool((await self._call(self._context.RecordEvents, request, timeout_s)).triggered)

    async def status(self, dialogue: str, turn: str = "", *, timeout_s: float | None = None) -> ContextStatus:
        """How far a turn's context is, as `carryover.Client.status`."""
        request = context_pb2.GetContextStatusRequest(dialogue_id=dialogue, turn_id=turn)
        return messages.status_of(await self._call(self._context.GetContextStatus, request, timeout_s))

    async def wait_until_ready(self, dialogue: str, turn: str = "", timeout: float = 10.0) -> ContextStatus:
        """Wait until a turn's context is ready, as `carryover.Client.wait_until_ready`."""
        readiness = Readiness(timeout, turn)
        while not readiness.reached(status := await self.status(dialogue, turn, timeout_s=readiness.left_s)):
            await asyncio.sleep(readiness.pause_s())
        return status

    async def embedding(self, dialogue: str, turn: str = "", *, timeout_s: float | None = None) -> Embedding:
        """A turn's context as vectors, as `carryover.Client.embedding`."""
        request = context_pb2.GetContextEmbeddingRequest(dialogue_id=dialogue, turn_id=turn)
        return messages.embedding_of(await self._call(self._context.GetContextEmbedding, request, timeout_s))

    async def rescore(
        self,
        nbest: Sequence[str] | Sequence[tuple[str, float]],
        *,
        dialogue: str = "",
        turn: str = "",
        context: InlineContext | None = None,
        timeout_s: float | None = None,
    ) -> Rescored:
        """Order another recogniser's n-best list, as `carryover.Client.rescore`."""
        request = messages.rescore_request(nbest, dialogue, turn, context)
        return messages.rescored_of(await self._call(self._context.Rescore, request, timeout_s))

    async def erase(self, dialogue: str, *, timeout_s: float | None = None) -> int:
        """Erase a dialogue, as `carryover.Client.erase`."""
        request = context_pb2.DeleteDialogueRequest(dialogue_id=dialogue)
        return int((await self._call(self._context.DeleteDialogue, request, timeout_s)).items_deleted)

    async def server_info(self, *, timeout_s: float | None = None) -> ServerInfo:
        """The version, the models and the limits of the server."""
        request = recognizer_pb2.GetServerInfoRequest()
        return messages.server_info_of(await self._call(self._recognizer.GetServerInfo, request, timeout_s))

    async def _call(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        deadline_s = self._deadline_s if timeout_s is None else timeout_s
        try:
            return await method(request, timeout=deadline_s, metadata=self._credentials.metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            raise error_of(_cancelled()) from None  # by `close`, and not this task

    @cached_property
    def _recognizer(self) -> Any:
        return RecognizerStub(self._open())  # type: ignore[no-untyped-call]

    @cached_property
    def _context(self) -> Any:
        return ContextStub(self._open())  # type: ignore[no-untyped-call]

    def _open(self) -> grpc.aio.Channel:
        """The channel, made at the first call: it belongs to the event loop that runs when it is made."""
        if self._closed:
            raise ChangeRequestError(messages.IS_CLOSED)
        if self._channel is None:
            tls = self._credentials.tls
            self._channel = (
                grpc.aio.secure_channel(self._target, tls, options=OPTIONS)
                if tls
                else grpc.aio.insecure_channel(self._target, options=OPTIONS)
            )
        return self._channel


class Stream(Generic[Item]):
    """The results of a stream, as they come, and what steers it; as `carryover.Stream`.

    Leaving the `async with` statement, or `close`, ends it. A task that is cancelled while it waits for a result ends
    nothing: the result is the next one's. So `asyncio.wait_for(anext(stream), ...)` may be used.
    """

    phrase_report: PhraseReport | None = None
    """What became of the phrases, from the first result on, and anew after an update that changes them; None: there
    were none."""

    def __init__(self, call: Any, sender: _Sender, sending: asyncio.Task[None], *, pushed: bool) -> None:
        self._call = call
        self._sender = sender
        self._sending = sending
        self._pushed = pushed
        self._reading: asyncio.Task[Any] | None = None
        self._results: deque[Any] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._results:
            if self._reading is None:
                self._reading = asyncio.get_running_loop().create_task(_read(self._call))
            response = await asyncio.shield(self._reading)
            self._reading = None
            if response is None:
                self._sending.cancel()
                raise StopAsyncIteration
            if isinstance(response, grpc.aio.AioRpcError):
                self._sending.cancel()
                if self._sender.broken is not None:
                    raise self._sender.broken
                if self._sender.closed:
                    raise StopAsyncIteration
                raise error_of(response) from response
            if response.HasField("speech_context_report"):
                self.phrase_report = messages.phrase_report_of(response.speech_context_report)
            self._results.extend(messages.yielded(response))
        item: Item = self._results.popleft()
        return item

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        self._cancel()

    async def send(self, piece: bytes) -> None:
        """Send a piece of audio, as `carryover.Stream.send`. Where its task is cancelled, it may be sent all the same.

        It waits until the stream is accepted, and while the server, or the connection, does not keep up.
        """
        if not self._pushed:
            raise ChangeRequestError(messages.HAS_AUDIO)
        await self._sender.put(Request(audio=piece))

    async def finalize(self) -> None:
        """End the utterance now, as `carryover.Stream.finalize`."""
        await self._sender.put(Request(finalize=recognizer_pb2.Finalize()))

    async def update(
        self,
        *,
        turn: str | None = None,
        phrases: Phrases | None = None,
        replace_phrases: bool = False,
        context: InlineContext | None = None,
        endpointing: Endpointing | None = None,
    ) -> None:
        """Go on otherwise from the next utterance on, as `carryover.Stream.update`."""
        update = messages.stream_update(
            turn=turn, phrases=phrases, replace_phrases=replace_phrases, context=context, endpointing=endpointing
        )
        await self._sender.put(Request(update=update))

    async def end(self) -> None:
        """End the audio, as `carryover.Stream.end`."""
        await self._sender.end()

    async def close(self) -> None:
        """End the stream without waiting for further results, and the iteration over its audio."""
        self._cancel()
        await asyncio.gather(self._sending, *filter(None, [self._reading]), return_exceptions=True)

    def _cancel(self) -> None:
        self._sender.closed = True
        self._call.cancel()
        self._sending.cancel()


class _Sender:
    """Sends the client's messages of a stream, one at a time, in the order in which they are given.

    Attributes:
        broken: what the audio raised. gRPC would only end the call, and tell nobody why.
        ended: no message follows any more.
        closed: the stream was left.
    """

    def __init__(self, call: Any) -> None:
        self.broken: Exception | None = None
        self.ended = False
        self.closed = False
        self._call = call
        self._turn = asyncio.Lock()  # first come, first served

    async def run(self, audio: AudioSource | None, options: Options, *, real_time: bool) -> None:
        """Open the stream before anything else is sent, then send what a source of audio has."""
        try:
            async with self._turn:
                if isinstance(audio, str | os.PathLike):
                    audio = await asyncio.to_thread(read_audio, audio)
                rate, encoding = format_of(audio, options.rate, options.encoding)
                config = messages.streaming_config(replace(options, rate=rate, encoding=encoding))
                opened = (
                    await _connected(self._call)
                    and await _write(self._call, Request(config=config))
                    and await _accepted(self._call)
                )
            if not opened or audio is None:
                return
            async with aclosing(_pieces(audio)) as pieces:
                clock = Clock(rate, encoding)
                async for piece in pieces:
                    if real_time:
                        await asyncio.sleep(clock.wait_s(piece))
                    if self.ended or not await self._in_turn(Request(audio=piece)):
                        return
            await self.end()
        except Exception as error:
            self.broken = error
            self._call.cancel()

    async def put(self, request: Request) -> None:
        """Send a message. Raises what broke the stream."""
        if not self.ended and not self.closed and await self._shielded(request):
            return
        if self.broken is not None:
            raise self.broken
        if self.ended or self.closed:
            raise ChangeRequestError(messages.HAS_ENDED)
        if self._call.done() and (status := await self._call.code()) is not grpc.StatusCode.OK:
            leading, trailing = await self._call.initial_metadata(), await self._call.trailing_metadata()
            raise error_of(grpc.aio.AioRpcError(status, leading, trailing, await self._call.details()))

    async def end(self) -> None:
        """Half-close behind what was given."""
        if not self.ended:
            self.ended = True
            await self._shielded(None)

    async def _shielded(self, request: Request | None) -> bool:
        """In a task of its own: beside a message whose sending was cancelled gRPC takes no other."""
        return await asyncio.shield(asyncio.get_running_loop().create_task(self._in_turn(request)))

    async def _in_turn(self, request: Request | None) -> bool:
        """Send a message, or half-close; False: the call has ended."""
        async with self._turn:
            return await _write(self._call, request)


async def _read(call: Any) -> Any:
    """The next message; None: there is none; or the error that the call ended with."""
    try:
        response = await call.read()
    except grpc.aio.AioRpcError as error:
        return error
    except asyncio.CancelledError:  # this task is never cancelled alone
        return _cancelled()
    return None if response is grpc.aio.EOF else response


def _cancelled() -> grpc.aio.AioRpcError:
    """What a call ends with that was cancelled at this end."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, "the call was cancelled")


async def _pieces(audio: Audio | AsyncIterable[bytes] | Iterable[bytes]) -> AsyncGenerator[bytes]:
    """The pieces of any audio; one that may block is iterated over in another thread."""
    if isinstance(audio, AsyncIterable):
        iterator = aiter(audio)
        try:
            async for piece in iterator:
                yield piece
        finally:
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()
    elif isinstance(audio, Audio | Sequence):
        for piece in audio:
            yield piece
    else:
        async with aclosing(_of_thread(iter(audio))) as pieces:
            async for piece in pieces:
                yield piece


async def _of_thread(pieces: Iterator[bytes]) -> AsyncGenerator[bytes]:
    """The pieces of an iterator that may block; a generator is closed once nothing runs in it any more."""
    loop = asyncio.get_running_loop()
    while True:
        turn = loop.run_in_executor(None, next, pieces, None)
        try:
            piece = await asyncio.shield(turn)
            if piece is None:
                return
            yield piece
        except (asyncio.CancelledError, GeneratorExit):
            if isinstance(pieces, Generator):
                turn.add_done_callback(lambda _: pieces.close())
            raise


async def _connected(call: Any) -> bool:
    """Wait until the call can be sent on; False: it has ended."""
    try:
        await call.wait_for_connection()
    except grpc.RpcError:
        return False
    return True


async def _accepted(call: Any) -> bool:
    """Wait until the server has accepted the configuration, or for a second; False: the call has ended.

    So no audio is taken for a stream that is refused.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_ACCEPTED_S):
            if not tuple(await call.initial_metadata()):
                await call.code()
    return not call.done()


async def _write(call: Any, request: Request | None) -> bool:
    """Send a message, or half-close; False: the call has ended.

    Where the server ends a call while a message is on its way, `call.write` puts INTERNAL, "Internal error from Core",
    in the place of the server's status (grpcio 1.74 to 1.85: in every second stream that a server ends). The layer
    below leaves the status alone. Should a release of grpcio not have it, a status may be lost, nothing else.
    """
    if call.done():
        return False
    send = getattr(getattr(call, "_cython_call", None), "send_serialized_message", None)
    try:
        if request is None:
            await call.done_writing()
        else:
            await (send(request.SerializeToString()) if send else call.write(request))
    except (grpc.aio.BaseError, grpc.RpcError, asyncio.InvalidStateError):
        return False
    return True
