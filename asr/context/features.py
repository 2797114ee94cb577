"""Features of the hypotheses of a list and of the list as a whole, given a context, for `ListScorer`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.context import phonetics
from asr.context.answer_tables import AnswerTables
from asr.context.context_lm import LanguageScores, language_scores
from asr.context.model import ContextModel
from asr.context.phrase_index import PART_KINDS, Part, PhraseIndex
from asr.context.types import QUESTIONS, ContextEmbedding, Question
from asr.text.tokenizer import Tokenizer

FEATURES = (
    "base",  # score without context, less the best one, at least -30 nats, / 5
    "acoustic",  # acoustic score over the plain 1-best's, -20 to 20 nats, / 5
    "grammar",  # the list's own language score over the plain 1-best's, -20 to 20 nats, / 5
    "is_plain",  # whether it is the plain 1-best
    "rank",  # log(1 + place in the n-best), 0 for candidates
    "from_context",  # whether it is a candidate
    "full",  # whether it names all of a phrase
    "last",  # whether it names a phrase by its last word
    "first",  # whether it names a phrase by its first word
    "other",  # whether it names a phrase by other words
    "prior",  # weight of its phrase, nats, / 3
    "length",  # phones of its phrase, / 8
    "whole",  # whether it is nothing but the phrase
    "carrier",  # log probability of the words around the phrase, / 3, 0 where it is unknown
    "unknown_carrier",  # whether no one is known to say these words around a phrase
    "answer",  # whether it is a common answer to the question
    "answer_logp",  # log probability of that answer, / 3
    "pmi",  # log P(text | context) - log P(text) over the plain 1-best's, -20 to 20 nats, / 5
    "language",  # log P(text) of the context network over the plain 1-best's, -15 to 15 nats, / 5
    "distance",  # phonetic distance from the plain 1-best, at most 10, / 3
    "relative_distance",  # that distance by the longer one's phones
    "more_tokens",  # tokens beyond the plain 1-best's, -8 to 8, / 4
    "more_words",  # words beyond the plain 1-best's, -5 to 5, / 3
    "rival",  # acoustic score over the best hypothesis that names another phrase, -10 to 10 nats, / 5
    "named",  # whether its phrase is likely meant
    "crowd",  # log(1 + phrases of the context), / 5, where it names one
    "which_match",  # whether it names a phrase and the question offers choices
    "yes_no_match",  # whether it names a phrase and the question wants yes or no
    "open_match",  # whether it names a phrase and the question is open
    "kept_words",  # share of its words that the plain 1-best has
    "phrase_distance",  # distance of its phrase from the list as a whole, by the phrase's phones
    "phrase_lead",  # how much nearer that phrase is than any other, -3 to 3
    "given_name",  # whether several words begin with a given name
    "surname",  # whether several words end with a surname
    "full_name",  # whether it is a given name and a surname
)
"""Of each hypothesis; where not said otherwise 1 for yes and 0 for no. The last five: 0 where there is audio."""
LIST_FEATURES = (
    "none_meant",  # probability that no phrase is meant
    *(f"question_{q}" for q in QUESTIONS),  # kind of question
    "size",  # log(1 + phrases of the context), / 5
    "best_match",  # best score without context of a hypothesis that names a phrase, over the plain 1-best's, / 5
    "best_answer",  # the same of a common answer
    "plain_per_token",  # acoustic score of the plain 1-best a token, at least -5 nats
    "plain_match",  # whether the plain 1-best names a phrase
    "plain_pmi",  # log P(text | context) - log P(text) of the plain 1-best, -10 to 10 nats, / 4
    "plain_words",  # words of the plain 1-best, at most 12, / 4
    "plain_language",  # log P(text) of the plain 1-best a token, at least -8 nats, / 4
    "margin",  # score without context of the best over the next, at most 10 nats, / 5
    "best_pmi",  # largest pmi over the plain 1-best's, at most 15 nats, / 5
    "uncertainty",  # log of the plain 1-best's negative acoustic score a token, / 2
    "runner_up",  # score without context of the plain 1-best over the next of the n-best, -10 to 10 nats, / 5
    "best_phrase_distance",  # phrase_distance of the phrase that is nearest to the list
    "best_lead",  # its phrase_lead
    "plain_given_name",  # given_name, surname and full_name of the plain 1-best
    "plain_surname",
    "plain_full_name",
)
"""Of the list as a whole. The last five: 0 where there is audio."""
_NAMED = math.log(0.02)
"""A phrase weight above which a phrase counts as likely meant."""
_INDIFFERENT = 0.5
"""Nats by which two phrases' weights may differ without a reason."""
_LEAST_UNCERTAINTY = 1e-3
"""Nats a token: higher confidences count as equal."""
_PER_DISTANCE, _PER_RANK, _DELETION_SHARE = 2.0, 0.5, 0.5
"""Where only texts are known: nats that a unit of phonetic distance costs, and the log of a hypothesis's rank; share of
a phone's cost where it was not recognised."""


@dataclass(frozen=True)
class Pool:
    """Hypotheses of one utterance, the plain 1-best first."""

    texts: tuple[str, ...]
    acoustic: tuple[float, ...]
    """Nats."""
    language: tuple[float, ...]
    """Nats."""
    ranks: tuple[int, ...]
    """Place in the n-best; -1 for candidates."""
    list_texts: tuple[str, ...] = ()
    """Of a list without audio, its texts, best first, which phrases are compared with by sound."""

    @property
    def base(self) -> tuple[float, ...]:
        """The score without context."""
        return tuple(a + g for a, g in zip(self.acoustic, self.language, strict=True))

    def only(self, places: Sequence[int]) -> Pool:
        """The pool of the hypotheses at these places."""
        return Pool(
            tuple(self.texts[i] for i in places),
            tuple(self.acoustic[i] for i in places),
            tuple(self.language[i] for i in places),
            tuple(self.ranks[i] for i in places),
            self.list_texts,
        )


@dataclass(frozen=True)
class ListInput:
    """What the scorer reads of one list of H hypotheses; float32."""

    rows: Tensor
    """(H, FEATURES)."""
    of_list: Tensor
    """(LIST_FEATURES,)."""
    limits: Tensor
    """(H,): the most that context may give each hypothesis over the plain one, nats."""


@dataclass(frozen=True)
class Match:
    """The phrase part that a hypothesis names."""

    part: Part
    carrier: tuple[str, str]
    """The words before and after it."""


def match(text: str, index: PhraseIndex) -> Match | None:
    """The longest part of a phrase that stands in a normalised text; None where there is none."""
    words = text.split()
    found = index.find(words)
    if found is None:
        return None
    part, start, end = found
    return Match(part, (" ".join(words[:start]), " ".join(words[end:])))


def list_distances(forms: Sequence[Sequence[str]], texts: Sequence[str]) -> NDArray[np.float32]:
    """How far the sound of each of P phrases is from a list as a whole: a soft minimum over its texts, best first.

    Several hypotheses that each sound a bit like a phrase count for more than one. → (P,), below 0 where they agree.
    """
    least = phonetics.least_distances(forms, texts, _DELETION_SHARE)
    ranks = np.log1p(np.arange(len(texts), dtype=np.float32))[:, None]
    distance: NDArray[np.float32] = -np.logaddexp.reduce(-_PER_DISTANCE * least - _PER_RANK * ranks)
    return distance / np.float32(_PER_DISTANCE)


@dataclass(frozen=True)
class ListDistances:
    """How far the sound of each of P phrases is from a list as a whole, where there is no audio to ask."""

    distance: NDArray[np.float32]
    """(P,) of `list_distances`."""
    shares: NDArray[np.float32]
    """(P,): the same by the phrase's phones."""
    best: int
    """The nearest phrase."""
    second: int
    """The next; -1 where there is but one."""

    @classmethod
    def of(cls, texts: Sequence[str], index: PhraseIndex) -> ListDistances:
        """The distances of an index's phrases from a list, best first."""
        lengths = np.array([*map(len, phonetics.phones_of(forms[0] for forms in index.forms))], np.int64)
        distance = list_distances(index.forms, texts)
        shares = np.asarray(distance / np.maximum(3, lengths), np.float32)
        best, second = [*np.argsort(distance, kind="stable")[:2].tolist(), -1][:2]
        return cls(distance, shares, best, second)

    def of_phrase(self, phrase: int) -> tuple[float, float]:
        """Its distance a phone, and how much nearer it is than any other phrase, at most 3."""
        rival = self.second if phrase == self.best else self.best
        lead = float(self.distance[rival] - self.distance[phrase]) if rival >= 0 else 3.0
        return float(self.shares[phrase]), min(3.0, max(-3.0, lead))


@dataclass(frozen=True)
class _Inputs:
    """Hypotheses and what the context knows of each, by place."""

    pool: Pool
    matches: Sequence[Match | None]
    weights: Sequence[float]
    """Of the phrases that they name."""
    language: LanguageScores
    index: PhraseIndex
    question: Question
    tables: AnswerTables
    distances: ListDistances | None


def pool_features(
    pool: Pool,
    embedding: ContextEmbedding,
    index: PhraseIndex,
    model: ContextModel,
    tokenizer: Tokenizer,
    tables: AnswerTables,
    matches: Sequence[Match | None] | None = None,
    distances: ListDistances | None = None,
) -> ListInput:
    """The inputs of `ListScorer` for a pool.

    Args:
        matches: the phrase in each hypothesis; None: they are looked up.
        distances: of the pool's `list_texts`; None: they are computed, where there are any.
    """
    matches = [match(t, index) for t in pool.texts] if matches is None else matches
    weights = [index.weight(m.part) if m else 0.0 for m in matches]
    language = language_scores(pool.texts, embedding, index, model, tokenizer)
    if distances is None and pool.list_texts and index.phrases:
        distances = ListDistances.of(pool.list_texts, index)
    inputs = _Inputs(pool, matches, weights, language, index, embedding.question, tables, distances)
    of_list = torch.tensor(_of_list(inputs), dtype=torch.float32)
    return ListInput(torch.from_numpy(_rows(inputs)), of_list, torch.from_numpy(_limits(inputs)))


def _rows(inputs: _Inputs) -> NDArray[np.float32]:
    pool, matches, language = inputs.pool, inputs.matches, inputs.language
    index, question, tables = inputs.index, inputs.question, inputs.tables
    base, acoustic, grammar = (np.array(x, np.float32) for x in (pool.base, pool.acoustic, pool.language))
    pmi, tokens = language.pmi, language.tokens
    sounds, lengths = phonetics.encode(phonetics.phones_of(pool.texts))
    distance = phonetics.distances(sounds, lengths, sounds[:1, : max(1, lengths[0])], lengths[:1])
    answers = tables.answers.get(question, {})
    plain = pool.texts[0].split()
    words = [t.split() for t in pool.texts]
    here = np.array([1.0 if m else 0.0 for m in matches], np.float32)
    carriers = [tables.carriers.get(m.carrier) if m else 0.0 for m in matches]
    heavy = np.array(inputs.weights, np.float32)
    columns = [
        np.maximum(-30.0, base - base.max()) / 5,
        np.clip(acoustic - acoustic[0], -20, 20) / 5,
        np.clip(grammar - grammar[0], -20, 20) / 5,
        np.arange(len(base)) == 0,
        [math.log1p(max(0, r)) for r in pool.ranks],
        [r < 0 for r in pool.ranks],
        *([bool(m) and m.part.kind == k for m in matches] for k in PART_KINDS),  # type: ignore[union-attr]
        heavy / 3,
        [len(index.phones_of(m.part)) / 8 if m else 0.0 for m in matches],
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
        *np.array(
            [inputs.distances.of_phrase(m.part.phrase) if inputs.distances and m else (0.0, 0.0) for m in matches]
        ).T,
        *np.array([name_words(w, tables) if inputs.distances else (0.0, 0.0, 0.0) for w in words]).T,
    ]
    return np.stack([np.asarray(c, np.float32) for c in columns], axis=1)


def _of_list(inputs: _Inputs) -> list[float]:
    pool, matches, language = inputs.pool, inputs.matches, inputs.language
    index, question, tables = inputs.index, inputs.question, inputs.tables
    base, count = pool.base, max(1, int(language.tokens[0]))
    answers = tables.answers.get(question, {})
    likely = sum(math.exp(p.weight) for p in index.phrases)
    first, *others = sorted(base, reverse=True)
    named = max((b for b, m in zip(base, matches, strict=True) if m), default=-math.inf)
    answered = max((b for b, t in zip(base, pool.texts, strict=True) if t in answers), default=-math.inf)
    next_best = max((b for b, r in zip(base, pool.ranks, strict=True) if r > 0), default=base[0] - 10.0)
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
        math.log(max(_LEAST_UNCERTAINTY, -pool.acoustic[0] / count)) / 2,
        max(-10.0, min(10.0, base[0] - next_best)) / 5,
        *(inputs.distances.of_phrase(inputs.distances.best) if inputs.distances else (0.0, 0.0)),
        *(name_words(pool.texts[0].split(), tables) if inputs.distances else (0.0, 0.0, 0.0)),
    ]


def name_words(words: Sequence[str], tables: AnswerTables) -> tuple[float, float, float]:
    """Of several words: whether they begin with a given name, end with a surname, and are no more than these."""
    if len(words) < 2:
        return 0.0, 0.0, 0.0
    first, last = words[0] in tables.given, words[-1] in tables.surnames
    return float(first), float(last), float(first and last and len(words) == 2)


def _rivals(matches: Sequence[Match | None], acoustic: Sequence[float]) -> list[float]:
    """By sound, how much likelier each hypothesis is than the best one that means another phrase; units of 5 nats."""
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


def _limits(inputs: _Inputs) -> NDArray[np.float32]:
    """What context may say at most for each hypothesis, over the plain one.

    A hypothesis that names no phrase, or one among words that no one says with it, and is no common answer: as much as
    the network finds it likelier for the context. A phrase, where the plain 1-best says another one and nothing that is
    out of place: as much as it is likelier meant; between two that are equally likely meant the sound decides.
    """
    pool, matches, weights, pmi = inputs.pool, inputs.matches, inputs.weights, inputs.language.pmi
    carriers, question = inputs.tables.carriers, inputs.question
    answers = inputs.tables.answers.get(question, {}) if question != "none" else {}
    plain = matches[0]
    settled = plain is not None and plain.part.kind in ("full", "last") and plain.carrier in carriers
    out = np.full(len(matches), np.inf, np.float32)
    for i, m in enumerate(matches):
        if (m is None or m.carrier not in carriers) and pool.texts[i] not in answers:
            out[i] = max(0.0, float(pmi[i] - pmi[0]))
        elif m and plain and settled and m.part.phrase != plain.part.phrase:
            out[i] = max(0.0, weights[i] - weights[0] - _INDIFFERENT)
    return out
