"""What the server answers, as values. Times in audio are seconds from the start of the stream, points in time are UTC.

Names of states, statuses and passes are those of the .proto files, as strings: a newer server may have more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Word:
    """One word of an alternative."""

    word: str
    """Lower case; as it is written where the written form was asked for."""
    start_s: float
    """Start of its sound."""
    end_s: float
    """End of its sound."""
    confidence: float
    """Probability that it was said, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One hypothesis of what was said."""

    transcript: str
    """Empty: nothing was said."""
    confidence: float
    """0 to 1; 0 on partial results."""
    words: tuple[Word, ...]
    """Empty unless `word_times` was asked for."""
    score: float
    """By which alternatives are ordered, nats."""
    from_context: bool
    """Only the context brought this text."""
    context_score: float
    """Of `score`, what the context adds, nats; 0: nothing."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What seems to be said so far; it may still change."""

    alternatives: tuple[Alternative, ...]
    """Best first, at least one."""
    stability: float
    """Probability that it stays as it is, 0 to 1."""
    start_s: float
    """Start of the utterance."""
    end_s: float
    """End of what is recognised of it."""

    @property
    def transcript(self) -> str:
        """The first alternative's."""
        return self.alternatives[0].transcript

    @property
    def words(self) -> tuple[Word, ...]:
        """The first alternative's."""
        return self.alternatives[0].words


@dataclass(frozen=True, slots=True)
class LikelyFinal(Partial):
    """What the final result will say unless more is said: begin the answer, and be ready to drop it."""

    passes: tuple[str, ...]
    """The passes that it comes from: STREAMING, WHOLE_UTTERANCE, ATTENTION, CONTEXT_PHRASES."""
    skipped_passes: tuple[str, ...]
    """Those that a busy server skipped."""


@dataclass(frozen=True, slots=True)
class BiasedWord:
    """A word that the context or a phrase of the request made likelier."""

    word: str
    """In lower case."""
    phrase: str
    """The phrase that it stands in."""
    signal: str
    """Where the phrase came from: a signal, "turns", or "speech_contexts" for a phrase of the request."""
    nats: float | None
    """By how much the context favours the transcript; None for a phrase of the request."""
    rank: int | None
    """The transcript's rank without the context, from 1; None for a phrase of the request."""
    entry_id: str
    """The entry's id; empty: it has none, or several have this name."""


@dataclass(frozen=True, slots=True)
class MeantEntry:
    """An entry of the context that was named."""

    entry: str
    """As it was sent."""
    signal: str
    """That it came with, or "turns"."""
    entry_id: str
    """Empty: it has none."""


@dataclass(frozen=True, slots=True)
class ContextTimings:
    """How long context took for a result, milliseconds; None: does not apply."""

    trigger_to_ready_ms: float | None
    """From `expect_speech` to the context being ready."""
    age_ms: float | None
    """From the context being ready to the end of the utterance."""
    lookup_ms: float | None
    """Looking the context up."""
    rescore_ms: float | None
    """Rescoring with it."""


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """What the dialogue's context did to a result."""

    status: str
    """APPLIED, NOT_REQUESTED, NOT_FOUND, NOT_READY, EXPIRED, FAILED or DISABLED."""
    changed: bool
    """The first alternative has other words than `plain_transcript` because of the context."""
    plain_transcript: str
    """What it would be without context."""
    biased_words: tuple[BiasedWord, ...]
    """Words of the first alternative that context or phrases made likelier."""
    meant: tuple[MeantEntry, ...]
    """The context's entries that it names, likeliest first."""
    timings: ContextTimings
    """How long it took."""
    reason: str
    """Why there was no context; empty otherwise."""
    context_turn: str
    """The turn whose context it is; empty: none."""

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON, times and scores rounded; `timings` has those that apply."""
        timings = {name: getattr(self.timings, name) for name in ContextTimings.__slots__}
        return {
            "status": self.status,
            "changed": self.changed,
            "plain_transcript": self.plain_transcript,
            "biased_words": [
                {
                    "word": b.word,
                    "phrase": b.phrase,
                    "signal": b.signal,
                    "nats": None if b.nats is None else round(b.nats, 2),
                    "rank": b.rank,
                    "id": b.entry_id,
                }
                for b in self.biased_words
            ],
            "meant": [{"entry": m.entry, "signal": m.signal, "id": m.entry_id} for m in self.meant],
            "timings": {name: round(value, 2) for name, value in timings.items() if value is not None},
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Final(LikelyFinal):
    """A result that does not change any more."""

    context: ContextInfo
    """What the dialogue's context did."""
    finalized: bool = False
    """It answers a `finalize`."""


Result: TypeAlias = Partial | LikelyFinal | Final
"""What a stream yields: a `Final` is a `LikelyFinal` is a `Partial`, so look for the narrowest first."""


@dataclass(frozen=True, slots=True)
class SpeechBegin:
    """Words are heard. It comes a little later than its time, since they have to be heard first."""

    time_s: float
    """When the sound of the first one begins."""


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    """Silence has lasted as long as a likely final result takes, or the utterance has ended."""

    time_s: float
    """When the sound of the last word ends."""


SpeechEvent: TypeAlias = SpeechBegin | SpeechEnd
"""What a stream yields beside its results where `voice_activity_events` are asked for. The two alternate."""


@dataclass(frozen=True, slots=True)
class RejectedPhrase:
    """A phrase that is not in use."""

    phrase: str
    """As it was sent."""
    reason: str
    """What to change."""


@dataclass(frozen=True, slots=True)
class PhraseReport:
    """What became of a request's phrases."""

    accepted: int
    """Phrases in use."""
    rejected: tuple[RejectedPhrase, ...]
    """Those that are not."""


@dataclass(frozen=True, slots=True)
class Recognition:
    """What one recording says."""

    results: tuple[Final, ...]
    """At least one, in the order of the audio."""
    phrase_report: PhraseReport | None
    """None: the request had no phrases."""

    @property
    def transcript(self) -> str:
        """Of all results."""
        return " ".join(result.transcript for result in self.results if result.transcript)


@dataclass(frozen=True, slots=True)
class ContextStatus:
    """How far a turn's context is."""

    state: str
    """RECORDED, TRIGGERED, READING, ENCODING, READY, FAILED or EXPIRED."""
    timeline: tuple[tuple[str, datetime], ...]
    """(state, when it was entered) in this server, in order."""
    reason: str
    """Why it failed or was dropped; empty otherwise."""
    turn: str
    """The turn that this is about."""
    expires_at: datetime | None
    """When the context expires; None before it is ready."""
    outcome: str = ""
    """MADE, MADE_ELSEWHERE, LATE, DROPPED, SUPERSEDED, FAILED or EXPIRED; empty: nothing has become of it yet."""


@dataclass(frozen=True, slots=True)
class ContextPhrase:
    """A phrase that a context makes likely."""

    phrase: str
    """Lower case."""
    signal: str
    """Where it came from, or "turns"."""
    weight: float
    """Log probability that it is the one meant."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A context as numbers, for other models."""

    turn: str
    """The turn that it was made for."""
    model_version: str
    """Vectors of different versions do not compare."""
    vectors: tuple[tuple[float, ...], ...]
    """Of turns and entries."""
    summary: tuple[float, ...]
    """One vector for the whole context."""
    phrases: tuple[ContextPhrase, ...]
    """What the context makes likely."""


@dataclass(frozen=True, slots=True)
class RescoredEntry:
    """One entry of a rescored n-best list."""

    text: str
    """The hypothesis."""
    score: float
    """By which the list is ordered."""
    from_context: bool
    """The context proposed it."""


@dataclass(frozen=True, slots=True)
class Rescored:
    """An n-best list in the order that a context gives it."""

    nbest: tuple[RescoredEntry, ...]
    """Best first."""
    context: ContextInfo
    """What the context did."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says of itself."""

    version: str
    """Of the package."""
    model_version: str
    """Of the acoustic model."""
    context_model_version: str
    """Of the context model; empty: context is switched off."""
    limits: dict[str, float]
    """What callers may ask for, by the name of the setting."""
