"""Shallow fusion: what an n-gram model and boosted phrases add to the acoustic score of every hypothesis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.decoding.ngram import NGram
from asr.decoding.phrase_graph import PhraseGraph

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FusionState:
    """Where hypotheses are in the language model and in their stream's phrases, and what these have added."""

    scores: Array
    """(3, ...) float32, nats: the language model's with the token bonus, the phrases', and an upper bound of what the
    next token adds of both. Zeros where there is neither."""
    states: Array
    """(2, ...) int64: states of the language model and of the phrase graph."""
    has_language: bool
    """Whether there is a language model, or a bonus for each token."""

    @classmethod
    def empty(cls, shape: tuple[int, ...], has_language: bool) -> FusionState:
        """Hypotheses to which nothing is added."""
        return cls(np.zeros((3, *shape), np.float32), np.zeros((2, *shape), np.int64), has_language)

    @property
    def language(self) -> Array:
        """(N,) weighted language-model scores and token bonuses, nats."""
        return self.scores[0]

    @property
    def bias(self) -> Array:
        """(N,) phrase boosts, nats."""
        return self.scores[1]

    @property
    def max_next(self) -> Array:
        """An upper bound of what the next token adds, nats."""
        return self.scores[2]

    def total(self) -> Array:
        """The sum of language and phrase scores, nats."""
        return self.scores[0] + self.scores[1]

    def take(self, rows: Array) -> FusionState:
        """Those of (N,) rows of one dimension."""
        return FusionState(self.scores.take(rows, 1), self.states.take(rows, 1), self.has_language)

    def reshape(self, *shape: int) -> FusionState:
        """In another shape of hypotheses."""
        return FusionState(self.scores.reshape(3, *shape), self.states.reshape(2, *shape), self.has_language)

    def concat(self, other: FusionState) -> FusionState:
        """Those of both, (N,) and (M,)."""
        scores, states = np.concatenate([self.scores, other.scores], 1), np.concatenate([self.states, other.states], 1)
        return FusionState(scores, states, self.has_language)


class ShallowFusion:
    """Scores hypotheses by a weighted language model, a bonus for each token, and phrase graphs.

    N: hypotheses, each of a `stream`; V: vocabulary; graphs: those of all streams, () where none has any.

    Args:
        weight: by which log P(token | history) is multiplied, 0 or more.
        token_bonus: nats for each token.

    Raises:
        ValueError: the weight is below 0.
    """

    def __init__(self, vocab_size: int, language: NGram | None, weight: float, token_bonus: float) -> None:
        if weight < 0:
            raise ValueError(f"language_weight is {weight}; it must be at least 0")
        self.vocab_size = vocab_size
        self.language = language if weight else None
        self.weight, self.token_bonus = np.float32(weight), np.float32(token_bonus)

    def start(self, shape: tuple[int, int], graphs: Sequence[PhraseGraph | None]) -> FusionState | None:
        """The state of (B, K) hypotheses without tokens; None where nothing is fused."""
        has_language = bool(self.language or self.token_bonus)
        if not (has_language or any(graphs)):
            return None
        state = FusionState.empty((shape[0] * shape[1],), has_language)
        if self.language:
            state.states[0] = self.language.start
        self._bound(state.max_next, state.states, graphs, np.repeat(np.arange(shape[0]), shape[1]))
        return state.reshape(*shape)

    def _bound(self, max_next: Array, states: Array, graphs: Sequence[PhraseGraph | None], stream: Array) -> None:
        """Fill in the upper bound of what the next token adds."""
        max_next[:] = self.token_bonus
        if self.language is not None:
            max_next += self.language.max_score(states[0]) * self.weight
        for graph, rows in _by_graph(graphs, stream):
            max_next[rows] += graph.max_gain(states[1, rows])

    def add_fusion_scores(
        self, scores: Array, state: FusionState, rows: Array, stream: Array, graphs: Sequence[PhraseGraph | None]
    ) -> None:
        """Add language and phrase scores of the next tokens to log-probabilities, in place.

        Args:
            scores: (M, V) log P of the next tokens, to which is added.
            rows: (M,) the hypotheses of `state` that they follow.
            stream: (N,) of the hypotheses of `state`.
        """
        history, node = state.states.take(rows, 1)
        if self.language is not None:
            language = self.language.scores(history)
            language *= self.weight
            scores += language
        if self.token_bonus:
            scores += self.token_bonus
        for graph, some in _by_graph(graphs, stream, rows):
            scores[some] += graph.gains(node[some])

    def advance(
        self, state: FusionState, graphs: Sequence[PhraseGraph | None], parent: Array, token: Array, stream: Array
    ) -> FusionState:
        """The state of (N,) hypotheses, each its `parent` in `state` with one `token` more."""
        after = state.take(parent)
        scores, states = after.scores, after.states
        scores[0] += self.token_bonus
        if self.language is not None:
            score, states[0] = self.language.advance(states[0], token)
            scores[0] += score * self.weight
        for graph, rows in _by_graph(graphs, stream):
            gain, states[1, rows] = graph.advance(states[1, rows], token[rows])
            scores[1, rows] += gain
        self._bound(scores[2], states, graphs, stream)
        return after

    def final_scores(self, state: FusionState, graphs: Sequence[PhraseGraph | None]) -> tuple[Array, Array]:
        """Language and phrase scores (B, K) of texts that end here: with the end's, without unfinished phrases'."""
        language, bias = state.language, state.bias
        history, node = state.states
        if self.language is not None:
            language = language + self.weight * self.language.final(history.reshape(-1)).reshape(language.shape)
        if any(graphs):
            bias = bias.copy()
            for stream, graph in enumerate(graphs):
                if graph:
                    bias[stream] += graph.final(node[stream])
        return language, bias


def _by_graph(
    graphs: Sequence[PhraseGraph | None], stream: Array, rows: Array | None = None
) -> Iterator[tuple[PhraseGraph, Any]]:
    """Each graph with the places of the hypotheses (N,), or of those of them in `rows` (M,), whose stream has it."""
    if len(graphs) == 1 and graphs[0]:
        yield graphs[0], slice(None)
    elif graphs:
        own = stream if rows is None else stream.take(rows)
        for graph in {id(graph): graph for graph in graphs if graph}.values():
            mine = np.array([graph is other for other in graphs])
            places = mine.take(own).nonzero()[0]
            if len(places):
                yield graph, places
