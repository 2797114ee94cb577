"""Speech-to-text that knows what the agent has just asked."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import json
import logging
import time
import uuid
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from livekit import rtc
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    AgentSession,
    APIConnectionError,
    APIConnectOptions,
    APIError,
    APIStatusError,
    APITimeoutError,
    stt,
)
from livekit.agents.language import LanguageCode
from livekit.agents.types import NOT_GIVEN, NotGivenOr, TimedString
from livekit.agents.utils import AudioBuffer

from carryover import (
    Audio,
    CarryoverError,
    ChangeRequestError,
    CheckKeyError,
    DeadlineError,
    Endpointing,
    Entry,
    Final,
    LikelyFinal,
    NotFoundError,
    Partial,
    ServerError,
    SpeechBegin,
    SpeechEnd,
    aio,
)
from carryover.dialogue import Dialogue, entries_of
from carryover.unanswered import Unanswered

_log = logging.getLogger("livekit.plugins.carryover")

_RATE = 16_000
_LANGUAGE = LanguageCode("en")
_LAST_RECORD_S = 5.0
_LONGEST_OUTPUT = 200_000
"""Of a tool's output as Python: a quarter of a second, in which the event loop stands still."""
_WITHIN = 0.9
"""Of the framework's timeout: whatever takes longer counts as connected, and is tried for ever."""
_BOOST = 5.0
"""Nats, the server's own default; key terms of the framework have none of their own."""


class STT(stt.STT):
    """Speech-to-text on a Carryover server, with the context of the dialogue.

    The framework's conversation is recorded in a dialogue of this object's own, so give each session one. Derive the
    agent from `ContextAgentMixin` too, so that its text is known before it is spoken.

    Likely finals are preflight transcripts, for preemptive generation. A transcript's `metadata` have `context` (its
    status, `plain_transcript`, the words that it made likelier, the entries that are meant) and `alternatives`.

    Args:
        server: HOST:PORT, or any target that gRPC knows.
        api_key: the server's key for this caller, where it takes keys.
        ca: path of the authorities' certificates to reach the server by TLS.
        tls: TLS with the authorities that gRPC knows.
        dialogue: id of the dialogue; empty: a new one. One that was recorded before is gone on with.
        phrases: words and phrases to expect, or the boost of each in nats; the session's key terms join them.
        automatic_punctuation: transcripts with capitals, punctuation and digits.
        max_alternatives: the most alternatives in `metadata`.
        endpointing: when utterances end; unset: as the server is set.
    """

    def __init__(
        self,
        *,
        server: str = "127.0.0.1:50051",
        api_key: str | None = None,
        ca: str | None = None,
        tls: bool = False,
        dialogue: str = "",
        phrases: Sequence[str] | Mapping[str, float] = (),
        automatic_punctuation: bool = True,
        max_alternatives: int = 1,
        endpointing: Endpointing | None = None,
    ) -> None:
        capabilities = stt.STTCapabilities(
            streaming=True,
            interim_results=True,
            aligned_transcript="word",
            offline_recognize=True,
            keyterms=True,
            chat_context=True,
            manual_flush=True,
        )
        super().__init__(capabilities=capabilities)
        self._client = aio.Client(server, key=api_key, ca=ca, tls=tls)
        self._dialogue = Dialogue(self._client, dialogue)
        self._phrases = phrases
        self._keyterms: Sequence[str] = ()
        self._endpointing = endpointing
        self._written_form = automatic_punctuation
        self._max_alternatives = max_alternatives
        self._streams: weakref.WeakSet[SpeechStream] = weakref.WeakSet()

    @property
    def model(self) -> str:
        """The server chooses its model."""
        return "carryover"

    @property
    def provider(self) -> str:
        """Carryover."""
        return "Carryover"

    @property
    def dialogue(self) -> Dialogue:
        """The turns that are recorded; its `id` is what to erase."""
        return self._dialogue

    def set_entities(self, signal: str, entries: Sequence[str | Entry]) -> None:
        """Say what a service knows and the user may name, from now on and until it is set again.

        Args:
            signal: a name that the model reads: contacts, devices, places, ..., or one of your own.
            entries: by importance; none: the service knows nothing any more.
        """
        self._dialogue.set_entities(signal, entries)

    def follow_tools(self, session: AgentSession, tools: Mapping[str, str]) -> None:
        """Take the entries that function tools' results list.

        Args:
            session: whose tools they are.
            tools: the signal of each tool, by its name: ``{"find_contacts": "contacts"}``. What
                `carryover.dialogue.entries_of` does not read as it is, give to `set_entities` yourself.
        """

        def take(event: Any) -> None:
            for call, output in event.zipped():
                if call.name in tools and output is not None and output.output and not output.is_error:
                    self._take_output(tools[call.name], call.name, output.output)

        session.on("function_tools_executed", take)

    def _take_output(self, signal: str, name: str, output: str) -> None:
        try:
            self.set_entities(signal, entries_of(_value(output)))
        except ChangeRequestError as error:
            _log.warning("the result of %s gives no entries: %s", name, error)

    def update_options(
        self,
        *,
        phrases: NotGivenOr[Sequence[str] | Mapping[str, float]] = NOT_GIVEN,
        endpointing: NotGivenOr[Endpointing] = NOT_GIVEN,
    ) -> None:
        """Go on otherwise from the next utterance on, as in the constructor."""
        if phrases is not NOT_GIVEN:
            self._phrases = phrases
            self._update_streams(phrases=self._all_phrases(), replace_phrases=True)
        if endpointing is not NOT_GIVEN:
            self._endpointing = endpointing
            self._update_streams(endpointing=endpointing)

    def _update_session_keyterms(self, keyterms: list[str]) -> None:
        self._keyterms = tuple(keyterms)
        self._update_streams(phrases=self._all_phrases(), replace_phrases=True)

    def _all_phrases(self) -> dict[str, float]:
        own = self._phrases if isinstance(self._phrases, Mapping) else dict.fromkeys(self._phrases, _BOOST)
        return dict.fromkeys(self._keyterms, _BOOST) | dict(own)

    def _update_streams(self, **changes: Any) -> None:
        for stream in self._streams:
            stream.update(**changes)

    def _push_conversation_item(self, ev: Any) -> None:
        role, text = getattr(ev.item, "role", None), getattr(ev.item, "text_content", None) or ""
        if role == "user":
            self._dialogue.heard(text)
        elif role == "assistant":
            self._dialogue.spoken(text, interrupted=ev.item.interrupted)

    async def _recognize_impl(
        self, buffer: AudioBuffer, *, language: NotGivenOr[str] = NOT_GIVEN, conn_options: APIConnectOptions
    ) -> stt.SpeechEvent:
        frame = rtc.combine_audio_frames(buffer)
        try:
            recognition = await self._client.recognize(
                Audio(_mono(frame), frame.sample_rate),
                dialogue=self._dialogue.id,
                max_alternatives=self._max_alternatives,
                word_times=True,
                phrases=self._all_phrases(),
                automatic_punctuation=self._written_form,
                timeout_s=conn_options.timeout,
            )
        except CarryoverError as error:
            raise _api_error(error) from error
        data = [_speech_data(result, 0.0) for result in recognition.results]
        return stt.SpeechEvent(stt.SpeechEventType.FINAL_TRANSCRIPT, uuid.uuid4().hex, [_joined(data)])

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> SpeechStream:
        """Recognise audio while it comes in; the language is English."""
        self._dialogue.begin()
        made = SpeechStream(self, conn_options)
        self._streams.add(made)
        return made

    async def aclose(self) -> None:
        """Wait until everything is recorded, and close the connection."""
        for stream in list(self._streams):
            await stream.aclose()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._dialogue.recorded(), _LAST_RECORD_S)
        await self._dialogue.close()
        await self._client.close()


class SpeechStream(stt.RecognizeStream):
    """A stream of speech; the framework makes it, and opens it anew when it breaks."""

    def __init__(self, owner: STT, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=owner, conn_options=conn_options, sample_rate=_RATE)
        self._owner = owner
        self._updates: list[dict[str, Any]] = []
        self._open: aio.Stream[Any] | None = None
        self._updating: set[asyncio.Task[None]] = set()
        self._speaking = False
        self._unanswered = Unanswered(_RATE)
        self._begin_s: float | None = None  # of this stream, in the framework's audio
        self._offset_s = 0.0  # of the server's stream, likewise
        self._taken_s = self._used_s = 0.0

    def update(self, **changes: Any) -> None:
        """Go on otherwise from the next utterance on; arguments as of `carryover.aio.Stream.update`."""
        if self._open is not None:
            task = asyncio.get_running_loop().create_task(_quietly(self._open.update(**changes)))
            self._updating.add(task)
            task.add_done_callback(self._updating.discard)

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        """Take audio of any rate; of several channels, which the framework's resampler would mix up, the first."""
        if frame.num_channels > 1:
            frame = rtc.AudioFrame(_mono(frame), frame.sample_rate, 1, frame.samples_per_channel)
        super().push_frame(frame)

    async def _run(self) -> None:
        if self._begin_s is None:
            self._begin_s = self.start_time_offset
        unanswered = self._taken_s > self._used_s
        if not unanswered and not await self._take_first_frame():  # a stream without any audio would not stay open
            return
        owner = self._owner
        accepted = False
        stream = owner._client.stream(
            dialogue=owner._dialogue.id,
            rate=_RATE,
            max_alternatives=owner._max_alternatives,
            word_times=True,
            phrases=owner._all_phrases(),
            endpointing=owner._endpointing,
            automatic_punctuation=owner._written_form,
            voice_activity_events=True,
        )
        try:
            async with stream:
                self._open = stream  # updates wait in it until it is accepted
                async with asyncio.timeout(_WITHIN * self._conn_options.timeout):
                    await stream.send(b"")
                accepted = True
                self.start_time = time.time()
                await self._converse(stream)
        except CarryoverError as error:
            raise _api_error(error, accepted=accepted) from error
        except TimeoutError:
            raise APITimeoutError("the server did not accept the stream in time") from None
        finally:
            self._open = None
            self._end_speech(None)

    async def _take_first_frame(self) -> bool:
        async for data in self._input_ch:
            if isinstance(data, rtc.AudioFrame):
                self._taken(data)
                return True
        return False

    def _taken(self, frame: rtc.AudioFrame) -> bytes:
        """A frame's samples, which are sent again should the stream break."""
        samples = _mono(frame)
        self._taken_s += frame.duration
        self._unanswered.sent(samples)
        return samples

    async def _converse(self, stream: aio.Stream[Any]) -> None:
        waiting, seconds = self._unanswered.again()
        self._offset_s = (self._begin_s or 0.0) + self._taken_s - seconds
        for samples in waiting:
            self._unanswered.sent(samples)
        sending = asyncio.get_running_loop().create_task(_quietly(self._send(stream, waiting)))
        try:
            async for result in stream:
                self._take(result)
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _send(self, stream: aio.Stream[Any], waiting: list[bytes]) -> None:
        for samples in waiting:
            await stream.send(samples)
        async for data in self._input_ch:
            if isinstance(data, rtc.AudioFrame):
                await stream.send(self._taken(data))
            else:
                await stream.finalize()
        await stream.end()

    def _take(self, result: Any) -> None:
        if isinstance(result, SpeechBegin):
            self._begin_speech(result.time_s)
        elif isinstance(result, SpeechEnd):
            pass  # the utterance's end counts
        elif isinstance(result, Final):
            self._take_final(result)
        elif result.transcript:
            self._begin_speech(result.start_s)
            kind = stt.SpeechEventType.INTERIM_TRANSCRIPT
            self._emit(stt.SpeechEventType.PREFLIGHT_TRANSCRIPT if isinstance(result, LikelyFinal) else kind, result)

    def _take_final(self, result: Final) -> None:
        self._unanswered.answered(result.end_s)
        if result.transcript:
            self._begin_speech(result.start_s)
        if result.transcript or result.finalized:  # an empty one answers a flush
            self._emit(stt.SpeechEventType.FINAL_TRANSCRIPT, result)
        self._end_speech(result)
        usage = stt.RecognitionUsage(audio_duration=self._taken_s - self._used_s)
        self._used_s = self._taken_s
        self._event_ch.send_nowait(stt.SpeechEvent(type=stt.SpeechEventType.RECOGNITION_USAGE, recognition_usage=usage))

    def _emit(self, kind: stt.SpeechEventType, result: Partial) -> None:
        data = _speech_data(result, self._offset_s)
        self._event_ch.send_nowait(stt.SpeechEvent(type=kind, alternatives=[data]))

    def _begin_speech(self, time_s: float) -> None:
        if not self._speaking:
            self._speaking = True
            self._event_ch.send_nowait(
                stt.SpeechEvent(type=stt.SpeechEventType.START_OF_SPEECH, speech_start_time=self.start_time + time_s)
            )

    def _end_speech(self, result: Final | None) -> None:
        if self._speaking and not self._event_ch.closed:
            self._speaking = False
            words = result.words if result is not None else ()
            self._event_ch.send_nowait(
                stt.SpeechEvent(
                    type=stt.SpeechEventType.END_OF_SPEECH,
                    speech_end_time=self.start_time + words[-1].end_s if words else None,
                )
            )


def _speech_data(result: Partial, offset_s: float) -> stt.SpeechData:
    """A transcript as the framework has it. offset_s: where the stream begins in the framework's audio."""
    best, words = result.alternatives[0], result.words
    return stt.SpeechData(
        language=_LANGUAGE,
        text=result.transcript,
        start_time=offset_s + (words[0].start_s if words else result.start_s),
        end_time=offset_s + (words[-1].end_s if words else result.end_s),
        confidence=best.confidence or result.stability,
        words=[
            TimedString(
                word.word,
                start_time=offset_s + word.start_s,
                end_time=offset_s + word.end_s,
                confidence=word.confidence,
                start_time_offset=offset_s,
            )
            for word in words
        ]
        or None,
        metadata=_metadata(result),
    )


def _metadata(result: Partial) -> dict[str, Any] | None:
    if not isinstance(result, Final):
        return None
    return {
        "context": result.context.summary(),
        "alternatives": [dataclasses.asdict(one) | {"words": None} for one in result.alternatives],
    }


def _joined(data: list[stt.SpeechData]) -> stt.SpeechData:
    """All results of a recording as one."""
    said = [one for one in data if one.text] or data[:1]
    return dataclasses.replace(
        said[0],
        text=" ".join(one.text for one in said),
        end_time=said[-1].end_time,
        confidence=sum(one.confidence for one in said) / len(said),
        words=[word for one in said for word in one.words or ()] or None,
    )


def _value(output: str) -> object:
    """What a tool returned: the framework writes it as Python does, but a text as it is."""
    with suppress(ValueError, RecursionError):
        return json.loads(output)
    if len(output) > _LONGEST_OUTPUT:
        raise ChangeRequestError(f"it has more than {_LONGEST_OUTPUT} characters; call set_entities in the tool")
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return ast.literal_eval(output)
    return output


def _mono(frame: rtc.AudioFrame) -> bytes:
    """The samples of the first channel."""
    samples = memoryview(frame.data).cast("B").cast("h")
    return samples[:: frame.num_channels].tobytes()


def _api_error(error: CarryoverError, *, accepted: bool = False) -> APIError:
    """The framework's error. accepted: the server had begun, so that another try may succeed."""
    status = {CheckKeyError: 401, NotFoundError: 404, ChangeRequestError: 400, ServerError: 500}.get(type(error))
    if isinstance(error, DeadlineError):
        return APITimeoutError(str(error))
    if status is None or accepted:
        return APIConnectionError(str(error))
    return APIStatusError(str(error), status_code=status, request_id=error.request_id)


async def _quietly(work: Any) -> None:
    """Do something of which the results will raise what broke it."""
    with suppress(CarryoverError):
        await work
