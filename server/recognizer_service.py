"""carryover.v1.Recognizer: one coroutine a stream, from a client's messages to results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import numpy as np

from asr.audio import Samples, decode_pcm, read_container
from asr.context.bundle import ContextBundle
from asr.context.phrases import supported_words
from asr.context.spelling import phrase_spelling
from asr.errors import AudioLengthError
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import StreamOptions
from asr.recognition.results import Pass, Result
from asr.recognition.written_form import written_hypothesis, written_nbest
from carryover.v1 import recognizer_pb2 as pb
from server import logs, memory, tracing
from server.access import Caller
from server.codec.recognition import (
    Phrases,
    TurnRequest,
    check_phrases,
    check_streaming,
    check_utterance,
    final_message,
    partial_message,
)
from server.contexts.handle import ContextHandle, Status
from server.contexts.manager import ContextManager
from server.contexts.rescoring import ContextOutcome, ContextRescoring
from server.errors import IdleError, InvalidRequestError, LimitError
from server.metrics import Metrics
from server.scheduler import ScheduledStream, Scheduler, Work
from server.settings import Limits

PIECE_S = 1.0
"""Seconds of a whole utterance that are recognised at a time, so that other streams come in between."""

_FEW_PHRASES = 12
"""So many are compiled in some milliseconds, whatever their spoken forms, and wait behind nobody's thousands."""

LEAVING_S = 0.5
"""gRPC may tell that a client has left first as the end of its messages, and then, even on a busy machine not so long
after that, by cancelling the call."""


class RecognizerService:
    """The service over one recogniser.

    Args:
        rescoring: of results with their contexts.
        nbest: hypotheses that rescoring sees, however few the client asks for.
        endpoint: when a stream's utterances end.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        contexts: ContextManager,
        rescoring: ContextRescoring,
        limits: Limits,
        nbest: int,
        endpoint: EndpointRule,
        metrics: Metrics,
    ) -> None:
        self._scheduler = scheduler
        self._contexts = contexts
        self._rescoring = rescoring
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
        results: list[pb.StreamingRecognitionResult] = []
        with self._turn(turn_request, phrases, options) as turn:
            turn.arrived()
            step = int(rate * PIECE_S)
            for start in range(0, len(samples), step):
                results += await turn.messages(await turn.accept(samples[start : start + step]))
            results += await turn.messages(await turn.finish())
        self._count_audio(len(samples) / rate, caller)
        return pb.RecognizeResponse(results=results, speech_context_report=phrases.report)

    async def StreamingRecognize(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.StreamingRecognizeRequest], caller: Caller
    ) -> AsyncIterator[pb.StreamingRecognizeResponse]:
        """Audio as it is spoken, results as they come."""
        messages = _Messages(request_iterator, self._limits)
        config = await messages.config()
        turn_request = check_streaming(config, self._nbest, caller.tenant)
        phrases = await self._phrases(config.speech_contexts, caller)
        options = replace(turn_request.options, graph=phrases.graph, endpoint=self._endpoint)
        with self._turn(turn_request, phrases, options) as turn:
            if phrases.report is not None:
                yield pb.StreamingRecognizeResponse(speech_context_report=phrases.report)
            try:
                async for results in self._recognise(messages, turn, turn_request):
                    for result in await turn.messages(results):
                        yield pb.StreamingRecognizeResponse(results=[result])
            finally:  # of streams that are left half-way too
                self._count_audio(messages.seconds, caller)
        if messages.problem:  # only now: what was said until then is not lost
            raise messages.problem

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, caller: Caller
    ) -> pb.GetServerInfoResponse:
        """Version, models and limits."""
        limits = {name: value for name, value in self._limits.model_dump().items() if value is not None}
        return pb.GetServerInfoResponse(
            version=version("carryover-asr"),
            model_version=self._scheduler.recognizer.version,
            context_model_version=self._contexts.model_version if self._contexts.enabled else "",
            limits=limits | {"tenant_streams": self._limits.tenant_streams or self._limits.streams},
        )

    async def _samples(
        self, recording: pb.RecognizeRequest, request: TurnRequest, caller: Caller
    ) -> tuple[Samples, int]:
        """An utterance's samples and their rate. Raises AudioError, InvalidRequestError, LimitError."""
        longest_s = self._limits.stream_seconds
        try:
            samples, rate = await self._scheduler.run(
                Work.DECODE, _decode, recording, request, longest_s, tenant=caller.tenant
            )
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
            if turn.done:
                return
        if not messages.seconds:
            advice = "the stream ended without any; send audio after the configuration"
            raise messages.problem or InvalidRequestError("audio", advice)
        turn.arrived()
        yield await turn.finish()

    async def _phrases(self, contexts: Sequence[pb.SpeechContext], caller: Caller) -> Phrases:
        if not contexts:
            return Phrases()
        few = sum(len(context.phrases) for context in contexts) <= _FEW_PHRASES
        arguments = (contexts, self._limits, self._scheduler.recognizer)
        work = Work.RESCORE if few else Work.COMPILE
        return await self._scheduler.run(work, check_phrases, *arguments, tenant=caller.tenant)

    @contextmanager
    def _turn(self, request: TurnRequest, phrases: Phrases, options: StreamOptions) -> Iterator[_Turn]:
        stream = self._scheduler.open(options)
        with self._contexts.attach(request.dialogue, request.turn) as handle:
            yield _Turn(request, phrases, handle, stream, self._scheduler, self._rescoring, self._metrics)

    def _count_audio(self, seconds: float, caller: Caller) -> None:
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
            await asyncio.sleep(LEAVING_S)
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
        self,
        request: TurnRequest,
        phrases: Phrases,
        context: ContextHandle,
        stream: ScheduledStream,
        scheduler: Scheduler,
        rescoring: ContextRescoring,
        metrics: Metrics,
    ) -> None:
        self._request = request
        self._phrases = phrases
        self._context = context
        self._stream = stream
        self._scheduler = scheduler
        self._rescoring = rescoring
        self._metrics = metrics
        self._first_s: float | None = None
        self._last_s = 0.0
        self._had_words = False
        self._asked = False  # for the utterance under way

    @property
    def done(self) -> bool:
        """True when no more audio is recognised."""
        return self._stream.done

    def arrived(self) -> None:
        """A message of the client, or the end of its stream, is there."""
        self._last_s = time.monotonic()
        self._first_s = self._first_s or self._last_s

    async def accept(self, samples: Samples) -> list[Result]:
        """The results that samples bring.

        An utterance that ends with them is searched with the context's phrases too, unless audio is late already.
        """
        skipped = self._set_context()
        results = await self._stream.accept(samples)
        self._ask_again(ended=any(result.is_final for result in results))
        return _with_skipped(results, skipped)

    async def finish(self) -> list[Result]:
        """The results that are left when the audio has ended."""
        skipped = self._set_context()
        return _with_skipped(await self._stream.finish(), skipped)

    def _ask_again(self, *, ended: bool) -> None:
        """Have the store asked once an utterance has speech, and behind one that came and went with one message.

        Args:
            ended: whether an utterance has.
        """
        has_speech = self._stream.has_speech
        if (ended and not self._asked) or (has_speech and (ended or not self._asked)):
            self._context.ask()
        self._asked = has_speech

    def _set_context(self) -> tuple[Pass, ...]:
        """Has the context's phrases, where they are there, take part in the search; the pass that is to be skipped."""
        bundle = self._context.ready()
        graph = bundle.graph if isinstance(bundle, ContextBundle) else None
        skip = graph is not None and self._scheduler.late
        self._stream.set_context(None if skip else graph)
        return (Pass.CONTEXT_PHRASES,) if skip else ()

    async def messages(self, results: list[Result]) -> list[pb.StreamingRecognitionResult]:
        """The recogniser's results, in their context, as messages."""
        return [await self._message(result) for result in results]

    async def _message(self, result: Result) -> pb.StreamingRecognitionResult:
        if result.nbest[0].text and not result.is_final and not self._had_words and self._first_s is not None:
            self._had_words = True
            self._metrics.first_partial_seconds.observe(time.monotonic() - self._first_s)
        if not result.is_final and (not result.likely_final or self._scheduler.late):
            return partial_message(result)
        outcome = await self._in_context(result)
        if result.is_final:
            self._count(outcome)
        spoken = self._phrases.graph.spoken if self._phrases.graph else {}
        words = supported_words(outcome.nbest[0].text, spoken)
        plain = result.nbest[0].text
        if self._request.written:
            outcome, plain = await self._written(result, outcome)
        return final_message(result, outcome, plain, words, self._request)

    def _count(self, outcome: ContextOutcome) -> None:
        if outcome.status is Status.NOT_READY and outcome.context is not None:
            outcome.context.missed = True
        self._metrics.context.labels(outcome.status.name, outcome.cause).inc()
        self._metrics.context_changes.inc(outcome.changed)
        self._metrics.final_seconds.observe(time.monotonic() - self._last_s)
        logs.note(context=outcome.status.name, changed=outcome.changed)

    async def _in_context(self, result: Result) -> ContextOutcome:
        recognizer, graph = self._scheduler.recognizer, self._phrases.graph
        force_score = partial(recognizer.force_score, result.encoded, graph=graph) if result.encoded else None
        with tracing.span("final" if result.is_final else "likely_final"):
            outcome = await self._rescoring.apply(self._context, result.nbest, result.biased, force_score)
            tracing.note(context=outcome.status.name, changed=outcome.changed)
        return outcome

    async def _written(self, result: Result, outcome: ContextOutcome) -> tuple[ContextOutcome, str]:
        """The outcome, and the plain transcript, in written form; as they are where that does not work."""
        arguments = (result, outcome, self._phrases, self._request.max_alternatives)
        try:
            return await self._scheduler.run(Work.RESCORE, in_written_form, *arguments)
        except Exception as error:
            logs.failure("written_form_failed", error)
            return outcome, result.nbest[0].text


def in_written_form(
    result: Result, outcome: ContextOutcome, phrases: Phrases, alternatives: int
) -> tuple[ContextOutcome, str]:
    """What context did to a final result, and the first transcript without it, in written form. CPU bound.

    Args:
        phrases: the request's own.
        alternatives: how many at most; the others are dropped.
    """
    spoken = phrases.graph.spoken if phrases.graph else {}
    attended = result.encoded.attention if result.encoded else None
    index = outcome.bundle.index if outcome.bundle else None
    spelling = phrase_spelling(spoken, index, outcome.biased_words)
    nbest = written_nbest(outcome.nbest, attended, spelling, alternatives)
    plain = written_hypothesis(result.nbest[0], attended, phrase_spelling(spoken))
    return replace(outcome, nbest=nbest), plain.text


def _with_skipped(results: list[Result], skipped: tuple[Pass, ...]) -> list[Result]:
    """Results with more passes that were skipped; partial ones have none."""
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
