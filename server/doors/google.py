"""What both versions of Google Cloud Speech's `Speech` have in common: how streams and recordings go, and results."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from google.protobuf.duration_pb2 import Duration

from carryover.v1 import recognizer_pb2 as pb
from server import logs
from server.access import Caller
from server.codec.bounds import plain_bounds, recording_bounds, recording_memory, stream_bounds
from server.codec.recognition import TIMEOUT_S
from server.doors.routes import Route, descriptor
from server.doors.streams import ClientStream, Part
from server.doors.terms import LANGUAGE, in_terms
from server.errors import AbandonedError, IdleError, InvalidRequestError, LimitError, TooLongError, UnsupportedError
from server.methods import Load, Method
from server.recognizer_service import RecognizerService
from server.settings import Limits

CERTAIN = 0.99
"""The most that a partial result's stability is: 1 says that the utterance has probably ended."""


@dataclass(frozen=True)
class Options:
    """What a request says of its results."""

    word_times: bool = False
    word_confidence: bool = False
    language: str = LANGUAGE
    dialogue: bool = False
    """A dialogue is named."""
    single_utterance: bool = False
    activity_events: bool = False
    start_timeout: bool = False
    """The stream ends where nobody begins to speak."""
    end_timeout_s: float = 0.0
    """Seconds without speech after an utterance after which the stream ends; 0: it does not."""


@dataclass
class Recording:
    """A request with a recording."""

    request: pb.RecognizeRequest | None
    options: Options


class GoogleDoor(ABC):
    """One version's methods over the service of `carryover.v1`."""

    SERVICE: ClassVar[str]
    NAME: ClassVar[str]
    """Of the version, before the methods' names in logs."""
    MESSAGES: ClassVar[Any]
    """The module of its messages."""
    WORD_TIMES: ClassVar[tuple[str, str]]
    RESULT_END: ClassVar[str]
    RECOGNIZE_TERMS: ClassVar[Mapping[str, str]]
    """Its names of fields, by those of `carryover.v1`."""
    STREAM_TERMS: ClassVar[Mapping[str, str]]
    LISTS: ClassVar[tuple[str, ...]]
    """Fields of a configuration that hold phrases, or lists of them."""
    UNSUPPORTED: ClassVar[Mapping[str, tuple[str, ...]]]
    """Methods that do not exist here, by service."""
    INSTEAD: ClassVar[str]
    """What to use instead of them."""

    def __init__(self, recognizer: RecognizerService, limits: Limits) -> None:
        self._recognizer = recognizer
        self._limits = limits

    @abstractmethod
    def recording(self, request: Any) -> Recording:
        """What a request asks for. Raises InvalidRequestError, LimitError."""

    @abstractmethod
    def part(self, request: Any) -> Part:
        """What a message of a stream says. Raises InvalidRequestError, LimitError."""

    @abstractmethod
    def response(self, results: list[Any], seconds: float, adaptation: str) -> Any:
        """The response to a recording.

        Args:
            seconds: of audio.
            adaptation: why a context was not applied; "": it was, or there is none.
        """

    @abstractmethod
    def streamed(self, results: list[Any], adaptation: str) -> Any:
        """A response of a stream with results."""

    @abstractmethod
    def event(self, kind: str, time_s: float | None) -> Any:
        """A response of a stream with an event; None: the version has no such one."""

    @abstractmethod
    def closing(self, seconds: float) -> Any:
        """The last response of a stream, with the seconds of its audio."""

    def routes(self) -> list[Route]:
        """All methods."""
        messages, limits = self.MESSAGES, self._limits
        recognize = Method(
            path=f"/{self.SERVICE}/Recognize",
            name=f"{self.NAME}.Recognize",
            request=descriptor(messages.RecognizeRequest),
            bounds=recording_bounds(limits, (f"config.{name}" for name in self.LISTS)),
            load=Load.RECORDING,
            memory_bytes=recording_memory(limits, translated=True),
            translate=self.recording,
        )
        stream = Method(
            path=f"/{self.SERVICE}/StreamingRecognize",
            name=f"{self.NAME}.StreamingRecognize",
            request=descriptor(messages.StreamingRecognizeRequest),
            bounds=stream_bounds(limits, (f"streaming_config.config.{name}" for name in self.LISTS)),
            load=Load.STREAM,
            translate=self.part,
        )
        unsupported = [
            Method(
                path=f"/{service}/{name}",
                name=f"{self.NAME}.{name}",
                request=descriptor(messages.Unsupported),
                bounds=plain_bounds(limits),
                load=Load.CALL,
            )
            for service, names in self.UNSUPPORTED.items()
            for name in names
        ]
        refusing = [Route(method, self.refuse) for method in unsupported]
        return [Route(recognize, self.recognize), Route(stream, self.stream), *refusing]

    async def refuse(self, request: Any, caller: Caller) -> Any:
        """A method that does not exist here. Raises UnsupportedError."""
        raise UnsupportedError(f"this server has no such method; {self.INSTEAD}")

    async def recognize(self, recording: Recording, caller: Caller) -> Any:
        """One utterance."""
        options, held = recording.options, [recording.request]
        recording.request = None  # the recording goes, when the service lets go of it
        with in_terms(self.RECOGNIZE_TERMS):
            response = await self._recognizer.Recognize(held.pop(), caller)  # type: ignore[arg-type]
        results = [self._result(one, options) for one in response.results if one.alternatives[0].transcript]
        return self.response(results, max(one.end for one in response.results), _adaptation(response.results, options))

    async def stream(self, parts: AsyncIterator[Part], caller: Caller) -> AsyncIterator[Any]:
        """Audio as it is spoken, results as they come."""
        client, seconds = ClientStream(parts), 0.0
        with in_terms(self.STREAM_TERMS), _googles_statuses():
            async with aclosing(self._recognizer.StreamingRecognize(client.messages(), caller)) as responses:  # type: ignore[type-var]
                async for response in responses:
                    options = client.options or Options()
                    if response.HasField("speech_event") and options.activity_events:
                        event = response.speech_event
                        yield self.event(_ACTIVITY[event.type], event.time)
                    for result in response.results:
                        seconds = max(seconds, result.end)
                        for answer in self._answers(result, client, options):
                            yield answer
                        if _is_timeout(result, client, options):
                            yield self.closing(seconds)
                            return
        yield self.closing(seconds)

    def _answers(self, result: pb.StreamingRecognitionResult, client: ClientStream, options: Options) -> Iterator[Any]:
        """Google has no final result where nothing was said."""
        if _is_timeout(result, client, options):
            event = self.event("SPEECH_ACTIVITY_TIMEOUT", result.end)
            if event is not None:
                yield event
            return
        if result.is_final and not result.alternatives[0].transcript:
            return
        if result.is_final and options.single_utterance and not client.ended:
            event = self.event("END_OF_SINGLE_UTTERANCE", None)
            if event is not None:
                yield event
        if result.is_final and (options.start_timeout or options.end_timeout_s):
            client.update = pb.StreamUpdate(
                endpointing=pb.Endpointing(
                    likely_silence_s=_set(client.config.endpointing, "likely_silence_s"),
                    trailing_silence_s=_set(client.config.endpointing, "trailing_silence_s"),
                    start_timeout_s=options.end_timeout_s or None,
                )
            )
        yield self.streamed([self._streamed_result(result, options)], _adaptation([result], options))

    def _streamed_result(self, result: pb.StreamingRecognitionResult, options: Options) -> Any:
        stability = 0.0 if result.is_final else 1.0 if result.likely_final else min(result.stability, CERTAIN)
        return self.MESSAGES.StreamingRecognitionResult(
            alternatives=self._alternatives(result, options),
            is_final=result.is_final,
            stability=stability,
            language_code=options.language,
            **{self.RESULT_END: duration(result.end)},
        )

    def _result(self, result: pb.StreamingRecognitionResult, options: Options) -> Any:
        return self.MESSAGES.SpeechRecognitionResult(
            alternatives=self._alternatives(result, options),
            language_code=options.language,
            **{self.RESULT_END: duration(result.end)},
        )

    def _alternatives(self, result: pb.StreamingRecognitionResult, options: Options) -> list[Any]:
        return [
            self.MESSAGES.SpeechRecognitionAlternative(
                transcript=alternative.transcript,
                confidence=alternative.confidence,
                words=[self._word(word, options) for word in alternative.words],
            )
            for alternative in result.alternatives
        ]

    def _word(self, word: pb.WordInfo, options: Options) -> Any:
        start, end = self.WORD_TIMES
        times = {start: duration(word.start), end: duration(word.end)} if options.word_times else {}
        confidence = word.confidence if options.word_confidence else 0.0
        return self.MESSAGES.WordInfo(word=word.word, confidence=confidence, **times)


def request_number() -> int:
    """An id of the call as a number, which its line in the log has too."""
    number = secrets.randbits(62)
    logs.note(google_request_id=number)
    return number


def duration(seconds: float) -> Duration:
    """A time in audio, to the millisecond."""
    made = Duration()
    made.FromMilliseconds(round(seconds * 1000))
    return made


def timeout_s(field: str, message: Duration) -> float:
    """Seconds to wait for speech. Raises InvalidRequestError."""
    seconds = float(message.seconds) + message.nanos / 1e9
    least, most = TIMEOUT_S
    if not least <= seconds <= most:
        raise InvalidRequestError(field, f"send {least:g} to {most:g} seconds, or leave it unset")
    return seconds


_ACTIVITY = {pb.SpeechEvent.BEGIN: "SPEECH_ACTIVITY_BEGIN", pb.SpeechEvent.END: "SPEECH_ACTIVITY_END"}


@contextmanager
def _googles_statuses() -> Iterator[None]:
    """Around a stream: it ends as Google's streams do, which clients know."""
    try:
        yield
    except IdleError as error:
        raise AbandonedError(str(error)) from None
    except LimitError as error:
        if error.limit != "stream_seconds":
            raise
        raise TooLongError(str(error)) from None


def _is_timeout(result: pb.StreamingRecognitionResult, client: ClientStream, options: Options) -> bool:
    """Nobody spoke for as long as the client wanted to wait."""
    silent = result.is_final and not result.alternatives[0].transcript
    return silent and not client.ended and (options.start_timeout or options.end_timeout_s > 0)


def _adaptation(results: Iterable[pb.StreamingRecognitionResult], options: Options) -> str:
    """Why the context of a dialogue that is named was not applied; "": it was, or there is no final result."""
    if not options.dialogue:
        return ""
    infos = [result.context for result in results if result.is_final]
    missed = [info for info in infos if info.status != pb.ContextInfo.APPLIED]
    status = [pb.ContextInfo.Status.Name(info.status) + (f": {info.reason}" if info.reason else "") for info in missed]
    return f"context {status[0]}" if status else ""


def _set(message: Any, name: str) -> float | None:
    return getattr(message, name) if message.HasField(name) else None
