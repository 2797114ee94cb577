"""Language scores of hypotheses by the context network: log P(text | context) against log P(text)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from asr.context.copying import COPY_FEATURES, NEVER, PhrasePrefixes
from asr.context.model import ContextModel
from asr.context.phrase_index import PhraseIndex
from asr.context.types import ContextEmbedding
from asr.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LanguageScores:
    """Of N texts, in nats: with the context (N,), without it (N,); tokens (N,) how many each has."""

    with_context: NDArray[np.float32]
    without: NDArray[np.float32]
    tokens: NDArray[np.int64]

    @property
    def pmi(self) -> NDArray[np.float32]:
        """Log P(text | context) − log P(text)."""
        return self.with_context - self.without


class _Beginnings:
    """The different beginnings of some texts, as a tree: hypotheses of one utterance share most of theirs.

    Shorter ones come first, the empty one as the first. sizes: how many there are of each length; parents, tokens: what
    each prolongs, and by which token. edges: (beginning, next token) → place; token 0 ends a text. child: where an edge
    leads, -1 for ends. uses: the edges along each text.
    """

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.sizes, self.parents, self.tokens = [1], [0], [0]
        self.edges: dict[tuple[int, int], int] = {}
        self.child: list[int] = []
        self.uses: list[list[int]] = [[] for _ in rows]
        reached = [0] * len(rows)
        for depth in range(max(map(len, rows), default=0) + 1):
            before = len(self.parents)
            for i, row in enumerate(rows):
                if depth <= len(row):
                    edge = self._edge(reached[i], row[depth] if depth < len(row) else 0)
                    self.uses[i].append(edge)
                    reached[i] = self.child[edge]
            self.sizes.append(len(self.parents) - before)

    def _edge(self, node: int, token: int) -> int:
        edge = self.edges.setdefault((node, token), len(self.child))
        if edge == len(self.child):
            self.child.append(len(self.parents) if token else -1)
            if token:
                self.parents.append(node)
                self.tokens.append(token)
        return edge


@torch.inference_mode()
def language_scores(
    texts: Sequence[str], embedding: ContextEmbedding, index: PhraseIndex, model: ContextModel, tokenizer: Tokenizer
) -> LanguageScores:
    """Scores of normalised texts; the network's first `answer_tokens` tokens of each count."""
    rows = [tokenizer.encode(t)[: model.config.answer_tokens] for t in texts]
    tree = _Beginnings(rows)
    states = model.tree_states(tree.tokens, tree.parents, tree.sizes)[None]
    node, token = torch.tensor([n for n, _ in tree.edges]), torch.tensor([t for _, t in tree.edges])
    without = model.next_tokens(states, None, None, None)[0][0, node, token].numpy()
    counts = np.array([len(r) for r in rows])
    if not len(embedding.vectors):
        plain = _sums(without, tree)
        return LanguageScores(plain, plain, counts)
    vectors = torch.from_numpy(embedding.vectors)[None]
    if not index.phrases:
        logp, _ = model.next_tokens(states, vectors, None, None)
        return LanguageScores(_sums(logp[0, node, token].numpy(), tree), _sums(without, tree), counts)
    copied, known = _copied(tree, index.prefixes, tokenizer)
    logp, gates = model.next_tokens(states, vectors, None, torch.from_numpy(known)[None])
    gate = gates[0, node].numpy()
    mixed = np.logaddexp(logp[0, node, token].numpy() - np.logaddexp(0, gate), copied - np.logaddexp(0, -gate))
    return LanguageScores(_sums(mixed, tree), _sums(without, tree), counts)


def _sums(scores: NDArray[np.float32], tree: _Beginnings) -> NDArray[np.float32]:
    ends = np.cumsum([len(use) for use in tree.uses])
    return np.add.reduceat(scores[np.concatenate(tree.uses)], np.append(0, ends[:-1]), dtype=np.float32)


def _copied(
    tree: _Beginnings, prefixes: PhrasePrefixes, tokenizer: Tokenizer
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The pointer's log P along each edge, and the COPY_FEATURES of each node."""
    places = [prefixes.start] * len(tree.parents)
    copied = [NEVER] * len(tree.edges)
    for (node, token), edge in tree.edges.items():  # a node's own edge comes before those that leave it
        if token:
            places[tree.child[edge]], copied[edge] = prefixes.step(places[node], tokenizer.pieces[token])
    return np.array(copied, np.float32), prefixes.known(places)


def copy_rows(rows: Sequence[Sequence[int]], prefixes: PhrasePrefixes, tokenizer: Tokenizer) -> NDArray[np.float32]:
    """(B, L + 1, 1 + COPY_FEATURES) float32 for `ContextModel.read_out`, padded with zeros."""
    out = np.zeros((len(rows), max(map(len, rows), default=0) + 1, 1 + COPY_FEATURES), np.float32)
    for i, row in enumerate(rows):
        out[i, : len(row) + 1] = prefixes.rows([tokenizer.pieces[t] for t in row])
    return out
