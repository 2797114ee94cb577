"""Pre-training of the context network on text: next words, next entry, does the turn belong.

Loss = words (cross-entropy of the next turn's tokens, read with its own, another's or no context) + entry (pointer,
"none" where no entry is named) + belongs (InfoNCE between context summaries and turns of the batch).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from asr.context.encoder import merge_items
from asr.context.items import entries_of, items_of
from asr.context.model import ContextModel
from asr.context.types import Context
from asr.text import normalize
from asr.tokens import Tokenizer
from asr.training.context_data import Sample


@dataclass(frozen=True)
class Losses:
    words: Tensor
    entry: Tensor
    belongs: Tensor

    @property
    def total(self) -> Tensor:
        return self.words + 0.5 * self.entry + 0.3 * self.belongs


def answer_tokens(texts: Sequence[str], tokenizer: Tokenizer, longest: int) -> Tensor:
    """(B, L) token ids of normalised texts, padded with 0."""
    rows = [tokenizer.encode(t)[:longest] for t in texts]
    ids = torch.zeros((len(rows), max(map(len, rows), default=0)), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return ids


def losses(model: ContextModel, tokenizer: Tokenizer, samples: Sequence[Sample], rng: random.Random) -> Losses:
    """One forward pass over a batch. A fifth of the answers is read without context, a tenth with another's."""
    config = model.config
    contexts = [s.context for s in samples]
    entries = [entries_of(c)[:96] for c in contexts]
    items = [
        items_of(c, e, tokenizer, config.item_tokens, config.max_age) for c, e in zip(contexts, entries, strict=True)
    ]
    keep = [i for i, it in enumerate(items) if len(it)]
    longest = max((items[i].tokens.shape[1] for i in keep), default=1)
    vectors, padding = torch.zeros(len(samples), 1, config.dim), torch.ones(len(samples), 1, dtype=torch.bool)
    entry_losses, belongs = [torch.zeros(())], torch.zeros(())
    answers = answer_tokens([s.answer for s in samples], tokenizer, config.answer_tokens)
    if keep:
        tokens = torch.cat([functional.pad(items[i].tokens, (0, longest - items[i].tokens.shape[1])) for i in keep])
        encoded = model.encode_items(
            tokens,
            torch.cat([items[i].kinds for i in keep]),
            torch.cat([items[i].ages for i in keep]),
            torch.cat([items[i].overlaps for i in keep]),
        ).split([len(items[i]) for i in keep])
        rows = [merge_items(e, items[i]) for e, i in zip(encoded, keep, strict=True)]
        padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        absent = torch.arange(padded.shape[1])[None, :] >= torch.tensor([len(r) for r in rows])[:, None]
        own, summaries = model.encode_context(padded, absent)
        for place, i in enumerate(keep):
            if entries[i]:
                logp = model.point(
                    summaries[place], encoded[place][items[i].turns :], items[i].overlaps[items[i].turns :]
                )
                entry_losses.append(-logp[_target(samples[i], entries[i])])
        vectors = torch.zeros(len(samples), own.shape[1], config.dim).index_copy(0, torch.tensor(keep), own)
        padding = torch.ones(len(samples), own.shape[1], dtype=torch.bool).index_copy(0, torch.tensor(keep), absent)
    source = torch.arange(len(samples))
    for i in range(len(samples)):
        draw = rng.random()
        if draw < 0.1:
            source[i] = rng.randrange(len(samples))
    hide = torch.tensor([rng.random() < 0.2 for _ in samples])
    logp, states = model.score_answers(answers, vectors[source], padding[source] | hide[:, None])
    count = (answers != 0).sum() + len(answers)
    if len(keep) > 1:
        similar = summaries @ model.turn_head(states[torch.tensor(keep)]).T * config.dim**-0.5
        belongs = functional.cross_entropy(similar, torch.arange(len(keep)))
    return Losses(-logp.sum() / count, torch.stack(entry_losses).mean(), belongs)


def _target(sample: Sample, entries: Sequence[object]) -> int:
    """Place of the entry meant among the encoder's entries; past the last for none."""
    if sample.target is not None:
        meant = normalize(sample.context.entries[sample.target].text)
        for i, entry in enumerate(entries):
            if entry.text == meant:  # type: ignore[attr-defined]
                return i
    named = [i for i, e in enumerate(entries) if f" {e.text} " in f" {sample.answer} "]  # type: ignore[attr-defined]
    return max(named, key=lambda i: len(entries[i].text), default=len(entries))  # type: ignore[attr-defined]


def pretrain(
    model: ContextModel,
    tokenizer: Tokenizer,
    draw: Callable[[random.Random], Sample],
    held_out: Sequence[Sample],
    *,
    seconds: float,
    batch: int,
    progress: Callable[[float, dict[str, float]], None],
    seed: int = 1,
) -> dict[str, float]:
    """Trains for a wall-clock time and returns the held-out losses.

    draw: gives a training sample. progress: called with the share done and the latest losses, every 50 steps.
    """
    rng = random.Random(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    started, step = time.monotonic(), 0
    model.train()
    while (share := (time.monotonic() - started) / seconds) < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 100) * max(0.02, 1.0 - share)
        loss = losses(model, tokenizer, [draw(rng) for _ in range(batch)], rng)
        optimiser.zero_grad()
        torch.autograd.backward(loss.total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 50 == 0:
            progress(share, {"step": step, "words": loss.words.item(), "entry": loss.entry.item(),
                             "belongs": loss.belongs.item()})  # fmt: skip
    return {"steps": step, **evaluate(model, tokenizer, held_out, batch)}


@torch.inference_mode()
def evaluate(model: ContextModel, tokenizer: Tokenizer, samples: Sequence[Sample], batch: int) -> dict[str, float]:
    """Held-out scores: nats per token with and without context, pointer and belongs losses."""
    model.eval()
    rng = _Never()
    sums = {"words": 0.0, "words_without_context": 0.0, "entry": 0.0, "belongs": 0.0}
    parts = [samples[i : i + batch] for i in range(0, len(samples), batch)]
    for part in parts:
        loss = losses(model, tokenizer, part, rng)
        bare = losses(model, tokenizer, [Sample(Context(), s.answer, None) for s in part], rng)
        for name, value in (
            ("words", loss.words), ("words_without_context", bare.words), ("entry", loss.entry),
            ("belongs", loss.belongs),
        ):  # fmt: skip
            sums[name] += value.item() / len(parts)
    return {k: round(v, 3) for k, v in sums.items()}


class _Never(random.Random):
    """Draws that hide and exchange nothing."""

    def random(self) -> float:
        return 1.0
