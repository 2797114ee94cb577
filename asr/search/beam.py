"""Frame-synchronous RNN-T beam search, vectorised over streams × beam.

In a frame every hypothesis may put out up to `symbols` tokens before its blank. Hypotheses that spell the same token
sequence are merged by adding their probabilities, so a score estimates log P(y|x), not that of one alignment
(Graves 2012, section 2.5, with the frame-synchronous pruning of Saon et al. 2020, "alignment-length synchronous").
What a language model and phrases say depends on the tokens alone; it is kept apart and added where hypotheses are
ranked (shallow fusion, Gulcehre et al. 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from asr.model.interface import AcousticModel, PredictorState
from asr.search.follow import Followed, Follower, Take
from asr.search.graph import PhraseGraph
from asr.search.ngram import NGram
from asr.search.state import FRAME, BeamState, Reading, stack_states, unstack_states

_PRIME = 1_000_003
_GROW = 64
_STRETCH = 16
"""Frames for which room for tokens is made at a time."""


@dataclass(frozen=True)
class _Level:
    """Hypotheses of B streams, N each, that put out equally many tokens in this frame and no blank yet.

    acoustic, key (B, N); predicted (B, N, J); predictor rows; origin (B, N): which of the state's hypotheses they were;
    path: for each token put out in this frame the token with its frame (B, N), and (B, N, 2) its and the blank's log P.
    """

    acoustic: Tensor
    key: Tensor
    predicted: Tensor
    predictor: PredictorState
    followed: Followed | None
    origin: Tensor
    path: tuple[tuple[Tensor, Tensor], ...]


def _merge(a: Tensor, a_key: Tensor, b: Tensor, b_key: Tensor) -> tuple[Tensor, Tensor]:
    """Adds up the log-probabilities of equal hypotheses of (B, N) and (B, M); the likelier of two stands for both.

    Within a and within b each is there once, but for ones that have given way, which are -inf.
    """
    same = a_key[:, :, None] == b_key[:, None]
    if not bool(same.any()):
        return a, b
    other_a = torch.where(same, b[:, None], -torch.inf).amax(2)
    other_b = torch.where(same, a[:, :, None], -torch.inf).amax(1)
    return (
        torch.where(a >= other_a, torch.logaddexp(a, other_a), -torch.inf),
        torch.where(b > other_b, torch.logaddexp(b, other_b), -torch.inf),
    )


class BeamSearch:
    """Batched beam search over `model`.

    Args:
        beam: hypotheses kept for each stream.
        symbols: most tokens of one hypothesis in one frame.
        language: followed by every hypothesis; None: none.
        language_weight: by which log P(token | history) is multiplied.
        token_bonus: nats for each token, against the shortness that both models prefer; counted in `language`.
    """

    def __init__(
        self,
        model: AcousticModel,
        beam: int = 8,
        symbols: int = 3,
        language: NGram | None = None,
        language_weight: float = 0.0,
        token_bonus: float = 0.0,
    ) -> None:
        if beam < 1 or symbols < 1:
            raise ValueError(f"beam is {beam} and symbols {symbols}; both must be at least 1")
        self.model, self.beam, self.symbols = model, beam, symbols
        self._follower = Follower(model.vocab_size, language, language_weight, token_bonus)

    def start(self, streams: int) -> BeamState:
        """One empty hypothesis for each stream."""
        predicted, predictor = self.model.start(streams * self.beam)
        device, shape = predicted.device, (streams, self.beam)
        acoustic = torch.full(shape, -torch.inf, device=device)
        acoustic[:, 0] = 0.0

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        return BeamState(
            acoustic=acoustic,
            predicted=predicted.unflatten(0, shape),
            predictor=predictor,
            key=1 - torch.arange(self.beam, device=device).repeat(streams, 1),
            spelled=zeros(*shape, _GROW),
            emitted=torch.zeros((*shape, _GROW, 2), device=device),
            length=zeros(*shape),
            time=zeros(streams),
            followed=self._follower.start(acoustic, ()),
        )

    def step(self, encoded: Tensor, state: BeamState, graphs: Sequence[PhraseGraph | None] = ()) -> BeamState:
        """Reads (B, T, J) encoded frames of each stream.

        Args:
            graphs: each stream's phrases or None, the same from its first frame to its last; empty: as before.

        Raises:
            ValueError: not one graph a stream, or a stream's phrases changed after its first frame.
        """
        given = tuple(graph or None for graph in graphs)
        if given and given != (state.graphs or (None,) * len(state.time)):
            state = self._with_graphs(state, given)
        here = torch.arange(self.beam, device=encoded.device).expand(len(encoded), -1)
        for t in range(encoded.shape[1]):
            if t % _STRETCH == 0:
                state = self._with_room(state, min(encoded.shape[1] - t, _STRETCH))
            state = self._frame(encoded[:, t], state, here)
        return state

    def _with_graphs(self, state: BeamState, graphs: tuple[PhraseGraph | None, ...]) -> BeamState:
        if len(graphs) != len(state.time):
            raise ValueError(f"{len(graphs)} graphs for {len(state.time)} streams; give one or None for each")
        parts = []
        for part, graph in zip(unstack_states(state), graphs, strict=True):
            if (part.graphs[0] if part.graphs else None) is not graph:
                if int(part.time):
                    raise ValueError("a stream's phrases changed within an utterance; set them before its first frame")
                own = (graph,) if graph else ()
                part = replace(part, followed=self._follower.start(part.acoustic, own), graphs=own)
            parts.append(part)
        return stack_states(parts)

    def _with_room(self, state: BeamState, frames: int) -> BeamState:
        """The same state with room for all tokens that so many frames may bring."""
        room = state.spelled.shape[2]
        missing = int(state.length.max()) + frames * self.symbols - room
        if missing <= 0:
            return state
        more = max(missing, _GROW)
        return replace(state, spelled=F.pad(state.spelled, (0, more)), emitted=F.pad(state.emitted, (0, 0, 0, more)))

    def _frame(self, encoded: Tensor, state: BeamState, here: Tensor) -> BeamState:
        level = _Level(state.acoustic, state.key, state.predicted, state.predictor, state.followed, here, ())
        scores, blank = self._join(encoded, level.predicted)
        ended, key = level.acoustic + blank, level.key
        total = None if level.followed is None else level.followed.total()
        kept: Tensor | None = None
        worst = _ranked(ended, total).amin(1, keepdim=True)
        levels = [level]
        for _ in range(self.symbols):
            found = self._candidates(level, scores, worst)
            if found is None:
                break
            level = self._extend(level, *found, scores, blank, state)
            levels.append(level)
            scores, blank = self._join(encoded, level.predicted)
            ended, arrived = _merge(ended, key, level.acoustic + blank, level.key)
            ended, key = torch.cat([ended, arrived], 1), torch.cat([key, level.key], 1)
            if total is not None and level.followed is not None:
                total = torch.cat([total, level.followed.total()], 1)
            best, kept = _ranked(ended, total).topk(self.beam, dim=1)
            worst = best[:, -1:]
        if kept is None:
            return BeamState(
                ended, state.predicted, state.predictor, key, state.spelled, state.emitted, state.length,
                state.time + 1, state.followed, state.graphs,
            )  # fmt: skip
        return self._keep(state, levels, kept, ended, key)

    def _join(self, encoded: Tensor, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """log P of each token (B, N, V), the blank's -inf, and of the blank (B, N)."""
        scores = self.model.join(encoded[:, None], predicted).log_softmax(-1)
        blank = scores[..., self.model.blank]
        copy = blank.clone()
        blank.fill_(-torch.inf)
        return scores, copy

    def _candidates(self, level: _Level, scores: Tensor, worst: Tensor) -> tuple[Tensor, Tensor] | None:
        """The best extensions, ranks and places in (N × V), (B, n) each, -inf where a stream has fewer; None: none.

        Below the worst ended hypothesis that would be kept an extension is out: its acoustic score can only fall.
        """
        followed = level.followed
        if followed is None:
            grown = scores + level.acoustic[..., None]
        else:
            grown = followed.lift(scores + (level.acoustic + followed.total())[..., None])
        top, picks = grown.flatten(1).topk(min(self.beam, grown[0].numel()), dim=1)
        alive = top > worst
        if len(top) == 1:
            number = int(alive.sum())
        else:
            number = int(alive.any(0).sum())
            top = top.masked_fill(~alive, -torch.inf)
        return (top[:, :number], picks[:, :number]) if number else None

    def _extend(
        self, level: _Level, rank: Tensor, picks: Tensor, scores: Tensor, blank: Tensor, state: BeamState
    ) -> _Level:
        vocab = scores.shape[2]
        rows = torch.div(picks, vocab, rounding_mode="floor")
        token, take = torch.sub(picks, rows, alpha=vocab), Take(rows, level.key.shape[1])
        score = scores.flatten(1).gather(1, picks)
        acoustic, followed = rank, None
        if level.followed is not None:
            acoustic = take(level.acoustic) + score
            if len(rank) > 1:  # a stream may have fewer candidates than another
                acoustic = acoustic.masked_fill(rank == -torch.inf, -torch.inf)
            followed = self._follower.extend(level.followed, state.graphs, take, picks, token)
        predicted, predictor = self.model.predict(token.flatten(), tuple(map(take.flat, level.predictor)))
        step = torch.add(token, state.time[:, None], alpha=FRAME), torch.stack([score, take(blank)], -1)
        return _Level(
            acoustic=acoustic,
            key=torch.add(token, take(level.key), alpha=_PRIME),
            predicted=predicted.view(*rows.shape, -1),
            predictor=predictor,
            followed=followed,
            origin=take(level.origin) if level.path else rows,
            path=(*((take(spelled), take(emitted)) for spelled, emitted in level.path), step),
        )

    def _keep(self, state: BeamState, levels: Sequence[_Level], kept: Tensor, ended: Tensor, key: Tensor) -> BeamState:
        """The frame's hypotheses `kept` (B, K), places in all levels side by side, as the next state."""
        streams, beam = kept.shape
        places = ended.shape[1]
        take = Take(kept, places)
        whence = Take(take(torch.cat([level.origin for level in levels], 1)), beam)
        length = old = whence(state.length)
        spelled, emitted = whence(state.spelled), whence(state.emitted)
        first, none = beam, state.emitted[:, :, 0]
        for depth in range(len(levels) - 1):
            # hypotheses with fewer tokens write behind their end, where it does not count
            fewer, more = levels[: depth + 1], levels[depth + 1 :]
            step = take(torch.cat([*(f.key for f in fewer), *(m.path[depth][0] for m in more)], 1))
            empty = [none if f is levels[0] else f.path[0][1] for f in fewer]
            score = take(torch.cat([*empty, *(m.path[depth][1] for m in more)], 1))
            at = (old + depth)[..., None]
            spelled.scatter_(2, at, step[..., None])
            emitted.scatter_(2, at[..., None].expand(-1, -1, -1, 2), score[:, :, None])
            length = length + (kept >= first)
            first += levels[depth + 1].key.shape[1]
        follow = [level.followed for level in levels if level.followed is not None]
        return BeamState(
            acoustic=take(ended),
            predicted=take(torch.cat([level.predicted for level in levels], 1)),
            predictor=tuple(map(take.flat, self._side_by_side(levels, streams))),
            key=take(key),
            spelled=spelled,
            emitted=emitted,
            length=length,
            time=state.time + 1,
            followed=self._follower.choose(follow, state.graphs, take) if follow else None,
            graphs=state.graphs,
        )

    @staticmethod
    def _side_by_side(levels: Sequence[_Level], streams: int) -> list[Tensor]:
        columns = zip(*(level.predictor for level in levels), strict=True)
        if streams == 1:
            return [torch.cat(column) for column in columns]
        return [torch.cat([x.unflatten(0, (streams, -1)) for x in column], 1).flatten(0, 1) for column in columns]

    def nbest(self, state: BeamState, stream: int) -> list[Reading]:
        """The hypotheses of one stream, best first."""
        acoustic, language, bias = state.acoustic, None, None
        if state.followed is not None:
            language, bias = self._follower.end(state.followed, state.graphs)
        rank = sum((x for x in (language, bias) if x is not None), acoustic)
        out = []
        for k in rank[stream].argsort(descending=True).tolist():
            if acoustic[stream, k] == -torch.inf:
                continue
            n = int(state.length[stream, k])
            score, blank = state.emitted[stream, k, :n].unbind(-1)
            certainty = score - torch.log1p(-blank.exp().clamp(max=1 - 1e-6))
            spelled = state.spelled[stream, k, :n]
            out.append(
                Reading(
                    tuple((spelled % FRAME).tolist()),
                    tuple((spelled // FRAME).tolist()),
                    tuple(certainty.tolist()),
                    float(acoustic[stream, k]),
                    0.0 if language is None else float(language[stream, k]),
                    0.0 if bias is None else float(bias[stream, k]),
                )
            )
        return out


def _ranked(acoustic: Tensor, total: Tensor | None) -> Tensor:
    return acoustic if total is None else acoustic + total
