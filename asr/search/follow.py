"""What stands beside the acoustic score: a language model and phrases, followed by every hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.search.automaton import UNIT
from asr.search.graph import PhraseGraph
from asr.search.ngram import NGram

Array = npt.NDArray[Any]
_UNIT = np.float32(UNIT)


@dataclass(frozen=True)
class Followed:
    """Where hypotheses are in the language model and in their stream's phrases: arrays of one shape.

    language: nats so far; grammar int64: states. None where no language is followed: grammar also where tokens only
    have a bonus. bias, node: the same for phrases. most: what the next token brings of both, at most.
    """

    most: Array
    language: Array | None = None
    grammar: Array | None = None
    bias: Array | None = None
    node: Array | None = None

    def total(self) -> Array:
        """Nats of both."""
        if self.language is None or self.bias is None:
            one = self.bias if self.language is None else self.language
            assert one is not None
            return one
        return self.language + self.bias

    def map(self, change: Callable[[Array], Array]) -> Followed:
        """All that is there, changed alike."""
        return Followed(
            change(self.most),
            *(None if x is None else change(x) for x in (self.language, self.grammar, self.bias, self.node)),
        )

    def beside(self, other: Followed) -> Followed:
        """Those of both, (N,) and (M,)."""
        return Followed(
            np.concatenate([self.most, other.most]),
            *(
                None if a is None or b is None else np.concatenate([a, b])
                for a, b in (
                    (self.language, other.language), (self.grammar, other.grammar),
                    (self.bias, other.bias), (self.node, other.node),
                )
            ),
        )  # fmt: skip


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
        spoken, led = bool(self.language or self.token_bonus), any(graphs)
        if not (spoken or led):
            return None
        grammar = np.full(shape, self.language.start) if self.language else None
        node = np.zeros(shape, np.int64) if led else None
        stream = np.repeat(np.arange(shape[0]), shape[1])
        return Followed(
            self._most(grammar, node, stream, graphs, shape),
            np.zeros(shape, np.float32) if spoken else None,
            grammar,
            np.zeros(shape, np.float32) if led else None,
            node,
        )

    def _most(
        self,
        grammar: Array | None,
        node: Array | None,
        stream: Array,
        graphs: Sequence[PhraseGraph | None],
        shape: tuple[int, ...],
    ) -> Array:
        if self.language is not None and grammar is not None:
            most = (self.language.most(grammar.reshape(-1)) * self.weight + self.token_bonus).reshape(shape)
        else:
            most = np.full(shape, self.token_bonus)
        if node is not None:
            gains = self._of_graphs(lambda graph, rows: graph.most(node.reshape(-1)[rows]), graphs, stream, np.float32)
            most = most + gains.reshape(shape)
        return most

    @staticmethod
    def _of_graphs(
        read: Callable[[PhraseGraph, Any], Array],
        graphs: Sequence[PhraseGraph | None],
        stream: Array,
        kind: Any,
        *shape: int,
    ) -> Array:
        """(N, ...) what each hypothesis's graph says: read(graph, rows); zeros without graph."""
        if len(graphs) == 1 and graphs[0]:
            return read(graphs[0], slice(None))
        out = np.zeros((len(stream), *shape), kind)
        for number, graph in enumerate(graphs):
            if graph:
                rows = np.flatnonzero(stream == number)
                if len(rows):
                    out[rows] = read(graph, rows)
        return out

    def lift(
        self, scores: Array, followed: Followed, rows: Array, stream: Array, graphs: Sequence[PhraseGraph | None]
    ) -> None:
        """Adds to log-probabilities (M, V) of the next tokens of hypotheses `rows` (M,) what these bring."""
        if self.language is not None and followed.grammar is not None:
            scores += self.language.scores(followed.grammar[rows]) * self.weight
        if self.token_bonus:
            scores += self.token_bonus
        node = followed.node
        if node is not None:
            own = node[rows]
            scores += _UNIT * self._of_graphs(
                lambda graph, some: graph.gains(own[some]), graphs, stream[rows], np.int16, self.vocab_size
            )

    def extend(
        self, followed: Followed, graphs: Sequence[PhraseGraph | None], parent: Array, token: Array, stream: Array
    ) -> Followed:
        """Hypotheses `parent` (N,) of those, each having read its token (N,)."""
        language, grammar, bias, node = (
            None if x is None else x[parent]
            for x in (followed.language, followed.grammar, followed.bias, followed.node)
        )
        if language is not None:
            language = language + self.token_bonus
        if language is not None and self.language is not None and grammar is not None:
            score, grammar = self.language.read(grammar, token)
            language = language + score * self.weight
        if bias is not None and node is not None:
            gain, node = _read(graphs, node, token, stream)
            bias = bias + gain
        return Followed(self._most(grammar, node, stream, graphs, token.shape), language, grammar, bias, node)

    def end(self, followed: Followed, graphs: Sequence[PhraseGraph | None]) -> tuple[Array | None, Array | None]:
        """Language and bias (B, K) of texts that end here: with the end's probability, without unfinished phrases."""
        language, bias = followed.language, followed.bias
        if language is not None and self.language is not None and followed.grammar is not None:
            ending = self.language.final(followed.grammar.reshape(-1)).reshape(language.shape)
            language = language + self.weight * ending
        if bias is not None and followed.node is not None:
            bias = bias.copy()
            for stream, graph in enumerate(graphs):
                if graph:
                    bias[stream] += graph.final(followed.node[stream])
        return language, bias


def _read(graphs: Sequence[PhraseGraph | None], node: Array, token: Array, stream: Array) -> tuple[Array, Array]:
    """(N,) nats that tokens bring and the (N,) states that they lead to."""
    if len(graphs) == 1 and graphs[0]:
        return graphs[0].read(node, token)
    gain, after = np.zeros(len(node), np.float32), np.zeros_like(node)
    for number, graph in enumerate(graphs):
        if graph:
            rows = (stream == number).nonzero()[0]
            gain[rows], after[rows] = graph.read(node[rows], token[rows])
    return gain, after
