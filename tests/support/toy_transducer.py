"""A transducer that is small enough to enumerate all that it may put out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from asr.acoustic.interface import PredictorState


class SearchOnly:
    """The half of an acoustic model that a search does not use."""

    lookback, lookahead, max_chunk_frames = 0, 0, 0

    def features(self, padded: Tensor) -> Tensor:
        raise NotImplementedError

    def loudness(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def chunk_frames(self, chunk_ms: int) -> int:
        raise NotImplementedError

    def initial_state(self, streams: int) -> object:
        raise NotImplementedError

    def encode(self, features: Tensor, state: object) -> tuple[Tensor, object]:
        raise NotImplementedError


class Toy(SearchOnly):
    """Three tokens and a blank at any index, random logits that depend on the last token: small enough to enumerate."""

    frame_s, vocab_size, history = 0.04, 4, 1

    def __init__(self, seed: int, blank: int = 0) -> None:
        self.blank = blank
        self.table = 2 * torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))

    def start(self, hypotheses: int) -> tuple[Tensor, PredictorState]:
        return self.table[self.blank].repeat(hypotheses, 1), (torch.zeros(hypotheses, 1),)

    def predict(self, tokens: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        return self.table[tokens], (state[0] + 1,)

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        return encoded + predicted

    def blank_probabilities(self, encoded: Tensor) -> Tensor:
        return torch.zeros(encoded.shape[:-1])

    def ctc_scores(self, encoded: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        return torch.zeros(len(texts))


def brute_force(model: Toy, encoded: Tensor, symbols: int) -> dict[tuple[int, ...], float]:
    """log P of every token sequence, over all alignments with at most `symbols` tokens a frame."""
    prefixes: dict[tuple[int, ...], float] = {(): 0.0}
    tokens = [v for v in range(4) if v != model.blank]
    for frame in encoded:
        after: dict[tuple[int, ...], list[float]] = {}
        for prefix, score in prefixes.items():
            for n in range(symbols + 1):
                for more in itertools.product(tokens, repeat=n):
                    text, total = prefix, score
                    for token in (*more, model.blank):
                        logits = frame + model.table[text[-1] if text else model.blank]
                        total += float(logits.log_softmax(-1)[token])
                        text = (*text, token) if token != model.blank else text
                    after.setdefault(text, []).append(total)
        prefixes = {k: float(torch.tensor(v, dtype=torch.float64).logsumexp(0)) for k, v in after.items()}
    return prefixes
