"""RNN-T (Graves 2012, arXiv:1211.3711): encoder, stateless predictor (Ghodsi et al. 2020), joiner, CTC head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.acoustic.config import ModelConfig
from asr.acoustic.encoder import LOOKAHEAD, LOOKBACK, Encoder
from asr.acoustic.interface import PredictorState
from asr.acoustic.streaming import EncoderState, StreamingEncoder
from asr.audio.features import log_mel, loudness
from asr.errors import ModelError

MAX_CHUNK_FRAMES = 1200
"""Feature frames, 12 s, that are encoded as one chunk at most: training's utterances are no longer than 16 s, and in
longer chunks more words are wrong (recipes/acoustic/NOTEBOOK.md, *Long streams*)."""


class Predictor(nn.Module):
    """A stateless predictor: a function of the last `history` tokens only (Ghodsi et al. 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.history = config.history
        self.blank = config.blank
        self.embedding = nn.Embedding(config.vocab_size, config.joined)
        self.mix = nn.Conv1d(config.joined, config.joined, config.history, groups=config.joined)
        self.out = nn.Linear(config.joined, config.joined)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, U) int64 → (B, U + 1, joined): position u has read the first u tokens."""
        return self.step(F.pad(tokens, (self.history, 0), value=self.blank).unfold(1, self.history, 1))

    def step(self, history: Tensor) -> Tensor:
        """History (..., 2) int64, oldest first, blank where there is none → (..., joined)."""
        embedded = self.embedding(history)
        mixed = (embedded * self.mix.weight[:, 0].T).sum(-2) + self.mix.bias
        return self.out(F.relu(mixed))


class Transducer(nn.Module):
    """The acoustic model; `encode`, `start`, `predict` and `join` are its `AcousticModel` side.

    B: utterances, F: feature frames (10 ms), T: encoded frames (40 ms), U: tokens, V: vocabulary with the blank.

    In evaluation mode `encode` works with a packed copy of the encoder's weights, made at its first call, which a
    recogniser makes when it is loaded; `train`, `load_state_dict` and `to` drop the copy. Weights that are changed in
    place are changed in training mode.
    """

    frame_s = 0.04
    lookback, lookahead = LOOKBACK, LOOKAHEAD

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.blank, self.vocab_size, self.history = config.blank, config.vocab_size, config.history
        self.join_width = config.joined + config.vocab_size
        self.encoder = Encoder(config)
        self.predictor = Predictor(config)
        self.join_in = nn.Linear(config.encoded, config.joined)
        self.join_out = nn.Linear(config.joined, config.vocab_size)
        self.ctc_out = nn.Linear(config.encoded, config.vocab_size)
        self._inference: StreamingEncoder | None = None
        self._joining: tuple[Tensor, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_inference": None, "_joining": None}  # a copy's weights may be changed

    def train(self, mode: bool = True) -> Transducer:
        """Switch to training or back; what was packed for inference is dropped."""
        self._inference = self._joining = None
        return super().train(mode)

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        """Load weights; what was packed for inference is dropped."""
        self._inference = self._joining = None
        return super().load_state_dict(*arguments, **options)

    def _apply(self, *arguments: Any, **options: Any) -> Transducer:
        self._inference = self._joining = None
        return super()._apply(*arguments, **options)

    def _streaming(self) -> StreamingEncoder:
        inference = self._inference
        if inference is None:
            inference = StreamingEncoder(self.encoder, [self.join_in, self.ctc_out], exact=self.training)
            self._inference = None if self.training else inference
        return inference

    @property
    def max_chunk_frames(self) -> int:
        """Feature frames that `encode` reads as one chunk, at most."""
        return min(MAX_CHUNK_FRAMES, 2 * self.config.positions)

    def features(self, padded: Tensor) -> Tensor:
        """See `AcousticModel`."""
        return log_mel(padded)

    def loudness(self, features: Tensor) -> Tensor:
        """See `AcousticModel`."""
        return loudness(features)

    def chunk_frames(self, chunk_ms: int) -> int:
        """See `AcousticModel`."""
        frames = chunk_ms // 10
        if chunk_ms % 40 or not 0 < frames // 2 <= self.config.past:
            raise ModelError(f"chunk_ms is {chunk_ms}; use a multiple of 40, at most {20 * self.config.past}")
        return frames

    def initial_state(self, streams: int) -> EncoderState:
        """See `AcousticModel`."""
        return self._streaming().initial_state(streams)

    def encode(self, features: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """See `AcousticModel`."""
        return self._streaming().step(features, state)

    def start(self, hypotheses: int) -> tuple[Tensor, PredictorState]:
        """See `AcousticModel`."""
        shape = (hypotheses, self.config.history)
        history = torch.full(shape, self.blank, dtype=torch.int64, device=self.join_out.weight.device)
        return self.predictor.step(history), (history,)

    def predict(self, tokens: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """See `AcousticModel`."""
        history = torch.cat([state[0][:, 1:], tokens[:, None]], 1)
        return self.predictor.step(history), (history,)

    def join_encoded(self, encoded: Tensor) -> Tensor:
        """The joiner's input from the encoder, (..., encoded) → (..., join_width): a projection, then CTC logits."""
        return torch.cat([self.join_in(encoded), self.ctc_out(encoded)], -1)

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Logits of `join_encoded`'s (..., join_width) and the predictor's (..., joined) outputs, broadcast → (..., V).

        The joiner adds to the CTC head's logits what the last tokens change about them, so that RNN-T starts where CTC
        is and learns the rest.
        """
        width = self.config.joined
        hidden, ctc = encoded[..., :width], encoded[..., width:]
        if self.training or torch.is_grad_enabled():
            return self.join_out(torch.tanh(hidden + predicted)) + ctc
        weight, bias = self._joiner()
        return F.linear(torch.sigmoid(torch.add(predicted + predicted, hidden, alpha=2)), weight, bias).add_(ctc)

    def _joiner(self) -> tuple[Tensor, Tensor]:
        """`join_out` to be used behind sigmoid(2 x).

        torch computes that in a third of the time of tanh(x), which is twice that less one.
        """
        if self._joining is None:
            weight, bias = self.join_out.weight.detach(), self.join_out.bias.detach()
            self._joining = (2 * weight, bias - weight.sum(1))
        return self._joining

    def ctc(self, encoded: Tensor) -> Tensor:
        """(B, T, encoded) → (B, T, V) log-probabilities."""
        return self.ctc_out(encoded).log_softmax(-1)

    def blank_probabilities(self, encoded: Tensor) -> Tensor:
        """(..., join_width) → (...), the blank's probability by the CTC head."""
        return encoded[..., self.config.joined :].softmax(-1)[..., self.blank]

    def ctc_scores(self, encoded: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Log P(y|x) by the CTC head (Graves et al. 2006), nats, (T, join_width) → (N,).

        A text that is too long for so few frames counts as guessed, each frame and token at 1 / V.
        """
        frames, max_length = len(encoded), max(map(len, texts), default=0)
        guessed = -math.log(self.vocab_size) * (frames + torch.tensor([len(t) for t in texts]))
        if not frames or not texts:
            return guessed
        tokens = torch.zeros(len(texts), max(1, max_length), dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            row[: len(text)] = torch.tensor(text, dtype=torch.int64)
        log_probs = encoded[:, self.config.joined :].log_softmax(-1).cpu()
        loss = F.ctc_loss(
            log_probs[:, None].expand(-1, len(texts), -1),
            tokens,
            torch.full((len(texts),), frames),
            torch.tensor([len(t) for t in texts]),
            blank=self.blank,
            reduction="none",
        )
        return torch.where(loss.isinf(), guessed, -loss)
