"""What a recogniser says: words, hypotheses, results."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

import torch

from asr.recognition.calibration import Evidence
from asr.second_pass.second_pass import Attended


class Pass(Enum):
    """A way in which an utterance was heard."""

    STREAMING = "streaming"
    """Chunk by chunk, as it came in."""
    WHOLE_UTTERANCE = "whole utterance"
    """Encoded and searched once more, as a whole, when it had ended."""
    ATTENTION = "attention"
    """Heard as a whole by the attention decoder, which adds texts and scores."""
    CONTEXT_PHRASES = "context phrases"
    """Searched once more, led by the phrases of a context."""


@dataclass(frozen=True)
class Word:
    """One recognised word; times in seconds from the start of the stream, confidence 0 to 1.

    confidence: the probability that the word was said, where the models are calibrated (`calibration`); else the
    mean of its tokens' probabilities. evidence: what a calibration is fitted to; None without a language model.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float
    evidence: Evidence | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Hypothesis:
    """One reading of an utterance; the parts of its score are kept apart, in nats."""

    text: str
    """Lower-case words, apostrophes kept, single spaces."""
    acoustic: float
    """log P(y|x): the search's estimate, or exact where it was forced; in final results with the CTC head's share."""
    language: float = 0.0
    """The language model's share, weighted, with the bonus for each token."""
    bias: float = 0.0
    """The bonus for phrases that were expected."""
    context: float = 0.0
    attention: float = 0.0
    """log P(text | audio) of the attention decoder's, weighted, with the bonus for each word and what it makes up for
    of the others' scores (`asr.fitted`); 0 where it did not hear the utterance."""
    tokens: tuple[int, ...] = ()
    token_times: tuple[float, ...] = ()
    """When each token was put out, seconds from the start of the stream."""
    words: tuple[Word, ...] = ()
    confidence: float = 0.0
    """Mean of the words' confidences."""
    from_context: bool = False
    """True for a candidate that came from the context and not from the search."""
    written: str = ""
    """The likeliest written form by the attention decoder, cased and punctuated; "": it did not hear the utterance."""

    @property
    def score(self) -> float:
        return self.acoustic + self.language + self.attention + self.bias + self.context


@dataclass(frozen=True)
class Encoded:
    """An utterance's encoder output, kept for forced scoring.

    frames: (T, D) float32; start_s: time of the first frame's start, seconds from the start of the stream. attention:
    what the attention decoder reads of the utterance, and the texts that it wrote itself; None: it did not hear it.
    sound: which frames hold sound (`word_times`); empty: not known. end_s: of the audio, in the stream. least: nats
    below which the transducer's and language model's scores of a text do not count where the attention decoder has
    heard it (`asr.fitted`).
    """

    frames: torch.Tensor
    start_s: float
    attention: Attended | None = None
    sound: tuple[bool, ...] = ()
    end_s: float = math.inf
    least: float = -math.inf


@dataclass(frozen=True)
class Result:
    """A partial or final result of one utterance."""

    nbest: tuple[Hypothesis, ...]
    """Best first, never empty; silence is one hypothesis with an empty text."""
    is_final: bool
    stability: float
    """0 to 1: the share of the beam's probability in readings that begin with the words shown; 1 on finals, also on
    those that are only likely."""
    start_s: float
    end_s: float
    likely_final: bool = False
    """Not final, but what the final result will be if nothing more is said, and soon."""
    endpoint_s: float | None = None
    """Finals: audio time at which the end of the utterance was decided."""
    encoded: Encoded | None = field(default=None, repr=False)
    biased: tuple[Hypothesis, ...] = ()
    """Finals: readings that only the search led by the context's phrases has, in its order. `nbest` is as without."""
    passes: tuple[Pass, ...] = ()
    """Finals, also those that are only likely: the passes that the result is of."""
    skipped: tuple[Pass, ...] = ()
    """Passes that it would also be of, had there been time."""
