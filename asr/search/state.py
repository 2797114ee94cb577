"""State and results of a beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.model.interface import PredictorState
from asr.search.follow import Followed
from asr.search.graph import PhraseGraph

FRAME = 1 << 32
"""A token and its frame are kept as one number, token + FRAME * frame."""


@dataclass(frozen=True)
class BeamState:
    """Hypotheses of B streams, K each, in no order. A value: no step changes it. L: room for tokens, J: joiner width.

    acoustic (B, K) float32, log P; predicted (B, K, J) and the predictor's state, rows in the same order; key (B, K)
    int64, a hash of the token sequence; spelled (B, K, L) int64, tokens with their frames, and emitted (B, K, L, 2)
    float32, log P of the token and of the blank when it was put out, of which the first length (B, K) count; time
    (B,) int64, frames so far; followed: the states in language model and phrases, None without; graphs: the phrases of
    each stream, () where none has any.
    """

    acoustic: Tensor
    predicted: Tensor
    predictor: PredictorState
    key: Tensor
    spelled: Tensor
    emitted: Tensor
    length: Tensor
    time: Tensor
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
    return BeamState(
        acoustic=torch.cat([s.acoustic for s in states]),
        predicted=torch.cat([s.predicted for s in states]),
        predictor=tuple(torch.cat(parts) for parts in zip(*(s.predictor for s in states), strict=True)),
        key=torch.cat([s.key for s in states]),
        spelled=torch.cat([F.pad(s.spelled, (0, room - s.spelled.shape[2])) for s in states]),
        emitted=torch.cat([F.pad(s.emitted, (0, 0, 0, room - s.emitted.shape[2])) for s in states]),
        length=torch.cat([s.length for s in states]),
        time=torch.cat([s.time for s in states]),
        followed=_stack_followed(states),
        graphs=graphs if any(graphs) else (),
    )


def _stack_followed(states: Sequence[BeamState]) -> Followed | None:
    """Phrases that one stream has and another has not are at their beginning, with nothing to bring, in the other."""
    there = [s.followed for s in states if s.followed is not None]
    if not there:
        return None
    if (
        len({f.language is None for f in there} | {s.followed is None for s in states if there[0].language is not None})
        > 1
    ):
        raise ValueError("states of searches with and without a language model do not stack")
    columns: dict[str, Tensor | None] = {}
    for name in (f.name for f in fields(Followed)):
        parts = [None if s.followed is None else getattr(s.followed, name) for s in states]
        like = next((p for p in parts if p is not None), None)
        columns[name] = (
            None
            if like is None
            else torch.cat(
                [
                    like.new_zeros((*s.acoustic.shape, *like.shape[2:])) if p is None else p
                    for s, p in zip(states, parts, strict=True)
                ]
            )
        )
    return Followed(**columns)


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
                state.acoustic[one], state.predicted[one], tuple(p[rows] for p in state.predictor), state.key[one],
                state.spelled[one], state.emitted[one], state.length[one], state.time[one],
                _unstack_followed(state.followed, one, any(graphs)), graphs if any(graphs) else (),
            )
        )  # fmt: skip
    return out


def _unstack_followed(followed: Followed | None, one: slice, phrases: bool) -> Followed | None:
    if followed is None or (not phrases and followed.language is None):
        return None
    columns = {f.name: getattr(followed, f.name) for f in fields(Followed)}
    if not phrases:
        columns |= {"bias": None, "node": None, "bias_rows": None}
    return Followed(**{name: None if x is None else x[one] for name, x in columns.items()})
