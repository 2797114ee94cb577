"""What a recogniser gives: words, hypotheses, results."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

import torch

from asr.recognition.calibration import Evidence
from asr.second_pass.attention_decoder import DecodedUtterance


class Pass(Enum):
    """A pass over an utterance that a result is of."""

    STREAMING = "streaming"
    """Encoded and searched chunk by chunk, as it came in."""
    WHOLE_UTTERANCE = "whole utterance"
    """Encoded and searched once more, as a whole, when it had ended."""
    ATTENTION = "attention"
    """Decoded as a whole by the attention decoder, which adds texts and scores."""
    CONTEXT_PHRASES = "context phrases"
    """Searched once more with the phrases of a context."""


@dataclass(frozen=True)
class Word:
    """One recognised word."""

    text: str
    start_s: float
    """Seconds from the start of the stream."""
    end_s: float
    """Seconds from the start of the stream."""
    confidence: float
    """0 to 1: the probability that the word is right, where the models are calibrated (`calibration`); else the mean of
    its tokens' probabilities."""
    evidence: Evidence | None = field(default=None, repr=False, compare=False)
    """What a calibration is fitted to; None without a language model."""


@dataclass(frozen=True)
class Hypothesis:
    """One text for an utterance; the parts of its score are kept apart, in nats."""

    text: str
    """Lower-case words, apostrophes kept, single spaces."""
    acoustic: float
    """log P(y|x): the search's estimate, or exact where it was forced; in final results with the CTC head's share."""
    language: float = 0.0
    """The language model's share, weighted, with the bonus for each token."""
    bias: float = 0.0
    """The bonus of boosted phrases."""
    context: float = 0.0
    """What the rescoring with a context adds."""
    attention: float = 0.0
    """log P(text | audio) of the attention decoder, weighted, with the bonus for each word and what lifts the other
    scores to `Encoded.score_floor`; 0 without the attention decoder."""
    tokens: tuple[int, ...] = ()
    """Of the acoustic model."""
    token_times: tuple[float, ...] = ()
    """When each token was emitted, seconds from the start of the stream."""
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    """Mean of the words' confidences."""
    from_context: bool = False
    """True for a candidate that came from the context and not from the search."""
    written: str = ""
    """The likeliest written form by the attention decoder, cased and punctuated; "" without it."""

    @property
    def score(self) -> float:
        """The sum of the parts, nats."""
        return self.acoustic + self.language + self.attention + self.bias + self.context


@dataclass(frozen=True)
class Encoded:
    """An utterance's encoder output, kept for forced scoring."""

    frames: torch.Tensor
    """(T, J) float32 encoded frames."""
    start_s: float
    """Start of the first frame, seconds from the start of the stream."""
    attention: DecodedUtterance | None = None
    """What the attention decoder has of the utterance; None: it has not decoded it."""
    sound: tuple[bool, ...] = ()
    """Which frames hold sound (`word_times`); empty: not known."""
    end_s: float = math.inf
    """End of the audio, seconds from the start of the stream."""
    score_floor: float = -math.inf
    """Nats below which the transducer's and language model's scores of a text do not count where the attention decoder
    has scored it (`asr.fitted`)."""


@dataclass(frozen=True)
class SpeechEvent:
    """Speech begins or ends, by the words of the leading hypothesis. The two alternate in a stream."""

    begins: bool
    """False: it ends: the end of the utterance is likely, or there, or the words were taken back."""
    time_s: float
    """Of its sound, seconds from the start of the stream."""


@dataclass(frozen=True)
class Result:
    """A partial or final result of one utterance."""

    nbest: tuple[Hypothesis, ...]
    """Best first, never empty; silence is one hypothesis with an empty text."""
    is_final: bool
    stability: float
    """0 to 1: the share of the beam's probability in hypotheses that begin with this text; 1 on finals and likely
    finals."""
    start_s: float
    """Seconds from the start of the stream."""
    end_s: float
    """Seconds from the start of the stream."""
    likely_final: bool = False
    """Not final, but what the final result will be if nothing more is said, and soon."""
    endpoint_s: float | None = None
    """Finals: audio time at which the end of the utterance was decided."""
    encoded: Encoded | None = field(default=None, repr=False)
    biased: tuple[Hypothesis, ...] = ()
    """Finals: hypotheses that only the search with the context's phrases has, in its order. `nbest` is as without."""
    passes: tuple[Pass, ...] = ()
    """Finals, also those that are only likely: the passes that the result is of."""
    skipped: tuple[Pass, ...] = ()
    """Passes that it would also be of, had there been time."""
    finalized: bool = False
    """Final because the stream was told to finalize (`StreamInput.finalize`)."""
    revision: int = 0
    """Of the options that it was recognised with (`StreamOptions.revision`)."""
