"""The context network: items to vectors, a pointer over entries, and a language model that reads the vectors.

After the catalogue encoder and dialogue context of Chang et al. 2023 (arXiv:2301.02736) and the no-bias slot of Pundak
et al. 2018 (arXiv:1808.02480), and a pointer over phrases (`copying.py`), made small: all is trained from scratch on
dialogue text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.context.copying import COPY_FEATURES

ITEM_KINDS = ("user", "system", "entry")
OVERLAPS = 5
"""Word-overlap features of an entry, see `items.overlaps`."""


@dataclass(frozen=True)
class ContextModelConfig:
    """Sizes of the network; kept in config.json."""

    vocab_size: int
    dim: int = 128
    heads: int = 4
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
        self.around = nn.Linear(3 * dim, dim)
        self.item = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.LayerNorm(dim))
        self.context_start = nn.Parameter(torch.randn(dim) * 0.1)
        self.context_encoder = _transformer(dim, config.heads, config.context_layers)
        self.pointer = nn.Sequential(nn.Linear(2 * dim + OVERLAPS, dim), nn.Tanh(), nn.Linear(dim, 1))
        self.pointer_none = nn.Linear(dim, 1)
        self.answer = nn.GRU(dim, dim, batch_first=True)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.no_bias_key = nn.Parameter(torch.zeros(dim))
        self.copy_gate = nn.Sequential(nn.Linear(2 * dim + COPY_FEATURES, 32), nn.Tanh(), nn.Linear(32, 1))
        self.out = nn.Sequential(nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, config.vocab_size))
        self.turn_head = nn.Linear(dim, dim)

    def encode_items(self, tokens: Tensor, kinds: Tensor, ages: Tensor, overlaps: Tensor) -> Tensor:
        """Tokens (N, L) padded with 0, kinds (N,), ages (N,), overlaps (N, OVERLAPS) → (N, D).

        Each token with its neighbours, then the mean and the largest of them: entries are spellings, and many.
        """
        here = (tokens != 0)[:, :, None]
        x = (self.tokens(tokens) + self.places[: tokens.shape[1]]) * here
        x = functional.gelu(self.around(torch.cat([_shifted(x, 1), x, _shifted(x, -1)], dim=2))) + x
        mean = (x * here).sum(1) / here.sum(1).clamp(min=1)
        largest = x.masked_fill(~here, -1e4).amax(1)
        known = self.kinds(kinds) + self.ages(ages) + self.overlaps(overlaps)
        encoded: Tensor = self.item(torch.cat([mean + known, largest], dim=1))
        return encoded

    def encode_context(self, items: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Items (B, M, D), padding (B, M) true where there is none → vectors (B, M, D), summary (B, D)."""
        start = self.context_start.expand(len(items), 1, -1)
        padding = torch.cat([torch.zeros_like(padding[:, :1]), padding], dim=1)
        x = self.context_encoder(torch.cat([start, items], dim=1), src_key_padding_mask=padding)
        return x[:, 1:], x[:, 0]

    def point(self, summary: Tensor, entries: Tensor, overlaps: Tensor) -> Tensor:
        """One context: summary (D,), entries (N, D), overlaps (N, OVERLAPS) → log P (N + 1,); last: none."""
        both = torch.cat([summary.expand(len(entries), -1), entries, overlaps], dim=1)
        logits = torch.cat([self.pointer(both)[:, 0], self.pointer_none(summary)])
        return functional.log_softmax(logits, dim=0)

    def answer_states(self, tokens: Tensor) -> Tensor:
        """What was said so far, before each token and after the last, whatever the context.

        tokens: (B, L) padded with 0; token 0 also ends an answer and begins it. → (B, L + 1, D).
        """
        states, _ = self.answer(self.tokens(functional.pad(tokens, (1, 0))))
        return torch.as_tensor(states)

    @torch.inference_mode()
    def tree_states(self, tokens: Sequence[int], parents: Sequence[int], sizes: Sequence[int]) -> Tensor:
        """`answer_states` of N beginnings of answers, what they share read once; for inference only. → (N, D).

        tokens, parents: (N,) of each beginning the last token, and the place of the one without it; shorter ones come
        first, the empty one (token 0) as the first. sizes: how many there are of each length.
        """
        (of_token, of_state, token_bias, state_bias), dim = self.answer.all_weights[0], self.config.dim
        different, which = np.unique(tokens, return_inverse=True)
        inputs = self.tokens.weight[torch.from_numpy(different)]
        projected = functional.linear(inputs, of_token, token_bias).numpy()
        projected[:, : 2 * dim] *= 0.5  # a sigmoid is a tanh of the half, and these steps are small: NumPy's
        projected = projected[which]
        states, before, end = np.zeros((len(tokens), dim), np.float32), np.array(parents), 0
        hidden = states[:1]
        for size in filter(None, sizes):
            start, end = end, end + size
            if start:
                hidden = states[before[start:end]]
            update = functional.linear(torch.from_numpy(hidden), of_state, state_bias).numpy()
            gates = np.tanh(projected[start:end, : 2 * dim] + 0.5 * update[:, : 2 * dim])
            gates += 1.0
            gates *= 0.5
            new = gates[:, :dim] * update[:, 2 * dim :]
            new += projected[start:end, 2 * dim :]
            np.tanh(new, out=new)
            states[start:end] = new + gates[:, dim:] * (hidden - new)
        return torch.from_numpy(states)

    def read_out(
        self, states: Tensor, tokens: Tensor, vectors: Tensor | None, padding: Tensor | None, copies: Tensor | None
    ) -> Tensor:
        """Log P(token | tokens before it, context) of answers: (B, L + 1), the end included, 0 past it.

        states: from `answer_states`. vectors: (B or 1, M, D), None for no context; padding: (B or 1, M).
        copies: (B, L + 1, 1 + COPY_FEATURES), rows of `PhrasePrefixes`; None where there are no phrases.
        """
        logp, gate = self.next_tokens(states, vectors, padding, None if copies is None else copies[:, :, 1:])
        targets = functional.pad(tokens, (0, 1))
        picked = logp.gather(2, targets[:, :, None])[:, :, 0]
        if copies is not None:
            picked = torch.logaddexp(
                functional.logsigmoid(-gate) + picked, functional.logsigmoid(gate) + copies[:, :, 0]
            )
        lengths = (tokens != 0).sum(1)
        inside = torch.arange(targets.shape[1], device=tokens.device)[None, :] <= lengths[:, None]
        return picked * inside

    def next_tokens(
        self, states: Tensor, vectors: Tensor | None, padding: Tensor | None, known: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The network's own log P of every token (B, L, V), and a logit (B, L) of the pointer.

        The logit says how much is left to the pointer over phrases.

        Args:
            known: (B, L, COPY_FEATURES); None: nothing is left to it.
        """
        first, dim = cast(nn.Linear, self.out[0]), self.config.dim
        hidden = functional.linear(states, first.weight[:, :dim], first.bias)
        read = torch.zeros_like(states) if vectors is None else self._attend(states, vectors, padding)
        if vectors is not None:
            hidden = hidden + functional.linear(read, first.weight[:, dim:])
        logp = functional.log_softmax(self.out[1:](hidden), dim=2)
        if known is None:
            return logp, torch.full(logp.shape[:2], -torch.inf, device=logp.device)
        return logp, self.copy_gate(torch.cat([states, read, known], dim=2))[:, :, 0]

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


def _shifted(x: Tensor, by: int) -> Tensor:
    """(N, L, D) moved along L, zeros coming in."""
    return functional.pad(x, (0, 0, by, 0))[:, :-by] if by > 0 else functional.pad(x, (0, 0, 0, -by))[:, -by:]


def _transformer(dim: int, heads: int, layers: int) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        dim, heads, 2 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
