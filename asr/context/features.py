"""What the rescorer knows about each reading of an utterance, given a context. One row of numbers a reading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.context import phonetics
from asr.context.candidates import AnswerTables
from asr.context.context_lm import LanguageScores, language_scores
from asr.context.model import ContextModel
from asr.context.phrase_index import PART_KINDS, Part, PhraseIndex
from asr.context.types import QUESTIONS, ContextEmbedding, Question
from asr.text.tokenizer import Tokenizer

FEATURES = (
    "base", "acoustic", "grammar", "is_plain", "rank", "from_context", "full", "last", "first", "other", "prior",
    "length", "whole", "carrier", "unknown_carrier", "answer", "answer_logp", "pmi", "language", "distance",
    "relative_distance", "more_tokens", "more_words", "rival", "named", "crowd", "which_match", "yes_no_match",
    "open_match", "kept_words", "phrase_heard", "phrase_lead", "given_name", "surname", "full_name",
)  # fmt: skip
LIST_FEATURES = (
    "none_meant", *(f"question_{q}" for q in QUESTIONS), "size", "best_match", "best_answer", "plain_per_token",
    "plain_match", "plain_pmi", "plain_words", "plain_language", "margin", "best_pmi", "doubt", "runner_up",
    "best_heard", "best_lead", "plain_given_name", "plain_surname", "plain_full_name",
)  # fmt: skip
_NAMED = math.log(0.02)
"""A phrase weight above which a phrase counts as likely meant."""
_INDIFFERENT = 0.5
"""Nats by which two phrases' weights may differ without a reason."""
_LEAST_DOUBT = 1e-3
"""Nats a token: surer than this is not told apart."""
_PER_DISTANCE, _PER_RANK, _UNHEARD = 2.0, 0.5, 0.5
"""Where only texts are known: nats that a unit of phonetic distance costs, and the log of a reading's rank; share of a
phone's cost where it was not heard."""


@dataclass(frozen=True)
class Pool:
    """Readings of one utterance, the plain 1-best first.

    acoustic, language: nats, each reading's own. ranks: place in the n-best, -1 for candidates. heard: of a list
    without audio, its texts, best first, which phrases are compared with by sound.
    """

    texts: tuple[str, ...]
    acoustic: tuple[float, ...]
    language: tuple[float, ...]
    ranks: tuple[int, ...]
    heard: tuple[str, ...] = ()

    @property
    def base(self) -> tuple[float, ...]:
        """The score without context."""
        return tuple(a + g for a, g in zip(self.acoustic, self.language, strict=True))

    def only(self, places: Sequence[int]) -> Pool:
        return Pool(
            tuple(self.texts[i] for i in places),
            tuple(self.acoustic[i] for i in places),
            tuple(self.language[i] for i in places),
            tuple(self.ranks[i] for i in places),
            self.heard,
        )


@dataclass(frozen=True)
class ListInput:
    """What the scorer reads of one list: rows (readings, FEATURES), of_list (LIST_FEATURES,), limits (readings,), the
    most that context may give each reading over the plain one, nats; float32."""

    rows: Tensor
    of_list: Tensor
    limits: Tensor


@dataclass(frozen=True)
class Match:
    """The phrase part that a reading names; carrier: the words before and after it."""

    part: Part
    carrier: tuple[str, str]


def match(text: str, index: PhraseIndex) -> Match | None:
    """The longest part of a phrase that stands in a normalised text; None where there is none."""
    words = text.split()
    found = index.find(words)
    if found is None:
        return None
    part, start, end = found
    return Match(part, (" ".join(words[:start]), " ".join(words[end:])))


def heard_distances(forms: Sequence[Sequence[str]], texts: Sequence[str]) -> NDArray[np.float32]:
    """How far the sound of each of P phrases is from a list as a whole: a soft minimum over its texts, best first.

    Several readings that each sound a bit like a phrase count for more than one. → (P,), below 0 where they agree.
    """
    least = phonetics.least_distances(forms, texts, _UNHEARD)
    ranks = np.log1p(np.arange(len(texts), dtype=np.float32))[:, None]
    distance: NDArray[np.float32] = -np.logaddexp.reduce(-_PER_DISTANCE * least - _PER_RANK * ranks)
    return distance / np.float32(_PER_DISTANCE)


@dataclass(frozen=True)
class HeardPhrases:
    """How the whole of each phrase sounds like a list of readings as a whole, where there is no audio to ask.

    distance (P,): of `heard_distances`, as a share of the phrase's phones in `shares`. best, second: the nearest
    phrases; second is -1 where there is but one.
    """

    distance: NDArray[np.float32]
    shares: NDArray[np.float32]
    best: int
    second: int

    @classmethod
    def of(cls, texts: Sequence[str], index: PhraseIndex) -> HeardPhrases:
        lengths = np.array([*map(len, phonetics.phones_of(forms[0] for forms in index.forms))], np.int64)
        distance = heard_distances(index.forms, texts)
        shares = np.asarray(distance / np.maximum(3, lengths), np.float32)
        best, second = [*np.argsort(distance, kind="stable")[:2].tolist(), -1][:2]
        return cls(distance, shares, best, second)

    def of_phrase(self, phrase: int) -> tuple[float, float]:
        """Its distance a phone, and how much nearer it is than any other phrase, at most 3."""
        rival = self.second if phrase == self.best else self.best
        lead = float(self.distance[rival] - self.distance[phrase]) if rival >= 0 else 3.0
        return float(self.shares[phrase]), min(3.0, max(-3.0, lead))


@dataclass(frozen=True)
class _Seen:
    """Readings, and by place what the context says of each: the phrase that it names, its weight, its likelihood."""

    pool: Pool
    matches: Sequence[Match | None]
    weights: Sequence[float]
    language: LanguageScores
    index: PhraseIndex
    question: Question
    tables: AnswerTables
    heard: HeardPhrases | None


def pool_features(
    pool: Pool,
    embedding: ContextEmbedding,
    index: PhraseIndex,
    model: ContextModel,
    tokenizer: Tokenizer,
    tables: AnswerTables,
    matches: Sequence[Match | None] | None = None,
    heard: HeardPhrases | None = None,
) -> ListInput:
    """matches: of the pool's readings, heard: of what it heard, where they are known."""
    matches = [match(t, index) for t in pool.texts] if matches is None else matches
    weights = [index.weight(m.part) if m else 0.0 for m in matches]
    language = language_scores(pool.texts, embedding, index, model, tokenizer)
    if heard is None and pool.heard and index.phrases:
        heard = HeardPhrases.of(pool.heard, index)
    seen = _Seen(pool, matches, weights, language, index, embedding.question, tables, heard)
    of_list = torch.tensor(_of_list(seen), dtype=torch.float32)
    return ListInput(torch.from_numpy(_rows(seen)), of_list, torch.from_numpy(_limits(seen)))


def _rows(seen: _Seen) -> NDArray[np.float32]:
    pool, matches, language = seen.pool, seen.matches, seen.language
    index, question, tables = seen.index, seen.question, seen.tables
    base, acoustic, grammar = (np.array(x, np.float32) for x in (pool.base, pool.acoustic, pool.language))
    pmi, tokens = language.pmi, language.tokens
    sounds, lengths = phonetics.encode(phonetics.phones_of(pool.texts))
    distance = phonetics.distances(sounds, lengths, sounds[:1, : max(1, lengths[0])], lengths[:1])
    answers = tables.answers.get(question, {})
    plain = pool.texts[0].split()
    words = [t.split() for t in pool.texts]
    here = np.array([1.0 if m else 0.0 for m in matches], np.float32)
    carriers = [tables.carriers.get(m.carrier) if m else 0.0 for m in matches]
    heavy = np.array(seen.weights, np.float32)
    columns = [
        np.maximum(-30.0, base - base.max()) / 5,
        np.clip(acoustic - acoustic[0], -20, 20) / 5,
        np.clip(grammar - grammar[0], -20, 20) / 5,
        np.arange(len(base)) == 0,
        [math.log1p(max(0, r)) for r in pool.ranks],
        [r < 0 for r in pool.ranks],
        *([bool(m) and m.part.kind == k for m in matches] for k in PART_KINDS),  # type: ignore[union-attr]
        heavy / 3,
        [len(index.sound(m.part)) / 8 if m else 0.0 for m in matches],
        [bool(m) and m.carrier == ("", "") for m in matches],  # type: ignore[union-attr]
        [(c or 0.0) / 3 for c in carriers],
        [c is None for c in carriers],
        [t in answers for t in pool.texts],
        [answers.get(t, 0.0) / 3 for t in pool.texts],
        np.clip(pmi - pmi[0], -20, 20) / 5,
        np.clip(language.without - language.without[0], -15, 15) / 5,
        np.minimum(10.0, distance) / 3,
        distance / np.maximum(1, np.maximum(lengths, lengths[0])),
        np.clip(tokens - tokens[0], -8, 8) / 4,
        [max(-5, min(5, len(w) - len(plain))) / 3 for w in words],
        _rivals(matches, pool.acoustic),
        here * (heavy > _NAMED),
        here * (math.log1p(len(index.phrases)) / 5),
        *(here * (question == q) for q in ("which", "yes_no", "open")),
        [sum(x in plain for x in w) / max(1, len(w)) for w in words],
        *np.array([seen.heard.of_phrase(m.part.phrase) if seen.heard and m else (0.0, 0.0) for m in matches]).T,
        *np.array([name_words(w, tables) if seen.heard else (0.0, 0.0, 0.0) for w in words]).T,
    ]
    return np.stack([np.asarray(c, np.float32) for c in columns], axis=1)


def _of_list(seen: _Seen) -> list[float]:
    pool, matches, language = seen.pool, seen.matches, seen.language
    index, question, tables = seen.index, seen.question, seen.tables
    base, count = pool.base, max(1, int(language.tokens[0]))
    answers = tables.answers.get(question, {})
    likely = sum(math.exp(p.weight) for p in index.phrases)
    first, *others = sorted(base, reverse=True)
    named = max((b for b, m in zip(base, matches, strict=True) if m), default=-math.inf)
    answered = max((b for b, t in zip(base, pool.texts, strict=True) if t in answers), default=-math.inf)
    heard = max((b for b, r in zip(base, pool.ranks, strict=True) if r > 0), default=base[0] - 10.0)
    pmi = language.pmi
    return [
        1.0 - min(1.0, likely),
        *(1.0 if question == q else 0.0 for q in QUESTIONS),
        math.log1p(len(index.phrases)) / 5,
        max(-15.0, named - base[0]) / 5,
        max(-15.0, answered - base[0]) / 5,
        max(-5.0, pool.acoustic[0] / count),
        1.0 if matches[0] else 0.0,
        max(-10.0, min(10.0, float(pmi[0]))) / 4,
        min(12, pool.texts[0].count(" ") + 1) / 4,
        max(-8.0, float(language.without[0]) / count) / 4,
        min(10.0, first - others[0] if others else 10.0) / 5,
        min(15.0, float(pmi.max() - pmi[0])) / 5,
        math.log(max(_LEAST_DOUBT, -pool.acoustic[0] / count)) / 2,
        max(-10.0, min(10.0, base[0] - heard)) / 5,
        *(seen.heard.of_phrase(seen.heard.best) if seen.heard else (0.0, 0.0)),
        *(name_words(pool.texts[0].split(), tables) if seen.heard else (0.0, 0.0, 0.0)),
    ]


def name_words(words: Sequence[str], tables: AnswerTables) -> tuple[float, float, float]:
    """Of several words: whether they begin with a given name, end with a surname, and are no more than these."""
    if len(words) < 2:
        return 0.0, 0.0, 0.0
    first, last = words[0] in tables.given, words[-1] in tables.surnames
    return float(first), float(last), float(first and last and len(words) == 2)


def _rivals(matches: Sequence[Match | None], acoustic: Sequence[float]) -> list[float]:
    """By sound, how much likelier each reading is than the best one that means another phrase; units of 5 nats."""
    best: dict[int, float] = {}
    for a, m in zip(acoustic, matches, strict=True):
        if m:
            best[m.part.phrase] = max(a, best.get(m.part.phrase, -math.inf))
    ranked = sorted(best.items(), key=lambda b: -b[1])[:2]
    out = []
    for a, m in zip(acoustic, matches, strict=True):
        other = next((b for phrase, b in ranked if m and phrase != m.part.phrase), -math.inf)
        out.append(min(10.0, max(-10.0, a - other)) / 5 if m else 0.0)
    return out


def _limits(seen: _Seen) -> NDArray[np.float32]:
    """What context may say at most for each reading, over the plain one.

    A reading that names no phrase, or one among words that no one says with it, and is no common answer: as much as the
    network finds it likelier for the context. A phrase, where the plain 1-best says another one and nothing that is out
    of place: as much as it is likelier meant; between two that are equally likely meant the sound decides.
    """
    pool, matches, weights, pmi = seen.pool, seen.matches, seen.weights, seen.language.pmi
    carriers, question = seen.tables.carriers, seen.question
    answers = seen.tables.answers.get(question, {}) if question != "none" else {}
    said = matches[0]
    settled = said is not None and said.part.kind in ("full", "last") and said.carrier in carriers
    out = np.full(len(matches), np.inf, np.float32)
    for i, m in enumerate(matches):
        if (m is None or m.carrier not in carriers) and pool.texts[i] not in answers:
            out[i] = max(0.0, float(pmi[i] - pmi[0]))
        elif m and said and settled and m.part.phrase != said.part.phrase:
            out[i] = max(0.0, weights[i] - weights[0] - _INDIFFERENT)
    return out
