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
    """What one stream follows and another does not is at its beginning, with nothing to bring, in the other."""
    if all(s.followed is None for s in states):
        return None
    columns: list[Tensor | None] = []
    for field in fields(Followed):
        parts = [None if s.followed is None else getattr(s.followed, field.name) for s in states]
        shape = next((p.shape[2:] for p in parts if p is not None), None)
        if shape is None:
            columns.append(None)
            continue
        if field.name in ("grammar", "language_rows") and any(p is None for p in parts):
            raise ValueError("states of searches with and without a language model do not stack")
        integer = field.name in ("grammar", "node")
        empty = [
            s.acoustic.new_zeros((*s.acoustic.shape, *shape), dtype=torch.int64 if integer else torch.float32)
            for s in states
        ]
        columns.append(torch.cat([e if p is None else p for p, e in zip(parts, empty, strict=True)]))
    language, bias, grammar, node, language_rows, bias_rows = columns
    assert language is not None and bias is not None
    return Followed(language, bias, grammar, node, language_rows, bias_rows)


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
    if followed is None or (not phrases and followed.language_rows is None):
        return None

    def own(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[one]

    return Followed(
        followed.language[one],
        followed.bias[one],
        own(followed.grammar),
        own(followed.node) if phrases else None,
        own(followed.language_rows),
        own(followed.bias_rows) if phrases else None,
    )
