"""State and results of a beam search: hypotheses as arrays, back-pointers within a block of frames, n-best entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.acoustic.interface import PredictorState
from asr.decoding.fusion import FusionState
from asr.decoding.phrase_graph import PhraseGraph

Array = npt.NDArray[Any]
FRAME = 1 << 32
"""A token and its frame are kept as one number, token + FRAME * frame."""
ROOM = 64
"""Tokens that a state has room for at first; it gets as much more where they do not suffice."""


@dataclass(frozen=True)
class BeamState:
    """Hypotheses of B streams, K each, in no order.

    A value: a step returns a new state and leaves this one as it was. L: room for tokens, J: width of the joiner.
    """

    acoustic: Array
    """(B, K) float32, log P(y|x) of the tokens so far, nats; -inf where there is no hypothesis."""
    prefix: Array
    """(B, K) int64, a hash of the token sequence."""
    context: Array
    """(B, K) int64, the predictor's context (`joiner_cache.PredictorCache`)."""
    predicted: Tensor | None
    """(B * K, J) the predictor's output on the model's device; None where the context says it all."""
    predictor: PredictorState
    """The predictor's state, (B * K, ...) each; () where the context says it all."""
    tokens: Array
    """(B, K, L) int64, tokens with their frames (`FRAME`), of which the first `length` count."""
    log_probs: Array
    """(B, K, L, 2) float32, log P of each token and of the blank in the frame that emitted it."""
    length: Array
    """(B, K) int64, tokens of each hypothesis."""
    time: Array
    """(B,) int64, frames that each stream has read."""
    fusion: FusionState | None = None
    """(B, K) scores and states of shallow fusion; None without."""
    graphs: tuple[PhraseGraph | None, ...] = ()
    """The phrases of each stream; () where none has any."""


@dataclass(frozen=True)
class NBestEntry:
    """One hypothesis of one stream. Entries are ranked by `score`."""

    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    """The frame in which each token was emitted."""
    log_confidence: tuple[float, ...]
    """log P of each token given that its frame emits one, nats."""
    acoustic: float
    """log P(y|x), nats."""
    language: float = 0.0
    """The language model's weighted score, the end of the text included, and the token bonus, nats."""
    bias: float = 0.0
    """The bonus of the phrases in it, without that of an unfinished one, nats."""

    @property
    def score(self) -> float:
        """The sum of the parts, nats."""
        return self.acoustic + self.language + self.bias


class Backpointers:
    """The tokens that N = B * K hypotheses emit in a block of frames, each with a pointer to the token before.

    A hypothesis keeps a pointer to its last token, so that nothing is copied when hypotheses change places; tokens,
    frames and scores are traced back once, when the block ends. A pointer below N is a hypothesis as it was when the
    block began, others are tokens emitted since.

    Args:
        state: before the block.
        frames: (T,) frames of the block, counted from the state's time.
    """

    def __init__(self, state: BeamState, frames: Array) -> None:
        self._when = FRAME * frames
        self._state, self._begun = state, state.length.size
        self._used = self._begun
        self._columns: list[tuple[Array, Array, Array, Array]] = []

    def add(self, before: Array, token: Array, frame: int, score: Array, blank: Array) -> Array:
        """Record (M,) tokens emitted in a frame of the block behind pointers `before`.

        Args:
            score: log P of each token.
            blank: log P of the blank instead.

        Returns:
            (M,) pointers to the tokens.
        """
        self._columns.append((before, token + self._when[frame], score, blank))
        first, self._used = self._used, self._used + len(token)
        return np.arange(first, self._used)

    def trace_back(self, pointer: Array) -> tuple[Array, Array, Array]:
        """`BeamState.tokens`, `log_probs` and `length` of hypotheses at (N,) pointers."""
        state, (streams, beam, room) = self._state, self._state.tokens.shape
        if not self._columns:
            return state.tokens, state.log_probs, state.length
        before, step, score, blank = (np.concatenate(column) for column in zip(*self._columns, strict=True))
        before, chain = np.concatenate([np.arange(self._begun), before]), [pointer]
        while chain[-1].max() >= self._begun:
            chain.append(before.take(chain[-1]))
        at = np.stack(chain)  # last tokens first; what was there when the block began leads to itself
        back, row = (at >= self._begun).nonzero()
        token, origin = at[back, row] - self._begun, chain[-1]
        length = state.length.take(origin) + np.bincount(row, minlength=self._begun)
        if length.max() > room:
            room = int(length.max()) + ROOM
        tokens = with_room(state.tokens, room).reshape(-1, room).take(origin, 0)
        log_probs = with_room(state.log_probs, room).reshape(-1, room, 2).take(origin, 0)
        to = row * room + length.take(row) - 1 - back
        tokens.reshape(-1)[to] = step.take(token) + FRAME * state.time.take(row // beam)
        log_probs.reshape(-1, 2)[to] = np.stack([score, blank], 1).take(token, 0)
        return (
            tokens.reshape(streams, beam, room),
            log_probs.reshape(streams, beam, room, 2),
            length.reshape(streams, beam),
        )


def with_room(x: Array, room: int) -> Array:
    """(B, K, L, ...) with zeros behind, up to L = room."""
    if room == x.shape[2]:
        return x
    return np.pad(x, [(0, 0), (0, 0), (0, room - x.shape[2]), *[(0, 0)] * (x.ndim - 3)])


def stack_states(states: Sequence[BeamState]) -> BeamState:
    """One batch of the states' streams, in order; they may be of different age, some with phrases and some without.

    Raises:
        ValueError: no states, or of searches that are not alike.
    """
    if not states:
        raise ValueError("no states to stack; give at least one")
    if len(states) == 1:
        return states[0]
    room = max(s.tokens.shape[2] for s in states)
    graphs = tuple(g for s in states for g in (s.graphs or (None,) * len(s.time)))
    predicted = [s.predicted for s in states if s.predicted is not None]
    return BeamState(
        acoustic=np.concatenate([s.acoustic for s in states]),
        prefix=np.concatenate([s.prefix for s in states]),
        context=np.concatenate([s.context for s in states]),
        predicted=torch.cat(predicted) if predicted else None,
        predictor=tuple(torch.cat(parts) for parts in zip(*(s.predictor for s in states), strict=True)),
        tokens=np.concatenate([with_room(s.tokens, room) for s in states]),
        log_probs=np.concatenate([with_room(s.log_probs, room) for s in states]),
        length=np.concatenate([s.length for s in states]),
        time=np.concatenate([s.time for s in states]),
        fusion=_stack_fusion(states),
        graphs=graphs if any(graphs) else (),
    )


def _stack_fusion(states: Sequence[BeamState]) -> FusionState | None:
    """Phrases that one stream has and another has not are at their beginning, with nothing to add, in the other."""
    there = [s.fusion for s in states if s.fusion is not None]
    if not there:
        return None
    has_language = any(f.has_language for f in there)
    if has_language and not all(s.fusion and s.fusion.has_language for s in states):
        raise ValueError("states of searches with and without a language model do not stack")
    parts = [s.fusion or FusionState.empty(s.acoustic.shape, has_language) for s in states]
    scores, places = np.concatenate([p.scores for p in parts], 1), np.concatenate([p.states for p in parts], 1)
    return FusionState(scores, places, has_language)


def unstack_states(state: BeamState) -> list[BeamState]:
    """The state of each stream; `stack_states` puts them together again."""
    streams, beam = state.acoustic.shape
    if streams == 1:
        return [state]
    out = []
    for b in range(streams):
        one, rows = slice(b, b + 1), slice(b * beam, (b + 1) * beam)
        graphs = state.graphs[one] if state.graphs else ()
        out.append(
            BeamState(
                acoustic=state.acoustic[one],
                prefix=state.prefix[one],
                context=state.context[one],
                predicted=None if state.predicted is None else state.predicted[rows],
                predictor=tuple(p[rows] for p in state.predictor),
                tokens=state.tokens[one],
                log_probs=state.log_probs[one],
                length=state.length[one],
                time=state.time[one],
                fusion=_unstack_fusion(state.fusion, one, any(graphs)),
                graphs=graphs if any(graphs) else (),
            )
        )
    return out


def _unstack_fusion(fusion: FusionState | None, one: slice, phrases: bool) -> FusionState | None:
    if fusion is None or not (phrases or fusion.has_language):
        return None
    return FusionState(fusion.scores[:, one], fusion.states[:, one], fusion.has_language)
