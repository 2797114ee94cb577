"""Encoder and beam search of many streams as one batch, at a few fixed shapes.

A stream's bits depend on the shape of the batch that it is computed in, because the libraries behind choose their
kernels by shape; on what else is in the batch they depend in the last bits at most. Few shapes, filled up with silent
rows, keep the number of different roundings small, and one stream alone is always computed at shape 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.acoustic.interface import AcousticModel
from asr.acoustic.streaming import EncoderState
from asr.decoding import BeamSearch, stack_states, unstack_states
from asr.recognition.state import SearchState


def batch_shape(rows: int) -> int:
    """Rows that a batch of so many is filled up to: a power of two."""
    return 1 << (rows - 1).bit_length()


def worthwhile(rows: int) -> int:
    """How many of so many waiting rows to take at once, so that at most a quarter of the batch is filling."""
    shape = batch_shape(rows)
    return rows if 4 * rows >= 3 * shape else shape // 2


def encode_batch(model: AcousticModel, windows: Sequence[Tensor], states: Sequence[Any]) -> list[tuple[Tensor, Any]]:
    """Encode one chunk of each stream, in one batch where the model's state allows it.

    Args:
        windows: (lookback + chunk + lookahead, 80) of each stream.
        states: as `AcousticModel.initial_state(1)`; they stay as they are.

    Returns:
        (T, J) encoded frames and the new state of each stream, in memory of their own.
    """
    if len(states) == 1 or not all(isinstance(state, EncoderState) for state in states):
        steps = [model.encode(window[None], state) for window, state in zip(windows, states, strict=True)]
        return [(encoded[0], state) for encoded, state in steps]
    missing = batch_shape(len(states)) - len(states)
    silent = [torch.zeros_like(windows[0])] * missing
    pasts = [past for state in states for past in state.streams]
    if missing:
        pasts += model.initial_state(missing).streams
    encoded, state = model.encode(torch.stack([*windows, *silent]), EncoderState(tuple(pasts)))
    return [(encoded[row].clone(), EncoderState((state.streams[row],))) for row in range(len(states))]


def search_batch(search: BeamSearch, encoded: Sequence[Tensor], states: Sequence[SearchState]) -> list[SearchState]:
    """Search (T, J) encoded frames of each stream: those with phrases in a batch, and those without in another.

    So phrases of one stream do not slow the others down. Searches of different width are different batches too.
    """
    after: dict[int, SearchState] = {}
    kinds = [(state.graph is not None, state.width) for state in states]
    for kind in dict.fromkeys(kinds):
        group = [i for i in range(len(states)) if kinds[i] == kind]
        found = _search_alike(search, [encoded[i] for i in group], [states[i] for i in group])
        after |= zip(group, found, strict=True)
    return [after[i] for i in range(len(states))]


def _search_alike(search: BeamSearch, encoded: Sequence[Tensor], states: Sequence[SearchState]) -> list[SearchState]:
    missing = batch_shape(len(states)) - len(states)
    beams = [state.beam for state in states] + [search.start(1, states[0].width) for _ in range(missing)]
    graphs = [*(state.graph for state in states), *[None] * missing] if any(s.graph for s in states) else []
    batch = pad_sequence([*encoded, *[encoded[0][:0]] * missing], batch_first=True)
    lengths = [*map(len, encoded), *[0] * missing]
    after = unstack_states(search.step(batch, stack_states(beams), graphs, lengths))
    return [replace(state, beam=beam) for state, beam in zip(states, after, strict=False)]
