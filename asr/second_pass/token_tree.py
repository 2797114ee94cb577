"""Texts as a tree of tokens, so that what they have in common is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenTree:
    """The prompt and texts that follow it, as a tree: a node for each different beginning."""

    tokens: tuple[int, ...]
    """Of each node, parents first."""
    parents: tuple[int, ...]
    """Of each node; -1: none."""
    steps: tuple[tuple[int, int], ...]
    """(node, token) pairs, each next token of a text once."""
    texts: tuple[tuple[int, ...], ...]
    """The steps of each text, as indices."""

    @classmethod
    def of(cls, prompt: Sequence[int], texts: Sequence[Sequence[int]]) -> TokenTree:
        """texts: tokens of each after the prompt, the end included."""
        tokens, parents = list(prompt), list(range(-1, len(prompt) - 1))
        steps: dict[tuple[int, int], int] = {}
        nodes: dict[tuple[int, int], int] = {}
        paths = []
        for text in texts:
            node, path = len(prompt) - 1, []
            for at, token in enumerate(text):
                step = (node, token)
                path.append(steps.setdefault(step, len(steps)))
                if at + 1 == len(text):
                    break
                if step not in nodes:
                    nodes[step] = len(tokens)
                    tokens.append(token)
                    parents.append(node)
                node = nodes[step]
            paths.append(tuple(path))
        return cls(tuple(tokens), tuple(parents), tuple(steps), tuple(paths))

    def depths(self) -> Tensor:
        """(U,) int64: the place of each node in its texts, the prompt's first being 0."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return torch.tensor(depths)

    def seen(self) -> Tensor:
        """(U, U) bool: row u tells the nodes on the way from the root to u, itself included."""
        out = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                out[node] |= out[parent]
        return out
