"""State and results of a beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.acoustic.interface import PredictorState
from asr.decoding.fusion import Followed
from asr.decoding.phrase_graph import PhraseGraph

Array = npt.NDArray[Any]
FRAME = 1 << 32
"""A token and its frame are kept as one number, token + FRAME * frame."""
ROOM = 64
"""Tokens that a state has room for at first, and gets more room for where they do not suffice."""


@dataclass(frozen=True)
class BeamState:
    """Hypotheses of B streams, K each, in no order. A value: no step changes it. L: room for tokens, J: joiner width.

    acoustic (B, K) float32, log P; key (B, K) int64, a hash of the token sequence; context (B, K) int64, what the
    predictor has read (`joiner_cache.Contexts`); predicted (B * K, J) and the predictor's state, on the model's
    device, None and () where the context says it all; spelled (B, K, L) int64, tokens with their frames, and emitted
    (B, K, L, 2) float32, log P of the token and of the blank when it was put out, of which the first length (B, K)
    count; time (B,) int64, frames so far; followed: where they are in language model and phrases, (B, K), None without;
    graphs: the phrases of each stream, () where none has any.
    """

    acoustic: Array
    key: Array
    context: Array
    predicted: Tensor | None
    predictor: PredictorState
    spelled: Array
    emitted: Array
    length: Array
    time: Array
    followed: Followed | None = None
    graphs: tuple[PhraseGraph | None, ...] = ()


@dataclass(frozen=True)
class Reading:
    """One hypothesis of one stream: tokens, the frame each was put out in, log-certainties, the parts of its score.

    acoustic: log P(y|x), nats; language: the language model's, the text's end included, and the token bonus, weighted;
    bias: the bonus of the phrases in it, without that of an unfinished one. Readings are ranked by the sum.
    """

    tokens: tuple[int, ...]
    frames: tuple[int, ...]
    certainty: tuple[float, ...]
    acoustic: float
    language: float = 0.0
    bias: float = 0.0

    @property
    def score(self) -> float:
        return self.acoustic + self.language + self.bias


def stack_states(states: Sequence[BeamState]) -> BeamState:
    """One batch of the states' streams, in order; they may be of different age, some with phrases and some without.

    Raises:
        ValueError: no states, or of searches that are not alike.
    """
    if not states:
        raise ValueError("no states to stack; give at least one")
    if len(states) == 1:
        return states[0]
    room = max(s.spelled.shape[2] for s in states)
    graphs = tuple(g for s in states for g in (s.graphs or (None,) * len(s.time)))
    predicted = [s.predicted for s in states if s.predicted is not None]
    return BeamState(
        acoustic=np.concatenate([s.acoustic for s in states]),
        key=np.concatenate([s.key for s in states]),
        context=np.concatenate([s.context for s in states]),
        predicted=torch.cat(predicted) if predicted else None,
        predictor=tuple(torch.cat(parts) for parts in zip(*(s.predictor for s in states), strict=True)),
        spelled=np.concatenate([with_room(s.spelled, room) for s in states]),
        emitted=np.concatenate([with_room(s.emitted, room) for s in states]),
        length=np.concatenate([s.length for s in states]),
        time=np.concatenate([s.time for s in states]),
        followed=_stack_followed(states),
        graphs=graphs if any(graphs) else (),
    )


def with_room(x: Array, room: int) -> Array:
    """(B, K, L, ...) with zeros behind, up to L = room."""
    if room == x.shape[2]:
        return x
    return np.pad(x, [(0, 0), (0, 0), (0, room - x.shape[2]), *[(0, 0)] * (x.ndim - 3)])


def _stack_followed(states: Sequence[BeamState]) -> Followed | None:
    """Phrases that one stream has and another has not are at their beginning, with nothing to bring, in the other."""
    there = [s.followed for s in states if s.followed is not None]
    if not there:
        return None
    spoken = any(f.spoken for f in there)
    if spoken and not all(s.followed and s.followed.spoken for s in states):
        raise ValueError("states of searches with and without a language model do not stack")
    parts = [
        s.followed
        or Followed(np.zeros((3, *s.acoustic.shape), np.float32), np.zeros((2, *s.acoustic.shape), np.int64), spoken)
        for s in states
    ]
    return Followed(np.concatenate([p.nats for p in parts], 1), np.concatenate([p.states for p in parts], 1), spoken)


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
                state.acoustic[one], state.key[one], state.context[one],
                None if state.predicted is None else state.predicted[rows], tuple(p[rows] for p in state.predictor),
                state.spelled[one], state.emitted[one], state.length[one], state.time[one],
                _unstack_followed(state.followed, one, any(graphs)), graphs if any(graphs) else (),
            )
        )  # fmt: skip
    return out


def _unstack_followed(followed: Followed | None, one: slice, phrases: bool) -> Followed | None:
    if followed is None or not (phrases or followed.spoken):
        return None
    return Followed(followed.nats[:, one], followed.states[:, one], followed.spoken)
