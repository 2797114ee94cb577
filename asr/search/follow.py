"""What stands beside the acoustic score: a language model and phrases, followed by every hypothesis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.search.automaton import UNIT
from asr.search.graph import PhraseGraph
from asr.search.ngram import NGram


@dataclass(frozen=True)
class Followed:
    """State of B streams' hypotheses, N of each, in the language model and in their stream's phrases. V: vocabulary.

    language (B, N): nats so far; language_rows (B, N, V): nats that each next token brings; grammar (B, N) int64:
    states. None where no language is followed: grammar also where tokens only have a bonus.
    bias (B, N), bias_rows (B, N, V) int16 in UNIT, node (B, N) int64: the same for phrases.
    """

    language: Tensor | None = None
    grammar: Tensor | None = None
    language_rows: Tensor | None = None
    bias: Tensor | None = None
    node: Tensor | None = None
    bias_rows: Tensor | None = None

    def total(self) -> Tensor:
        """(B, N) nats of both."""
        if self.language is None or self.bias is None:
            one = self.bias if self.language is None else self.language
            assert one is not None
            return one
        return self.language + self.bias

    def lift(self, grown: Tensor) -> Tensor:
        """Log-probabilities (B, N, V) of hypotheses' next tokens with what these bring."""
        if self.language_rows is not None:
            grown = grown + self.language_rows
        return grown if self.bias_rows is None else torch.add(grown, self.bias_rows, alpha=UNIT)


class Take:
    """Picks rows (B, N') of each stream of tensors (B, N, ...)."""

    def __init__(self, rows: Tensor, number: int) -> None:
        self.rows, self._shape, self._flat = rows, rows.shape, rows.flatten()
        if len(rows) > 1:
            self._flat = (rows + number * torch.arange(len(rows), device=rows.device)[:, None]).flatten()

    def __call__(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            return x.gather(1, self.rows)
        return x.flatten(0, 1).index_select(0, self._flat).view(*self._shape, *x.shape[2:])

    def flat(self, x: Tensor) -> Tensor:
        """Of (B * N, ...), for instance a predictor's state."""
        return x.index_select(0, self._flat)


class Follower:
    """Moves hypotheses through a language model, weighted, with a bonus for each token, and through phrase graphs."""

    def __init__(self, vocab_size: int, language: NGram | None, weight: float, token_bonus: float) -> None:
        self.vocab_size = vocab_size
        self.language, self.weight, self.token_bonus = language if weight else None, weight, token_bonus

    def start(self, like: Tensor, graphs: Sequence[PhraseGraph | None]) -> Followed | None:
        """At the beginning of texts, for scores (B, N); None where nothing is followed."""
        spoken, led = bool(self.language or self.token_bonus), any(graphs)
        if not (spoken or led):
            return None
        grammar = torch.full_like(like, self.language.start, dtype=torch.int64) if self.language else None
        node = torch.zeros_like(like, dtype=torch.int64) if led else None
        return Followed(
            language=torch.zeros_like(like) if spoken else None,
            grammar=grammar,
            language_rows=self._language_rows(like, grammar) if spoken else None,
            bias=torch.zeros_like(like) if led else None,
            node=node,
            bias_rows=_bias_rows(node, graphs, self.vocab_size),
        )

    def extend(
        self, followed: Followed, graphs: Sequence[PhraseGraph | None], take: Take, picks: Tensor, token: Tensor
    ) -> Followed:
        """Hypotheses of `take`, each having read its token (B, N'); picks (B, N'): row * V + token."""
        language, grammar, bias, node = followed.language, followed.grammar, followed.bias, followed.node
        language_rows = None
        if language is not None and followed.language_rows is not None:
            language = take(language) + followed.language_rows.flatten(1).gather(1, picks)
            if self.language is not None and grammar is not None:
                grammar = self.language.advance(take(grammar).flatten(), token.flatten()).view(token.shape)
            language_rows = self._language_rows(language, grammar)
        if bias is not None and followed.bias_rows is not None and node is not None:
            bias = torch.add(take(bias), followed.bias_rows.flatten(1).gather(1, picks), alpha=UNIT)
            node = _advance(take(node), graphs, token)
        return Followed(language, grammar, language_rows, bias, node, _bias_rows(node, graphs, self.vocab_size))

    def _language_rows(self, like: Tensor, grammar: Tensor | None) -> Tensor:
        shape = (*like.shape, self.vocab_size)
        if self.language is not None and grammar is not None:
            return self.language.scores(grammar.flatten()).view(shape) * self.weight + self.token_bonus
        return torch.full(shape, self.token_bonus, device=like.device)

    def end(self, followed: Followed, graphs: Sequence[PhraseGraph | None]) -> tuple[Tensor | None, Tensor | None]:
        """Language and bias (B, N) of texts that end here: with the end's probability, without unfinished phrases."""
        language, bias = followed.language, followed.bias
        if language is not None and self.language is not None and followed.grammar is not None:
            ending = self.language.final(followed.grammar.flatten()).view(language.shape)
            language = language + self.weight * ending
        if bias is not None and followed.node is not None:
            bias = bias.clone()
            for stream, graph in enumerate(graphs):
                if graph:
                    bias[stream] += graph.final(followed.node[stream])
        return language, bias

    def choose(self, levels: Sequence[Followed], graphs: Sequence[PhraseGraph | None], take: Take) -> Followed:
        """What of the hypotheses of all levels side by side is kept."""

        def kept(column: Iterable[Tensor | None]) -> Tensor | None:
            there = [x for x in column if x is not None]
            return take(torch.cat(there, 1)) if there else None

        node = kept(f.node for f in levels)
        return Followed(
            language=kept(f.language for f in levels),
            grammar=kept(f.grammar for f in levels),
            language_rows=kept(f.language_rows for f in levels),
            bias=kept(f.bias for f in levels),
            node=node,
            bias_rows=_bias_rows(node, graphs, self.vocab_size),
        )


def _bias_rows(node: Tensor | None, graphs: Sequence[PhraseGraph | None], vocab_size: int) -> Tensor | None:
    if node is None:
        return None
    if len(graphs) == 1 and graphs[0]:
        return graphs[0].gains(node.flatten())[None]
    rows = torch.zeros((*node.shape, vocab_size), dtype=torch.int16, device=node.device)
    for stream, graph in enumerate(graphs):
        if graph:
            rows[stream] = graph.gains(node[stream])
    return rows


def _advance(node: Tensor, graphs: Sequence[PhraseGraph | None], token: Tensor) -> Tensor:
    if len(graphs) == 1 and graphs[0]:
        return graphs[0].advance(node, token)
    after = torch.zeros_like(node)
    for stream, graph in enumerate(graphs):
        if graph:
            after[stream] = graph.advance(node[stream], token[stream])
    return after
