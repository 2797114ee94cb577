"""Messages of carryover.v1.Recognizer: configurations and phrases in, results out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from asr.audio import MAX_RATE, MIN_RATE
from asr.context.phrases import SIGNAL
from asr.context.types import BiasedWord, Context
from asr.decoding import BoostedPhrase, PhraseGraph
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Hypothesis, Result, SpeechEvent
from asr.text import normalize, plain_letters
from carryover.v1 import recognizer_pb2 as pb
from context_store import DialogueId
from server.codec.fields import check_phrase, dialogue_and_turn, optional_turn
from server.codec.inline_context import inline_context_of
from server.contexts.rescoring import ContextOutcome
from server.errors import InvalidRequestError, LimitError
from server.settings import Limits

MAX_ALTERNATIVES = 32
MAX_BOOST = 20.0
SILENCE_S = 0.1, 10.0
"""What a client may set a silence to, seconds."""
TIMEOUT_S = 1.0, 600.0
"""What it may set the wait for a first word to."""
DEFAULT_BOOST = BoostedPhrase.weight
RAW = ("LINEAR16", "FLOAT32", "MULAW", "ALAW")
FILES = ("WAV", "FLAC")


@dataclass(frozen=True)
class TurnRequest:
    """A checked configuration."""

    encoding: str
    """One of RAW, or "FILE"."""
    options: StreamOptions
    max_alternatives: int
    words: bool
    """Results are to hold the words with their times."""
    dialogue: DialogueId | None
    """None: the request names none."""
    turn: str
    written: bool
    """Results are to be in written form."""
    speech_contexts: tuple[pb.SpeechContext, ...] = ()
    """Phrases, not checked."""
    context: Context | None = None
    """In place of the dialogue's, empty: there is none; None: the dialogue's."""


@dataclass(frozen=True)
class Phrases:
    """Checked `speech_contexts`."""

    usable: tuple[BoostedPhrase, ...] = ()
    """Those that the search uses."""
    graph: PhraseGraph | None = None
    """They, compiled."""
    report: pb.SpeechContextReport | None = None
    """For the client."""


# Requests


def check_streaming(
    config: pb.StreamingConfig,
    nbest: int,
    tenant: str,
    endpoint: EndpointRule = EndpointRule(),
    limits: Limits = Limits(),
) -> TurnRequest:
    """A stream's configuration.

    Args:
        nbest: hypotheses that rescoring sees at least.
        endpoint: as the server is set.

    Raises:
        InvalidRequestError: a field cannot be used.
        LimitError: the context is too large.
    """
    encoding = _encoding_name(config.encoding)
    if encoding not in RAW:
        advice = "a stream carries raw samples; decode files first" if encoding in FILES else "is required"
        raise InvalidRequestError("config.encoding", f"{advice}: set one of {', '.join(RAW)}")
    _check_rate(config.sample_rate_hertz)
    options = StreamOptions(
        sample_rate_hertz=config.sample_rate_hertz,
        interim_results=config.interim_results,
        nbest=max(nbest, _alternatives(config.max_alternatives)),
        single_utterance=config.single_utterance,
        speech_events=config.voice_activity_events,
        endpoint=_endpoint(config.endpointing, "config.endpointing", endpoint),
    )
    return _turn_request(config, encoding, options, tenant, limits)


def check_update(update: pb.StreamUpdate, request: TurnRequest, endpoint: EndpointRule, limits: Limits) -> TurnRequest:
    """What a stream's utterances are recognised with after an update.

    Args:
        request: what they were to be recognised with.
        endpoint: as the server is set.

    Raises:
        InvalidRequestError: a field cannot be used.
        InvalidEventError: the turn's id is malformed.
        LimitError: the context is too large.
    """
    if update.HasField("turn_id"):
        if update.HasField("context"):
            raise InvalidRequestError("update.context", "set it or turn_id, not both")
        if request.dialogue is None:
            raise InvalidRequestError("update.turn_id", "needs a dialogue; name it in the configuration's dialogue_id")
        request = replace(request, turn=optional_turn(update.turn_id), context=None)
    if update.HasField("context"):
        request = replace(request, context=inline_context_of(update.context, limits, "update.context"))
    if update.HasField("endpointing"):
        rule = _endpoint(update.endpointing, "update.endpointing", endpoint)
        request = replace(request, options=replace(request.options, endpoint=rule))
    if update.replace_speech_contexts or update.speech_contexts:
        kept = () if update.replace_speech_contexts else request.speech_contexts
        request = replace(request, speech_contexts=(*kept, *update.speech_contexts))
    return request


def _endpoint(message: pb.Endpointing, field: str, rule: EndpointRule) -> EndpointRule:
    """The server's rule with what a request sets."""
    given = {}
    for name in ("likely_silence_s", "trailing_silence_s"):
        if message.HasField(name):
            given[name] = _seconds(f"{field}.{name}", getattr(message, name), *SILENCE_S)
    timeout_s = rule.start_timeout_s
    if message.HasField("start_timeout_s"):
        timeout_s = _seconds(f"{field}.start_timeout_s", message.start_timeout_s, *TIMEOUT_S)
    trailing_s = given.get("trailing_silence_s", rule.trailing_silence_s)
    if given.get("likely_silence_s", 0.0) > trailing_s:
        advice = f"is more than trailing_silence_s ({trailing_s:g} s); send less, or set that too"
        raise InvalidRequestError(f"{field}.likely_silence_s", advice)
    likely_s = given.get("likely_silence_s", min(rule.likely_silence_s, trailing_s))
    return replace(rule, trailing_silence_s=trailing_s, likely_silence_s=likely_s, start_timeout_s=timeout_s)


def _seconds(field: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise InvalidRequestError(field, f"send {least:g} to {most:g} seconds, or leave it unset")
    return value


def check_utterance(
    config: pb.RecognitionConfig,
    nbest: int,
    tenant: str,
    endpoint: EndpointRule = EndpointRule(),
    limits: Limits = Limits(),
) -> TurnRequest:
    """The configuration of a recording; a file (encoding "FILE") may leave the options without a rate (0).

    Args and errors as those of `check_streaming`.
    """
    encoding = _encoding_name(config.encoding)
    if encoding in RAW:
        _check_rate(config.sample_rate_hertz)
    options = StreamOptions(
        sample_rate_hertz=config.sample_rate_hertz,
        nbest=max(nbest, _alternatives(config.max_alternatives)),
        endpointing=config.HasField("endpointing"),
        endpoint=_endpoint(config.endpointing, "config.endpointing", endpoint),
    )
    return _turn_request(config, encoding if encoding in RAW else "FILE", options, tenant, limits)


def _turn_request(
    config: pb.StreamingConfig | pb.RecognitionConfig,
    encoding: str,
    options: StreamOptions,
    tenant: str,
    limits: Limits,
) -> TurnRequest:
    dialogue, turn = dialogue_and_turn(tenant, config.dialogue_id, config.turn_id)
    inline = config.HasField("context")
    if inline and dialogue is not None:
        raise InvalidRequestError("config.context", "set it or dialogue_id, not both")
    return TurnRequest(
        encoding,
        options,
        max_alternatives=config.max_alternatives or 1,
        words=config.enable_word_time_offsets,
        dialogue=dialogue,
        turn=turn,
        written=config.automatic_punctuation,
        speech_contexts=tuple(config.speech_contexts),
        context=inline_context_of(config.context, limits, "config.context") if inline else None,
    )


def check_phrases(contexts: Sequence[pb.SpeechContext], limits: Limits, recognizer: Recognizer) -> Phrases:
    """Sorts the phrases into usable ones and ones to report. CPU bound. Raises LimitError, InvalidRequestError."""
    if not contexts:
        return Phrases()
    check_phrase_limits(contexts, limits)
    sent = [
        (pb.RejectedPhrase(context_index=i, phrase_index=j, phrase=phrase), normalize(phrase), _boost(context))
        for i, context in enumerate(contexts)
        for j, phrase in enumerate(context.phrases)
    ]
    unspellable = set(recognizer.unspellable([text for _, text, _ in sent]))
    report, phrases = pb.SpeechContextReport(), dict[str, BoostedPhrase]()
    for place, text, boost in sent:
        if not text or text in unspellable or _lost_letters(place.phrase):
            place.reason = "the model cannot spell it; write it with the letters a to z, apostrophes and spaces"
        elif boost == 0:
            place.reason = "its boost is 0, which switches it off; leave it out, or give it more"
        elif text in phrases:
            place.reason = "listed before: the larger boost counts"
            if boost > phrases[text].weight:
                phrases[text] = BoostedPhrase(place.phrase, boost, SIGNAL)
        else:
            phrases[text] = BoostedPhrase(place.phrase, boost, SIGNAL)
    usable = tuple(phrases.values())
    graph = recognizer.compile(usable)
    dropped = {normalize(phrase.text): reason for phrase, reason in graph.dropped}
    for place, text, _ in sent:
        place.reason = place.reason or dropped.get(text, "")  # of what is listed twice, only the first had none
        if place.reason:
            report.rejected.append(place)
    report.accepted = len(sent) - len(report.rejected)
    return Phrases(usable, graph, report)


def check_phrase_limits(contexts: Sequence[pb.SpeechContext], limits: Limits) -> None:
    """Raise LimitError where there are too many phrases, or one is too long."""
    count = sum(len(context.phrases) for context in contexts)
    if count > limits.phrases:
        raise LimitError("phrases", f"{count} phrases; send at most {limits.phrases}", field="speech_contexts")
    for i, context in enumerate(contexts):
        for j, phrase in enumerate(context.phrases):
            check_phrase(f"speech_contexts[{i}].phrases[{j}]", phrase, limits)


def _boost(context: pb.SpeechContext) -> float:
    boost = context.boost if context.HasField("boost") else DEFAULT_BOOST
    if not math.isfinite(boost) or not 0 <= boost <= MAX_BOOST:
        raise InvalidRequestError("speech_contexts.boost", f"send a number from 0 to {MAX_BOOST:g}")
    return boost


def _lost_letters(phrase: str) -> bool:
    """Does the phrase hold letters, of any script, of which normalising would leave nothing?"""
    return any(c.isalpha() and not c.isascii() for c in plain_letters(phrase))


def _check_rate(hertz: int) -> None:
    if not MIN_RATE <= hertz <= MAX_RATE:
        raise InvalidRequestError("config.sample_rate_hertz", f"send audio of {MIN_RATE} to {MAX_RATE} Hz, and say so")


def _alternatives(wanted: int) -> int:
    if not 0 <= wanted <= MAX_ALTERNATIVES:
        raise InvalidRequestError("config.max_alternatives", f"ask for 1 to {MAX_ALTERNATIVES}, or leave it unset")
    return wanted or 1


def _encoding_name(value: int) -> str:
    try:
        return pb.AudioEncoding.Name(value)
    except ValueError:
        known = ", ".join((*RAW, *FILES))
        raise InvalidRequestError("config.encoding", f"{value} is not known; use one of {known}") from None


# Results


def speech_event_message(event: SpeechEvent) -> pb.SpeechEvent:
    """Speech that begins or ends."""
    return pb.SpeechEvent(type="BEGIN" if event.begins else "END", time=event.time_s)


def partial_message(result: Result) -> pb.StreamingRecognitionResult:
    """A partial result."""
    return pb.StreamingRecognitionResult(
        alternatives=[pb.SpeechRecognitionAlternative(transcript=result.nbest[0].text)],
        is_final=False,
        stability=result.stability,
        start=result.start_s,
        end=result.end_s,
    )


def final_message(
    result: Result, outcome: ContextOutcome, plain: str, phrase_words: Iterable[BiasedWord], request: TurnRequest
) -> pb.StreamingRecognitionResult:
    """A final result, or a likely final one.

    Args:
        outcome: what the context did to it.
        plain: the first transcript without context.
        phrase_words: words that the request's own phrases support.
    """
    return pb.StreamingRecognitionResult(
        alternatives=[_alternative(h, request.words) for h in outcome.nbest[: request.max_alternatives]],
        is_final=result.is_final,
        stability=result.stability,
        start=result.start_s,
        end=result.end_s,
        context=context_info(outcome, plain, phrase_words) if result.is_final else None,
        likely_final=result.likely_final,
        passes=[one.name for one in result.passes],
        skipped_passes=[one.name for one in result.skipped],
        finalized=result.finalized,
    )


def _alternative(hypothesis: Hypothesis, words: bool) -> pb.SpeechRecognitionAlternative:
    return pb.SpeechRecognitionAlternative(
        transcript=hypothesis.text,
        confidence=hypothesis.confidence,
        words=[
            pb.WordInfo(word=word.text, start=word.start_s, end=word.end_s, confidence=word.confidence)
            for word in (hypothesis.words if words else ())
        ],
        score=hypothesis.score,
        from_context=hypothesis.from_context,
        context_score=hypothesis.context,
    )


def context_info(outcome: ContextOutcome, plain: str, phrase_words: Iterable[BiasedWord] = ()) -> pb.ContextInfo:
    """What context did to a result, `plain` being the first transcript without it."""
    words = [
        pb.BiasedWord(
            word=b.word, phrase=b.phrase, signal=b.signal, nats=b.nats or None, rank=b.rank or None, entry_id=b.id
        )
        for b in (*outcome.biased_words, *phrase_words)
    ]
    timings = pb.ContextTimings(
        trigger_to_ready_ms=outcome.context.made_in_ms if outcome.context else None,
        age_ms=outcome.age_ms,
        lookup_ms=outcome.lookup_ms,
        rescore_ms=outcome.rescore_ms,
    )
    return pb.ContextInfo(
        status=outcome.status.name,
        changed=outcome.changed,
        plain_transcript=plain,
        biased_words=words,
        timings=timings,
        reason=outcome.reason,
        context_turn_id=outcome.context.turn if outcome.context else "",
        meant=[pb.MeantEntry(entry=m.entry, signal=m.signal, entry_id=m.id) for m in outcome.meant],
    )
