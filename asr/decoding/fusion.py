"""What stands beside the acoustic score: a language model and phrases, followed by every hypothesis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.decoding.automaton import UNIT
from asr.decoding.ngram import NGram
from asr.decoding.phrase_graph import PhraseGraph

Array = npt.NDArray[Any]
_UNIT = np.float32(UNIT)


@dataclass(frozen=True)
class Followed:
    """Where hypotheses are in the language model and in their stream's phrases.

    nats (3, ...) float32: the language model's with the bonus for each token, and the phrases', so far; and what the
    next token brings of both, at most. states (2, ...) int64: in the language model and in the phrases. Zeros stand for
    what is not followed. spoken: there is a language model, or a bonus for each token.
    """

    nats: Array
    states: Array
    spoken: bool

    @property
    def language(self) -> Array:
        return self.nats[0]

    @property
    def bias(self) -> Array:
        return self.nats[1]

    @property
    def most(self) -> Array:
        return self.nats[2]

    def total(self) -> Array:
        """Nats of both."""
        return self.nats[0] + self.nats[1]

    def take(self, rows: Array) -> Followed:
        """Those of (N,) rows of one dimension."""
        return Followed(self.nats.take(rows, 1), self.states.take(rows, 1), self.spoken)

    def reshape(self, *shape: int) -> Followed:
        """In another shape of hypotheses."""
        return Followed(self.nats.reshape(3, *shape), self.states.reshape(2, *shape), self.spoken)

    def beside(self, other: Followed) -> Followed:
        """Those of both, (N,) and (M,)."""
        return Followed(
            np.concatenate([self.nats, other.nats], 1), np.concatenate([self.states, other.states], 1), self.spoken
        )


class Follower:
    """Moves hypotheses through a language model, weighted, with a bonus for each token, and through phrase graphs.

    N: hypotheses, each of a `stream`; graphs: those of all streams, () where none has any.
    """

    def __init__(self, vocab_size: int, language: NGram | None, weight: float, token_bonus: float) -> None:
        if weight < 0:
            raise ValueError(f"language_weight is {weight}; it must be at least 0")
        self.vocab_size = vocab_size
        self.language = language if weight else None
        self.weight, self.token_bonus = np.float32(weight), np.float32(token_bonus)

    def start(self, shape: tuple[int, int], graphs: Sequence[PhraseGraph | None]) -> Followed | None:
        """At the beginning of texts, (B, K); None where nothing is followed."""
        spoken = bool(self.language or self.token_bonus)
        if not (spoken or any(graphs)):
            return None
        nats, states = np.zeros((3, shape[0] * shape[1]), np.float32), np.zeros((2, shape[0] * shape[1]), np.int64)
        if self.language:
            states[0] = self.language.start
        self._look_ahead(nats[2], states, graphs, np.repeat(np.arange(shape[0]), shape[1]))
        return Followed(nats, states, spoken).reshape(*shape)

    def _look_ahead(self, most: Array, states: Array, graphs: Sequence[PhraseGraph | None], stream: Array) -> None:
        """Fills in what the next token brings at most."""
        most[:] = self.token_bonus
        if self.language is not None:
            most += self.language.most(states[0]) * self.weight
        for graph, rows in _by_graph(graphs, stream):
            most[rows] += graph.most(states[1, rows])

    def lift(
        self, scores: Array, followed: Followed, rows: Array, stream: Array, graphs: Sequence[PhraseGraph | None]
    ) -> None:
        """Adds to log-probabilities (M, V) of the next tokens of hypotheses `rows` (M,) what these bring."""
        grammar, node = followed.states.take(rows, 1)
        if self.language is not None:
            language = self.language.scores(grammar)
            language *= self.weight
            scores += language
        if self.token_bonus:
            scores += self.token_bonus
        for graph, some in _by_graph(graphs, stream, rows):
            scores[some] += graph.gains(node[some]) * _UNIT

    def extend(
        self, followed: Followed, graphs: Sequence[PhraseGraph | None], parent: Array, token: Array, stream: Array
    ) -> Followed:
        """Hypotheses `parent` (N,) of those, each having read its token (N,)."""
        after = followed.take(parent)
        nats, states = after.nats, after.states
        nats[0] += self.token_bonus
        if self.language is not None:
            score, states[0] = self.language.read(states[0], token)
            nats[0] += score * self.weight
        for graph, rows in _by_graph(graphs, stream):
            gain, states[1, rows] = graph.read(states[1, rows], token[rows])
            nats[1, rows] += gain
        self._look_ahead(nats[2], states, graphs, stream)
        return after

    def end(self, followed: Followed, graphs: Sequence[PhraseGraph | None]) -> tuple[Array, Array]:
        """Language and bias (B, K) of texts that end here: with the end's probability, without unfinished phrases."""
        language, bias = followed.language, followed.bias
        grammar, node = followed.states
        if self.language is not None:
            language = language + self.weight * self.language.final(grammar.reshape(-1)).reshape(language.shape)
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
