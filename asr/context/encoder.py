"""Turns and entries to an embedding: what runs in the reply window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from asr.context.inputs import Items, asked_of, entries_of, items_of
from asr.context.model import ContextModel
from asr.context.question import question_of
from asr.context.repeated_answer import repeated_answer, reweighted
from asr.context.types import MAX_TURNS, MAX_VECTORS, Context, ContextEmbedding, Phrase
from asr.errors import ModelError
from asr.text.tokenizer import Tokenizer
from asr.threads import one_thread

_WEAKEST = -10.0
"""Weight, a log probability, below which no phrase falls."""


class ContextEncoder:
    """Encodes contexts with a trained `ContextModel`. Blocking and CPU bound; safe to use from several threads.

    Args:
        model: the network, put into evaluation mode.
        tokenizer: the tokens that it was trained with.
        model_version: stamped on every embedding; the rescorer refuses any other.
    """

    def __init__(self, model: ContextModel, tokenizer: Tokenizer, model_version: str) -> None:
        if model.config.vocab_size != tokenizer.vocab_size:
            raise ModelError(
                f"context: the model has {model.config.vocab_size} tokens, tokens.model {tokenizer.vocab_size}"
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.model_version = model_version

    @one_thread()
    @torch.inference_mode()
    def encode(self, context: Context) -> ContextEmbedding:
        """Long contexts are cut, as `docs/context.md` says; nothing of one is kept."""
        context = Context(context.turns[-MAX_TURNS:], context.entries)
        entries = entries_of(context)
        config = self.model.config
        items = items_of(context, entries, self.tokenizer, config.item_tokens, config.max_age)
        if len(items) == 0:
            nothing = np.zeros((0, config.dim), np.float32)
            return ContextEmbedding(nothing, np.zeros(config.dim, np.float32), (), "none", self.model_version)
        encoded = self.model.encode_items(items.tokens, items.kinds, items.ages, items.overlaps)
        rows = merge_items(encoded, items)
        vectors, summary = self.model.encode_context(rows[None], torch.zeros(1, len(rows), dtype=torch.bool))
        logp = self.model.point(summary[0], encoded[items.turns :], items.overlaps[items.turns :])
        return ContextEmbedding(
            vectors=vectors[0].numpy().astype(np.float32),
            summary=summary[0].numpy().astype(np.float32),
            phrases=reweighted(repeated_answer(context.turns), _phrases(entries, logp)),
            question=question_of(context.turns),
            model_version=self.model_version,
            asked=asked_of(context),
        )


def merge_items(encoded: torch.Tensor, items: Items) -> torch.Tensor:
    """(N, D) → (at most 64, D): turn pieces stay, then entries named in the last system turn.

    The other entries share what room is left, neighbours in the list averaged.
    """
    if len(encoded) <= MAX_VECTORS:
        return encoded
    turns, entries = encoded[: items.turns], encoded[items.turns :]
    named = items.overlaps[items.turns :, 0] > 0
    room = MAX_VECTORS - len(turns)
    first = entries[named][: room - 1]
    rest = torch.cat([entries[named][room - 1 :], entries[~named]])
    groups = rest.tensor_split(min(room - len(first), len(rest))) if len(rest) else ()
    return torch.cat([turns, first, *(g.mean(0, keepdim=True) for g in groups)])


def _phrases(entries: list[Phrase], logp: torch.Tensor) -> tuple[Phrase, ...]:
    """The entries past those that the network read are taken to be as likely as most of these.

    An entry's own weight, where one has any, multiplies what it is worth among the others; all together stay as likely.
    """
    weights = [max(_WEAKEST, w) for w in logp[:-1].tolist()]
    weights += [sorted(weights)[len(weights) // 2] if weights else _WEAKEST] * (len(entries) - len(weights))
    if any(entry.weight for entry in entries):
        weighed = np.array(weights) + np.array([entry.weight for entry in entries])
        weighed += np.logaddexp.reduce(weights) - np.logaddexp.reduce(weighed)
        weights = np.maximum(_WEAKEST, weighed).tolist()
    return tuple(replace(e, weight=w) for e, w in zip(entries, weights, strict=True))
