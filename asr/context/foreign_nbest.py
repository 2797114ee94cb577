"""Lists of another recogniser, of which there is no audio: what the context says for each of their hypotheses.

A small network over the features of `features.py` says what the context is worth for each hypothesis, behind a gate and
within limits; it was trained by minimum word error rate over lists (Prabhavalkar et al. 2018, arXiv:1712.01818). Whole
names of contacts are judged by a logistic regression (`contact_classifier`). Candidates join by their sound alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from asr.context import phonetics
from asr.context.answer_tables import AnswerTables
from asr.context.candidates import candidates
from asr.context.contact_classifier import SIGNAL as CONTACTS
from asr.context.contact_classifier import NamedContact, named_contact
from asr.context.evidence import OFFERED, within
from asr.context.features import FEATURES, LIST_FEATURES, ListDistances, Match, Pool, match, name_words, pool_features
from asr.context.model import ContextModel
from asr.context.phrase_index import PhraseIndex
from asr.context.types import ContextEmbedding, Question
from asr.fitted import RescorerConstants
from asr.recognition.results import Hypothesis
from asr.text import normalize
from asr.text.tokenizer import Tokenizer

MAX_CANDIDATES = 32
MAX_WEIGHED = 24
"""Hypotheses and candidates, the likeliest without context, that the context is asked about."""
_SPREAD = 2.0
"""Nats that a standard deviation of a foreign recogniser's scores, or a rank's log, is taken for."""
_REACH = 0.45
"""Phonetic distance, as a share of the longer text's phones, past which nothing joins a list."""
_PER_DISTANCE = 2.5
"""Nats that a unit of phonetic distance costs."""
_COMPARED = 10
"""Hypotheses of a list that candidates are compared with."""


class ListScorer(nn.Module):
    """Features to context scores, nats. H: hypotheses of one list."""

    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(len(FEATURES)), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(len(FEATURES)), requires_grad=False)
        self.linear = nn.Linear(len(FEATURES), 1, bias=False)
        self.value = nn.Sequential(
            nn.Linear(len(FEATURES) + len(LIST_FEATURES), hidden), nn.Tanh(), nn.Linear(hidden, 1, bias=False)
        )
        self.gate = nn.Sequential(nn.Linear(len(LIST_FEATURES), 12), nn.Tanh(), nn.Linear(12, 1))

    def forward(self, features: Tensor, of_list: Tensor, limits: Tensor) -> Tensor:
        """Features (..., H, FEATURES), of_list (..., LIST_FEATURES), limits (..., H) → (..., H).

        The first hypothesis's is 0.
        """
        x = (features - self.mean) / self.scale
        around = of_list[..., None, :].expand(*x.shape[:-1], -1)
        value = (self.linear(x) + self.value(torch.cat([x, around], dim=-1)))[..., 0]
        gate = torch.sigmoid(self.gate(of_list))
        return torch.minimum(gate * (value - value[..., :1]), limits)


@dataclass(frozen=True)
class TextListScorer:
    """Scores n-best lists that are known by their texts, and perhaps scores of any scale."""

    model: ContextModel
    """The context encoder's network."""
    tokenizer: Tokenizer
    tables: AnswerTables
    """How people answer."""
    network: ListScorer
    constants: RescorerConstants
    """Fitted with the network."""

    def score(
        self, nbest: Sequence[Hypothesis], embedding: ContextEmbedding, index: PhraseIndex
    ) -> tuple[list[Hypothesis], list[Match | None], dict[int, float]]:
        """Score a list with a context.

        Args:
            nbest: best first.
            index: of the embedding's phrases.

        Returns:
            The list with candidates behind it, their `acoustic` such that all compare; the phrase in each; and what the
            context says for those that were weighed, by place, nats over the first.
        """
        texts = distinct_texts([h.text for h in nbest])
        distances = ListDistances.of(texts, index) if texts and index.phrases else None
        contact = self._contact(texts, distances, index, embedding.question) if distances else None
        hypotheses = self._with_candidates(nbest, index, embedding.question, contact)
        pool = Pool(
            tuple(normalize(h.text) for h in hypotheses),
            tuple(h.acoustic for h in hypotheses),
            tuple(h.language for h in hypotheses),
            tuple(i if i < len(nbest) else -1 for i in range(len(hypotheses))),
            texts,
        )
        matches = [match(text, index) for text in pool.texts]
        weighed = most_likely(pool)
        named, chosen = [matches[i] for i in weighed], pool.only(weighed)
        inputs = pool_features(chosen, embedding, index, self.model, self.tokenizer, self.tables, named, distances)
        with torch.inference_mode():
            of_weighed: list[float] = self.network(inputs.rows, inputs.of_list, inputs.limits).tolist()
        scores = dict(zip(weighed, of_weighed, strict=True))
        if contact:
            scores |= self._of_contacts(contact, pool, matches, index, scores)
        return hypotheses, matches, scores

    def _contact(
        self, texts: Sequence[str], distances: ListDistances, index: PhraseIndex, question: Question
    ) -> NamedContact | None:
        """The contact whose whole name may have been said.

        None where one of a few offered ones is meant ("Miller or Taylor?"), whom people name by a part.
        """
        weights = self.constants.contacts
        offered = question != "open" and any(p.weight >= OFFERED for p in index.phrases)
        return None if offered or not weights else named_contact(texts, distances, index, self.tables, weights)

    def _of_contacts(
        self,
        contact: NamedContact,
        pool: Pool,
        matches: Sequence[Match | None],
        index: PhraseIndex,
        scores: Mapping[int, float],
    ) -> dict[int, float]:
        """Scores of the hypotheses that name a contact, by place.

        That which is its whole name alone wins by what `contact` says, unless the plain 1-best names one already. No
        other whole name wins, but among words that the 1-best has around it; nor does any part of one where the 1-best
        has a name ("julie" of another in "julia davies").
        """
        name_spoken = any(name_words(pool.texts[0].split(), self.tables))
        out = {}
        for i, found in enumerate(matches):
            if not found or index.phrases[found.part.phrase].signal != CONTACTS:
                continue
            alone, known = found.carrier == ("", ""), found.carrier in self.tables.carriers
            if found.part.kind == "full":
                barred = alone or not within(pool.texts[0], found.carrier) or (name_spoken and not known)
            else:
                barred = name_spoken if alone else not known
            if barred:
                out[i] = min(0.0, scores.get(i, 0.0))
        plain = matches[0]
        named = plain and plain.part.kind == "full" and index.phrases[plain.part.phrase].signal == CONTACTS
        place = pool.texts.index(contact.text)
        if place and not named and contact.nats > 0:
            out[place] = pool.base[0] - pool.base[place] + self.constants.margin + contact.nats
        return out

    def _with_candidates(
        self, nbest: Sequence[Hypothesis], index: PhraseIndex, question: Question, contact: NamedContact | None
    ) -> list[Hypothesis]:
        texts = [normalize(h.text) for h in nbest]
        values = rank_scores([h.score - h.bias for h in nbest])
        own = [replace(h, acoustic=v, language=0.0, attention=0.0) for h, v in zip(nbest, values, strict=True)]
        found = sounding_alike(texts, index, question, self.tables)
        if contact and contact.text not in {*texts, *found}:
            found.append(contact.text)
        scores = candidate_scores(found, texts, values)
        return own + [Hypothesis(t, acoustic=s) for t, s in zip(found, scores, strict=True)]


def most_likely(pool: Pool) -> list[int]:
    """Places of hypotheses to weigh: the plain one, then the best without context, at most MAX_WEIGHED."""
    base = pool.base
    return [0, *sorted(range(1, len(base)), key=lambda i: -base[i])[: MAX_WEIGHED - 1]]


def sounding_alike(texts: Sequence[str], index: PhraseIndex, question: Question, tables: AnswerTables) -> list[str]:
    """Candidates for a list without audio, where only sound can speak for them."""
    return candidates(texts, index, question, tables, MAX_CANDIDATES, reach=_REACH, by_sound_only=True)


def rank_scores(scores: Sequence[float]) -> list[float]:
    """Scores of any scale, higher better, as nats below the first; by rank where they say nothing."""
    n = len(scores)
    usable = all(map(math.isfinite, scores)) and all(a >= b for a, b in pairwise(scores))
    spread = (sum((s - sum(scores) / n) ** 2 for s in scores) / n) ** 0.5 if usable else 0.0
    if n < 3 or spread <= 1e-9 * max(1.0, abs(scores[0]) if usable else 1.0):
        return [-_SPREAD * math.log1p(i) for i in range(n)]
    return [-_SPREAD * min(4.0, (scores[0] - s) / spread) for s in scores]


def distinct_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """The normalised texts of a list that phrases are compared with by sound, best first."""
    return tuple(dict.fromkeys(t for t in map(normalize, texts[:_COMPARED]) if t))


def candidate_scores(found: Sequence[str], texts: Sequence[str], values: Sequence[float]) -> list[float]:
    """What candidates' scores may be where only texts are known.

    It is that of the hypothesis that one resembles, less their distance in sound.

    Args:
        found: candidates. texts, values: the list's hypotheses and their scores, best first; the first ten count.
    """
    if not found:
        return []
    ids, lengths = phonetics.encode(phonetics.phones_of(found))
    scores = [
        value - _PER_DISTANCE * phonetics.distances(ids, lengths, *phonetics.encode([sound]))
        for sound, value in zip(phonetics.phones_of(texts[:_COMPARED]), values[:_COMPARED], strict=True)
    ]
    best: list[float] = np.max(scores, axis=0).tolist()
    return best
