"""carryover.v1.Recognizer: one coroutine a stream, from a client's messages to results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any, Self, TypeVar

import numpy as np
from google.protobuf.message import Message

from asr.audio import Samples, decode_pcm, read_container
from asr.context.bundle import ContextBundle
from asr.context.phrases import supported_words
from asr.context.spelling import phrase_spelling
from asr.decoding import PhraseGraph
from asr.errors import AudioLengthError
from asr.recognition.endpointing import EndpointRule
from asr.recognition.results import Pass, Result, SpeechEvent
from asr.recognition.written_form import written_hypothesis, written_nbest
from carryover.v1 import recognizer_pb2 as pb
from server import logs, memory, tracing
from server.access import Caller
from server.codec.recognition import (
    Phrases,
    TurnRequest,
    check_phrases,
    check_streaming,
    check_update,
    check_utterance,
    final_message,
    partial_message,
    speech_event_message,
)
from server.codec.wire import SMALL_BYTES
from server.contexts.handle import ContextHandle, Status
from server.contexts.inline import InlineContexts
from server.contexts.manager import ContextManager
from server.contexts.rescoring import ContextOutcome, ContextRescoring
from server.errors import InvalidRequestError
from server.metrics import Metrics
from server.scheduler import ScheduledStream, Scheduler, Work
from server.settings import Limits
from server.stream_messages import Muted, StreamMessages, too_long

M = TypeVar("M", bound=Message)

PIECE_S = 1.0
"""Seconds of a whole utterance that are recognised at a time, so that other streams come in between."""

_FEW_PHRASES = 12
"""So many are compiled in some milliseconds, whatever their spoken forms, and wait behind nobody's thousands."""


class RecognizerService:
    """The service over one recogniser.

    Args:
        rescoring: of results with their contexts.
        nbest: hypotheses that rescoring sees, however few the client asks for.
        endpoint: when a stream's utterances end, unless it says otherwise.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        contexts: ContextManager,
        inline: InlineContexts,
        rescoring: ContextRescoring,
        limits: Limits,
        nbest: int,
        endpoint: EndpointRule,
        metrics: Metrics,
    ) -> None:
        self._scheduler = scheduler
        self._contexts = contexts
        self._inline = inline
        self._rescoring = rescoring
        self._limits = limits
        self._nbest = nbest
        self._endpoint = endpoint
        self._metrics = metrics

    async def Recognize(self, request: pb.RecognizeRequest, caller: Caller) -> pb.RecognizeResponse:  # noqa: N802
        """One recording."""
        held = [request]
        del request  # the recording goes
        made = pb.RecognizeResponse()
        async for response in self.recording(held.pop(), caller):
            made.results.extend(response.results)
            if response.HasField("speech_context_report"):
                made.speech_context_report.CopyFrom(response.speech_context_report)
        return made

    async def recording(
        self, request: pb.RecognizeRequest, caller: Caller
    ) -> AsyncIterator[pb.StreamingRecognizeResponse]:
        """One recording, its results as they come: those of a stream, all of them final."""
        turn_request = check_utterance(request.config, self._nbest, caller.tenant, self._endpoint, self._limits)
        phrases = await self._phrases(turn_request.speech_contexts, caller)
        samples, rate = await self._samples(request, turn_request, caller)
        del request  # the recording goes
        memory.keep(samples.nbytes)
        if phrases.report is not None:
            yield pb.StreamingRecognizeResponse(speech_context_report=phrases.report)
        turn_request = replace(turn_request, options=replace(turn_request.options, sample_rate_hertz=rate))
        with self._turn(turn_request, phrases, caller) as turn:
            await turn.context_made()  # nobody is speaking: there is time
            turn.arrived()
            step = int(rate * PIECE_S)
            for start in range(0, len(samples), step):
                for response in await turn.responses(await turn.accept(samples[start : start + step])):
                    yield response
            for response in await turn.responses(await turn.finish()):
                yield response
        self._count_audio(len(samples) / rate, caller)

    async def StreamingRecognize(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.StreamingRecognizeRequest], caller: Caller
    ) -> AsyncIterator[pb.StreamingRecognizeResponse]:
        """Audio as it is spoken, results as they come."""
        messages = StreamMessages(request_iterator, self._limits)
        try:
            config = await messages.config()
            turn_request = await self._checked(
                config, check_streaming, self._nbest, caller.tenant, self._endpoint, self._limits
            )
            phrases = await self._phrases(turn_request.speech_contexts, caller)
            with self._turn(turn_request, phrases, caller) as turn:
                if phrases.report is not None:
                    yield pb.StreamingRecognizeResponse(speech_context_report=phrases.report)
                try:
                    async for response in self._recognise(messages, turn, caller):
                        yield response
                finally:  # of streams that are left half-way too
                    self._count_audio(messages.seconds, caller)
        finally:
            await messages.close()
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
        longest_s = self._limits.recording_seconds
        try:
            samples, rate = await self._scheduler.run(
                Work.DECODE, _decode, recording, request, longest_s, tenant=caller.tenant
            )
        except AudioLengthError:
            raise too_long(longest_s, "recording_seconds", "calls") from None
        if request.options.sample_rate_hertz not in (0, rate):
            advice = f"the file's header says {rate}; set that, or leave it unset for files"
            raise InvalidRequestError("config.sample_rate_hertz", advice)
        if len(samples) / rate > longest_s:
            raise too_long(longest_s, "recording_seconds", "calls")
        return samples, rate

    async def _recognise(
        self, messages: StreamMessages, turn: _Turn, caller: Caller
    ) -> AsyncIterator[pb.StreamingRecognizeResponse]:
        """The answers to a stream's messages behind the first."""
        options = turn.request.options
        async for part in messages.parts(turn.request.encoding, options.sample_rate_hertz):
            turn.arrived()
            if isinstance(part, pb.StreamUpdate):
                report = await self._update(part, turn, caller)
                if report is not None:
                    yield pb.StreamingRecognizeResponse(speech_context_report=report)
                continue
            if isinstance(part, pb.Finalize):
                results = await turn.finalize()
            elif isinstance(part, Muted):
                results = await turn.mute()
            else:
                results = await turn.accept(part)
            for response in await turn.responses(results):
                yield response
            if turn.done:
                return
        if not messages.seconds:
            advice = "the stream ended without any; send audio after the configuration"
            raise messages.problem or InvalidRequestError("audio", advice)
        turn.arrived()
        for response in await turn.responses(await turn.finish()):
            yield response

    async def _update(self, update: pb.StreamUpdate, turn: _Turn, caller: Caller) -> pb.SpeechContextReport | None:
        """Have a stream go on otherwise from the next utterance on; returns what there is to say of its phrases."""
        request = await self._checked(update, check_update, turn.request, self._endpoint, self._limits)
        changed = request.speech_contexts != turn.request.speech_contexts
        phrases = await self._phrases(request.speech_contexts, caller) if changed else turn.phrases
        turn.change(request, phrases)
        asked = changed or update.replace_speech_contexts or bool(update.speech_contexts)
        return (phrases.report or pb.SpeechContextReport()) if asked else None

    async def _checked(self, message: M, check: Callable[..., TurnRequest], *arguments: Any) -> TurnRequest:
        """A message's request, checked; that of a large one not on the event loop."""
        if message.ByteSize() <= SMALL_BYTES:
            return check(message, *arguments)
        return await self._scheduler.run(Work.PARSE, check, message, *arguments)

    async def _phrases(self, contexts: Sequence[pb.SpeechContext], caller: Caller) -> Phrases:
        if not contexts:
            return Phrases()
        few = sum(len(context.phrases) for context in contexts) <= _FEW_PHRASES
        arguments = (contexts, self._limits, self._scheduler.recognizer)
        work = Work.RESCORE if few else Work.COMPILE
        return await self._scheduler.run(work, check_phrases, *arguments, tenant=caller.tenant)

    @contextmanager
    def _turn(self, request: TurnRequest, phrases: Phrases, caller: Caller) -> Iterator[_Turn]:
        stream = self._scheduler.open(replace(request.options, graph=phrases.graph))
        attach = partial(self._attach, tenant=caller.tenant)
        with _Turn(request, phrases, attach, stream, self._scheduler, self._rescoring, self._metrics) as turn:
            yield turn

    def _attach(self, request: TurnRequest, tenant: str) -> AbstractContextManager[ContextHandle]:
        if request.context is not None:
            return self._inline.attach(request.context, tenant)
        return self._contexts.attach(request.dialogue, request.turn)

    def _count_audio(self, seconds: float, caller: Caller) -> None:
        self._metrics.audio_seconds.inc(seconds)
        self._metrics.tenant_audio_seconds.labels(self._metrics.tenant(caller.tenant)).inc(seconds)
        logs.note(audio_s=round(seconds, 2))


@dataclass(eq=False)
class _Source:
    """A context that utterances are recognised with, for as long as one of them may be."""

    handle: ContextHandle
    detach: ExitStack


@dataclass(frozen=True)
class _Configuration:
    """What a stream's utterances are recognised with, until an update."""

    request: TurnRequest
    phrases: Phrases
    source: _Source


class _Turn:
    """One stream with its dialogue's context: for the search when an utterance ends, then for rescoring.

    An update makes another configuration, which counts from the next utterance on. The recogniser's results name
    theirs by its number (`Result.revision`).

    Args:
        attach: a request's context, while inside.
    """

    def __init__(
        self,
        request: TurnRequest,
        phrases: Phrases,
        attach: Callable[[TurnRequest], AbstractContextManager[ContextHandle]],
        stream: ScheduledStream,
        scheduler: Scheduler,
        rescoring: ContextRescoring,
        metrics: Metrics,
    ) -> None:
        self._attach = attach
        self._stream = stream
        self._scheduler = scheduler
        self._rescoring = rescoring
        self._metrics = metrics
        self._configurations = {0: _Configuration(request, phrases, self._source(request))}
        self._first_s: float | None = None
        self._last_s = 0.0
        self._had_words = False
        self._asked = False  # for the utterance under way

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for source in {configuration.source for configuration in self._configurations.values()}:
            source.detach.close()

    def _source(self, request: TurnRequest) -> _Source:
        detach = ExitStack()
        return _Source(detach.enter_context(self._attach(request)), detach)

    @property
    def _newest(self) -> _Configuration:
        return self._configurations[max(self._configurations)]

    @property
    def _current(self) -> _Configuration:
        """Of the utterance under way."""
        return self._configurations[self._stream.revision]

    @property
    def request(self) -> TurnRequest:
        """What the next utterance is recognised with."""
        return self._newest.request

    @property
    def phrases(self) -> Phrases:
        """The phrases of that."""
        return self._newest.phrases

    @property
    def done(self) -> bool:
        """True when no more audio is recognised."""
        return self._stream.done

    async def context_made(self) -> None:
        """Wait for the context that came with the request, or until it is given up."""
        making = self._newest.source.handle.making
        if making is not None:
            await asyncio.wait({making})

    def arrived(self) -> None:
        """A message of the client, or the end of its stream, is there."""
        self._last_s = time.monotonic()
        self._first_s = self._first_s or self._last_s

    async def accept(self, samples: Samples) -> list[Result | SpeechEvent]:
        """The results that samples bring.

        An utterance that ends with them is searched with the context's phrases too, unless audio is late already.
        """
        return await self._results(self._stream.accept, samples)

    async def finalize(self) -> list[Result | SpeechEvent]:
        """The results of ending the utterance now."""
        return await self._results(self._stream.finalize)

    async def mute(self) -> list[Result | SpeechEvent]:
        """The results of audio that has stopped coming: what was said is not kept back."""
        if not self._stream.has_words:
            return []
        results = await self.finalize()
        return [replace(one, finalized=False) if isinstance(one, Result) else one for one in results]

    def change(self, request: TurnRequest, phrases: Phrases) -> None:
        """Recognise utterances otherwise from the next one on."""
        before, revision = self._newest, max(self._configurations) + 1
        same = all(getattr(request, name) == getattr(before.request, name) for name in ("dialogue", "turn", "context"))
        source = before.source if same else self._source(request)
        options = replace(request.options, graph=phrases.graph, revision=revision)
        self._stream.change(options)
        self._configurations[revision] = _Configuration(request, phrases, source)
        self._forget({self._stream.revision, revision})

    def _forget(self, used: Iterable[int]) -> None:
        """Let go of all configurations but these."""
        before, self._configurations = self._configurations, {number: self._configurations[number] for number in used}
        sources = {configuration.source for configuration in self._configurations.values()}
        for source in {configuration.source for configuration in before.values()} - sources:
            source.detach.close()

    async def _results(
        self, recognise: Callable[..., Awaitable[list[Result | SpeechEvent]]], *arguments: Any
    ) -> list[Result | SpeechEvent]:
        skipped = self._set_contexts()
        results = await recognise(*arguments)
        self._ask_again(ended=any(isinstance(one, Result) and one.is_final for one in results))
        return [_with_skipped(one, skipped) if isinstance(one, Result) else one for one in results]

    async def finish(self) -> list[Result | SpeechEvent]:
        """The results that are left when the audio has ended."""
        return await self._results(self._stream.finish)

    def _ask_again(self, *, ended: bool) -> None:
        """Have the store asked once an utterance has speech, and behind one that came and went with one message.

        Args:
            ended: whether an utterance has.
        """
        has_speech = self._stream.has_speech
        if (ended and not self._asked) or (has_speech and (ended or not self._asked)):
            self._current.source.handle.ask()
        self._asked = has_speech

    def _set_contexts(self) -> set[int]:
        """Have the contexts' phrases, where they are there, take part in the search; where that is to be skipped."""
        graphs = {number: _phrase_graph(one.source.handle) for number, one in self._configurations.items()}
        skipped = {number for number, graph in graphs.items() if graph is not None and self._scheduler.late}
        used = {number: None if number in skipped else graph for number, graph in graphs.items()}
        self._stream.set_context(used[self._stream.revision], used[max(used)])
        return skipped

    async def responses(self, results: list[Result | SpeechEvent]) -> list[pb.StreamingRecognizeResponse]:
        """What the recogniser has found, its results in their context, as messages."""
        made = []
        for one in results:
            if isinstance(one, SpeechEvent):
                made.append(pb.StreamingRecognizeResponse(speech_event=speech_event_message(one)))
            else:
                made.append(pb.StreamingRecognizeResponse(results=[await self._message(one)]))
        self._forget(number for number in self._configurations if number >= self._stream.revision)
        return made

    async def _message(self, result: Result) -> pb.StreamingRecognitionResult:
        if result.nbest[0].text and not result.is_final and not self._had_words and self._first_s is not None:
            self._had_words = True
            self._metrics.first_partial_seconds.observe(time.monotonic() - self._first_s)
        if not result.is_final and (not result.likely_final or self._scheduler.late):
            return partial_message(result)
        configuration = self._configurations[result.revision]
        phrases, request = configuration.phrases, configuration.request
        outcome = await self._in_context(result, configuration)
        if result.is_final:
            self._count(outcome)
        spoken = phrases.graph.spoken if phrases.graph else {}
        words = supported_words(outcome.nbest[0].text, spoken)
        plain = result.nbest[0].text
        if request.written:
            outcome, plain = await self._written(result, outcome, configuration)
        return final_message(result, outcome, plain, words, request)

    def _count(self, outcome: ContextOutcome) -> None:
        if outcome.status is Status.NOT_READY and outcome.context is not None:
            outcome.context.missed = True
        self._metrics.context.labels(outcome.status.name, outcome.cause).inc()
        self._metrics.context_changes.inc(outcome.changed)
        self._metrics.final_seconds.observe(time.monotonic() - self._last_s)
        logs.note(context=outcome.status.name, changed=outcome.changed)

    async def _in_context(self, result: Result, configuration: _Configuration) -> ContextOutcome:
        recognizer, graph = self._scheduler.recognizer, configuration.phrases.graph
        force_score = partial(recognizer.force_score, result.encoded, graph=graph) if result.encoded else None
        handle = configuration.source.handle
        with tracing.span("final" if result.is_final else "likely_final"):
            outcome = await self._rescoring.apply(handle, result.nbest, result.biased, force_score)
            tracing.note(context=outcome.status.name, changed=outcome.changed)
        return outcome

    async def _written(
        self, result: Result, outcome: ContextOutcome, configuration: _Configuration
    ) -> tuple[ContextOutcome, str]:
        """The outcome, and the plain transcript, in written form; as they are where that does not work."""
        arguments = (result, outcome, configuration.phrases, configuration.request.max_alternatives)
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


def _phrase_graph(handle: ContextHandle) -> PhraseGraph | None:
    bundle = handle.ready()
    return bundle.graph if isinstance(bundle, ContextBundle) else None


def _with_skipped(result: Result, skipped: Container[int]) -> Result:
    """A result whose search with the context's phrases was skipped says so; a partial one has no passes."""
    if not result.passes or result.revision not in skipped:
        return result
    return replace(result, skipped=(*result.skipped, Pass.CONTEXT_PHRASES))


def _decode(recording: pb.RecognizeRequest, request: TurnRequest, max_s: float) -> tuple[Samples, int]:
    """Samples and their rate. Raises AudioError, and AudioLengthError where a file is longer than `max_s`."""
    audio = recording.audio  # a copy
    if not audio:
        raise InvalidRequestError("audio", "is empty; send a file or samples")
    if request.encoding == "FILE":
        samples, rate = read_container(audio, max_s)
        return np.asarray(samples, np.float32), rate
    return decode_pcm(audio, request.encoding), request.options.sample_rate_hertz
