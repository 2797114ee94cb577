"""carryover.v1.Recognizer: from a client's messages to streams of the recogniser, and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import numpy as np

from asr.audio import decode_pcm, read_container
from asr.context.phrases import supported_words
from asr.decoding import BoostedPhrase
from asr.errors import AudioLengthError
from asr.recognition.endpointing import EndpointRule
from asr.recognition.results import Pass, Result
from carryover.v1 import recognizer_pb2 as pb
from server import logs, memory, results, tracing
from server.access import Caller
from server.context_use import ContextSource, ContextUse, Used
from server.engine import Engine, RunningStream, Samples
from server.errors import IdleError, InvalidRequestError, LimitError
from server.metrics import Metrics
from server.requests import Phrases, TurnRequest, check_phrases, check_streaming, check_utterance
from server.settings import Limits

PIECE_S = 1.0
"""Seconds of a whole utterance that are recognised at a time, so that other streams come in between."""

_FEW_PHRASES = 12
"""So many are compiled in some milliseconds, whatever their spoken forms, and wait behind nobody's thousands."""

_LEAVING_S = 0.5
"""gRPC may tell that a client has left first as the end of its messages, and then, even on a busy machine not so long
after that, by cancelling the call."""


class RecognizerService:
    """The service over one engine. nbest: hypotheses that rescoring sees, however few the client asks for. endpoint:
    when a stream's utterances end."""

    def __init__(
        self,
        engine: Engine,
        contexts: ContextSource,
        limits: Limits,
        nbest: int,
        endpoint: EndpointRule,
        metrics: Metrics,
    ) -> None:
        self._engine = engine
        self._contexts = contexts
        self._limits = limits
        self._nbest = nbest
        self._endpoint = endpoint
        self._metrics = metrics

    async def Recognize(self, request: pb.RecognizeRequest, caller: Caller) -> pb.RecognizeResponse:  # noqa: N802
        """One utterance."""
        turn_request = check_utterance(request.config, self._nbest, caller.tenant)
        phrases = await self._phrases(request.config.speech_contexts, caller)
        samples, rate = await self._samples(request, turn_request, caller)
        del request  # the recording goes
        memory.keep(samples.nbytes)
        options = replace(turn_request.options, sample_rate_hertz=rate, graph=phrases.graph)
        turn = self._turn(turn_request, phrases, self._engine.start(options))
        found: list[pb.StreamingRecognitionResult] = []
        turn.arrived()
        step = int(rate * PIECE_S)
        for start in range(0, len(samples), step):
            found += await turn.results(await turn.accept(samples[start : start + step]))
        found += await turn.results(await turn.finish())
        self._heard(len(samples) / rate, caller)
        return pb.RecognizeResponse(results=found, speech_context_report=phrases.report)

    async def StreamingRecognize(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.StreamingRecognizeRequest], caller: Caller
    ) -> AsyncIterator[pb.StreamingRecognizeResponse]:
        """Audio as it is spoken, results as they are found."""
        messages = _Messages(request_iterator, self._limits)
        config = await messages.config()
        turn_request = check_streaming(config, self._nbest, caller.tenant)
        phrases = await self._phrases(config.speech_contexts, caller)
        options = replace(turn_request.options, graph=phrases.graph, endpoint=self._endpoint)
        turn = self._turn(turn_request, phrases, self._engine.start(options))
        if phrases.report is not None:
            yield pb.StreamingRecognizeResponse(speech_context_report=phrases.report)
        try:
            async for found in self._recognise(messages, turn, turn_request):
                for result in await turn.results(found):
                    yield pb.StreamingRecognizeResponse(results=[result])
        finally:  # of streams that are left half-way too
            self._heard(messages.seconds, caller)
        if messages.problem:  # only now: what was said until then is not lost
            raise messages.problem

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, caller: Caller
    ) -> pb.GetServerInfoResponse:
        """Version, models and limits."""
        limits = {name: value for name, value in self._limits.model_dump().items() if value is not None}
        window = self._contexts.window
        return pb.GetServerInfoResponse(
            version=version("carryover-asr"),
            model_version=self._engine.recognizer.version,
            context_model_version=window.model_version if window else "",
            limits=limits | {"tenant_streams": self._limits.tenant_streams or self._limits.streams},
        )

    async def _samples(
        self, recording: pb.RecognizeRequest, request: TurnRequest, caller: Caller
    ) -> tuple[Samples, int]:
        """An utterance's samples and their rate. Raises AudioError, InvalidRequestError, LimitError."""
        longest_s = self._limits.stream_seconds
        try:
            samples, rate = await self._engine.run_beside(caller.tenant, _decode, recording, request, longest_s)
        except AudioLengthError:
            raise _too_long(self._limits) from None
        if request.options.sample_rate_hertz not in (0, rate):
            advice = f"the file's header says {rate}; set that, or leave it unset for files"
            raise InvalidRequestError("config.sample_rate_hertz", advice)
        if len(samples) / rate > self._limits.stream_seconds:
            raise _too_long(self._limits)
        return samples, rate

    async def _recognise(self, messages: _Messages, turn: _Turn, request: TurnRequest) -> AsyncIterator[list[Result]]:
        async for samples in messages.audio(request):
            turn.arrived()
            yield await turn.accept(samples)
            if turn.stream.done:
                return
        if not messages.seconds:
            advice = "the stream ended without any; send audio after the configuration"
            raise messages.problem or InvalidRequestError("audio", advice)
        turn.arrived()
        yield await turn.finish()

    async def _phrases(self, contexts: Sequence[pb.SpeechContext], caller: Caller) -> Phrases:
        if not contexts:
            return Phrases((), None, None)
        arguments = (contexts, self._limits, self._engine.recognizer)
        if sum(len(context.phrases) for context in contexts) <= _FEW_PHRASES:
            return await self._engine.run(check_phrases, *arguments)
        return await self._engine.run_beside(caller.tenant, check_phrases, *arguments)

    def _turn(self, request: TurnRequest, phrases: Phrases, stream: RunningStream) -> _Turn:
        context = self._contexts.open(request.dialogue, request.turn)
        return _Turn(request, phrases, context, stream, self._metrics)

    def _heard(self, seconds: float, caller: Caller) -> None:
        self._metrics.audio_seconds.inc(seconds)
        self._metrics.tenant_audio_seconds.labels(self._metrics.tenant(caller.tenant)).inc(seconds)
        logs.note(audio_s=round(seconds, 2))


class _Messages:
    """A client's messages, checked. seconds: audio so far. problem: why the audio ended before the client said so."""

    def __init__(self, messages: AsyncIterator[pb.StreamingRecognizeRequest], limits: Limits) -> None:
        self._messages = messages
        self._limits = limits
        self._patience_s = limits.stream_seconds + limits.idle_seconds  # left of waiting for messages, of all together
        self.seconds = 0.0
        self.problem: LimitError | IdleError | None = None

    async def config(self) -> pb.StreamingConfig:
        """The first message's configuration."""
        message = await self._next()
        if message is None:
            raise InvalidRequestError("config", "the stream is empty; send the configuration first, then audio")
        if message.WhichOneof("request") != "config":
            raise InvalidRequestError("config", "send the configuration in the first message, before any audio")
        return message.config

    async def audio(self, request: TurnRequest) -> AsyncIterator[Samples]:
        """Samples of the messages that follow, until the client is done, sends nothing more, or sent too much."""
        while (message := await self._next_if_any()) is not None:
            if message.WhichOneof("request") != "audio":
                advice = "was sent twice; send it once" if message.HasField("config") else "send audio in every message"
                raise InvalidRequestError("config" if message.HasField("config") else "audio", advice)
            if len(message.audio) > self._limits.audio_bytes:
                raise LimitError("audio_bytes", f"audio: {len(message.audio)} bytes in a message; send smaller pieces")
            samples = decode_pcm(message.audio, request.encoding)
            rate = request.options.sample_rate_hertz
            room = max(0, int(self._limits.stream_seconds * rate - self.seconds * rate))
            self.seconds += len(samples) / rate
            if room:
                yield samples[:room]
            if len(samples) > room:
                self.problem = _too_long(self._limits)
                return

    async def _next_if_any(self) -> pb.StreamingRecognizeRequest | None:
        """The next message; None at the end, also where the client leaves it open and sends nothing."""
        try:
            return await self._next()
        except IdleError as error:
            self.problem = error
            return None

    async def _next(self) -> pb.StreamingRecognizeRequest | None:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(min(self._limits.idle_seconds, self._patience_s)):
                message = await anext(self._messages, None)
        except TimeoutError:
            raise self._idle() from None
        finally:
            self._patience_s -= time.monotonic() - began_s
        if message is None and not self.seconds:  # a mistake of the client, unless it has left
            await asyncio.sleep(_LEAVING_S)
        return message

    def _idle(self) -> IdleError:
        idle, longest = self._limits.idle_seconds, self._limits.stream_seconds
        if self._patience_s < idle:
            advice = f"the stream's audio came too slowly for {longest + idle:g} s; open one stream an utterance"
            return IdleError(f"{advice} (the server's settings are limits.stream_seconds and limits.idle_seconds)")
        advice = f"no message for {idle:g} s; send audio as it comes and half-close the stream at its end"
        return IdleError(f"{advice} (the server's setting is limits.idle_seconds)")


class _Turn:
    """One turn's stream with its dialogue's context: for the search when an utterance ends, then for rescoring."""

    def __init__(
        self, request: TurnRequest, phrases: Phrases, context: ContextUse, stream: RunningStream, metrics: Metrics
    ) -> None:
        self.stream = stream
        self._request = request
        self._phrases = phrases
        self._context = context
        self._metrics = metrics
        self._first_s: float | None = None
        self._last_s = 0.0
        self._heard_words = False

    def arrived(self) -> None:
        """A message of the client, or the end of its stream, is there."""
        self._last_s = time.monotonic()
        self._first_s = self._first_s or self._last_s

    async def accept(self, samples: Samples) -> list[Result]:
        """The results that samples bring; an utterance that ends with them is searched with the context's phrases too,
        unless audio is late already."""
        skipped = self._set_context()
        return _with_skipped(await self.stream.accept(samples), skipped)

    async def finish(self) -> list[Result]:
        """The results that are left when the audio has ended."""
        skipped = self._set_context()
        return _with_skipped(await self.stream.finish(), skipped)

    def _set_context(self) -> tuple[Pass, ...]:
        """Has the context's phrases, where they are there, take part in the search; the pass that is to be left out."""
        graph = self._context.graph()
        skip = graph is not None and self.stream.engine.strained
        self.stream.set_context(None if skip else graph)
        return (Pass.CONTEXT_PHRASES,) if skip else ()

    async def results(self, found: list[Result]) -> list[pb.StreamingRecognitionResult]:
        """The recogniser's results as messages."""
        return [await self._result(result) for result in found]

    async def _result(self, result: Result) -> pb.StreamingRecognitionResult:
        if result.nbest[0].text and not result.is_final and not self._heard_words and self._first_s is not None:
            self._heard_words = True
            self._metrics.first_partial_seconds.observe(time.monotonic() - self._first_s)
        likely = result.likely_final and not self.stream.engine.strained
        if not result.is_final and not likely:
            return results.partial(result)
        used = await self._in_context(result)
        if result.is_final:
            status = pb.ContextInfo.Status.Name(used.status)
            self._metrics.context.labels(status, used.cause).inc()
            self._metrics.context_changes.inc(used.changed)
            self._metrics.final_seconds.observe(time.monotonic() - self._last_s)
            logs.note(context=status, changed=used.changed)
        spoken = self._phrases.graph.spoken if self._phrases.graph else {}
        words = supported_words(used.nbest[0].text, spoken)
        plain, most = result.nbest[0].text, self._request.max_alternatives
        if self._request.written:
            used, plain = await self._written(result, used, spoken)
        return results.final(result, used, plain, words, most, self._request.words)

    async def _written(self, result: Result, used: Used, spoken: Mapping[str, BoostedPhrase]) -> tuple[Used, str]:
        """What context did, and the plain transcript, in written form; as they are where that does not work."""
        most = self._request.max_alternatives
        try:
            return await self.stream.engine.run(results.in_written_form, result, used, spoken, most)
        except Exception as error:
            logs.failure("written_form_failed", error)
            return used, result.nbest[0].text

    async def _in_context(self, result: Result) -> Used:
        recognizer, graph = self.stream.engine.recognizer, self._phrases.graph
        force_score = partial(recognizer.force_score, result.encoded, graph=graph) if result.encoded else None
        with tracing.span("final" if result.is_final else "likely_final"):
            used = await self._context.apply(result.nbest, result.biased, force_score)
            tracing.note(context=pb.ContextInfo.Status.Name(used.status), changed=used.changed)
        return used


def _with_skipped(results: list[Result], skipped: tuple[Pass, ...]) -> list[Result]:
    """Results with more passes that were left out; interim ones have none."""
    return [replace(r, skipped=(*r.skipped, *skipped)) if r.passes else r for r in results]


def _too_long(limits: Limits) -> LimitError:
    advice = f"the audio is longer than {limits.stream_seconds:g} s; send it in several streams"
    return LimitError("stream_seconds", advice)


def _decode(recording: pb.RecognizeRequest, request: TurnRequest, max_s: float) -> tuple[Samples, int]:
    """Samples and their rate. Raises AudioError, and AudioLengthError where a file is longer than `max_s`."""
    audio = recording.audio  # a copy
    if not audio:
        raise InvalidRequestError("audio", "is empty; send a file or samples")
    if request.encoding == "FILE":
        samples, rate = read_container(audio, max_s)
        return np.asarray(samples, np.float32), rate
    return decode_pcm(audio, request.encoding), request.options.sample_rate_hertz
