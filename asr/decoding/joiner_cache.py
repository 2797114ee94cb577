"""The predictor's and the joiner's outputs, each computed once for all hypotheses that share it.

Hypotheses whose last tokens are equal have the same output of a stateless predictor (Ghodsi et al. 2020), and with it
the same row of the joiner's log-probabilities in every frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.acoustic.interface import AcousticModel, PredictorState

Array = npt.NDArray[Any]

HASH = 1_000_003
_ROOM = 128 << 20
"""Bytes that the outputs of a stateless predictor may take, all contexts together."""
_ROWS = 8
"""Contexts that the predictor computes at once, always: one's output depends on nothing else."""


class PredictorCache:
    """Integer ids of predictor contexts (the last tokens): hypotheses with equal ids share one predictor output.

    The outputs of a `stateless` predictor, which sees the last few tokens only, are kept for good: of its V ** history
    contexts those that come up take memory. Of other predictors a context is a hash of all tokens, and their outputs
    are the search's to keep. N: hypotheses, J: width of the joiner, V: vocabulary.
    """

    def __init__(self, model: AcousticModel) -> None:
        self._model, self._vocab = model, model.vocab_size
        output, states = model.start(1)
        size = self._vocab**model.history if model.history is not None else 0
        self.stateless = 0 < size * output.nbytes < _ROOM
        self.start = sum(model.blank * self._vocab**i for i in range(model.history or 0)) if self.stateless else 1
        if self.stateless:
            self._forget = size // self._vocab
            self._known = np.zeros(size, bool)
            self._outputs, *self._states = (x.new_empty((size, *x.shape[1:])) for x in (output, *states))
            self._keep(np.array([self.start]), output, states)

    def advance(self, context: Array, token: Array) -> Array:
        """(N,) contexts, each with one of (N,) tokens more → (N,) contexts."""
        return context % self._forget * self._vocab + token if self.stateless else context * HASH + token

    def predict(self, context: Array, before: Array, token: Array) -> Tensor:
        """(N, J) outputs of a stateless predictor in contexts (N,), each the one `before` it and a token."""
        known = self._known.take(context)
        new = () if known.all() else np.flatnonzero(~known)
        for first in range(0, len(new), _ROWS):
            some = np.resize(new[first : first + _ROWS], _ROWS)
            at = torch.from_numpy(before[some]).to(self._outputs.device)
            states = tuple(x.index_select(0, at) for x in self._states)
            self._keep(context[some], *self._model.predict(torch.from_numpy(token[some]).to(at.device), states))
        return self.outputs(context)

    def _keep(self, context: Array, outputs: Tensor, states: PredictorState) -> None:
        at = torch.from_numpy(context).to(outputs.device)
        for kept, x in zip((self._outputs, *self._states), (outputs, *states), strict=True):
            kept[at] = x
        self._known[context] = True

    def outputs(self, context: Array) -> Tensor:
        """(N, J) outputs of a stateless predictor in (N,) contexts that were predicted before."""
        return self._outputs.index_select(0, torch.from_numpy(context).to(self._outputs.device))


class JoinerCache:
    """The joiner's log-probabilities in T frames of B streams. S: rows so far, each of one stream and one context.

    A row is computed once, for all frames that are left: a hypothesis that stays, or comes back, costs nothing. What
    stands before the frame in which a row was first asked for is undefined.

    Args:
        encoded: (B, T, J) encoded frames.
        searched: (B, T) bool, False where a stream skips a frame as blank; no frame is skipped by all streams.
        context: (B, K) of the hypotheses that there are.
        predicted: the predictor's outputs for these, (B * K, J); None of a stateless predictor.
        predictor: its state, (B * K, ...) each; () of a stateless predictor.

    Attributes:
        first: (B * K,) rows of the hypotheses that there are.
        blank: (T, S) log P of the blank; 0 where a stream skips the frame.
        token: (T, S, V) log P of the tokens, -inf for the blank; undefined where a stream skips the frame.
        best: (T, S) log P of the likeliest token; -inf where a stream skips the frame.
    """

    def __init__(
        self,
        model: AcousticModel,
        predictor_cache: PredictorCache,
        encoded: Tensor,
        searched: Array,
        context: Array,
        predicted: Tensor | None,
        predictor: PredictorState,
    ) -> None:
        self._model, self._predictor_cache, self._encoded = model, predictor_cache, encoded.transpose(0, 1)
        self._searched = searched.T
        frames, self._streams = self._encoded.shape[:2]
        own = self._own(context).reshape(-1)
        first, self.first = _distinct(own)
        room = 16 + 2 * len(first)
        self.token = np.empty((frames, room, model.vocab_size), np.float32)
        self.blank, self.best = np.zeros((frames, room), np.float32), np.full((frames, room), -np.inf, np.float32)
        self._known, self._rows, self._used = own.take(first), np.arange(len(first)), 0
        if predicted is None:
            now = predictor_cache.outputs(context.take(first))
        else:
            at = torch.from_numpy(first).to(predicted.device)
            now = self._predicted = predicted[at]
            self._predictor = tuple(x[at] for x in predictor)
        self._join(now, first // context.shape[1], 0)

    def _own(self, context: Array) -> Array:
        """Contexts (B, N), distinct by stream."""
        return context if self._streams == 1 else context * self._streams + np.arange(self._streams)[:, None]

    def find(self, stream: Array, before: Array, token: Array, frame: int, parent: Array) -> tuple[Array, Array]:
        """The rows of (N,) hypotheses that have emitted a token, computed where they are new.

        Args:
            before: (N,) contexts before the token.
            frame: from which on the rows are needed.
            parent: (N,) rows of the contexts before.

        Returns:
            (N,) contexts after the token, (N,) their rows.
        """
        context = self._predictor_cache.advance(before, token)
        own = context if self._streams == 1 else context * self._streams + stream
        place = self._known.searchsorted(own)
        rows = self._rows.take(place, mode="clip")
        missing = (self._known.take(place, mode="clip") != own).nonzero()[0]
        if len(missing):
            first, which = _distinct(own.take(missing))
            rows[missing] = self._used + which
            at = missing.take(first)
            new = own.take(at)
            if self._predictor_cache.stateless:
                predicted = self._predictor_cache.predict(context.take(at), before.take(at), token.take(at))
            else:
                predicted = self._predict(parent.take(at), token.take(at))
            self._join(predicted, stream.take(at), frame)
            known, number = np.concatenate([self._known, new]), np.arange(self._used - len(new), self._used)
            order = known.argsort()
            self._known, self._rows = known.take(order), np.concatenate([self._rows, number]).take(order)
        return context, rows

    def _predict(self, parent: Array, token: Array) -> Tensor:
        device = self._predicted.device
        at = torch.from_numpy(parent).to(device)
        before = tuple(x.index_select(0, at) for x in self._predictor)
        predicted, predictor = self._model.predict(torch.from_numpy(token).to(device), before)
        self._predicted = torch.cat([self._predicted, predicted])
        self._predictor = tuple(torch.cat(pair) for pair in zip(self._predictor, predictor, strict=True))
        return predicted

    def predictor_states(self, rows: Array) -> tuple[Tensor | None, PredictorState]:
        """The predictor's outputs and states in rows (N,), (N, ...) each; None and () of a stateless predictor."""
        if self._predictor_cache.stateless:
            return None, ()
        at = torch.from_numpy(rows).to(self._predicted.device)
        return self._predicted[at], tuple(x[at] for x in self._predictor)

    def _join(self, predicted: Tensor, stream: Array, frame: int) -> None:
        """Add rows, from `frame` on, with the joiner's log-probabilities in the frames that their streams search."""
        first, self._used = self._used, self._used + len(predicted)
        if self._used > self.blank.shape[1]:
            self._grow()
        cells: tuple[Any, Any]
        if self._streams == 1:
            cells, encoded = (slice(frame, None), slice(first, self._used)), self._encoded[frame:]
        else:
            at, row = self._searched[frame:].take(stream, 1).nonzero()
            if not len(at):
                return
            cells = at + frame, row + first
            own = torch.from_numpy(np.stack([cells[0], stream.take(row), row])).to(predicted.device)
            encoded, predicted = self._encoded[own[0], own[1]], predicted[own[2]]
        scores, blank = self._model.join(encoded, predicted).log_softmax(-1).float().cpu().numpy(), self._model.blank
        self.blank[cells] = scores[..., blank]
        scores[..., blank] = -np.inf
        self.token[cells] = scores
        self.best[cells] = np.maximum.reduce(scores, -1)

    def _grow(self) -> None:
        frames, used, vocabulary = self.token.shape
        token = np.empty((frames, 2 * self._used, vocabulary), np.float32)
        token[:, :used] = self.token
        more = (0, 0), (0, token.shape[1] - used)
        self.blank, self.best = np.pad(self.blank, more), np.pad(self.best, more, constant_values=-np.inf)
        self.token = token


def _distinct(numbers: Array) -> tuple[Array, Array]:
    """Where each of the different numbers of (N,) stands first, in their order, and (N,) which of them each is."""
    order = numbers.argsort(kind="stable")
    ascending = numbers.take(order)
    new, which = np.empty(len(order), bool), np.empty(len(order), np.int64)
    new[0], new[1:] = True, ascending[1:] != ascending[:-1]
    which[order] = new.cumsum() - 1
    return order[new], which
