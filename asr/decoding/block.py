"""A few frames of a beam search: from one state to the next.

What is left to do beside the model are small sums over hypotheses: numpy, which starts an operation faster than torch.
Frames in which no token is worth looking at are passed over together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.decoding.backpointers import Texts
from asr.decoding.fusion import Followed, Follower
from asr.decoding.joiner_cache import HASH, Emissions
from asr.decoding.state import BeamState

Array = npt.NDArray[Any]
_STREAM, _KEY, _CONTEXT, _ROW, _PLACE = range(5)


@dataclass(frozen=True)
class _Level:
    """N hypotheses, such as put out equally many tokens in a frame and no blank yet.

    acoustic (N,). ids (5, N): stream, key, context, row in the frames' `Emissions`, place in their `Texts`.
    """

    acoustic: Array
    ids: Array
    followed: Followed | None

    def scored(self, acoustic: Array) -> _Level:
        """The same with other scores."""
        return _Level(acoustic, self.ids, self.followed)

    def rank(self) -> Array:
        return self.acoustic if self.followed is None else self.acoustic + self.followed.total()

    def take(self, rows: Array) -> _Level:
        return _Level(
            self.acoustic.take(rows),
            self.ids.take(rows, 1),
            None if self.followed is None else self.followed.take(rows),
        )

    def beside(self, other: _Level) -> _Level:
        """Those of both."""
        followed = None
        if self.followed is not None and other.followed is not None:
            followed = self.followed.beside(other.followed)
        acoustic, ids = np.concatenate([self.acoustic, other.acoustic]), np.concatenate([self.ids, other.ids], 1)
        return _Level(acoustic, ids, followed)


@dataclass(frozen=True)
class _Outlook:
    """What F frames bring to N hypotheses that put nothing out.

    acoustic (F + 1, N): log P before each frame and behind the last. reach (F, N): rank of the best extension, at most;
    limit (F, B): what it has to pass. busy: frames in which one does.
    """

    acoustic: Array
    reach: Array
    limit: Array
    busy: Array


class Block:
    """T frames of B streams with K hypotheses each, behind a state.

    Args:
        frames: (T,) how far behind the state's time each of them is.
        symbols: most tokens of one hypothesis in one frame. margin: nats below the best hypothesis from which on a
            token is not looked at.
    """

    def __init__(
        self,
        said: Emissions,
        state: BeamState,
        frames: Array,
        follower: Follower,
        symbols: int,
        margin: np.float32,
    ) -> None:
        self._said, self._state, self._follower = said, state, follower
        self._symbols, self._margin = symbols, margin
        self._streams, self._beam = state.acoustic.shape
        self._texts = Texts(state, frames)

    def run(self) -> BeamState:
        """What the state becomes, all but its time."""
        said, state = self._said, self._state
        number, frames = state.acoustic.size, len(said.blank)
        stream = np.arange(self._streams).repeat(self._beam)
        ids = np.stack([stream, state.key.ravel(), state.context.ravel(), said.first, np.arange(number)])
        here = _Level(state.acoustic.ravel(), ids, state.followed and state.followed.reshape(number))
        at = 0
        while at < frames:
            outlook = self._look(here, at)
            for n in outlook.busy.tolist():
                level = here.scored(outlook.acoustic[n])
                after = self._frame(level, outlook.acoustic[n + 1], outlook.reach[n], outlook.limit[n], at + n)
                if after is not None:
                    here, at = after, at + n + 1
                    break
            else:
                here, at = here.scored(outlook.acoustic[-1]), frames
        return self._state_of(here)

    def _state_of(self, here: _Level) -> BeamState:
        before, shape = self._state, self._state.acoustic.shape
        predicted, predictor = self._said.memory(here.ids[_ROW])
        spelled, emitted, length = self._texts.read(here.ids[_PLACE])
        return BeamState(
            acoustic=here.acoustic.reshape(shape),
            key=here.ids[_KEY].reshape(shape),
            context=here.ids[_CONTEXT].reshape(shape),
            predicted=predicted,
            predictor=predictor,
            spelled=spelled,
            emitted=emitted,
            length=length,
            time=before.time,
            followed=here.followed and here.followed.reshape(*shape),
            graphs=before.graphs,
        )

    def _limit(self, rank: Array) -> Array:
        """What an extension has to pass (..., B), by the ranks (..., B, K) of ended hypotheses.

        That is the worst of them, since it can only fall, and the best less the margin.
        """
        return np.maximum(np.minimum.reduce(rank, -1), np.maximum.reduce(rank, -1) - self._margin)

    def _look(self, here: _Level, at: int) -> _Outlook:
        said, row = self._said, here.ids[_ROW]
        blank = said.blank[at:].take(row, 1)
        acoustic = np.empty((len(blank) + 1, len(row)), np.float32)
        acoustic[0], acoustic[1:] = here.acoustic, blank
        np.add.accumulate(acoustic, 0, out=acoustic)
        rank, reach = acoustic[1:], said.most[at:].take(row, 1)
        reach += acoustic[:-1]
        if here.followed is not None:
            total = here.followed.total()
            rank = rank + total
            reach += total + here.followed.most
        limit = self._limit(rank.reshape(len(blank), self._streams, self._beam))
        high = reach.reshape(len(blank), self._streams, self._beam) > limit[:, :, None]
        return _Outlook(acoustic, reach, limit, high.reshape(len(blank), -1).any(1).nonzero()[0])

    def _frame(self, first: _Level, ended: Array, reach: Array, limit: Array, at: int) -> _Level | None:
        """The hypotheses behind a frame in which tokens may be put out; None: none is.

        ended: log P of the `first` with the frame's blank.
        """
        level, found, kept = first, first.scored(ended), None
        for depth in range(self._symbols):
            extended = self._extend(level, reach, limit, at)
            if extended is None:
                break
            level, row = extended, extended.ids[_ROW]
            found = _merge(found, level.scored(level.acoustic + self._said.blank[at].take(row)), self._streams)
            rank = found.rank()
            kept = _best(rank, found.ids[_STREAM], self._streams, self._beam)
            if depth + 1 < self._symbols:
                reach = level.rank() + self._said.most[at].take(row)
                if level.followed is not None:
                    reach += level.followed.most
                limit = self._limit(rank.take(kept).reshape(self._streams, self._beam))
        return None if kept is None else found.take(kept)

    def _extend(self, level: _Level, reach: Array, limit: Array, at: int) -> _Level | None:
        """The best extensions, at most as many of a stream as it keeps; None: none is above the limit (B,)."""
        said, graphs, streams = self._said, self._state.graphs, self._streams
        stream = level.ids[_STREAM]
        rows = (reach > (limit if streams == 1 else limit.take(stream))).nonzero()[0]
        if not len(rows):
            return None
        token_score = said.token[at]
        grown = token_score.take(level.ids[_ROW].take(rows), 0)
        grown += level.rank().take(rows)[:, None]
        if level.followed is not None:
            self._follower.lift(grown, level.followed, rows, stream, graphs)
        above = grown > (limit if streams == 1 else limit.take(stream.take(rows))[:, None])
        found: Array = above.ravel().nonzero()[0]
        if not len(found):
            return None
        if len(found) > self._beam:
            found = _most(found, grown, stream.take(rows), streams, self._beam)
        parent, token = rows.take(found // grown.shape[1]), found % grown.shape[1]
        ids = level.ids.take(parent, 1)
        stream, key, context, row, place = ids
        score, blank = token_score[row, token], said.blank[at].take(row)
        after = said.find(stream, context, token, at, row)
        ids[_PLACE] = self._texts.add(place.copy(), token, at, score, blank)
        key *= HASH
        key += token
        ids[_CONTEXT], ids[_ROW] = after
        followed = level.followed
        if followed is not None:
            followed = self._follower.extend(followed, graphs, parent, token, stream)
        return _Level(level.acoustic.take(parent) + score, ids, followed)


def _merge(one: _Level, other: _Level, streams: int) -> _Level:
    """Both, equal hypotheses as one: their probabilities added up, and the times of the likelier."""
    key, twin = one.ids[_KEY], other.ids[_KEY]
    if streams > 1:
        key, twin = (x.ids[_KEY] * streams + x.ids[_STREAM] for x in (one, other))
    order = key.argsort()
    place = order.take(key.searchsorted(twin, sorter=order), mode="clip")
    equal = key.take(place) == twin
    here = equal.nonzero()[0]
    if len(here):
        place = place.take(here)
        acoustic, ids = one.acoustic.copy(), one.ids.copy()
        a, b = acoustic.take(place), other.acoustic.take(here)
        acoustic[place] = np.logaddexp(a, b)
        ids[_PLACE, place] = np.where(a >= b, ids[_PLACE, place], other.ids[_PLACE, here])
        one, other = _Level(acoustic, ids, one.followed), other.take((~equal).nonzero()[0])
    return one.beside(other)


def _best(rank: Array, stream: Array, streams: int, number: int) -> Array:
    """Places of the best ranks, so many of each stream, stream by stream; each has as many."""
    if streams == 1:
        return (-rank).argpartition(number - 1)[:number]
    order = np.lexsort((-rank, stream))
    begin = stream[order].searchsorted(np.arange(streams))
    return order[(begin[:, None] + np.arange(number)).ravel()]


def _most(found: Array, grown: Array, stream: Array, streams: int, number: int) -> Array:
    """Of places in `grown` (N, V), rows of a `stream` each, those with the highest values, so many of each at most."""
    value = -grown.ravel()[found]
    if streams == 1:
        return found[value.argpartition(number)[:number]]
    own = stream[found // grown.shape[1]]
    order = np.lexsort((value, own))
    own = own[order]
    return found[order[np.arange(len(own)) - own.searchsorted(own) < number]]
