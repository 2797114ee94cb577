"""What a client may send: each check names the field and says what to change."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from asr.audio import MAX_RATE, MIN_RATE
from asr.context.phrases import SIGNAL
from asr.decoding import BoostedPhrase, PhraseGraph
from asr.recognition.recognizer import StreamOptions
from asr.text import normalize, plain_letters
from carryover.v1 import recognizer_pb2 as pb
from context_store import DialogueId, TooLargeError
from context_store.validation import MAX_EVENTS_PER_CALL
from server.engine import Recognizer
from server.errors import InvalidRequestError, LimitError
from server.settings import Limits
from server.wire import Bound, Bounds

MAX_ALTERNATIVES = 32
MAX_BOOST = 20.0
DEFAULT_BOOST = 5.0
MAX_ID_BYTES = 256
RAW = ("LINEAR16", "FLOAT32", "MULAW", "ALAW")
FILES = ("WAV", "FLAC")
_AROUND_AUDIO_BYTES = 1024
_ROUGHLY = 2
"""Before a request is parsed, nobody counts further than to so many times a limit; afterwards the error can say how
many there are."""


def bounds(method: str, limits: Limits) -> Bounds:
    """What a request of a method of `carryover.v1` may hold."""
    if method == "Recognize":
        return Bounds("message_bytes", limits.message_bytes, _phrase_bounds(limits))
    if method == "StreamingRecognize":
        most = max(limits.request_bytes, limits.audio_bytes + _AROUND_AUDIO_BYTES)
        return Bounds("request_bytes", most, _phrase_bounds(limits))
    return Bounds("request_bytes", limits.request_bytes, _context_bounds(method, limits))


def _phrase_bounds(limits: Limits) -> dict[str, Bound]:
    most = _most("phrases", limits.phrases, "speech_contexts: {} phrases or lists")
    return {"config.speech_contexts": most, "config.speech_contexts.phrases": most}


def _context_bounds(method: str, limits: Limits) -> dict[str, Bound]:
    if method == "RecordEvents":
        entries = _most("entries", MAX_EVENTS_PER_CALL * limits.entries, "events: {} entries")
        return {
            "events": (_ROUGHLY * MAX_EVENTS_PER_CALL, too_many_events),
            "events.entities.entries": entries,
            "events.entities.items": entries,
        }
    if method == "Rescore":
        entities = _most("entries", limits.entries, "context.entities: {} entries or lists")
        return {
            "nbest": _most("nbest", limits.nbest, "nbest: {} entries"),
            "context.turns": _most("turns", limits.turns, "context: {} turns"),
            "context.entities": entities,
            "context.entities.entries": entities,
            "context.entities.items": entities,
        }
    return {}


def _most(limit: str, most: int, found: str) -> Bound:
    advice = f"{found.format(f'more than {_ROUGHLY * most}')}; send at most {most}"
    return _ROUGHLY * most, partial(LimitError, limit, advice)


def too_many_events() -> TooLargeError:
    """Of one call, all of which the store writes at once."""
    return TooLargeError("events", f"more than {MAX_EVENTS_PER_CALL} in one call; split them over several calls")


def largest_recording(limits: Limits) -> int:
    """Bytes that a `Recognize` call may need: the message, the request made of it, and the samples."""
    return 2 * limits.message_bytes + int(limits.stream_seconds * MAX_RATE * 4)


@dataclass(frozen=True)
class TurnRequest:
    """A checked configuration. encoding: one of RAW. dialogue: None when the request names none. written: results are
    wanted in written form."""

    encoding: str
    options: StreamOptions
    max_alternatives: int
    words: bool
    dialogue: DialogueId | None
    turn: str
    written: bool = False


@dataclass(frozen=True)
class Phrases:
    """Checked `speech_contexts`: those that the search uses, compiled too, and the report for the client."""

    usable: tuple[BoostedPhrase, ...]
    graph: PhraseGraph | None
    report: pb.SpeechContextReport | None


def check_streaming(config: pb.StreamingConfig, nbest: int, tenant: str) -> TurnRequest:
    """A stream's configuration. nbest: hypotheses that rescoring sees at least. Raises InvalidRequestError."""
    encoding = _encoding_name(config.encoding)
    if encoding not in RAW:
        advice = "a stream carries raw samples; decode files first" if encoding in FILES else "is required"
        raise InvalidRequestError("config.encoding", f"{advice}: set one of {', '.join(RAW)}")
    _check_rate(config.sample_rate_hertz)
    alternatives = _alternatives(config.max_alternatives)
    options = StreamOptions(
        sample_rate_hertz=config.sample_rate_hertz,
        interim_results=config.interim_results,
        nbest=max(nbest, alternatives),
        single_utterance=config.single_utterance,
    )
    dialogue, turn = dialogue_and_turn(tenant, config.dialogue_id, config.turn_id)
    words, written = config.enable_word_time_offsets, config.automatic_punctuation
    return TurnRequest(encoding, options, alternatives, words, dialogue, turn, written)


def check_utterance(config: pb.RecognitionConfig, nbest: int, tenant: str) -> TurnRequest:
    """The configuration of one utterance; a file (encoding "FILE") may leave the options without a rate (0)."""
    encoding = _encoding_name(config.encoding)
    if encoding in RAW:
        _check_rate(config.sample_rate_hertz)
    alternatives = _alternatives(config.max_alternatives)
    options = StreamOptions(
        sample_rate_hertz=config.sample_rate_hertz, nbest=max(nbest, alternatives), endpointing=False
    )
    dialogue, turn = dialogue_and_turn(tenant, config.dialogue_id, config.turn_id)
    words, written = config.enable_word_time_offsets, config.automatic_punctuation
    return TurnRequest(encoding if encoding in RAW else "FILE", options, alternatives, words, dialogue, turn, written)


def dialogue_and_turn(tenant: str, dialogue_id: str, turn_id: str) -> tuple[DialogueId | None, str]:
    """Both ids checked, where they are set. Raises InvalidRequestError."""
    if turn_id and not dialogue_id:
        raise InvalidRequestError("dialogue_id", "is required when turn_id is set")
    turn = check_id("turn_id", turn_id) if turn_id else ""
    return (required_dialogue(tenant, dialogue_id) if dialogue_id else None), turn


def required_dialogue(tenant: str, dialogue_id: str) -> DialogueId:
    """The tenant's dialogue of a request that must name one. Raises InvalidRequestError."""
    return DialogueId(tenant, check_id("dialogue_id", dialogue_id))


def check_id(field: str, value: str) -> str:
    """An id that can be a key. Raises InvalidRequestError."""
    if not value:
        raise InvalidRequestError(field, "is required")
    if len(value.encode()) > MAX_ID_BYTES:
        raise InvalidRequestError(field, f"is longer than {MAX_ID_BYTES} bytes of UTF-8; shorten it")
    if any(c == "#" or is_control(c) for c in value):
        raise InvalidRequestError(field, "remove '#', control characters and line separators")
    return value


def is_control(character: str) -> bool:
    """A control character or a line separator, which no id or name may hold."""
    return unicodedata.category(character) in ("Cc", "Zl", "Zp")


def check_phrases(contexts: Sequence[pb.SpeechContext], limits: Limits, recognizer: Recognizer) -> Phrases:
    """Sorts the phrases into usable ones and ones to report. CPU bound. Raises LimitError, InvalidRequestError."""
    if not contexts:
        return Phrases((), None, None)
    _check_phrase_limits(contexts, limits)
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


def _check_phrase_limits(contexts: Sequence[pb.SpeechContext], limits: Limits) -> None:
    count = sum(len(context.phrases) for context in contexts)
    if count > limits.phrases:
        raise LimitError("phrases", f"speech_contexts: {count} phrases; send at most {limits.phrases}")
    for i, context in enumerate(contexts):
        for j, phrase in enumerate(context.phrases):
            if len(phrase) > limits.phrase_characters:
                field = f"speech_contexts[{i}].phrases[{j}]"
                advice = f"{len(phrase)} characters; send at most {limits.phrase_characters} a phrase"
                raise LimitError("phrase_characters", f"{field}: {advice}")


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
