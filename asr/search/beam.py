"""Frame-synchronous RNN-T beam search, vectorised over streams × beam.

In a frame every hypothesis may put out up to `symbols` tokens before its blank. Hypotheses that spell the same token
sequence are merged by adding their probabilities, so a score estimates log P(y|x), not that of one alignment
(Graves 2012, section 2.5, with the frame-synchronous pruning of Saon et al. 2020, "alignment-length synchronous").
What a language model and phrases say depends on the tokens alone; it is kept apart and added where hypotheses are
ranked (shallow fusion, Gulcehre et al. 2015).

The model computes on its device, many frames at once (`asr.search.emissions`). What is left to do in a frame are small
sums over hypotheses: numpy, which starts an operation faster than torch. Frames in which no token is worth looking at
are passed over together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from asr.model.interface import AcousticModel
from asr.search.emissions import HASH, Contexts, Emissions
from asr.search.follow import Followed, Follower
from asr.search.graph import PhraseGraph
from asr.search.ngram import NGram
from asr.search.state import FRAME, Array, BeamState, Reading, stack_states, unstack_states, with_room

BEAM = 32
"""Hypotheses, what a recogniser keeps: 5% fewer errors than 8 for a tenth more processor time (docs/results.md)."""
MARGIN = 6.0
"""Nats, what a recogniser takes: on dev it changes no result that all tokens give, and scores by a ten thousandth."""
_GROW = 64
_BLOCK = 8
"""Frames that the model's joiner is asked about at once."""
_STREAM, _KEY, _CONTEXT, _ROW = range(4)


@dataclass(frozen=True)
class _Level:
    """N hypotheses that put out equally many tokens in this frame and no blank yet.

    acoustic (N,). ids (4, N): stream, key, context, and row in the frames' `Emissions`. Of the token that made them:
    parent (N,), where they come from in the level before; step (N,), it with its frame; emitted (N, 2), its and the
    blank's log P.
    """

    acoustic: Array
    ids: Array
    followed: Followed | None
    parent: Array | None = None
    step: Array | None = None
    emitted: Array | None = None

    def rank(self, acoustic: Array) -> Array:
        return acoustic if self.followed is None else acoustic + self.followed.total()


@dataclass(frozen=True)
class _Outlook:
    """What F frames bring to N hypotheses that put nothing out.

    number: frames before the first in which a token is worth looking at. acoustic (N, F + 1): log P before each frame
    and behind the last. reach (N, F): rank of the best extension, at most; limit (B, F): what it has to pass.
    """

    number: int
    acoustic: Array
    reach: Array
    limit: Array


class BeamSearch:
    """Batched beam search over `model`.

    Args:
        beam: hypotheses kept for each stream, unless its state was started with another number.
        symbols: most tokens of one hypothesis in one frame.
        language: followed by every hypothesis; None: none.
        language_weight: by which log P(token | history) is multiplied.
        token_bonus: nats for each token, against the shortness that both models prefer; counted in `language`.
        margin: nats below the best hypothesis from which on a token is not looked at.
    """

    def __init__(
        self,
        model: AcousticModel,
        beam: int = BEAM,
        symbols: int = 3,
        language: NGram | None = None,
        language_weight: float = 0.0,
        token_bonus: float = 0.0,
        margin: float = math.inf,
    ) -> None:
        if beam < 1 or symbols < 1:
            raise ValueError(f"beam is {beam} and symbols {symbols}; both must be at least 1")
        if not margin > 0:
            raise ValueError(f"margin is {margin}; it must be above 0")
        self.model, self.beam, self.symbols, self._margin = model, beam, symbols, np.float32(margin)
        self._contexts = Contexts(model)
        self._follower = Follower(model.vocab_size, language, language_weight, token_bonus)

    def start(self, streams: int, beam: int | None = None) -> BeamState:
        """One empty hypothesis for each stream, and room for `beam`; None: as many as the search's."""
        shape = (streams, self.beam if beam is None else beam)
        predicted, predictor = (None, ()) if self._contexts.seen else self.model.start(shape[0] * shape[1])
        acoustic = np.full(shape, -np.inf, np.float32)
        acoustic[:, 0] = 0.0
        return BeamState(
            acoustic=acoustic,
            key=np.tile(1 - np.arange(shape[1]), (streams, 1)),
            context=np.full(shape, self._contexts.start),
            predicted=predicted,
            predictor=predictor,
            spelled=np.zeros((*shape, _GROW), np.int64),
            emitted=np.zeros((*shape, _GROW, 2), np.float32),
            length=np.zeros(shape, np.int64),
            time=np.zeros(streams, np.int64),
            followed=self._follower.start(shape, ()),
        )

    def step(self, encoded: Tensor, state: BeamState, graphs: Sequence[PhraseGraph | None] = ()) -> BeamState:
        """Reads (B, T, J) encoded frames of each stream.

        Args:
            graphs: each stream's phrases or None, the same from its first frame to its last; empty: as before.

        However the frames are cut the result is the same; bit for bit where all cuts are at multiples of 8 frames.

        Raises:
            ValueError: not one graph a stream, or a stream's phrases changed after its first frame.
        """
        given = tuple(graph or None for graph in graphs)
        if given and given != (state.graphs or (None,) * len(state.time)):
            state = self._with_graphs(state, given)
        at = 0
        while at < encoded.shape[1]:
            size = _BLOCK - int(state.time[0]) % _BLOCK
            state = self._block(encoded[:, at : at + size], state)
            at += size
        return state

    def _with_graphs(self, state: BeamState, graphs: tuple[PhraseGraph | None, ...]) -> BeamState:
        if len(graphs) != len(state.time):
            raise ValueError(f"{len(graphs)} graphs for {len(state.time)} streams; give one or None for each")
        parts = []
        for part, graph in zip(unstack_states(state), graphs, strict=True):
            if (part.graphs[0] if part.graphs else None) is not graph:
                if part.time[0]:
                    raise ValueError("a stream's phrases changed within an utterance; set them before its first frame")
                own = (graph,) if graph else ()
                part = replace(part, followed=self._follower.start(part.acoustic.shape, own), graphs=own)
            parts.append(part)
        return stack_states(parts)

    def _with_room(self, state: BeamState, frames: int) -> BeamState:
        """The same state with room for all tokens that so many frames may bring."""
        room = state.spelled.shape[2]
        missing = int(state.length.max()) + frames * self.symbols - room
        if missing <= 0:
            return state
        room += max(missing, _GROW)
        return replace(state, spelled=with_room(state.spelled, room), emitted=with_room(state.emitted, room))

    def _block(self, encoded: Tensor, state: BeamState) -> BeamState:
        """All frames of (B, T, J); `state` stays as it is."""
        (streams, beam), frames = state.acoustic.shape, encoded.shape[1]
        state = self._with_room(state, frames)
        said = Emissions(self.model, self._contexts, encoded, state.context, state.predicted, state.predictor)
        stream = np.repeat(np.arange(streams), beam)
        ids = np.stack([stream, state.key.ravel(), state.context.ravel(), said.first])
        here = _Level(state.acoustic.ravel(), ids, state.followed and state.followed.map(np.ravel))
        texts = _Texts(state)
        at = 0
        while at < frames:
            outlook = self._look(here, said, at, beam)
            at += outlook.number
            here = _Level(outlook.acoustic[:, outlook.number], here.ids, here.followed)
            if at < frames:
                here = self._frame(here, outlook, said, at, texts, state)
                at += 1
        return texts.state(here, said, state, frames)

    def _look(self, here: _Level, said: Emissions, at: int, beam: int) -> _Outlook:
        row = here.ids[_ROW]
        blank = said.blank[row, at:]
        acoustic = np.empty((len(blank), blank.shape[1] + 1), np.float32)
        acoustic[:, 0], acoustic[:, 1:] = here.acoustic, blank
        np.add.accumulate(acoustic, 1, out=acoustic)
        reach = acoustic[:, :-1] + said.most[row, at:]
        rank = acoustic[:, 1:]
        if here.followed is not None:
            total = here.followed.total()
            reach += (total + here.followed.most)[:, None]
            rank = rank + total[:, None]
        by_stream = rank.reshape(-1, beam, rank.shape[1])
        limit = np.maximum(by_stream.min(1), by_stream.max(1) - self._margin)
        busy = (reach.reshape(by_stream.shape) > limit[:, None]).any((0, 1))
        number = int(busy.argmax())
        return _Outlook(number if busy[number] else len(busy), acoustic, reach, limit)

    def _frame(
        self, first: _Level, outlook: _Outlook, said: Emissions, at: int, texts: _Texts, state: BeamState
    ) -> _Level:
        """The hypotheses behind a frame in which tokens may be put out."""
        (streams, beam), n = state.acoustic.shape, outlook.number
        ended, ids, followed = outlook.acoustic[:, n + 1], first.ids, first.followed
        reach, limit = outlook.reach[:, n], outlook.limit[:, n]
        levels, kept = [first], None
        for depth in range(self.symbols):
            level = self._extend(levels[-1], reach, limit, said, at, state)
            if level is None:
                break
            levels.append(level)
            arrived = level.acoustic + said.blank[level.ids[_ROW], at]
            ended, arrived = _merge(ended, ids, arrived, level.ids, streams)
            ended, ids = np.concatenate([ended, arrived]), np.concatenate([ids, level.ids], 1)
            rank = ended
            if followed is not None and level.followed is not None:
                followed = followed.beside(level.followed)
                rank = ended + followed.total()
            kept = _best(rank, ids[_STREAM], streams, beam)
            if depth + 1 < self.symbols:
                reach = level.rank(level.acoustic + said.most[level.ids[_ROW], at])
                if level.followed is not None:
                    reach = reach + level.followed.most
                ranks = rank[kept].reshape(streams, beam)
                limit = np.maximum(ranks.min(1), ranks.max(1) - self._margin)
        if kept is None or kept.max() < len(first.acoustic):
            return _Level(ended[: len(first.acoustic)], first.ids, first.followed)
        texts.extend(levels, kept)
        return _Level(ended[kept], ids[:, kept], followed and followed.map(lambda x: x[kept]))

    def _extend(
        self, level: _Level, reach: Array, limit: Array, said: Emissions, at: int, state: BeamState
    ) -> _Level | None:
        """The best extensions, at most as many of a stream as it keeps; None: none is above the limit.

        Below the worst ended hypothesis that would be kept an extension is out: its acoustic score can only fall.
        """
        ids, followed = level.ids, level.followed
        rows = (reach > limit[ids[_STREAM]]).nonzero()[0]
        if not len(rows):
            return None
        stream = ids[_STREAM, rows]
        grown = said.token[ids[_ROW, rows], at]
        grown += level.rank(level.acoustic)[rows, None]
        if followed is not None:
            self._follower.lift(grown, followed, rows, ids[_STREAM], state.graphs)
        found = (grown > limit[stream, None]).ravel().nonzero()[0]
        if not len(found):
            return None
        streams, beam = state.acoustic.shape
        found = _most(found, grown, stream, streams, beam)
        which, token = np.divmod(found, grown.shape[1])
        parent = rows[which]
        stream, key, context, row = ids[:, parent]
        emitted = np.stack([said.token[row, at, token], said.blank[row, at]], 1)
        time = state.time if streams == 1 else state.time[stream]
        context, after = said.find(stream, context, token, at, row)
        return _Level(
            acoustic=level.acoustic[parent] + emitted[:, 0],
            ids=np.stack([stream, key * HASH + token, context, after]),
            followed=followed and self._follower.extend(followed, state.graphs, parent, token, stream),
            parent=parent,
            step=token + FRAME * (time + at),
            emitted=emitted,
        )

    def predicted(self, state: BeamState, stream: int) -> Tensor:
        """(J,) what the predictor says after the hypothesis of a stream that leads."""
        rank = state.acoustic if state.followed is None else state.acoustic + state.followed.total()
        best = int(rank[stream].argmax())
        if state.predicted is None:
            return self._contexts.predicted(state.context[stream, best : best + 1])[0]
        return state.predicted[stream * state.acoustic.shape[1] + best]

    def nbest(self, state: BeamState, stream: int) -> list[Reading]:
        """The hypotheses of one stream, best first."""
        acoustic, language, bias = state.acoustic, None, None
        if state.followed is not None:
            language, bias = self._follower.end(state.followed, state.graphs)
        rank = sum((x for x in (language, bias) if x is not None), acoustic)
        out = []
        for k in (-rank[stream]).argsort(kind="stable").tolist():
            if acoustic[stream, k] == -np.inf:
                continue
            n = int(state.length[stream, k])
            score, blank = state.emitted[stream, k, :n].T
            certainty = score - np.log1p(-np.exp(blank).clip(max=np.float32(1 - 1e-6)))
            frame, token = np.divmod(state.spelled[stream, k, :n], FRAME)
            out.append(
                Reading(
                    tuple(token.tolist()),
                    tuple(frame.tolist()),
                    tuple(certainty.tolist()),
                    float(acoustic[stream, k]),
                    0.0 if language is None else float(language[stream, k]),
                    0.0 if bias is None else float(bias[stream, k]),
                )
            )
        return out


class _Texts:
    """The tokens of B * K hypotheses, with their times and scores, while frames are read."""

    def __init__(self, state: BeamState) -> None:
        self.spelled = state.spelled.reshape(-1, state.spelled.shape[2])
        self.emitted = state.emitted.reshape(*self.spelled.shape, 2)
        self.length = state.length.ravel()

    def extend(self, levels: Sequence[_Level], kept: Array) -> None:
        """Goes on with `kept` of all levels' hypotheses, side by side."""
        first = [0]
        for level in levels[:-1]:
            first.append(first[-1] + len(level.acoustic))
        at, depth, steps = kept.copy(), np.zeros(len(kept), np.int64), []
        for d in range(len(levels) - 1, 0, -1):
            level = levels[d]
            assert level.parent is not None and level.step is not None and level.emitted is not None
            rows = (at >= first[d]).nonzero()[0]
            place = at[rows] - first[d]
            steps.append((rows, d, level.step[place], level.emitted[place]))
            at[rows] = level.parent[place] + first[d - 1]
            depth[rows] += 1
        self.spelled, self.emitted, old = self.spelled[at], self.emitted[at], self.length[at]
        for rows, d, step, emitted in steps:
            place = old[rows] + (d - 1)
            self.spelled[rows, place], self.emitted[rows, place] = step, emitted
        self.length = old + depth

    def state(self, here: _Level, said: Emissions, before: BeamState, frames: int) -> BeamState:
        shape = before.acoustic.shape
        predicted, predictor = said.memory(here.ids[_ROW])
        return BeamState(
            acoustic=here.acoustic.reshape(shape),
            key=here.ids[_KEY].reshape(shape),
            context=here.ids[_CONTEXT].reshape(shape),
            predicted=predicted,
            predictor=predictor,
            spelled=self.spelled.reshape(before.spelled.shape),
            emitted=self.emitted.reshape(before.emitted.shape),
            length=self.length.reshape(shape),
            time=before.time + frames,
            followed=here.followed and here.followed.map(lambda x: x.reshape(shape)),
            graphs=before.graphs,
        )


def _merge(a: Array, a_ids: Array, b: Array, b_ids: Array, streams: int) -> tuple[Array, Array]:
    """Adds up the log-probabilities of equal hypotheses of (N,) and (M,); the likelier of two stands for both.

    Within a and within b each is there once, but for ones that have given way, which are -inf.
    """
    same = a_ids[_KEY, :, None] == b_ids[_KEY]
    if streams > 1:
        same &= a_ids[_STREAM, :, None] == b_ids[_STREAM]
    i, j = same.nonzero()
    if not len(i):
        return a, b
    alive = (a[i] > -np.inf) & (b[j] > -np.inf)
    i, j = i[alive], j[alive]
    a, b, one, other = a.copy(), b.copy(), a[i], b[j]
    both, first = np.logaddexp(one, other), one >= other
    a[i], b[j] = np.where(first, both, -np.inf), np.where(first, -np.inf, both)
    return a, b


def _best(rank: Array, stream: Array, streams: int, number: int) -> Array:
    """Places of the best ranks, so many of each stream, stream by stream; each has as many."""
    if streams == 1:
        return (-rank).argpartition(number - 1)[:number]
    order = np.lexsort((-rank, stream))
    begin = stream[order].searchsorted(np.arange(streams))
    return order[(begin[:, None] + np.arange(number)).ravel()]


def _most(found: Array, grown: Array, stream: Array, streams: int, number: int) -> Array:
    """Of places in `grown` (N, V), rows of a `stream` each, those with the highest values, so many of each at most."""
    if len(found) <= number:
        return found
    value = -grown.ravel()[found]
    if streams == 1:
        return found[value.argpartition(number)[:number]]
    own = stream[found // grown.shape[1]]
    order = np.lexsort((value, own))
    own = own[order]
    return found[order[np.arange(len(own)) - own.searchsorted(own) < number]]
