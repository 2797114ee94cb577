"""The interface of acoustic models, which the chunked transducer and torchaudio's Emformer have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

PredictorState = tuple[Tensor, ...]
"""Tensors whose first dimension is the hypothesis, so that a search can pick rows."""


class AcousticModel(Protocol):
    """B: streams, N: hypotheses, F: feature frames, T: encoded frames, J: joiner width, V: vocabulary."""

    blank: int
    vocab_size: int
    frame_s: float
    """Seconds between encoded frames."""
    lookback: int
    lookahead: int
    """Feature frames (10 ms) before and after a chunk that `encode` reads with it."""

    @property
    def max_chunk_frames(self) -> int:
        """Feature frames that `encode` can read as one chunk, at most; 0: its chunks are of one length."""
        ...

    @property
    def history(self) -> int | None:
        """Last tokens that the predictor's output depends on (a stateless predictor); None: all."""
        ...

    def features(self, padded: Tensor) -> Tensor:
        """Samples padded by 200 on both sides, (..., 240 + 160 F) → (..., F, 80)."""
        ...

    def loudness(self, features: Tensor) -> Tensor:
        """(..., 80) features → (...), the loudest band's power, in dB over a level that is the model's own."""
        ...

    def chunk_frames(self, chunk_ms: int) -> int:
        """Feature frames in a chunk of about that length; raises ModelError where the model cannot do it."""
        ...

    def initial_state(self, streams: int) -> Any:
        """The encoder's state before the first chunk."""
        ...

    def encode(self, features: Tensor, state: Any) -> tuple[Tensor, Any]:
        """(B, lookback + chunk + lookahead, 80) → (B, T, J) ready for `join`, new state."""
        ...

    def start(self, hypotheses: int) -> tuple[Tensor, PredictorState]:
        """The predictor before the first token: (N, J) and its state."""
        ...

    def predict(self, tokens: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """(N,) int64 tokens read → (N, J) and the new state."""
        ...

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """(..., J) and (..., J), broadcast → logits (..., V)."""
        ...

    def blank_probabilities(self, encoded: Tensor) -> Tensor:
        """(..., J) encoded frames → (...), the blank's probability by a CTC head; zeros without one."""
        ...

    def ctc_scores(self, encoded: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """(T, J) encoded frames → (N,) log P of each text's tokens by a CTC head, nats; zeros without one."""
        ...
