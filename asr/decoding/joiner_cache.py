"""What the joiner says of a block of frames: one row for each thing that the predictor may have read."""

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
"""Bytes that predictions may take that are kept for good."""
_ROWS = 8
"""Contexts that the predictor is asked about at once, always: what it says of one depends on nothing else."""


class Contexts:
    """What the predictor has read, as numbers: equal ones mean equal predictions. N: hypotheses.

    Of a predictor that sees the last few tokens only, hypotheses that end alike share one, and what it says after each
    is kept for good (`seen`: V ** history contexts of which those that come up take memory). Of others it is a hash of
    all tokens.
    """

    def __init__(self, model: AcousticModel) -> None:
        self._model, self._vocab = model, model.vocab_size
        predicted, states = model.start(1)
        size = self._vocab**model.history if model.history is not None else 0
        self.seen = 0 < size * predicted.nbytes < _ROOM
        self.start = sum(model.blank * self._vocab**i for i in range(model.history or 0)) if self.seen else 1
        if self.seen:
            self._forget = size // self._vocab
            self._known = np.zeros(size, bool)
            self._predicted, *self._states = (x.new_empty((size, *x.shape[1:])) for x in (predicted, *states))
            self._keep(np.array([self.start]), predicted, states)

    def read(self, context: Array, token: Array) -> Array:
        """(N,) contexts that each read one of (N,) tokens → (N,)"""
        return context % self._forget * self._vocab + token if self.seen else context * HASH + token

    def predict(self, context: Array, before: Array, token: Array) -> Tensor:
        """(N, J) after contexts (N,), each the one `before` it and a token; where contexts are `seen`."""
        known = self._known.take(context)
        new = () if known.all() else np.flatnonzero(~known)
        for first in range(0, len(new), _ROWS):
            some = np.resize(new[first : first + _ROWS], _ROWS)
            at = torch.from_numpy(before[some]).to(self._predicted.device)
            states = tuple(x.index_select(0, at) for x in self._states)
            self._keep(context[some], *self._model.predict(torch.from_numpy(token[some]).to(at.device), states))
        return self.predicted(context)

    def _keep(self, context: Array, predicted: Tensor, states: PredictorState) -> None:
        at = torch.from_numpy(context).to(predicted.device)
        for kept, x in zip((self._predicted, *self._states), (predicted, *states), strict=True):
            kept[at] = x
        self._known[context] = True

    def predicted(self, context: Array) -> Tensor:
        """(N, J) after contexts that were predicted before."""
        return self._predicted.index_select(0, torch.from_numpy(context).to(self._predicted.device))


class Emissions:
    """Log-probabilities of T frames of B streams. S: rows so far, each of one stream and one context.

    blank (T, S); token (T, S, V), the blank's -inf; most (T, S): of each row the likeliest token's. In a frame that is
    passed over the blank is certain, and `token` undefined; so is all that stands before the frame in which a row was
    first asked for. A row is computed once, for all frames that are left: a hypothesis that stays, or comes back, asks
    the model for nothing.
    """

    def __init__(
        self,
        model: AcousticModel,
        contexts: Contexts,
        encoded: Tensor,
        heard: Array,
        context: Array,
        predicted: Tensor | None,
        predictor: PredictorState,
    ) -> None:
        """encoded (B, T, J); heard (B, T): not passed over, no frame by all streams; of the hypotheses that there are
        context (B, K) and, where contexts are not `seen`, what the predictor said and its state, (B * K, ...) each."""
        self._model, self._contexts, self._encoded = model, contexts, encoded.transpose(0, 1)
        self._heard = heard.T
        frames, self._streams = self._encoded.shape[:2]
        own = self._own(context).reshape(-1)
        first, which = _distinct(own)
        self.first = which
        """(B * K,) rows of the hypotheses that were there."""
        room = 16 + 2 * len(first)
        self.token = np.empty((frames, room, model.vocab_size), np.float32)
        self.blank, self.most = np.zeros((frames, room), np.float32), np.full((frames, room), -np.inf, np.float32)
        self._known, self._rows, self._used = own.take(first), np.arange(len(first)), 0
        if predicted is None:
            now = contexts.predicted(context.take(first))
        else:
            at = torch.from_numpy(first).to(predicted.device)
            now = self.predicted = predicted[at]
            self.predictor = tuple(x[at] for x in predictor)
        self._join(now, first // context.shape[1], 0)

    def _own(self, context: Array) -> Array:
        """Contexts (B, N), told apart by stream."""
        return context if self._streams == 1 else context * self._streams + np.arange(self._streams)[:, None]

    def find(self, stream: Array, before: Array, token: Array, frame: int, parent: Array) -> tuple[Array, Array]:
        """(N,) contexts, each one `before`, of row `parent`, that read a token, and their rows from `frame` on."""
        context = self._contexts.read(before, token)
        own = context if self._streams == 1 else context * self._streams + stream
        place = self._known.searchsorted(own)
        rows = self._rows.take(place, mode="clip")
        strange = (self._known.take(place, mode="clip") != own).nonzero()[0]
        if len(strange):
            first, which = _distinct(own.take(strange))
            rows[strange] = self._used + which
            at = strange.take(first)
            new = own.take(at)
            if self._contexts.seen:
                predicted = self._contexts.predict(context.take(at), before.take(at), token.take(at))
            else:
                predicted = self._predict(parent.take(at), token.take(at))
            self._join(predicted, stream.take(at), frame)
            known, number = np.concatenate([self._known, new]), np.arange(self._used - len(new), self._used)
            order = known.argsort()
            self._known, self._rows = known.take(order), np.concatenate([self._rows, number]).take(order)
        return context, rows

    def _predict(self, parent: Array, token: Array) -> Tensor:
        device = self.predicted.device
        at = torch.from_numpy(parent).to(device)
        before = tuple(x.index_select(0, at) for x in self.predictor)
        predicted, predictor = self._model.predict(torch.from_numpy(token).to(device), before)
        self.predicted = torch.cat([self.predicted, predicted])
        self.predictor = tuple(torch.cat(pair) for pair in zip(self.predictor, predictor, strict=True))
        return predicted

    def memory(self, rows: Array) -> tuple[Tensor | None, PredictorState]:
        """What the predictor said in rows (N,) and its state, (N, ...) each; None and () where contexts are `seen`."""
        if self._contexts.seen:
            return None, ()
        at = torch.from_numpy(rows).to(self.predicted.device)
        return self.predicted[at], tuple(x[at] for x in self.predictor)

    def _join(self, predicted: Tensor, stream: Array, frame: int) -> None:
        """Adds rows, from `frame` on, with what the joiner says in their streams' frames that are heard."""
        first, self._used = self._used, self._used + len(predicted)
        if self._used > self.blank.shape[1]:
            self._grow()
        cells: tuple[Any, Any]
        if self._streams == 1:
            cells, heard = (slice(frame, None), slice(first, self._used)), self._encoded[frame:]
        else:
            at, row = self._heard[frame:].take(stream, 1).nonzero()
            if not len(at):
                return
            cells = at + frame, row + first
            own = torch.from_numpy(np.stack([cells[0], stream.take(row), row])).to(predicted.device)
            heard, predicted = self._encoded[own[0], own[1]], predicted[own[2]]
        scores, blank = self._model.join(heard, predicted).log_softmax(-1).float().cpu().numpy(), self._model.blank
        self.blank[cells] = scores[..., blank]
        scores[..., blank] = -np.inf
        self.token[cells] = scores
        self.most[cells] = np.maximum.reduce(scores, -1)

    def _grow(self) -> None:
        frames, used, vocabulary = self.token.shape
        token = np.empty((frames, 2 * self._used, vocabulary), np.float32)
        token[:, :used] = self.token
        more = (0, 0), (0, token.shape[1] - used)
        self.blank, self.most = np.pad(self.blank, more), np.pad(self.most, more, constant_values=-np.inf)
        self.token = token


def _distinct(numbers: Array) -> tuple[Array, Array]:
    """Where each of the different numbers of (N,) stands first, in their order, and (N,) which of them each is."""
    order = numbers.argsort(kind="stable")
    ascending = numbers.take(order)
    new, which = np.empty(len(order), bool), np.empty(len(order), np.int64)
    new[0], new[1:] = True, ascending[1:] != ascending[:-1]
    which[order] = new.cumsum() - 1
    return order[new], which
