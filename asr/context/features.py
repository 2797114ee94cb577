"""What the rescorer knows about each reading of an utterance, given a context. One row of numbers a reading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from asr.context import phonetics
from asr.context.candidates import AnswerTables
from asr.context.index import PART_KINDS, Part
from asr.context.model import ContextModel
from asr.context.types import QUESTIONS, ContextEmbedding
from asr.tokens import Tokenizer

FEATURES = (
    "acoustic", "is_plain", "rank", "from_context", "full", "last", "first", "other", "prior", "length",
    "whole", "carrier", "unknown_carrier", "answer", "answer_logp", "pmi", "language", "distance", "relative_distance",
    "more_tokens", "more_words", "rival", "named", "crowd", "which_match", "yes_no_match", "open_match", "kept_words",
)  # fmt: skip
LIST_FEATURES = (
    "none_meant", *(f"question_{q}" for q in QUESTIONS), "size", "best_match", "best_answer", "plain_per_token",
    "plain_match", "plain_pmi", "plain_words", "plain_language", "margin",
)  # fmt: skip
_NAMED = math.log(0.02)
"""A phrase weight above which a phrase counts as likely meant."""


@dataclass(frozen=True)
class Pool:
    """Readings of one utterance, the plain 1-best first.

    acoustic: nats. ranks: place in the n-best, -1 for candidates.
    """

    texts: tuple[str, ...]
    acoustic: tuple[float, ...]
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """The phrase part that a reading names; carrier: the words before and after it."""

    part: Part
    carrier: tuple[str, str]


def match(text: str, embedding: ContextEmbedding) -> Match | None:
    words = text.split()
    found = embedding.index.find(words) if embedding.phrases else None
    if found is None:
        return None
    part, start, end = found
    return Match(part, (" ".join(words[:start]), " ".join(words[end:])))


def pool_features(
    pool: Pool, embedding: ContextEmbedding, model: ContextModel, tokenizer: Tokenizer, tables: AnswerTables
) -> tuple[Tensor, Tensor]:
    """(readings, FEATURES) and (LIST_FEATURES,), float32."""
    matches = [match(t, embedding) for t in pool.texts]
    with_context, without, counts = language_scores(pool.texts, embedding, model, tokenizer)
    pmi = np.clip(with_context - without, -12, 12)
    sounds = phonetics.encode([phonetics.phones(t) for t in pool.texts])
    distance = phonetics.distances(*sounds, sounds[0][:1, : max(1, sounds[1][0])], sounds[1][:1])
    answers = tables.answers.get(embedding.question, {})
    best = max(pool.acoustic)
    matched = [a if m else -math.inf for a, m in zip(pool.acoustic, matches, strict=True)]
    plain_words = pool.texts[0].split()
    rows = []
    for i, text in enumerate(pool.texts):
        m, words = matches[i], text.split()
        kind = [1.0 if m and m.part.kind == k else 0.0 for k in PART_KINDS]
        weight = embedding.index.weight(m.part) if m else 0.0
        carrier = tables.carriers.get(m.carrier) if m else None
        here = 1.0 if m else 0.0
        rows.append([
            max(-30.0, pool.acoustic[i] - best) / 5,
            1.0 if i == 0 else 0.0,
            math.log1p(max(0, pool.ranks[i])),
            1.0 if pool.ranks[i] < 0 else 0.0,
            *kind,
            weight / 3,
            len(phonetics.phones(m.part.text)) / 8 if m else 0.0,
            1.0 if m and m.carrier == ("", "") else 0.0,
            (carrier or 0.0) / 3,
            1.0 if m and carrier is None else 0.0,
            1.0 if text in answers else 0.0,
            answers.get(text, 0.0) / 3,
            pmi[i] / 4,
            float(np.clip(without[i] - without[0], -15, 15)) / 5,
            min(10.0, float(distance[i])) / 3,
            float(distance[i]) / max(1, int(sounds[1][0]), int(sounds[1][i])),
            float(np.clip(counts[i] - counts[0], -8, 8)) / 4,
            float(np.clip(len(words) - len(plain_words), -5, 5)) / 3,
            _rival(i, matches, matched) / 5,
            1.0 if m and weight > _NAMED else 0.0,
            math.log1p(len(embedding.phrases)) / 5 * here,
            *(here if embedding.question == q else 0.0 for q in ("which", "yes_no", "open")),
            sum(w in plain_words for w in words) / max(1, len(words)),
        ])  # fmt: skip
    likely = sum(math.exp(p.weight) for p in embedding.phrases)
    margins = sorted(pool.acoustic, reverse=True)
    in_answers = [a if t in answers else -math.inf for a, t in zip(pool.acoustic, pool.texts, strict=True)]
    list_row = [
        1.0 - min(1.0, likely),
        *(1.0 if embedding.question == q else 0.0 for q in QUESTIONS),
        math.log1p(len(embedding.phrases)) / 5,
        max(-15.0, max(matched) - pool.acoustic[0]) / 5,
        max(-15.0, max(in_answers) - pool.acoustic[0]) / 5,
        max(-5.0, pool.acoustic[0] / max(1, counts[0])),
        1.0 if matches[0] else 0.0,
        pmi[0] / 4,
        min(12, len(plain_words)) / 4,
        max(-8.0, without[0] / max(1, counts[0])) / 4,
        min(10.0, margins[0] - margins[1] if len(margins) > 1 else 10.0) / 5,
    ]
    return torch.tensor(rows, dtype=torch.float32), torch.tensor(list_row, dtype=torch.float32)


def _rival(i: int, matches: Sequence[Match | None], matched: Sequence[float]) -> float:
    """How much likelier the sound makes this reading than the best one that means another phrase, -10 to 10 nats."""
    mine = matches[i]
    if mine is None:
        return 0.0
    others = [a for a, m in zip(matched, matches, strict=True) if m and m.part.phrase != mine.part.phrase]
    return min(10.0, max(-10.0, matched[i] - max(others, default=-math.inf)))


@torch.inference_mode()
def language_scores(
    texts: Sequence[str], embedding: ContextEmbedding, model: ContextModel, tokenizer: Tokenizer
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """log P(text | context), log P(text) in nats, and tokens, of each text."""
    longest = model.config.answer_tokens
    rows = [tokenizer.encode(t)[:longest] for t in texts]
    ids = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    states = model.answer_states(ids)
    without = model.read_out(states, ids, None, None).sum(1)
    vectors = torch.from_numpy(embedding.vectors)[None]
    with_context = model.read_out(states, ids, vectors, None).sum(1) if len(embedding.vectors) else without
    return with_context.numpy(), without.numpy(), [len(r) for r in rows]
