"""Phrases to expect, as an automaton of tensors that a beam search follows beside the transducer.

Rules (the table in tests/asr/test_search_graph.py says them by example):

1. A phrase matches whole words: from a word's start to a word's end, in whatever way the tokens spell it.
2. Text is read from left to right. At each word the longest phrase that begins there is taken and the text behind it is
   read on; where none begins, the next word is tried. So no word is in two matches.
3. A phrase said again directly behind itself extends its match: a run of one phrase is granted once.
4. A match grants its phrase's weight. While a phrase is being spelled it is granted in parts, letter by letter; what
   an unfinished phrase was granted is taken back when it is left and at the end of the text.

The automaton is that of Aho and Corasick (1975), its failure links changed to give leftmost-longest matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from asr.tokens import Tokenizer

MAX_WEIGHT = 20.0
"""Nats that a phrase may be raised or lowered by; more counts as this much."""


@dataclass(frozen=True)
class BoostedPhrase:
    """A phrase to expect.

    text: as a user writes it; it is normalised. weight: nats that a reading with it gains, -MAX_WEIGHT to MAX_WEIGHT.
    signal: where it is from, for reports.
    """

    text: str
    weight: float = 6.0
    signal: str = ""


@dataclass(frozen=True)
class PhraseGraph:
    """Phrases of one stream, compiled; a value that any number of streams share. V: vocabulary. State 0 is the
    beginning. Without accepted phrases it is false.

    accepted: the phrases taken; dropped: those that were not, each with the reason.
    """

    accepted: tuple[BoostedPhrase, ...]
    dropped: tuple[tuple[BoostedPhrase, str], ...]

    def __len__(self) -> int:
        return len(self.accepted)

    def bonus(self, tokens: Sequence[int]) -> float:
        """Nats that a whole text gains, without those of an unfinished phrase."""
        raise NotImplementedError

    def gains(self, state: Tensor) -> Tensor:
        """(N,) states → (N, V) nats that each token brings, refunds included; the blank's column is 0."""
        raise NotImplementedError

    def advance(self, state: Tensor, token: Tensor) -> Tensor:
        """(N,) states and the (N,) tokens that they read → (N,) states."""
        raise NotImplementedError

    def final(self, state: Tensor) -> Tensor:
        """(N,) states → (N,) nats to add at the end of the text: the refund of an unfinished phrase, at most 0."""
        raise NotImplementedError


def compile_phrases(phrases: Sequence[BoostedPhrase], tokenizer: Tokenizer) -> PhraseGraph:
    """The graph of the phrases; of a phrase that is there twice the larger weight counts."""
    raise NotImplementedError


class PhraseCompiler:
    """Compiles phrases and keeps the graphs used last, by content. Threads may share one.

    Args:
        size: graphs kept.
    """

    def __init__(self, tokenizer: Tokenizer, size: int = 32) -> None:
        raise NotImplementedError

    def compile(self, phrases: Sequence[BoostedPhrase]) -> PhraseGraph:
        """The graph of the phrases, from the cache if they were compiled before."""
        raise NotImplementedError
