"""Values to messages of the interface, and back. Nothing here calls anything."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeAlias, TypedDict, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from carryover import results
from carryover.errors import ChangeRequestError
from carryover.v1 import context_pb2, recognizer_pb2

IS_CLOSED = "the client is closed; make another one"
HAS_ENDED = "the stream has ended, so nothing can follow; open another one"
HAS_AUDIO = "send: the stream was opened with audio of its own; open one without, to send it piece by piece"

_P = ParamSpec("_P")
_T = TypeVar("_T")

Phrases: TypeAlias = Iterable[str] | Mapping[str, float]
"""Expected phrases; a mapping has each one's boost, nats."""

_SPEECH_EVENTS: dict[int, type[results.SpeechBegin] | type[results.SpeechEnd]] = {
    recognizer_pb2.SpeechEvent.BEGIN: results.SpeechBegin,
    recognizer_pb2.SpeechEvent.END: results.SpeechEnd,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a service knows."""

    text: str
    """Its name."""
    id: str = ""
    """The service's own id, handed back where the entry is meant."""
    aliases: Sequence[str] = ()
    """Other names of it, at most 16: whoever says one means the entry."""
    weight: float = 1.0
    """How much likelier than another entry it is to be named, a factor, 0.01 to 100."""


Entities: TypeAlias = Mapping[str, Sequence[str | Entry]]
"""Entries by signal: contacts, devices, places, screen, preferences, device_type, or a name of one's own."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said, in an inline context."""

    speaker: Literal["user", "system"]
    """Who spoke."""
    text: str
    """What."""


@dataclass(frozen=True, slots=True)
class InlineContext:
    """A context that is not stored anywhere."""

    turns: Sequence[Turn] = ()
    """Oldest first."""
    entities: Entities | None = None
    """What services know."""


@dataclass(frozen=True, slots=True)
class Endpointing:
    """When utterances of a stream end, seconds; None: as the server is set."""

    likely_silence_s: float | None = None
    """Silence after speech that gives a likely final result, 0.1 to 10, at most `trailing_silence_s`."""
    trailing_silence_s: float | None = None
    """Silence after speech that ends the utterance, 0.1 to 10."""
    start_timeout_s: float | None = None
    """Time without speech after which an utterance ends with an empty final result, 1 to 600."""


class StreamOptions(TypedDict, total=False):
    """What `stream` of either client may be given by name, beside `voice_activity_events`."""

    dialogue: str
    turn: str
    context: InlineContext | None
    endpointing: Endpointing | None
    rate: int
    encoding: str
    interim_results: bool
    max_alternatives: int
    word_times: bool
    phrases: Phrases
    single_utterance: bool
    automatic_punctuation: bool
    real_time: bool
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Options:
    """How speech is to be recognised; what the methods of the clients name, gathered."""

    rate: int
    encoding: str
    dialogue: str
    turn: str
    max_alternatives: int
    word_times: bool
    phrases: Phrases
    automatic_punctuation: bool
    interim_results: bool = False
    single_utterance: bool = False
    context: InlineContext | None = None
    endpointing: Endpointing | None = None
    voice_activity_events: bool = False


def _encodable(build: Callable[_P, _T]) -> Callable[_P, _T]:
    """Half a surrogate pair, as broken JSON brings it, is the caller's to change; the error does not quote the text."""

    @wraps(build)
    def told(*args: _P.args, **options: _P.kwargs) -> _T:
        try:
            return build(*args, **options)
        except UnicodeEncodeError:
            raise ChangeRequestError("text: it has lone surrogates, which no encoding has; remove them") from None

    return told


@_encodable
def streaming_config(options: Options) -> recognizer_pb2.StreamingConfig:
    """The first message of a stream."""
    return recognizer_pb2.StreamingConfig(
        encoding=options.encoding,
        sample_rate_hertz=options.rate,
        interim_results=options.interim_results,
        max_alternatives=options.max_alternatives,
        single_utterance=options.single_utterance,
        enable_word_time_offsets=options.word_times,
        speech_contexts=_speech_contexts(options.phrases),
        dialogue_id=options.dialogue,
        turn_id=options.turn,
        automatic_punctuation=options.automatic_punctuation,
        context=_inline_context(options.context),
        endpointing=_endpointing(options.endpointing),
        voice_activity_events=options.voice_activity_events,
    )


@_encodable
def stream_update(
    *,
    turn: str | None,
    phrases: Phrases | None,
    replace_phrases: bool,
    context: InlineContext | None,
    endpointing: Endpointing | None,
) -> recognizer_pb2.StreamUpdate:
    """How a stream is to go on from the next utterance on."""
    if turn is None and phrases is None and context is None and endpointing is None and not replace_phrases:
        raise ChangeRequestError("update: give at least one of turn, phrases, replace_phrases, context, endpointing")
    return recognizer_pb2.StreamUpdate(
        turn_id=turn,
        speech_contexts=_speech_contexts(phrases or ()),
        replace_speech_contexts=replace_phrases,
        context=_inline_context(context),
        endpointing=_endpointing(endpointing),
    )


def _endpointing(endpointing: Endpointing | None) -> recognizer_pb2.Endpointing | None:
    if endpointing is None:
        return None
    return recognizer_pb2.Endpointing(
        likely_silence_s=endpointing.likely_silence_s,
        trailing_silence_s=endpointing.trailing_silence_s,
        start_timeout_s=endpointing.start_timeout_s,
    )


@_encodable
def recognize_request(audio: bytes, options: Options) -> recognizer_pb2.RecognizeRequest:
    """One recording."""
    config = recognizer_pb2.RecognitionConfig(
        encoding=options.encoding,
        sample_rate_hertz=options.rate,
        max_alternatives=options.max_alternatives,
        enable_word_time_offsets=options.word_times,
        speech_contexts=_speech_contexts(options.phrases),
        dialogue_id=options.dialogue,
        turn_id=options.turn,
        automatic_punctuation=options.automatic_punctuation,
        context=_inline_context(options.context),
        endpointing=_endpointing(options.endpointing),
    )
    return recognizer_pb2.RecognizeRequest(config=config, audio=audio)


def _speech_contexts(phrases: Phrases) -> list[recognizer_pb2.SpeechContext]:
    if isinstance(phrases, str):
        raise ChangeRequestError("phrases: give a list of phrases, not one string", field="config.speech_contexts")
    if not isinstance(phrases, Mapping):
        listed = list(phrases)
        return [recognizer_pb2.SpeechContext(phrases=listed)] if listed else []
    by_boost: dict[float, list[str]] = {}
    for phrase, boost in phrases.items():
        by_boost.setdefault(boost, []).append(phrase)
    return [recognizer_pb2.SpeechContext(phrases=listed, boost=boost) for boost, listed in by_boost.items()]


@_encodable
def record_request(
    dialogue: str,
    turn: str,
    *,
    secret: bytes,
    user: str | None,
    reply: str | None,
    contacts: Sequence[str | Entry],
    entities: Entities | None,
    transcribe: bool,
    speak: bool,
    expect_speech: bool,
    time: datetime | float | None,
) -> context_pb2.RecordEventsRequest:
    """The events of a turn, in the order in which they happen.

    Their ids are the kind of event and a keyed hash of the dialogue, the turn and the content: the same event has the
    same id however often it is sent, another text has another one, and the id, which the server stores in the clear,
    tells nothing about the text.

    Args:
        secret: the hash's key.
    """
    bodies: list[dict[str, Any]] = []
    if transcribe:
        bodies.append({"transcribe": context_pb2.Transcribe()})
    if user is not None:
        bodies.append({"utterance": context_pb2.Utterance(text=user)})
    if reply is not None:
        bodies.append({"reply": context_pb2.Reply(text=reply)})
    known = dict(entities or {})
    if contacts:
        known["contacts"] = [*_listed("contacts", contacts), *_listed("contacts", known.get("contacts", ()))]
    bodies += [{"entities": message} for message in _entities(known)]
    if speak:
        bodies.append({"speak": context_pb2.Speak()})
    if expect_speech:
        bodies.append({"expect_speech": context_pb2.ExpectSpeech()})
    if not bodies:
        raise ChangeRequestError("record: give at least one of user, reply, contacts, entities, expect_speech, ...")
    moment = None if time is None else _timestamp(time)
    events = [
        context_pb2.Event(event_id=_event_id(secret, dialogue, turn, body), time=moment, **body) for body in bodies
    ]
    return context_pb2.RecordEventsRequest(dialogue_id=dialogue, turn_id=turn, events=events)


def _event_id(secret: bytes, dialogue: str, turn: str, body: Mapping[str, Any]) -> str:
    ((kind, message),) = body.items()
    content = message.SerializeToString(deterministic=True)
    parts = b"".join(len(part).to_bytes(4, "big") + part for part in (dialogue.encode(), turn.encode(), content))
    return f"{kind}-{hmac.new(secret, kind.encode() + parts, hashlib.sha256).hexdigest()[:24]}"


def _timestamp(time: datetime | float) -> Timestamp:
    moment, aware = Timestamp(), not isinstance(time, datetime) or time.tzinfo is not None
    try:
        moment.FromNanoseconds(round((time.timestamp() if isinstance(time, datetime) else time) * 1e9))
    except (ValueError, OverflowError):
        aware = False
    if not aware:
        raise ChangeRequestError("time: give a datetime with its tzinfo, or seconds since 1970")
    return moment


def _entities(entities: Entities) -> list[context_pb2.Entities]:
    made = []
    for signal, entries in entities.items():
        items = [_entry(entry) for entry in _listed(signal, entries)]
        made.append(context_pb2.Entities(signal=signal, items=items))
    return made


def _entry(entry: Entry) -> context_pb2.Entry:
    if isinstance(entry.aliases, str):
        raise ChangeRequestError("aliases: give a list of names, not one string")
    weight = None if entry.weight == 1.0 else entry.weight
    return context_pb2.Entry(text=entry.text, id=entry.id, aliases=entry.aliases, weight=weight)


def _listed(signal: str, entries: Sequence[str | Entry]) -> list[Entry]:
    if isinstance(entries, str):
        raise ChangeRequestError(f"entities: give a list of entries of {signal}, not one string")
    return [Entry(entry) if isinstance(entry, str) else entry for entry in entries]


@_encodable
def rescore_request(
    nbest: Sequence[str] | Sequence[tuple[str, float]], dialogue: str, turn: str, context: InlineContext | None
) -> context_pb2.RescoreRequest:
    """An n-best list and what to order it with."""
    entries = [
        context_pb2.NBestEntry(text=entry) if isinstance(entry, str) else context_pb2.NBestEntry(
            text=entry[0], score=entry[1]
        )
        for entry in nbest
    ]  # fmt: skip
    if (context is None) == (not dialogue):
        raise ChangeRequestError("rescore: give either dialogue or context")
    if context is None:
        return context_pb2.RescoreRequest(nbest=entries, dialogue_id=dialogue, turn_id=turn)
    return context_pb2.RescoreRequest(nbest=entries, context=_inline_context(context))


def _inline_context(context: InlineContext | None) -> context_pb2.InlineContext | None:
    if context is None:
        return None
    turns = [context_pb2.ContextTurn(speaker=_speaker(said.speaker), text=said.text) for said in context.turns]
    return context_pb2.InlineContext(turns=turns, entities=_entities(context.entities or {}))


def _speaker(name: str) -> context_pb2.ContextTurn.Speaker:
    speakers = {"user": context_pb2.ContextTurn.USER, "system": context_pb2.ContextTurn.SYSTEM}
    if name not in speakers:
        raise ChangeRequestError(f"speaker: {name} is none of {', '.join(speakers)}")
    return speakers[name]


def yielded(message: recognizer_pb2.StreamingRecognizeResponse) -> Iterator[results.Result | results.SpeechEvent]:
    """What a stream yields of one message, in order."""
    if message.HasField("speech_event"):
        kind = _SPEECH_EVENTS.get(message.speech_event.type)
        if kind is not None:
            yield kind(message.speech_event.time)
    yield from map(result_of, message.results)


def result_of(message: recognizer_pb2.StreamingRecognitionResult) -> results.Result:
    """A result of a stream, by its kind."""
    alternatives = tuple(
        results.Alternative(
            a.transcript,
            a.confidence,
            tuple(results.Word(w.word, w.start, w.end, w.confidence) for w in a.words),
            a.score,
            a.from_context,
            a.context_score,
        )
        for a in message.alternatives
    )
    base = (alternatives, message.stability, message.start, message.end)
    if not message.is_final and not message.likely_final:
        return results.Partial(*base)
    passes, skipped = _pass_names(message.passes), _pass_names(message.skipped_passes)
    if not message.is_final:
        return results.LikelyFinal(*base, passes, skipped)
    return results.Final(*base, passes, skipped, _context_info(message.context), message.finalized)


def recognition_of(message: recognizer_pb2.RecognizeResponse) -> results.Recognition:
    """What one recording says."""
    found = tuple(result for result in map(result_of, message.results) if isinstance(result, results.Final))
    report = phrase_report_of(message.speech_context_report) if message.HasField("speech_context_report") else None
    return results.Recognition(found, report)


def phrase_report_of(message: recognizer_pb2.SpeechContextReport) -> results.PhraseReport:
    """What became of phrases."""
    return results.PhraseReport(
        message.accepted, tuple(results.RejectedPhrase(r.phrase, r.reason) for r in message.rejected)
    )


def status_of(message: context_pb2.GetContextStatusResponse) -> results.ContextStatus:
    """How far a context is."""
    return results.ContextStatus(
        _name(context_pb2.ContextState, message.state),
        tuple((_name(context_pb2.ContextState, entry.state), _utc(entry.time)) for entry in message.timeline),
        message.reason,
        message.turn_id,
        _utc(message.expires_at) if message.HasField("expires_at") else None,
        _name(context_pb2.GetContextStatusResponse.Outcome, message.outcome) if message.outcome else "",
    )


def embedding_of(message: context_pb2.GetContextEmbeddingResponse) -> results.Embedding:
    """A context as numbers."""
    count, width = (*message.shape, 0, 0)[:2]
    values = tuple(message.values)
    return results.Embedding(
        message.turn_id,
        message.model_version,
        tuple(values[row * width : (row + 1) * width] for row in range(count)),
        tuple(message.summary),
        tuple(results.ContextPhrase(p.phrase, p.signal, p.weight) for p in message.phrases),
    )


def rescored_of(message: context_pb2.RescoreResponse) -> results.Rescored:
    """A rescored list."""
    nbest = tuple(results.RescoredEntry(entry.text, entry.score, entry.from_context) for entry in message.nbest)
    return results.Rescored(nbest, _context_info(message.context))


def server_info_of(message: recognizer_pb2.GetServerInfoResponse) -> results.ServerInfo:
    """What a server says of itself."""
    return results.ServerInfo(
        message.version, message.model_version, message.context_model_version, dict(message.limits)
    )


def _context_info(message: recognizer_pb2.ContextInfo) -> results.ContextInfo:
    timings = message.timings

    def measured(name: str) -> float | None:
        return getattr(timings, name) if timings.HasField(name) else None

    return results.ContextInfo(
        _name(recognizer_pb2.ContextInfo.Status, message.status),
        message.changed,
        message.plain_transcript,
        tuple(
            results.BiasedWord(
                b.word,
                b.phrase,
                b.signal,
                b.nats if b.HasField("nats") else None,
                b.rank if b.HasField("rank") else None,
                b.entry_id,
            )
            for b in message.biased_words
        ),
        tuple(results.MeantEntry(m.entry, m.signal, m.entry_id) for m in message.meant),
        results.ContextTimings(*map(measured, results.ContextTimings.__slots__)),
        message.reason,
        message.context_turn_id,
    )


def _pass_names(passes: Iterable[Any]) -> tuple[str, ...]:
    return tuple(_name(recognizer_pb2.StreamingRecognitionResult.Pass, one) for one in passes)


def _name(enum: Any, value: int) -> str:
    """A value's name in the interface; of one that a newer server has, its number."""
    return str(enum.Name(value)) if value in enum.values() else str(value)


def _utc(time: Timestamp) -> datetime:
    return time.ToDatetime(tzinfo=UTC)
