"""The tokens that hypotheses put out in a block of frames, written down once: what each hypothesis keeps is its last.

A hypothesis that puts a token out points to it, and the token to the one before; a token's time and scores are copied
when the block ends, not whenever hypotheses change places.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from asr.decoding.state import FRAME, ROOM, BeamState, with_room

Array = npt.NDArray[Any]


class Texts:
    """Of N = B * K hypotheses. A place below N is a text as it was when the block began, others are tokens since."""

    def __init__(self, state: BeamState, frames: Array) -> None:
        """frames (T,): those of the block, behind the state's time."""
        self._when = FRAME * frames
        self._state, self._texts = state, state.length.size
        self._used = self._texts
        self._columns: list[tuple[Array, Array, Array, Array]] = []

    def add(self, before: Array, token: Array, frame: int, score: Array, blank: Array) -> Array:
        """Places of (M,) tokens put out in a frame of the block behind places `before`; log P of each and the blank."""
        self._columns.append((before, token + self._when[frame], score, blank))
        first, self._used = self._used, self._used + len(token)
        return np.arange(first, self._used)

    def read(self, place: Array) -> tuple[Array, Array, Array]:
        """spelled, emitted and length of a `BeamState`, of hypotheses at places (N,)."""
        state, (streams, beam, room) = self._state, self._state.spelled.shape
        if not self._columns:
            return state.spelled, state.emitted, state.length
        before, step, score, blank = (np.concatenate(column) for column in zip(*self._columns, strict=True))
        before, chain = np.concatenate([np.arange(self._texts), before]), [place]
        while chain[-1].max() >= self._texts:
            chain.append(before.take(chain[-1]))
        at = np.stack(chain)  # last tokens first; a text leads to itself
        back, row = (at >= self._texts).nonzero()
        token, text = at[back, row] - self._texts, chain[-1]
        length = state.length.take(text) + np.bincount(row, minlength=self._texts)
        if length.max() > room:
            room = int(length.max()) + ROOM
        spelled = with_room(state.spelled, room).reshape(-1, room).take(text, 0)
        emitted = with_room(state.emitted, room).reshape(-1, room, 2).take(text, 0)
        to = row * room + length.take(row) - 1 - back
        spelled.reshape(-1)[to] = step.take(token) + FRAME * state.time.take(row // beam)
        emitted.reshape(-1, 2)[to] = np.stack([score, blank], 1).take(token, 0)
        return (
            spelled.reshape(streams, beam, room),
            emitted.reshape(streams, beam, room, 2),
            length.reshape(streams, beam),
        )
