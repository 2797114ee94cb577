"""The state of a stream between steps of the recogniser, its options, and what comes in. Values only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from types import EllipsisType
from typing import Any

from torch import Tensor

from asr.audio import SAMPLE_RATE, Samples
from asr.audio.frontend import FrontEndState
from asr.decoding import BeamState, PhraseGraph
from asr.recognition.endpointing import EndpointRule, EndpointState
from asr.recognition.results import Pass, Result, SpeechEvent


class Pending(Enum):
    """What the next step of a stream does."""

    NONE = "none"
    """Nothing: more audio is needed, or the stream is finished."""
    CHUNK = "chunk"
    """It recognises a chunk of audio."""
    LIKELY_FINAL = "likely final"
    """It makes a likely final result, since the utterance has probably ended."""
    FINAL = "final"
    """It makes a final result, since the utterance has ended."""
    LAST = "last"
    """It makes the last final result, since the audio has ended."""

    @property
    def is_result(self) -> bool:
        """Whether a result is made."""
        return self not in (Pending.NONE, Pending.CHUNK)


@dataclass(frozen=True)
class StreamOptions:
    """How one stream is to be recognised."""

    sample_rate_hertz: int = SAMPLE_RATE
    """8000 to 48000."""
    interim_results: bool = False
    """Also partial results, which may still change; with endpointing, likely finals among them (`likely_final`)."""
    nbest: int = 8
    """Hypotheses of a result, at most."""
    single_utterance: bool = False
    """End the stream after its first final result."""
    endpointing: bool = True
    """Off: one utterance from the first sample to the last."""
    endpoint: EndpointRule = field(default_factory=EndpointRule)
    """When an utterance ends."""
    graph: PhraseGraph | None = None
    """Boosted phrases, of `Recognizer.compile`; their bonus is part of the score (`Hypothesis.bias`)."""
    speech_events: bool = False
    """Note when speech begins and ends (`StreamState.speech_events`)."""
    revision: int = 0
    """Names these options among those that a stream has one after the other (`StreamInput.following`); results have
    it."""


@dataclass(frozen=True)
class Following:
    """What a stream's utterances are recognised with from the next one on. One without words is the next."""

    options: StreamOptions
    """Of the same sample rate."""
    context: PhraseGraph | None = None
    """Phrases of a context, as `StreamInput.context`."""


@dataclass(frozen=True)
class StreamInput:
    """What comes into a stream before a step."""

    samples: Samples | None = None
    """(n,) float32, -1 to 1, at the stream's rate; None: no audio."""
    end: bool = False
    """Whether the audio ends here, behind the samples."""
    context: PhraseGraph | EllipsisType | None = ...
    """Phrases of a context, which utterances that end from now on are also searched with: the hypotheses that this
    finds are in `Result.biased`, and nothing else of a result depends on them. None: no context; ...: as before."""
    finalize: bool = False
    """Whether the utterance ends here, behind audio that has been recognised: nothing may be pending. Audio goes on
    with the next one once nothing is pending again."""
    following: Following | None = None
    """How utterances are recognised from the next one on, in place of what was said of them before. None: no change."""


@dataclass(frozen=True)
class SearchState:
    """A beam search: its hypotheses, and the phrases that are boosted in it."""

    beam: BeamState
    graph: PhraseGraph | None = None

    @property
    def width(self) -> int:
        """The hypotheses that it keeps."""
        return int(self.beam.acoustic.shape[1])

    @property
    def frames(self) -> int:
        """The encoded frames that it has read."""
        return int(self.beam.time[0])


@dataclass(frozen=True)
class Utterance:
    """The utterance that a stream is in, as far as it has been recognised. Frames are encoded frames."""

    search: SearchState
    """The search over its frames."""
    start: int = 0
    """The stream's frames before it."""
    features: tuple[Tensor, ...] = ()
    """(F, 80) each, piece by piece, with those that the encoder reads before and behind; () without a second pass."""
    encoded: tuple[Tensor, ...] = ()
    """(T, J) each, piece by piece."""
    loudness: tuple[Tensor, ...] = ()
    """(T,) dB of the frames, piece by piece."""
    waiting_from: int = 0
    """The stream's frames before the wait for its first word began (`EndpointRule.start_timeout_s`)."""
    has_words: bool = False
    """Whether its leading hypothesis has words."""
    silent_from: int = 0
    """Frames read when speech last ended in it: later tokens are new speech."""
    endpoint: EndpointState = field(default_factory=EndpointState)
    """The evidence of its end; with endpointing."""
    likely_search: SearchState | None = None
    """The search as it was when the end became likely; None while it is not."""
    provisional: tuple[Result, PhraseGraph | None] | None = None
    """The likely final result, which takes the final one's place if nothing more is said, and the context's phrases
    that it was searched with; None where it is to be made again."""
    last_likely_text: str | None = None
    """The leading text of the last likely final, while the end is likely: the same is not sent twice."""
    last_partial_text: str = ""
    """The text of the last partial result: the same is not sent twice."""

    @property
    def frames(self) -> int:
        """The frames that it has so far."""
        return sum(map(len, self.encoded))

    @property
    def end(self) -> int:
        """The stream's frames up to here."""
        return self.start + self.frames


@dataclass(frozen=True)
class Resumption:
    """What a stream goes on with when it has been finalized."""

    front_end: FrontEndState
    """Its audio without the silence that finalizing adds."""
    encoder: Any
    """The acoustic model's state behind the last whole chunk."""
    encoded: int
    """The stream's frames up to there."""
    start: int
    """The stream's frames before the next utterance: at least `encoded`."""


@dataclass(frozen=True)
class StreamState:
    """One stream between two steps. A value: a step returns a new state, and an error leaves the old one valid.

    At other rates than 16 kHz audio continues the newest state only, or the same audio the one before once more
    (`asr.audio.Resampler`).
    """

    options: StreamOptions
    second_passes: tuple[Pass, ...]
    """Passes of a final result beside the streaming one."""
    front_end: FrontEndState
    """Audio that has not been recognised."""
    encoder: Any
    """The acoustic model's state."""
    utterance: Utterance
    due: Pending = Pending.NONE
    """The result that the endpointer has asked for: LIKELY_FINAL, FINAL or NONE."""
    cut: int = 0
    """Of how many of the utterance's frames the result that is due is, 0: of all; the next begins behind them."""
    finals: int = 0
    """Final results so far."""
    finished: bool = False
    """Whether the stream has had its last result."""
    context: PhraseGraph | None = None
    """Phrases of a context (`StreamInput.context`)."""
    skipped: frozenset[Pass] = frozenset()
    """Second passes that the pending result is made without."""
    following: Following | None = None
    """What the next utterance is recognised with; None: what this one is."""
    resumption: Resumption | None = None
    """Where the stream goes on when the pending result has been made; None: it has not been told to finalize."""
    speaking: bool = False
    """Whether speech has begun and not ended; with `StreamOptions.speech_events`."""
    last_event_s: float = 0.0
    """Time of the last speech event; none is before it."""
    speech_events: tuple[SpeechEvent, ...] = ()
    """What the last step brought; before its results."""
    passed: int = 0
    """Frames of the next chunk that belong to an utterance that was finalized."""

    @property
    def pending(self) -> Pending:
        """What the next step does."""
        if self.finished or self.due is not Pending.NONE:
            return self.due
        if self.front_end.ready:
            return Pending.CHUNK
        return Pending.LAST if self.audio_ended else Pending.NONE

    @property
    def audio_ended(self) -> bool:
        """Whether the audio has ended: what is left are the last chunks and the last result."""
        return self.front_end.ended

    @property
    def done(self) -> bool:
        """Whether audio that follows is ignored: the audio has ended, or the one utterance asked for has."""
        return self.audio_ended or self.finished

    @property
    def needs_second_pass(self) -> bool:
        """Whether the pending result takes a second pass, which is long."""
        utterance = self.utterance  # which has features only where there is a second pass
        due = self.pending.is_result and bool(utterance.features) and utterance.provisional is None
        return due and not self.skipped.issuperset(self.second_passes)

    def skip_second_pass(self, passes: Iterable[Pass]) -> StreamState:
        """The state whose pending result is made without these second passes; itself where it takes none of them."""
        more = frozenset(passes).intersection(self.second_passes) - self.skipped if self.needs_second_pass else None
        return replace(self, skipped=self.skipped | more) if more else self
