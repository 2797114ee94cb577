"""OpenAI's realtime transcription over a WebSocket, `/v1/realtime`: its events as a stream's messages, and back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from server.access import Caller
from server.context_service import ContextService
from server.doors.audio import Samples
from server.doors.routes import descriptor
from server.errors import IdleError, InvalidRequestError, LimitError, RequestError, status_of
from server.guard import CallError
from server.http.calls import Calls, Exchange
from server.http.errors import Problem, openai_error, problem_of
from server.http.json_calls import JSON_BYTES, as_json, parsed
from server.http.realtime_session import Session, update_between
from server.http.sockets import Socket
from server.http.stable_words import StableWords
from server.http.transcripts import word_logprobs
from server.methods import Load, Method
from server.quota import Quota
from server.recognizer_service import RecognizerService
from server.scheduler import Scheduler
from server.settings import Limits

PROTOCOL = "realtime"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"
_BUFFER = "input_audio_buffer"
_NO_EVENT = "send events as JSON objects with their type"


class Realtime:
    """Answers `/v1/realtime`.

    Args:
        stream, record: the methods of `carryover.v1` that a session is made of.
    """

    def __init__(
        self,
        stream: Method,
        record: Method,
        recognizer: RecognizerService,
        contexts: ContextService,
        calls: Calls,
        scheduler: Scheduler,
        limits: Limits,
    ) -> None:
        self._method = Method("/v1/realtime", "openai.Realtime", stream.request, stream.bounds, Load.SESSION)
        self._record = Method(
            record.path, "openai.RecordEvents", descriptor(context_pb2.RecordEventsRequest), record.bounds, Load.CALL
        )
        self._recognizer = recognizer
        self._contexts = contexts
        self._calls = calls
        self._scheduler = scheduler
        self._limits = limits
        self._waiting = Quota("calls", "sessions have no audio yet", None, limits.tenant_calls)

    def route(self) -> web.RouteDef:
        """Of the one path."""
        return web.get(self._method.path, self._calls.handler(self._method, self._answer, openai_error))

    async def _answer(self, exchange: Exchange, caller: Caller) -> web.StreamResponse:
        with ExitStack() as waiting:
            waiting.enter_context(self._waiting.one(caller.tenant))
            most = JSON_BYTES * self._method.bounds.bytes
            socket = await Socket.open(exchange, PROTOCOL, most, self._limits.idle_seconds, _error_event)
            talk = _Talk(socket, caller, self._limits)
            try:
                await talk.say("session.created", session=talk.described())
                messages = self._messages(exchange, talk)
                with_first = _prefixed(await self._first(messages), messages)
                waiting.close()
                with self._calls.stream(caller):
                    await self._recognised(talk, with_first, caller)
            except (ConnectionResetError, asyncio.CancelledError):  # aiohttp cancels where the connection is closed too
                if not socket.left_properly:
                    raise
                return socket.response  # closing the socket is how a session ends
        await socket.close()
        return socket.response

    async def _recognised(
        self, talk: _Talk, messages: AsyncIterator[pb.StreamingRecognizeRequest], caller: Caller
    ) -> None:
        async with aclosing(self._recognizer.StreamingRecognize(messages, caller)) as responses:  # type: ignore[type-var]
            async for response in responses:
                await talk.respond(response)

    async def _first(self, messages: AsyncIterator[pb.StreamingRecognizeRequest]) -> pb.StreamingRecognizeRequest:
        """The first message of the stream: there is none before there is audio, however long the client waits."""
        try:
            async with asyncio.timeout(self._limits.muted_seconds):
                return await anext(messages)
        except TimeoutError:
            advice = f"no audio for {self._limits.muted_seconds:g} s; send it as it comes"
            raise IdleError(f"{advice} (the server's setting is limits.muted_seconds)") from None

    async def _messages(self, exchange: Exchange, talk: _Talk) -> AsyncIterator[pb.StreamingRecognizeRequest]:
        """The messages of `carryover.v1` that the client's events ask for."""
        async for message in talk.socket.messages():
            self._calls.check(exchange.request)
            event: dict[str, Any] = {}
            try:
                event = _event(message.data)
                if not isinstance(event.get("type"), str):
                    raise InvalidRequestError("type", _NO_EVENT)
                if event["type"] == "carryover.record_events":
                    task = asyncio.create_task(self._recorded(exchange, talk, event))  # a call of its own, with its log
                    await talk.say("carryover.events_recorded", **await task)
                    continue
                asked = await talk.ask(event)
            except CallError as error:
                await talk.refuse(problem_of(error), event)
                continue
            except RequestError as error:
                await talk.refuse(_problem(error), event)
                continue
            for one in asked:
                yield one

    async def _recorded(self, exchange: Exchange, talk: _Talk, event: dict[str, Any]) -> dict[str, Any]:
        """Record events of a turn. Raises CallError."""
        values = {name: value for name, value in event.items() if name not in ("type", "event_id")}
        values.setdefault("dialogue_id", talk.session.carryover.dialogue_id)
        async with self._calls.inner(self._record, exchange.request) as caller:
            message = await parsed(self._record, json.dumps(values), self._scheduler, caller)
            response = await self._contexts.RecordEvents(message, caller)
        return {"dialogue_id": message.dialogue_id, "turn_id": message.turn_id, "triggered": response.triggered}


@dataclass
class _Item:
    """An utterance, as the protocol has it."""

    id: str = field(default_factory=lambda: f"item_{secrets.token_hex(10)}")
    texts: list[str] = field(default_factory=list)
    results: list[pb.StreamingRecognitionResult] = field(default_factory=list)
    words: StableWords = field(default_factory=StableWords)
    sent: bool = False
    """Some of its text is sent."""
    begun: bool = False
    """Its speech is told of."""
    speech_end_ms: int = 0
    dropped: bool = False
    """The client has cleared it."""


class _Talk:
    """One session's state: what is set, and the items under way."""

    def __init__(self, socket: Socket, caller: Caller, limits: Limits) -> None:
        self.socket = socket
        self.session = Session()
        self._id = f"sess_{secrets.token_hex(10)}"
        self._caller = caller
        self._limits = limits
        self._config: pb.StreamingConfig | None = None
        self._samples: Samples | None = None
        self._said = 0
        self._item = _Item()
        self._ended: deque[_Item] = deque()  # by the client, whose final result has not come
        self._previous: str | None = None
        self._bytes = 0  # of audio since the client has ended an item

    def described(self) -> dict[str, Any]:
        """The session as the server tells of it."""
        set_now = self.session.model_dump(exclude_none=False)
        return {"id": self._id, "object": "realtime.transcription_session", "expires_at": 0, **set_now}

    async def say(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        self._said += 1
        await self.socket.send({"type": kind, "event_id": f"event_{self._said}", **fields})

    async def refuse(self, problem: Problem, event: dict[str, Any]) -> None:
        """Tell an error after which the session goes on."""
        error = openai_error(problem)["error"]
        sent = event.get("event_id")
        await self.say("error", error={**error, "event_id": sent if isinstance(sent, str) else None})

    # What the client asks for

    async def ask(self, event: dict[str, Any]) -> list[pb.StreamingRecognizeRequest]:
        """The messages of a stream that an event asks for. Raises RequestError."""
        kind = event["type"]
        if kind == f"{_BUFFER}.append":
            return self._append(event.get("audio"))
        if kind == "session.update":
            return await self._update(event.get("session"))
        if kind == f"{_BUFFER}.commit":
            return await self._commit()
        if kind == f"{_BUFFER}.clear":
            await self.say(f"{_BUFFER}.cleared")
            return self._end(dropped=True) if self._bytes else []
        known = "session.update, input_audio_buffer.append, .commit and .clear, and carryover.record_events"
        raise InvalidRequestError("type", f"this server only transcribes; it knows {known}")

    def _append(self, audio: object) -> list[pb.StreamingRecognizeRequest]:
        if not isinstance(audio, str):
            raise InvalidRequestError("audio", "send samples in base64")
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequestError("audio", "is no base64") from None
        if len(data) > self._limits.audio_bytes:
            raise LimitError("audio_bytes", f"audio: {len(data)} bytes in a message; send smaller pieces")
        made = []
        if self._config is None or self._samples is None:
            self._config = self.session.config(self._caller.tenant, self._limits)
            self._samples = Samples(self._config.encoding, self._config.sample_rate_hertz)
            made.append(pb.StreamingRecognizeRequest(config=self._config))
        self._bytes += len(data)
        made.append(pb.StreamingRecognizeRequest(audio=self._samples.take(data)))
        return made

    async def _update(self, update: object) -> list[pb.StreamingRecognizeRequest]:
        session = self.session.updated(update)
        config = session.config(self._caller.tenant, self._limits)
        change = update_between(self._config, config) if self._config is not None else None
        self.session = session
        if self._config is not None:
            self._config = config
        await self.say("session.updated", session=self.described())
        return [pb.StreamingRecognizeRequest(update=change)] if change is not None else []

    async def _commit(self) -> list[pb.StreamingRecognizeRequest]:
        if not self._bytes:
            raise InvalidRequestError("input_audio_buffer", "is empty; send audio before you commit it")
        await self._tell_committed(self._item)
        return self._end(dropped=False)

    def _end(self, *, dropped: bool) -> list[pb.StreamingRecognizeRequest]:
        self._item.dropped = dropped
        self._ended.append(self._item)
        self._item, self._bytes = _Item(), 0
        return [pb.StreamingRecognizeRequest(finalize=pb.Finalize())]

    # What the recogniser says

    async def respond(self, response: pb.StreamingRecognizeResponse) -> None:
        """Tell what a response holds."""
        item = self._ended[0] if self._ended else self._item
        if response.HasField("speech_event"):
            await self._tell_speech(item, response.speech_event)
        if response.HasField("speech_context_report") and response.speech_context_report.rejected:
            await self.say("carryover.speech_context_report", report=as_json(response.speech_context_report))
        for result in response.results:
            await self._tell_result(self._ended[0] if self._ended else self._item, result)

    async def _tell_speech(self, item: _Item, event: pb.SpeechEvent) -> None:
        milliseconds = round(event.time * 1000)
        if event.type == pb.SpeechEvent.END:
            item.speech_end_ms = milliseconds
        elif not item.begun:
            item.begun = True
            if not self.session.manual and not item.dropped:
                await self.say(f"{_BUFFER}.speech_started", item_id=item.id, audio_start_ms=milliseconds)

    async def _tell_result(self, item: _Item, result: pb.StreamingRecognitionResult) -> None:
        text = result.alternatives[0].transcript
        if not result.is_final:
            if not result.likely_final:
                await self._tell_delta(item, item.words.partial(text))
            return
        await self._tell_delta(item, item.words.final(text))
        item.words = StableWords()
        if text:
            item.texts.append(text)
        if text or result.finalized:
            item.results.append(result)
        if self._ended:
            if result.finalized:
                self._ended.popleft()
                await self._complete(item)
        elif not self.session.manual:
            if item.begun or text:
                if item.begun:
                    stopped = item.speech_end_ms or round(result.end * 1000)
                    await self.say(f"{_BUFFER}.speech_stopped", item_id=item.id, audio_end_ms=stopped)
                await self._tell_committed(item)
                await self._complete(item)
            self._item = _Item()

    async def _tell_delta(self, item: _Item, words: str) -> None:
        if words and not item.dropped:
            delta = f" {words}" if item.sent else words
            item.sent = True
            await self.say(f"{_TRANSCRIPTION}.delta", item_id=item.id, content_index=0, delta=delta)

    async def _tell_committed(self, item: _Item) -> None:
        await self.say(f"{_BUFFER}.committed", item_id=item.id, previous_item_id=self._previous)
        self._previous = item.id

    async def _complete(self, item: _Item) -> None:
        if item.dropped:
            return
        seconds = item.results[-1].end - item.results[0].start
        await self.say(
            f"{_TRANSCRIPTION}.completed",
            item_id=item.id,
            content_index=0,
            transcript=" ".join(item.texts),
            usage={"type": "duration", "seconds": round(seconds, 3)},
            carryover={"results": [as_json(result) for result in item.results]},
            **({"logprobs": word_logprobs(item.results)} if self.session.logprobs else {}),
        )


async def _prefixed(
    first: pb.StreamingRecognizeRequest, rest: AsyncIterator[pb.StreamingRecognizeRequest]
) -> AsyncIterator[pb.StreamingRecognizeRequest]:
    yield first
    async for one in rest:
        yield one


def _event(data: object) -> dict[str, Any]:
    """A client's event. Raises InvalidRequestError."""
    with suppress(ValueError, RecursionError):
        event = json.loads(data) if isinstance(data, str) else None
        if isinstance(event, dict):
            return event
    raise InvalidRequestError("type", _NO_EVENT)


def _problem(error: RequestError) -> Problem:
    return problem_of(CallError(*status_of(error), error, known=True))


def _error_event(problem: Problem) -> dict[str, Any]:
    """The last event of a session that an error ends."""
    error = openai_error(problem)["error"]
    return {"type": "error", "event_id": "event_last", "error": {**error, "event_id": None}}
