"""Frame-synchronous RNN-T beam search, vectorised over streams × beam.

In a frame every hypothesis may put out up to `symbols` tokens before its blank. Hypotheses that spell the same token
sequence are merged by adding their probabilities, so a score estimates log P(y|x), not that of one alignment
(Graves 2012, section 2.5, with the frame-synchronous pruning of Saon et al. 2020, "alignment-length synchronous").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.model.interface import AcousticModel, PredictorState
from asr.search.graph import PhraseGraph
from asr.search.ngram import NGram

_PRIME = 1_000_003
_GROW = 64


@dataclass(frozen=True)
class BeamState:
    """Hypotheses of B streams, K each, best first. L: room for tokens, J: joiner width.

    score (B, K) float32, log P; predicted (B, K, J) and predictor state, rows in the same order; key (B, K) int64, a
    hash of the token sequence; tokens, frames (B, K, L) int64 and certainty (B, K, L) float32 (log P of the token given
    that one is put out), of which the first length (B, K) count; time (B,) int64, frames so far.
    """

    score: Tensor
    predicted: Tensor
    predictor: PredictorState
    key: Tensor
    tokens: Tensor
    frames: Tensor
    certainty: Tensor
    length: Tensor
    time: Tensor


@dataclass(frozen=True)
class Reading:
    """One hypothesis of one stream: tokens, the frame each was put out in, log-certainties, the parts of its score.

    acoustic: log P(y|x), nats; language: the language model's and the token bonus, weighted; bias: the bonus of the
    phrases in it, without that of an unfinished one. Readings are ranked by the sum.
    """

    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    certainty: tuple[float, ...]
    acoustic: float
    language: float = 0.0
    bias: float = 0.0


def _pick(state: BeamState, rows: Tensor) -> BeamState:
    """Hypotheses `rows` (B, K') of each stream."""

    def take(x: Tensor) -> Tensor:
        return x.gather(1, rows.reshape(*rows.shape, *[1] * (x.ndim - 2)).expand(*rows.shape, *x.shape[2:]))

    streams, beam = state.score.shape
    predictor = tuple(take(s.unflatten(0, (streams, beam))).flatten(0, 1) for s in state.predictor)
    return BeamState(
        take(state.score), take(state.predicted), predictor, take(state.key), take(state.tokens), take(state.frames),
        take(state.certainty), take(state.length), state.time,
    )  # fmt: skip


def _cat(a: BeamState, b: BeamState) -> BeamState:
    """Both states' hypotheses side by side."""

    def join(x: Tensor, y: Tensor) -> Tensor:
        return torch.cat([x, y], 1)

    streams = len(a.score)
    predictor = tuple(
        join(x.unflatten(0, (streams, -1)), y.unflatten(0, (streams, -1))).flatten(0, 1)
        for x, y in zip(a.predictor, b.predictor, strict=True)
    )
    return BeamState(
        join(a.score, b.score), join(a.predicted, b.predicted), predictor, join(a.key, b.key),
        join(a.tokens, b.tokens), join(a.frames, b.frames), join(a.certainty, b.certainty),
        join(a.length, b.length), a.time,
    )  # fmt: skip


def _merge(state: BeamState, beam: int) -> BeamState:
    """Adds up hypotheses with equal tokens and keeps the `beam` best, best first."""
    same = state.key[:, :, None] == state.key[:, None]
    total = torch.where(same, state.score[:, None], -torch.inf).logsumexp(-1)
    best = torch.where(same, state.score[:, None], -torch.inf).amax(-1)
    rank = torch.arange(same.shape[1], device=same.device)
    # the likeliest alignment's times stand for all; of equals the first
    ahead = same & (state.score[:, None] == best[:, :, None])
    first = torch.where(ahead, rank, len(rank)).amin(-1) == rank
    score, rows = torch.where(first, total, -torch.inf).topk(beam, dim=1)
    return replace(_pick(state, rows), score=score)


def stack_states(states: Sequence[BeamState]) -> BeamState:
    """One batch of the states' streams, in order; they may be of different age."""
    raise NotImplementedError


def unstack_states(state: BeamState) -> list[BeamState]:
    """The state of each stream; `stack_states` puts them together again."""
    raise NotImplementedError


class BeamSearch:
    """Batched beam search over `model`.

    Args:
        beam: hypotheses kept for each stream.
        symbols: most tokens of one hypothesis in one frame.
        language: followed by every hypothesis; None: none.
        language_weight: by which log P(token | history) is multiplied.
        token_bonus: nats for each token, against the shortness that both models prefer; counted in `language`.
    """

    def __init__(
        self,
        model: AcousticModel,
        beam: int = 8,
        symbols: int = 3,
        language: NGram | None = None,
        language_weight: float = 0.0,
        token_bonus: float = 0.0,
    ) -> None:
        if beam < 1 or symbols < 1:
            raise ValueError(f"beam is {beam} and symbols {symbols}; both must be at least 1")
        self.model, self.beam, self.symbols = model, beam, symbols
        self.language, self.language_weight, self.token_bonus = language, language_weight, token_bonus

    def start(self, streams: int) -> BeamState:
        """One empty hypothesis for each stream."""
        predicted, predictor = self.model.start(streams * self.beam)
        device, shape = predicted.device, (streams, self.beam)
        score = torch.full(shape, -torch.inf, device=device)
        score[:, 0] = 0.0

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        return BeamState(
            score=score,
            predicted=predicted.unflatten(0, shape),
            predictor=predictor,
            key=-torch.arange(self.beam, device=device).repeat(streams, 1),
            tokens=zeros(*shape, _GROW),
            frames=zeros(*shape, _GROW),
            certainty=torch.zeros((*shape, _GROW), device=device),
            length=zeros(*shape),
            time=zeros(streams),
        )

    def step(self, encoded: Tensor, state: BeamState, graphs: Sequence[PhraseGraph | None] = ()) -> BeamState:
        """Reads (B, T, J) encoded frames of each stream.

        Args:
            graphs: each stream's phrases or None, the same from its first frame to its last; empty: none has any.
        """
        for t in range(encoded.shape[1]):
            state = self._frame(encoded[:, t], state)
        return state

    def _frame(self, encoded: Tensor, state: BeamState) -> BeamState:
        active, done = self._with_room(state), None
        for symbol in range(self.symbols + 1):
            scores = self.model.join(encoded[:, None], active.predicted).log_softmax(-1)
            blank = scores[..., self.model.blank]
            ended = replace(active, score=active.score + blank)
            done = ended if done is None else _cat(done, ended)
            done = _merge(done, done.score.shape[1])
            if symbol == self.symbols:
                break
            scores[..., self.model.blank] = -torch.inf
            grown, picks = (active.score[..., None] + scores).flatten(1).topk(self.beam, dim=1)
            # an extension can only lose from here: below the worst ended hypothesis that will be kept it is out
            grown = grown.masked_fill(grown <= done.score[:, self.beam - 1, None], -torch.inf)
            if bool(torch.isinf(grown).all()):
                break
            active = self._extend(active, grown, picks, scores, blank)
        assert done is not None
        return replace(_merge(done, self.beam), time=state.time + 1)

    def _with_room(self, state: BeamState) -> BeamState:
        """The same state with room for all tokens that a frame may bring."""
        if int(state.length.max()) + self.symbols <= state.tokens.shape[-1]:
            return state
        tokens, frames, certainty = (F.pad(x, (0, _GROW)) for x in (state.tokens, state.frames, state.certainty))
        return replace(state, tokens=tokens, frames=frames, certainty=certainty)

    def _extend(self, state: BeamState, score: Tensor, picks: Tensor, scores: Tensor, blank: Tensor) -> BeamState:
        vocab = scores.shape[-1]
        rows, token = picks // vocab, picks % vocab
        emitted = scores.flatten(1).gather(1, picks) - torch.log1p(-blank.exp().clamp(max=1 - 1e-6)).gather(1, rows)
        state = _pick(state, rows)
        at = state.length[..., None]
        predicted, predictor = self.model.predict(token.flatten(), state.predictor)
        return replace(
            state,
            score=score,
            predicted=predicted.unflatten(0, token.shape),
            predictor=predictor,
            key=state.key * _PRIME + token + 1,
            tokens=state.tokens.scatter(2, at, token[..., None]),
            frames=state.frames.scatter(2, at, state.time[:, None, None].expand_as(at)),
            certainty=state.certainty.scatter(2, at, emitted[..., None]),
            length=state.length + 1,
        )

    def nbest(self, state: BeamState, stream: int) -> list[Reading]:
        """The hypotheses of one stream, best first."""
        out = []
        for k in range(self.beam):
            score, n = float(state.score[stream, k]), int(state.length[stream, k])
            if score > -torch.inf:
                parts = (x[stream, k, :n].tolist() for x in (state.tokens, state.frames, state.certainty))
                tokens, frames, certainty = map(tuple, parts)
                out.append(Reading(tokens, frames, certainty, score))
        return out
