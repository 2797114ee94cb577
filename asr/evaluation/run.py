"""Recognises the utterances of a manifest under several conditions. The search runs once an utterance."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from asr.audio import Samples, read_container
from asr.context.bundle import ContextBundle, build_bundle
from asr.context.checkpoint import ContextModels
from asr.context.entity_linking import meant
from asr.context.phrases import candidates_of
from asr.context.rescorer import Rescorer
from asr.context.types import BiasedWord, Context, Meant, Rescored
from asr.decoding import PhraseGraph
from asr.errors import AudioError, ManifestError
from asr.evaluation.conditions import context_for, need_context
from asr.evaluation.endpoint_delay import Ending, find_ending
from asr.evaluation.manifest import Utterance
from asr.evaluation.recordings import AudioReader
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Result

CHUNK_S = 0.1
"""Audio handed to the recogniser at a time, as a client would send it."""


@dataclass(frozen=True)
class ConditionResult:
    """The n-best under one condition."""

    nbest: tuple[str, ...]
    """Texts, best first."""
    status: str
    """The name that the server's ContextInfo would have."""
    encode_ms: float | None = None
    """Wall time, with compiling the phrases; None where that did not run."""
    rescore_ms: float | None = None
    """Wall time, with the search for the phrases and exact scores; None where that did not run."""
    biased_words: tuple[BiasedWord, ...] = ()
    """The words that context brought, and by what."""
    problem: str = ""
    meant: tuple[Meant, ...] = ()
    """The entries that the first text names."""


@dataclass(frozen=True)
class Outcome:
    """One utterance under every condition."""

    utterance: Utterance
    results: dict[str, ConditionResult]
    seconds_audio: float
    seconds_wall: float
    """What the search took."""
    confidences: tuple[float, ...] = ()
    """Of the words of the plain 1-best."""
    ending: Ending | None = None
    """With endpointing on, where that was asked for and the end of speech is known."""


@dataclass(frozen=True)
class Unusable:
    """An utterance whose audio cannot be read, and why."""

    utterance: Utterance
    reason: str


def recognise(recognizer: Recognizer, samples: Samples, rate: int, nbest: int) -> Result:
    """The final result of one utterance, streamed in chunks of 100 ms through the server's recogniser.

    Endpointing is off: a recording is one utterance from its first sample to its last.

    Raises:
        AudioError: the samples or the rate cannot be used.
    """
    return recognise_timed(recognizer, samples, rate, nbest)[0]


def recognise_timed(
    recognizer: Recognizer, samples: Samples, rate: int, nbest: int, graph: PhraseGraph | None = None
) -> tuple[Result, float]:
    """`recognise`, and the processor time, in seconds, from when the last chunk was there to the result.

    graph: of a context, searched with beside.
    """
    stream = recognizer.open(StreamOptions(sample_rate_hertz=rate, nbest=nbest, endpointing=False))
    stream.set_context(graph)
    step = max(1, round(CHUNK_S * rate))
    results, there = [], time.process_time()
    for start in range(0, len(samples), step):
        there = time.process_time()
        results += stream.accept(samples[start : start + step])
    results += stream.finish()
    return results[-1], time.process_time() - there


def prepare(context: Context, models: ContextModels, recognizer: Recognizer) -> ContextBundle:
    """A context as it stands ready when an answer begins, made by the steps of the server's reply window."""
    return build_bundle(models.encoder.encode(context), partial(recognizer.compile, of_context=True))


def apply_context(
    result: Result, bundle: ContextBundle, rescorer: Rescorer, recognizer: Recognizer, nbest: int
) -> Rescored:
    """A plain result with a context, by the steps that the server takes beside the answer and once it has ended."""
    return rescore(recognizer.with_context(result, bundle.graph, nbest), bundle, rescorer, recognizer)


def rescore(result: Result, bundle: ContextBundle, rescorer: Rescorer, recognizer: Recognizer) -> Rescored:
    """A result of a stream that had the context's graph, by the steps that the server takes at the answer's end."""
    force_score = partial(recognizer.force_score, result.encoded) if result.encoded else None
    nbest = (*result.nbest, *candidates_of(result.biased))
    return rescorer.rescore(nbest, bundle.embedding, force_score, bundle.index)


def evaluate(
    utterances: Sequence[Utterance],
    conditions: Sequence[str],
    recognizer: Recognizer,
    models: ContextModels | None,
    *,
    nbest: int = 8,
    seed: int = 0,
    endpoints: bool = False,
) -> Iterator[Outcome | Unusable]:
    """An outcome for each utterance, in order.

    Args:
        conditions: led by "none". models: None where no condition needs context (`need_context`).
        endpoints: also recognise each recording with endpointing on.
    """
    if models is None and need_context(conditions):
        raise ValueError(f"conditions {', '.join(conditions)} need the context models")
    with AudioReader() as audio:
        for index, utterance in enumerate(utterances):
            try:
                samples, rate = read_container(audio.read(utterance.audio))
                started = time.perf_counter()
                result = recognise(recognizer, samples, rate, nbest)
            except (AudioError, ManifestError) as error:
                yield Unusable(utterance, str(error))
                continue
            seconds = time.perf_counter() - started
            results = {}
            for condition in conditions:
                context = context_for(condition, utterances, index, seed)
                results[condition] = _under(condition, result, context, models, recognizer, nbest)
            ending = find_ending(recognizer, samples, rate) if endpoints else None
            sure = tuple(word.confidence for word in result.nbest[0].words)
            yield Outcome(utterance, results, len(samples) / rate, seconds, sure, ending)


def _under(
    condition: str,
    result: Result,
    context: Context | None,
    models: ContextModels | None,
    recognizer: Recognizer,
    nbest: int,
) -> ConditionResult:
    """The n-best under one condition."""
    as_it_is = tuple(h.text for h in result.nbest)
    if context is None or models is None:
        return ConditionResult(as_it_is, "NOT_READY" if condition == "late" else "NOT_REQUESTED")
    if not context:
        return ConditionResult(as_it_is, "NOT_FOUND")
    try:
        started = time.perf_counter()
        bundle = prepare(context, models, recognizer)
        ready = time.perf_counter()
        rescored = apply_context(result, bundle, models.rescorer, recognizer, nbest)
    except Exception as error:  # as in the server: a context that fails costs no result
        return ConditionResult(as_it_is, "FAILED", problem=f"{type(error).__name__}: {error}")
    done = time.perf_counter()
    texts = tuple(h.text for h in rescored.nbest)[:nbest]
    return ConditionResult(
        texts,
        "APPLIED",
        1000 * (ready - started),
        1000 * (done - ready),
        rescored.biased_words,
        meant=meant(texts[0], bundle.embedding, bundle.index),
    )
