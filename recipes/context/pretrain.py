"""Pre-training of the context network on text: next words, next entry, does the turn belong.

Loss = words (cross-entropy of the next turn's tokens, read with its own, another's or no context) + 0.5 entry (pointer,
"none" where no entry is named) + 0.3 belongs (InfoNCE between context summaries and turns of the batch).

What comes out is the average of the weights (exponential, of the last thousand steps or so) at a learning rate that
stays: a run of n steps is the beginning of any longer one, and one that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from asr.context.context_lm import copy_rows
from asr.context.copying import PhrasePrefixes
from asr.context.encoder import merge_items
from asr.context.inputs import Items, entries_of, items_of
from asr.context.model import ContextModel
from asr.context.phrase_index import ways_to_name
from asr.context.types import Context, Phrase
from asr.text import normalize
from asr.text.tokenizer import Tokenizer
from recipes.context.data import Sample

TASKS = {"words": 1.0, "entry": 0.5, "belongs": 0.3}
"""What the network learns, and what each counts."""
_MAX_ENTRIES = 64
_HIDDEN, _EXCHANGED = 0.2, 0.1
"""Shares of the answers that are read without any context and with another's."""
_LEARNING_RATE, _WARM_UP = 1.5e-3, 200
_KEPT_EVERY = 250
"""Steps between checkpoints."""


@dataclass(frozen=True)
class Losses:
    words: Tensor
    entry: Tensor
    belongs: Tensor

    def total(self, tasks: Collection[str]) -> Tensor:
        """Of those tasks, weighted."""
        return torch.stack([TASKS[name] * getattr(self, name) for name in TASKS if name in tasks]).sum()


@dataclass(frozen=True)
class _Encoded:
    """The contexts of a batch: vectors (B, M, D), padding (B, M), summaries (B, D), the pointer's log P of each."""

    vectors: Tensor
    padding: Tensor
    summaries: Tensor
    pointers: list[Tensor]


def _encode(model: ContextModel, items: Sequence[Items]) -> _Encoded:
    longest = max(it.tokens.shape[1] for it in items)
    tokens = torch.cat([functional.pad(it.tokens, (0, longest - it.tokens.shape[1])) for it in items])
    kinds, ages, overlaps = (torch.cat([getattr(it, n) for it in items]) for n in ("kinds", "ages", "overlaps"))
    encoded = model.encode_items(tokens, kinds, ages, overlaps).split([len(it) for it in items])
    rows = [merge_items(e, it) if len(it) else model.places[:1] for e, it in zip(encoded, items, strict=True)]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(r) if len(it) else 0 for r, it in zip(rows, items, strict=True)])
    absent = torch.arange(padded.shape[1])[None, :] >= lengths[:, None]
    vectors, summaries = model.encode_context(padded, absent)
    pointers = [
        model.point(summary, e[it.turns :], it.overlaps[it.turns :])
        for summary, e, it in zip(summaries, encoded, items, strict=True)
    ]
    return _Encoded(vectors, absent, summaries, pointers)


def losses(model: ContextModel, tokenizer: Tokenizer, samples: Sequence[Sample], rng: random.Random) -> Losses:
    """One forward pass over a batch."""
    config = model.config
    entries = [entries_of(s.context)[:_MAX_ENTRIES] for s in samples]
    items = [
        items_of(s.context, e, tokenizer, config.item_tokens, config.max_age)
        for s, e in zip(samples, entries, strict=True)
    ]
    known = _encode(model, items)
    meant = [-p[_target(s, e)] for s, e, p in zip(samples, entries, known.pointers, strict=True) if e]
    answers = [tokenizer.encode(s.answer)[: config.answer_tokens] for s in samples]
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(a, dtype=torch.long) for a in answers], batch_first=True)
    source = [rng.randrange(len(samples)) if rng.random() < _EXCHANGED else i for i in range(len(samples))]
    hidden = torch.tensor([rng.random() < _HIDDEN for _ in samples])
    states = model.answer_states(ids)
    logp = model.read_out(
        states,
        ids,
        known.vectors[source],
        known.padding[source] | hidden[:, None],
        _copies(answers, source, hidden, entries, known, tokenizer),
    )
    has_context = torch.tensor([i for i, it in enumerate(items) if len(it)], dtype=torch.long)
    belongs = torch.zeros(())
    if len(has_context) > 1:
        last = states[torch.arange(len(states)), (ids != 0).sum(1)][has_context]
        similar = known.summaries[has_context] @ model.turn_head(last).T * config.dim**-0.5
        belongs = functional.cross_entropy(similar, torch.arange(len(has_context)))
    count = (ids != 0).sum() + len(ids)
    return Losses(-logp.sum() / count, torch.stack(meant).mean() if meant else torch.zeros(()), belongs)


def _copies(
    answers: Sequence[Sequence[int]],
    source: Sequence[int],
    hidden: Tensor,
    entries: Sequence[Sequence[Phrase]],
    known: _Encoded,
    tokenizer: Tokenizer,
) -> Tensor:
    """The pointer over phrases of each answer's context; of no phrases where it has none or is hidden."""
    rows = []
    for answer, i, hide in zip(answers, source, hidden.tolist(), strict=True):
        weights = [] if hide else known.pointers[i].tolist()[:-1]
        named = zip(([e.text] for e in entries[i]), weights, strict=False)
        rows.append(torch.from_numpy(copy_rows([answer], PhrasePrefixes(ways_to_name(named)), tokenizer)[0]))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def _target(sample: Sample, entries: Sequence[Phrase]) -> int:
    """Place of the entry meant among the encoder's entries; past the last for none."""
    if sample.target is not None:
        meant = normalize(sample.context.entries[sample.target].text)
        for i, entry in enumerate(entries):
            if entry.text == meant:
                return i
    named = [i for i, e in enumerate(entries) if f" {e.text} " in f" {sample.answer} "]
    return max(named, key=lambda i: len(entries[i].text), default=len(entries))


def pretrain(
    model: ContextModel,
    tokenizer: Tokenizer,
    draw: Callable[[random.Random], Sample],
    *,
    steps: int,
    batch: int,
    checkpoint: Path,
    progress: Callable[[int, dict[str, float]], None],
    seed: int = 1,
    tasks: Collection[str] = tuple(TASKS),
) -> None:
    """Trains for so many steps, from where `checkpoint` is; leaves the averaged weights in the model.

    draw: gives a training sample. progress: called with the steps done and the mean losses of the last ones. tasks: of
    `TASKS`, at least one; the others are measured and not learned.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    average = {k: v.detach().clone() for k, v in model.state_dict().items()}
    done = 0
    if checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        average, done = kept["average"], kept["step"]
    model.train()
    sums: dict[str, float] = {}
    for step in range(done, steps):
        torch.manual_seed(seed + step)
        rng = random.Random(f"{seed} {step}")
        for group in optimiser.param_groups:
            group["lr"] = _LEARNING_RATE * min(1.0, (step + 1) / _WARM_UP)
        loss = losses(model, tokenizer, [draw(rng) for _ in range(batch)], rng)
        optimiser.zero_grad()
        torch.autograd.backward(loss.total(tasks))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        decay = min(0.999, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        for name in TASKS:
            sums[name] = sums.get(name, 0.0) + getattr(loss, name).item()
        if (step + 1) % _KEPT_EVERY == 0 or step + 1 == steps:
            _keep(checkpoint, {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "average": average,
                               "step": step + 1})  # fmt: skip
        if (step + 1) % 50 == 0:
            progress(step + 1, {k: round(v / 50, 3) for k, v in sums.items()})
            sums = {}
    model.load_state_dict(average)
    model.eval()


def _keep(path: Path, state: dict[str, object]) -> None:
    """Writes the checkpoint whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


@torch.inference_mode()
def evaluate(model: ContextModel, tokenizer: Tokenizer, samples: Sequence[Sample], batch: int) -> dict[str, float]:
    """Held-out scores: nats a token with and without context, pointer and belongs losses, means over samples."""
    model.eval()
    rng = _Never()
    sums: dict[str, float] = {}
    parts = [samples[i : i + batch] for i in range(0, len(samples), batch)]
    for part in parts:
        loss = losses(model, tokenizer, part, rng)
        bare = losses(model, tokenizer, [Sample(Context(), s.answer, None) for s in part], rng)
        for name, value in (
            ("words", loss.words), ("words_without_context", bare.words), ("entry", loss.entry),
            ("belongs", loss.belongs), ("belongs_chance", torch.tensor(math.log(len(part)))),
        ):  # fmt: skip
            sums[name] = sums.get(name, 0.0) + value.item() * len(part) / len(samples)
    return {k: round(v, 3) for k, v in sums.items()}


class _Never(random.Random):
    """Draws that hide and exchange nothing."""

    def random(self) -> float:
        return 1.0
