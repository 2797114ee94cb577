"""The context network: items to vectors, a pointer over entries, and a language model that reads the vectors.

After the catalogue encoder and dialogue context of Chang et al. 2023 (arXiv:2301.02736) and the no-bias slot of Pundak
et al. 2018 (arXiv:1808.02480), made small: everything is trained from scratch on dialogue text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

ITEM_KINDS = ("user", "system", "entry")
OVERLAPS = 5
"""Word-overlap features of an entry, see `items.overlaps`."""


@dataclass(frozen=True)
class ContextModelConfig:
    vocab_size: int
    dim: int = 128
    heads: int = 4
    item_layers: int = 2
    context_layers: int = 1
    item_tokens: int = 16
    """Tokens an item has at most."""
    max_age: int = 12
    """Items older than this share the oldest place."""
    answer_tokens: int = 64
    """Tokens of a hypothesis that are scored; the rest count nothing."""


class ContextModel(nn.Module):
    """B: contexts, N: items, L: tokens, M: vectors of a context (padded), D: width."""

    def __init__(self, config: ContextModelConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.tokens = nn.Embedding(config.vocab_size, dim)
        self.places = nn.Parameter(torch.randn(config.item_tokens, dim) * 0.1)
        self.kinds = nn.Embedding(len(ITEM_KINDS), dim)
        self.ages = nn.Embedding(config.max_age + 1, dim)
        self.overlaps = nn.Linear(OVERLAPS, dim)
        self.item_encoder = _transformer(dim, config.heads, config.item_layers)
        self.context_start = nn.Parameter(torch.randn(dim) * 0.1)
        self.context_encoder = _transformer(dim, config.heads, config.context_layers)
        self.pointer = nn.Sequential(nn.Linear(2 * dim + OVERLAPS, dim), nn.Tanh(), nn.Linear(dim, 1))
        self.pointer_none = nn.Linear(dim, 1)
        self.answer = nn.GRU(dim, dim, batch_first=True)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.no_bias_key = nn.Parameter(torch.zeros(dim))
        self.out = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, config.vocab_size))
        self.turn_head = nn.Linear(dim, dim)

    def encode_items(self, tokens: Tensor, kinds: Tensor, ages: Tensor, overlaps: Tensor) -> Tensor:
        """tokens (N, L) padded with 0, kinds (N,), ages (N,), overlaps (N, OVERLAPS) → (N, D)."""
        padding = tokens == 0
        x = self.tokens(tokens) + self.places[: tokens.shape[1]]
        x = x + (self.kinds(kinds) + self.ages(ages) + self.overlaps(overlaps))[:, None, :]
        x = self.item_encoder(x, src_key_padding_mask=padding)
        weights = (~padding).to(x.dtype)[:, :, None]
        pooled: Tensor = (x * weights).sum(1) / weights.sum(1).clamp(min=1.0)
        return pooled

    def encode_context(self, items: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """items (B, M, D), padding (B, M) true where there is none → vectors (B, M, D), summary (B, D)."""
        start = self.context_start.expand(len(items), 1, -1)
        padding = torch.cat([torch.zeros_like(padding[:, :1]), padding], dim=1)
        x = self.context_encoder(torch.cat([start, items], dim=1), src_key_padding_mask=padding)
        return x[:, 1:], x[:, 0]

    def point(self, summary: Tensor, entries: Tensor, overlaps: Tensor) -> Tensor:
        """One context: summary (D,), entries (N, D), overlaps (N, OVERLAPS) → log P (N + 1,); last: none."""
        both = torch.cat([summary.expand(len(entries), -1), entries, overlaps], dim=1)
        logits = torch.cat([self.pointer(both)[:, 0], self.pointer_none(summary)])
        return functional.log_softmax(logits, dim=0)

    def score_answers(self, tokens: Tensor, vectors: Tensor | None, padding: Tensor | None) -> tuple[Tensor, Tensor]:
        """log P(token | tokens before it, context) of answers.

        tokens: (B, L) padded with 0, token 0 also ends an answer and begins it. vectors: (B or 1, M, D), None for no
        context; padding: (B or 1, M).
        Returns (B, L + 1) log probabilities (the end included, 0 past it), and the last states (B, D).
        """
        states = self.answer_states(tokens)
        lengths = (tokens != 0).sum(1)
        picked = self.read_out(states, tokens, vectors, padding)
        return picked, states[torch.arange(len(states), device=tokens.device), lengths]

    def answer_states(self, tokens: Tensor) -> Tensor:
        """What was said so far, before each token and after the last, whatever the context: (B, L) → (B, L + 1, D)."""
        states, _ = self.answer(self.tokens(functional.pad(tokens, (1, 0))))
        return torch.as_tensor(states)

    def read_out(self, states: Tensor, tokens: Tensor, vectors: Tensor | None, padding: Tensor | None) -> Tensor:
        """The log probabilities of `score_answers`, from `answer_states`."""
        read = torch.zeros_like(states) if vectors is None else self._attend(states, vectors, padding)
        logp = functional.log_softmax(self.out(torch.cat([states, read], dim=2)), dim=2)
        targets = functional.pad(tokens, (0, 1))
        lengths = (tokens != 0).sum(1)
        inside = torch.arange(targets.shape[1], device=tokens.device)[None, :] <= lengths[:, None]
        return logp.gather(2, targets[:, :, None])[:, :, 0] * inside

    def _attend(self, states: Tensor, vectors: Tensor, padding: Tensor | None) -> Tensor:
        """Attention with a slot that reads nothing. (B, L, D), (B or 1, M, D) → (B, L, D)."""
        query = self.query(states)
        scale = query.shape[-1] ** -0.5
        scores = query @ self.key(vectors).transpose(1, 2) * scale
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, :], float("-inf"))
        none = (query @ self.no_bias_key * scale)[:, :, None]
        weights = torch.softmax(torch.cat([none, scores], dim=2), dim=2)[:, :, 1:]
        read: Tensor = weights @ self.value(vectors)
        return read


def _transformer(dim: int, heads: int, layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        dim, heads, 3 * dim, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
