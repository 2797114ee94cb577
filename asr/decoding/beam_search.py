"""Frame-synchronous RNN-T beam search, vectorised over streams × beam.

In a frame every hypothesis may emit up to `max_symbols` tokens before its blank. Hypotheses that spell the same token
sequence are merged by adding their probabilities, so a score estimates log P(y|x), not that of one alignment
(Graves 2012, section 2.5, with the frame-synchronous pruning of Saon et al. 2020, "alignment-length synchronous").
The scores of a language model and of boosted phrases depend on the tokens alone; they are kept apart and added where
hypotheses are ranked (shallow fusion, Gulcehre et al. 2015). Frames that a CTC head takes for blank may be skipped
(Wang et al. 2023, arXiv:2210.16481).

The model computes on its device, many frames at once (`asr.decoding.joiner_cache`). What is left beside the model are
small sums over hypotheses: numpy, which starts an operation faster than torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.acoustic.interface import AcousticModel
from asr.decoding.fusion import FusionState, ShallowFusion
from asr.decoding.joiner_cache import HASH, JoinerCache, PredictorCache
from asr.decoding.ngram import NGram
from asr.decoding.phrase_graph import PhraseGraph
from asr.decoding.state import FRAME, ROOM, Backpointers, BeamState, NBestEntry, stack_states, unstack_states

Array = npt.NDArray[Any]

BEAM = 32
"""Hypotheses kept by default: 5% fewer errors than 8 for a tenth more processor time (recipes/acoustic/NOTEBOOK.md)."""
_BLOCK = 8
"""Frames that the model's joiner is asked about at once; of several streams half as many, since then its products take
the time, some of them for hypotheses that are gone by then, and of one stream the starting of operations does."""
_STREAM, _PREFIX, _CONTEXT, _ROW, _POINTER = range(5)


class BeamSearch:
    """Batched beam search over `model`. The defaults are what the recogniser ships with.

    Args:
        beam: hypotheses kept for each stream, unless its state was started with another number.
        max_symbols: most tokens of one hypothesis in one frame.
        language: scores every hypothesis; None: no language model.
        language_weight: by which log P(token | history) is multiplied.
        token_bonus: nats for each token, against the shortness that both models prefer; counted in `language`.
        pruning_beam: nats below the best hypothesis from which on a token is pruned. On dev 6 changes no result that
            all tokens give, and scores by a ten thousandth.
        blank_threshold: the blank's probability by the model's CTC head above which a frame is skipped; 1: none is.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        model: AcousticModel,
        beam: int = BEAM,
        max_symbols: int = 3,
        language: NGram | None = None,
        language_weight: float = 0.0,
        token_bonus: float = 0.0,
        pruning_beam: float = 6.0,
        blank_threshold: float = 0.99,
    ) -> None:
        if beam < 1 or max_symbols < 1:
            raise ValueError(f"beam is {beam} and max_symbols {max_symbols}; both must be at least 1")
        if not pruning_beam > 0:
            raise ValueError(f"pruning_beam is {pruning_beam}; it must be above 0")
        if not 0 < blank_threshold <= 1:
            raise ValueError(f"blank_threshold is {blank_threshold}; it is a probability above 0")
        self.model, self.beam, self.max_symbols, self.blank_threshold = model, beam, max_symbols, blank_threshold
        self._pruning_beam = np.float32(pruning_beam)
        self._predictor_cache = PredictorCache(model)
        self._fusion = ShallowFusion(model.vocab_size, language, language_weight, token_bonus)

    def start(self, streams: int, beam: int | None = None) -> BeamState:
        """One empty hypothesis for each stream, and room for `beam`; None: as many as the search's."""
        shape = (streams, self.beam if beam is None else beam)
        cache = self._predictor_cache
        predicted, predictor = (None, ()) if cache.stateless else self.model.start(shape[0] * shape[1])
        acoustic = np.full(shape, -np.inf, np.float32)
        acoustic[:, 0] = 0.0
        return BeamState(
            acoustic=acoustic,
            prefix=np.tile(1 - np.arange(shape[1]), (streams, 1)),
            context=np.full(shape, cache.start),
            predicted=predicted,
            predictor=predictor,
            tokens=np.zeros((*shape, ROOM), np.int64),
            log_probs=np.zeros((*shape, ROOM, 2), np.float32),
            length=np.zeros(shape, np.int64),
            time=np.zeros(streams, np.int64),
            fusion=self._fusion.start(shape, ()),
        )

    def step(
        self,
        encoded: Tensor,
        state: BeamState,
        graphs: Sequence[PhraseGraph | None] = (),
        lengths: Sequence[int] | None = None,
    ) -> BeamState:
        """Read (B, T, J) encoded frames of each stream.

        However the frames are cut the result is the same; bit for bit where all cuts are at multiples of 8 frames.

        Args:
            graphs: each stream's phrases or None, the same from its first frame to its last; empty: as before.
            lengths: frames of each stream, the others being padding; None: T each.

        Returns:
            The state behind the frames; the one before stays as it was.

        Raises:
            ValueError: not one graph a stream, or a stream's phrases changed after its first frame.
        """
        given = tuple(graph or None for graph in graphs)
        if given and given != (state.graphs or (None,) * len(state.time)):
            state = self._with_graphs(state, given)
        at, block = 0, _BLOCK if len(encoded) == 1 else _BLOCK // 2
        begun, ends = state.time, np.array([encoded.shape[1]] * len(encoded) if lengths is None else lengths)
        while at < encoded.shape[1]:
            size = block - int(begun[0] + at) % block
            part = encoded[:, at : at + size]
            searched = (self.model.blank_probabilities(part) <= self.blank_threshold).cpu().numpy()
            searched &= np.arange(at, at + part.shape[1]) < ends[:, None]
            at, frames = at + size, np.flatnonzero(searched.any(0))
            time = begun + ends.clip(max=at)
            if len(frames):
                part = part.index_select(1, torch.from_numpy(frames).to(part.device))
                before = state.context, state.predicted, state.predictor
                cache = JoinerCache(self.model, self._predictor_cache, part, searched[:, frames], *before)
                state = _Block(cache, state, frames, self._fusion, self.max_symbols, self._pruning_beam).search()
            state = replace(state, time=time)
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
                part = replace(part, fusion=self._fusion.start(part.acoustic.shape, own), graphs=own)
            parts.append(part)
        return stack_states(parts)

    def leading_outputs(self, states: Sequence[BeamState]) -> Tensor:
        """(B, J) the predictor's output behind the leading hypothesis of each of B states of one stream."""
        best = [int(_rank(state)[0].argmax()) for state in states]
        if self._predictor_cache.stateless:
            contexts = [state.context[0, place] for state, place in zip(states, best, strict=True)]
            return self._predictor_cache.outputs(np.array(contexts))
        outputs = [(state.predicted, place) for state, place in zip(states, best, strict=True)]
        return torch.stack([predicted[place] for predicted, place in outputs if predicted is not None])

    def nbest(self, state: BeamState, stream: int) -> list[NBestEntry]:
        """The hypotheses of one stream, best first."""
        acoustic = state.acoustic
        language = bias = np.zeros_like(acoustic)
        if state.fusion is not None:
            language, bias = self._fusion.final_scores(state.fusion, state.graphs)
        rank = acoustic + language + bias
        out = []
        for k in (-rank[stream]).argsort(kind="stable").tolist():
            if acoustic[stream, k] == -np.inf:
                continue
            n = int(state.length[stream, k])
            score, blank = state.log_probs[stream, k, :n].T
            log_confidence = score - np.log1p(-np.exp(blank).clip(max=np.float32(1 - 1e-6)))
            frame, token = np.divmod(state.tokens[stream, k, :n], FRAME)
            out.append(
                NBestEntry(
                    tokens=tuple(token.tolist()),
                    frames=tuple(frame.tolist()),
                    log_confidence=tuple(log_confidence.tolist()),
                    acoustic=float(acoustic[stream, k]),
                    language=float(language[stream, k]),
                    bias=float(bias[stream, k]),
                )
            )
        return out


def _rank(state: BeamState) -> Array:
    """(B, K) by which hypotheses are ranked while the text goes on, nats."""
    return state.acoustic if state.fusion is None else state.acoustic + state.fusion.total()


@dataclass(frozen=True)
class _Hypotheses:
    """N hypotheses that have emitted equally many tokens in a frame, and not yet its blank."""

    acoustic: Array
    """(N,) float32, log P, nats."""
    ids: Array
    """(5, N) int64: stream, hash of the tokens, predictor context, row in the `JoinerCache`, back-pointer."""
    fusion: FusionState | None

    def with_scores(self, acoustic: Array) -> _Hypotheses:
        return _Hypotheses(acoustic, self.ids, self.fusion)

    def rank(self) -> Array:
        """(N,) the sum of acoustic and fusion scores, nats."""
        return self.acoustic if self.fusion is None else self.acoustic + self.fusion.total()

    def take(self, rows: Array) -> _Hypotheses:
        fusion = None if self.fusion is None else self.fusion.take(rows)
        return _Hypotheses(self.acoustic.take(rows), self.ids.take(rows, 1), fusion)

    def concat(self, other: _Hypotheses) -> _Hypotheses:
        fusion = None
        if self.fusion is not None and other.fusion is not None:
            fusion = self.fusion.concat(other.fusion)
        acoustic, ids = np.concatenate([self.acoustic, other.acoustic]), np.concatenate([self.ids, other.ids], 1)
        return _Hypotheses(acoustic, ids, fusion)


@dataclass(frozen=True)
class _BlankOnlyScores:
    """Scores of N hypotheses over the next F frames if they emit only blanks: frames without rivals are passed in one.

    Rivals are extensions by a token that could be kept.
    """

    acoustic: Array
    """(F + 1, N) log P before each frame and behind the last, nats."""
    best_extension: Array
    """(F, N) an upper bound of the rank of the best extension, nats."""
    limit: Array
    """(F, B) the rank that an extension has to pass to be kept, nats."""
    busy: Array
    """Frames in which an extension passes its limit."""


class _Block:
    """A block of T frames of B streams with K hypotheses each.

    Args:
        cache: the joiner's log-probabilities in the block.
        state: before the block.
        frames: (T,) frames of the block, counted from the state's time.
    """

    def __init__(
        self,
        cache: JoinerCache,
        state: BeamState,
        frames: Array,
        fusion: ShallowFusion,
        max_symbols: int,
        pruning_beam: np.float32,
    ) -> None:
        self._cache, self._state, self._fusion = cache, state, fusion
        self._max_symbols, self._pruning_beam = max_symbols, pruning_beam
        self._streams, self._beam = state.acoustic.shape
        self._backpointers = Backpointers(state, frames)

    def search(self) -> BeamState:
        """The state behind the block, all but its time."""
        cache, state = self._cache, self._state
        number, frames = state.acoustic.size, len(cache.blank)
        stream = np.arange(self._streams).repeat(self._beam)
        ids = np.stack([stream, state.prefix.ravel(), state.context.ravel(), cache.first, np.arange(number)])
        here = _Hypotheses(state.acoustic.ravel(), ids, state.fusion and state.fusion.reshape(number))
        at = 0
        while at < frames:
            ahead = self._blank_only(here, at)
            for n in ahead.busy.tolist():
                begun = here.with_scores(ahead.acoustic[n])
                after = self._frame(begun, ahead.acoustic[n + 1], ahead.best_extension[n], ahead.limit[n], at + n)
                if after is not None:
                    here, at = after, at + n + 1
                    break
            else:
                here, at = here.with_scores(ahead.acoustic[-1]), frames
        return self._state_of(here)

    def _state_of(self, here: _Hypotheses) -> BeamState:
        before, shape = self._state, self._state.acoustic.shape
        predicted, predictor = self._cache.predictor_states(here.ids[_ROW])
        tokens, log_probs, length = self._backpointers.trace_back(here.ids[_POINTER])
        return BeamState(
            acoustic=here.acoustic.reshape(shape),
            prefix=here.ids[_PREFIX].reshape(shape),
            context=here.ids[_CONTEXT].reshape(shape),
            predicted=predicted,
            predictor=predictor,
            tokens=tokens,
            log_probs=log_probs,
            length=length,
            time=before.time,
            fusion=here.fusion and here.fusion.reshape(*shape),
            graphs=before.graphs,
        )

    def _limit(self, rank: Array) -> Array:
        """The rank that an extension has to pass (..., B), by the ranks (..., B, K) of hypotheses with their blank.

        That is the worst of them, since it can only fall, and the best less the pruning beam.
        """
        return np.maximum(np.minimum.reduce(rank, -1), np.maximum.reduce(rank, -1) - self._pruning_beam)

    def _blank_only(self, here: _Hypotheses, at: int) -> _BlankOnlyScores:
        cache, row = self._cache, here.ids[_ROW]
        blank = cache.blank[at:].take(row, 1)
        acoustic = np.empty((len(blank) + 1, len(row)), np.float32)
        acoustic[0], acoustic[1:] = here.acoustic, blank
        np.add.accumulate(acoustic, 0, out=acoustic)
        rank, best_extension = acoustic[1:], cache.best[at:].take(row, 1)
        best_extension += acoustic[:-1]
        if here.fusion is not None:
            total = here.fusion.total()
            rank = rank + total
            best_extension += total + here.fusion.max_next
        limit = self._limit(rank.reshape(len(blank), self._streams, self._beam))
        high = best_extension.reshape(len(blank), self._streams, self._beam) > limit[:, :, None]
        return _BlankOnlyScores(acoustic, best_extension, limit, high.reshape(len(blank), -1).any(1).nonzero()[0])

    def _frame(
        self, first: _Hypotheses, ended: Array, best_extension: Array, limit: Array, at: int
    ) -> _Hypotheses | None:
        """The hypotheses behind a frame in which tokens may be emitted; None: none is.

        Args:
            ended: (N,) log P of the `first` hypotheses with the frame's blank.
            best_extension: (N,) an upper bound of the rank of each one's best extension.
            limit: (B,) the rank that an extension has to pass.
        """
        level, found, kept = first, first.with_scores(ended), None
        for depth in range(self._max_symbols):
            extended = self._extend(level, best_extension, limit, at)
            if extended is None:
                break
            level, row = extended, extended.ids[_ROW]
            found = _merge(found, level.with_scores(level.acoustic + self._cache.blank[at].take(row)), self._streams)
            rank = found.rank()
            kept = _best(rank, found.ids[_STREAM], self._streams, self._beam)
            if depth + 1 < self._max_symbols:
                best_extension = level.rank() + self._cache.best[at].take(row)
                if level.fusion is not None:
                    best_extension += level.fusion.max_next
                limit = self._limit(rank.take(kept).reshape(self._streams, self._beam))
        return None if kept is None else found.take(kept)

    def _extend(self, level: _Hypotheses, best_extension: Array, limit: Array, at: int) -> _Hypotheses | None:
        """The best extensions by a token, at most as many of a stream as it keeps; None: none passes its limit."""
        cache, graphs, streams = self._cache, self._state.graphs, self._streams
        stream = level.ids[_STREAM]
        rows = (best_extension > (limit if streams == 1 else limit.take(stream))).nonzero()[0]
        if not len(rows):
            return None
        token_score = cache.token[at]
        rank = token_score.take(level.ids[_ROW].take(rows), 0)
        rank += level.rank().take(rows)[:, None]
        if level.fusion is not None:
            self._fusion.add_fusion_scores(rank, level.fusion, rows, stream, graphs)
        above = rank > (limit if streams == 1 else limit.take(stream.take(rows))[:, None])
        found: Array = above.ravel().nonzero()[0]
        if not len(found):
            return None
        if len(found) > self._beam:
            found = _best_extensions(found, rank, stream.take(rows), streams, self._beam)
        parent, token = rows.take(found // rank.shape[1]), found % rank.shape[1]
        ids = level.ids.take(parent, 1)
        stream, prefix, context, row, pointer = ids
        score, blank = token_score[row, token], cache.blank[at].take(row)
        after = cache.find(stream, context, token, at, row)
        ids[_POINTER] = self._backpointers.add(pointer.copy(), token, at, score, blank)
        prefix *= HASH
        prefix += token
        ids[_CONTEXT], ids[_ROW] = after
        fusion = level.fusion
        if fusion is not None:
            fusion = self._fusion.advance(fusion, graphs, parent, token, stream)
        return _Hypotheses(level.acoustic.take(parent) + score, ids, fusion)


def _merge(one: _Hypotheses, other: _Hypotheses, streams: int) -> _Hypotheses:
    """Both, equal hypotheses as one: their probabilities added up, and the token times of the likelier."""
    prefix, twin = one.ids[_PREFIX], other.ids[_PREFIX]
    if streams > 1:
        prefix, twin = (x.ids[_PREFIX] * streams + x.ids[_STREAM] for x in (one, other))
    order = prefix.argsort()
    place = order.take(prefix.searchsorted(twin, sorter=order), mode="clip")
    equal = prefix.take(place) == twin
    here = equal.nonzero()[0]
    if len(here):
        place = place.take(here)
        acoustic, ids = one.acoustic.copy(), one.ids.copy()
        a, b = acoustic.take(place), other.acoustic.take(here)
        acoustic[place] = np.logaddexp(a, b)
        ids[_POINTER, place] = np.where(a >= b, ids[_POINTER, place], other.ids[_POINTER, here])
        one, other = _Hypotheses(acoustic, ids, one.fusion), other.take((~equal).nonzero()[0])
    return one.concat(other)


def _best(rank: Array, stream: Array, streams: int, number: int) -> Array:
    """Places of the best ranks, so many of each stream, stream by stream; each has as many."""
    if streams == 1:
        return (-rank).argpartition(number - 1)[:number]
    order = np.lexsort((-rank, stream))
    begin = stream[order].searchsorted(np.arange(streams))
    return order[(begin[:, None] + np.arange(number)).ravel()]


def _best_extensions(found: Array, rank: Array, stream: Array, streams: int, number: int) -> Array:
    """Of places in `rank` (N, V), rows of a `stream` each, those with the highest values, so many of each at most."""
    value = -rank.ravel()[found]
    if streams == 1:
        return found[value.argpartition(number)[:number]]
    own = stream[found // rank.shape[1]]
    order = np.lexsort((value, own))
    own = own[order]
    return found[order[np.arange(len(own)) - own.searchsorted(own) < number]]
