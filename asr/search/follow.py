"""What stands beside the acoustic score: a language model and phrases, followed by every hypothesis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.search.graph import PhraseGraph
from asr.search.ngram import NGram


@dataclass(frozen=True)
class Followed:
    """State of B streams' hypotheses, N of each, in the language model and in their stream's phrases. V: vocabulary.

    language, bias (B, N): nats so far; grammar, node (B, N) int64: states, None where there is nothing to follow;
    language_rows, bias_rows (B, N, V): nats that each next token brings, None likewise.
    """

    language: Tensor
    bias: Tensor
    grammar: Tensor | None
    node: Tensor | None
    language_rows: Tensor | None
    bias_rows: Tensor | None

    def total(self) -> Tensor:
        return self.language + self.bias


def take(x: Tensor, rows: Tensor) -> Tensor:
    """Rows (B, N') of each stream of (B, N, ...)."""
    if x.ndim == 2:
        return x.gather(1, rows)
    streams, number = x.shape[:2]
    if streams == 1:
        return x[0].index_select(0, rows[0])[None]
    flat = rows + number * torch.arange(streams, device=x.device)[:, None]
    return x.reshape(streams * number, *x.shape[2:]).index_select(0, flat.flatten()).view(*rows.shape, *x.shape[2:])


class Follower:
    """Moves hypotheses through a language model, weighted, with a bonus for each token, and through phrase graphs."""

    def __init__(self, vocab_size: int, blank: int, language: NGram | None, weight: float, token_bonus: float) -> None:
        self.vocab_size, self.blank = vocab_size, blank
        self.language, self.weight, self.token_bonus = language if weight else None, weight, token_bonus

    def start(self, like: Tensor, graphs: Sequence[PhraseGraph | None]) -> Followed | None:
        """At the beginning of texts, for scores (B, N); None where nothing is followed."""
        if not (self.language or self.token_bonus or any(graphs)):
            return None
        grammar = torch.full_like(like, self.language.start, dtype=torch.int64) if self.language else None
        node = torch.zeros_like(like, dtype=torch.int64) if any(graphs) else None
        nothing = torch.zeros_like(like)
        return Followed(
            nothing,
            nothing,
            grammar,
            node,
            self._language_rows(like, grammar),
            _bias_rows(node, graphs, self.vocab_size),
        )

    def extend(self, followed: Followed, graphs: Sequence[PhraseGraph | None], rows: Tensor, token: Tensor) -> Followed:
        """Hypotheses `rows` (B, N'), each having read its token (B, N')."""
        picks = rows * self.vocab_size + token
        language, bias = followed.language.gather(1, rows), followed.bias.gather(1, rows)
        grammar, node = followed.grammar, followed.node
        if followed.language_rows is not None:
            language = language + followed.language_rows.flatten(1).gather(1, picks)
        if followed.bias_rows is not None:
            bias = bias + followed.bias_rows.flatten(1).gather(1, picks)
        if self.language is not None and grammar is not None:
            grammar = self.language.advance(grammar.gather(1, rows).flatten(), token.flatten()).view(rows.shape)
        if node is not None:
            node = _advance(node.gather(1, rows), graphs, token)
        language_rows = self._language_rows(language, grammar)
        return Followed(language, bias, grammar, node, language_rows, _bias_rows(node, graphs, self.vocab_size))

    def _language_rows(self, like: Tensor, grammar: Tensor | None) -> Tensor | None:
        shape = (*like.shape, self.vocab_size)
        if self.language is not None and grammar is not None:
            rows = self.language.scores(grammar.flatten()).view(shape)
            return rows * self.weight + self.token_bonus
        return torch.full(shape, self.token_bonus, device=like.device) if self.token_bonus else None

    def end(self, followed: Followed, graphs: Sequence[PhraseGraph | None]) -> tuple[Tensor, Tensor]:
        """Language and bias (B, N) of texts that end here: with the end's probability, without unfinished phrases."""
        language, bias = followed.language, followed.bias
        if self.language is not None and followed.grammar is not None:
            ending = self.language.final(followed.grammar.flatten()).view(language.shape)
            language = language + self.weight * ending
        if followed.node is not None:
            bias = bias.clone()
            for stream, graph in enumerate(graphs):
                if graph:
                    bias[stream] += graph.final(followed.node[stream])
        return language, bias


def _bias_rows(node: Tensor | None, graphs: Sequence[PhraseGraph | None], vocab_size: int) -> Tensor | None:
    if node is None:
        return None
    if len(graphs) == 1 and graphs[0]:
        return graphs[0].gains(node[0])[None]
    rows = torch.zeros((*node.shape, vocab_size), device=node.device)
    for stream, graph in enumerate(graphs):
        if graph:
            rows[stream] = graph.gains(node[stream])
    return rows


def _advance(node: Tensor, graphs: Sequence[PhraseGraph | None], token: Tensor) -> Tensor:
    if len(graphs) == 1 and graphs[0]:
        return graphs[0].advance(node[0], token[0])[None]
    after = torch.zeros_like(node)
    for stream, graph in enumerate(graphs):
        if graph:
            after[stream] = graph.advance(node[stream], token[stream])
    return after


def choose(levels: Sequence[Followed], rows: Tensor) -> Followed:
    """Rows (B, N') of the hypotheses of all levels side by side."""

    def chosen(column: Iterable[Tensor | None]) -> Tensor | None:
        there = [x for x in column if x is not None]
        return take(torch.cat(there, 1), rows) if there else None

    return Followed(
        take(torch.cat([f.language for f in levels], 1), rows),
        take(torch.cat([f.bias for f in levels], 1), rows),
        chosen(f.grammar for f in levels),
        chosen(f.node for f in levels),
        chosen(f.language_rows for f in levels),
        chosen(f.bias_rows for f in levels),
    )
