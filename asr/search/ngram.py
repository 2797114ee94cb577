"""A back-off n-gram model over tokens as an automaton of tensors, which a beam search follows beside the transducer.

A state is a context that the model knows arcs for; state 0 is the empty one. What a state has no arc for is looked up
in its back-off state, the longest shorter context that is one (Katz 1987; the form of an ARPA file):

    log P(token | state) = arc's, or back-off weight of the state + log P(token | back-off state)

The blank is never part of a text, so its id stands for the text's edges: as a context for the beginning, as a
prediction for the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.errors import ModelError
from asr.tokens import Tokenizer

SHIPPED = Path(__file__).parent.parent / "weights" / "language"
_STEP = 0.07
"""Nats between stored log-probabilities, which are bytes: 0 to -17.85."""


class NGram:
    """S: states, A: arcs, V: vocabulary with the blank, N: rows of a call.

    Args:
        token: (A,) arcs state by state, tokens of a state ascending; the first V are the empty context's, one a token.
            States stand in the order of the arcs that lead to them, so shorter contexts come first.
        log_prob: (A,) natural log P(token | state), up to a factor for each state.
        children: (A,) how many arcs the context has that the arc leads to; 0: it is no state.
        left: (S,) log of the probability that the arcs of a state leave to other tokens, up to the same factor.
        tokens_hash: of the tokens that it was made for, see `hash_tokens`.
        weight, token_bonus: with which the recogniser adds it to the acoustic score: weight * (log P + token_bonus
            for each token); both fitted on dev.
    """

    def __init__(
        self,
        token: Tensor,
        log_prob: Tensor,
        children: Tensor,
        left: Tensor,
        *,
        vocab_size: int,
        tokens_hash: str,
        blank: int = Tokenizer.blank,
        weight: float = 0.0,
        token_bonus: float = 0.0,
        version: str = "unnamed",
    ) -> None:
        self.vocab_size, self.blank, self.tokens_hash, self.version = vocab_size, blank, tokens_hash, version
        self.weight, self.token_bonus = weight, token_bonus

    @property
    def start(self) -> int:
        """The state at the beginning of a text."""
        raise NotImplementedError

    def scores(self, state: Tensor) -> Tensor:
        """(N,) int64 states → (N, V) float32 natural log P(token | state); the blank's column is 0.

        A row depends on nothing but its state: the same bits whatever else is in the batch.
        """
        raise NotImplementedError

    def advance(self, state: Tensor, token: Tensor) -> Tensor:
        """(N,) states and the (N,) tokens that they read → (N,) states."""
        raise NotImplementedError

    def final(self, state: Tensor) -> Tensor:
        """(N,) states → (N,) float32 log P(the text ends here | state)."""
        raise NotImplementedError

    def score(self, tokens: Sequence[int]) -> float:
        """Natural log P of a whole text, its end included."""
        return self.score_texts([tokens])[0]

    def score_texts(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """`score` of each text, in one batch."""
        raise NotImplementedError

    def fits(self, tokenizer: Tokenizer) -> bool:
        """Whether it was made for these tokens."""
        return self.tokens_hash == hash_tokens(tokenizer)

    def to(self, device: str | torch.device) -> NGram:
        """The same model on a device."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path | str | None = None, tokenizer: Tokenizer | None = None) -> NGram:
        """The model in `folder` (None: the shipped one).

        Raises:
            ModelError: a file is missing or damaged, or the model was made for other tokens than the tokenizer's.
        """
        raise NotImplementedError

    @classmethod
    def load_shipped(cls, tokenizer: Tokenizer) -> NGram | None:
        """The shipped model; None where there is none for these tokens."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Writes config.json and ngram.safetensors."""
        raise NotImplementedError


def hash_tokens(tokenizer: Tokenizer) -> str:
    """SHA-256 of tokens.model."""
    return hashlib.sha256(tokenizer.proto).hexdigest()
