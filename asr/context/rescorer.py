"""The last word on an utterance: its readings weighed with the context.

With audio, a reading that names an entry is ahead of the plain 1-best by `NATS` for each unit of its log-odds, which
are a logistic regression's (`asr.context.evidence`); no other reading gains anything. What the search added for phrases
(`bias`) counts for nothing here.

Of another recogniser's list, a small network over the features of `features.py` says what the context is worth for each
reading, behind a gate and within limits; it was trained by minimum word error rate over lists (Prabhavalkar et al.
2018, arXiv:1712.01818). Whole names of contacts are judged by a logistic regression there too (`asr.context.contacts`).
The plain 1-best stands unless another reading beats it by a margin.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from asr.context import phonetics
from asr.context.candidates import AnswerTables, candidates, expand
from asr.context.contacts import SIGNAL as CONTACTS
from asr.context.contacts import NamedContact, named_contact
from asr.context.evidence import OFFERED, evidence, within
from asr.context.features import (
    FEATURES,
    LIST_FEATURES,
    HeardPhrases,
    Match,
    Pool,
    match,
    name_words,
    pool_features,
)
from asr.context.model import ContextModel
from asr.context.phrase_index import PhraseIndex
from asr.context.types import BiasedWord, ContextEmbedding, Question, Rescored
from asr.errors import ContextError
from asr.fitted import RescorerConstants
from asr.recognition.results import Hypothesis
from asr.text import normalize
from asr.text.tokenizer import Tokenizer
from asr.threads import one_thread

ForceScore = Callable[[Sequence[str]], list[Hypothesis]]
MAX_CANDIDATES = 32
MAX_LED = 8
"""Readings of the search that the context's phrases led."""
MAX_EXPANDED = 12
"""Candidates of the second round: what the first round's scores support, within carriers."""
MAX_SCORED = 16
"""Readings of the n-best that are weighed; those after keep their order behind."""
MAX_WEIGHED = 24
"""Readings and candidates, the likeliest by sound, that the context is asked about."""
_SURE_SILENCE = -2.0
"""log P(nothing said | audio) above which silence is believed whatever the context."""
_SPREAD = 2.0
"""Nats that a standard deviation of a foreign recogniser's scores, or a rank's log, is taken for."""
_REACH = 0.45
"""Phonetic distance, as a share of the longer text's phones, past which nothing joins a list without audio."""
_PER_DISTANCE = 2.5
"""Nats that a unit of phonetic distance costs where no audio can be asked."""
_OURS = re.compile("[a-z' ]*")
_COMPARED = 10
"""Readings of a list that candidates without audio are compared with."""
NATS = 10.0
"""Nats of a score for each unit of log-odds."""


class ListScorer(nn.Module):
    """Features to context scores, nats. H: readings of one list."""

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
        """features (..., H, FEATURES), of_list (..., LIST_FEATURES), limits (..., H) → (..., H); the first reading's
        is 0."""
        x = (features - self.mean) / self.scale
        around = of_list[..., None, :].expand(*x.shape[:-1], -1)
        value = (self.linear(x) + self.value(torch.cat([x, around], dim=-1)))[..., 0]
        gate = torch.sigmoid(self.gate(of_list))
        return torch.minimum(gate * (value - value[..., :1]), limits)


class Rescorer:
    """Weighs n-best lists with contexts. Blocking, CPU bound; safe to use from several threads.

    Args:
        model, tokenizer: those of the context encoder. tables: how people answer.
        ranked: the scorer of lists without exact scores. constants: fitted with it.
    """

    def __init__(
        self,
        model: ContextModel,
        tokenizer: Tokenizer,
        tables: AnswerTables,
        ranked: ListScorer,
        constants: RescorerConstants,
        model_version: str,
    ) -> None:
        self.model, self.tokenizer, self.tables = model.eval(), tokenizer, tables
        self.ranked, self.constants = ranked.eval(), constants
        self.model_version = model_version

    @one_thread()
    def rescore(
        self,
        nbest: Sequence[Hypothesis],
        embedding: ContextEmbedding,
        force_score: ForceScore | None,
        index: PhraseIndex | None = None,
    ) -> Rescored:
        """The n-best, re-ordered, with the context's candidates that beat its first reading.

        Args:
            nbest: best first, with or without `bias`; hypotheses marked `from_context` (of a search with the context's
                phrases) are candidates, wherever they stand.
            embedding: of the same model version.
            force_score: exact scores of texts for this utterance, acoustic and language; None for another recogniser's
                list, whose acoustic scores may have any scale or none (all equal or not finite: the rank counts).
            index: of the embedding's phrases; None: it is made for this call.

        Returns:
            The very same hypotheses, less the candidates, where nothing changes; in the same order where the search
            added no `bias`. Else the confidence of a word that the plain 1-best has not is the probability of its
            reading, context included; the other words' are as before.

        Raises:
            ContextError: the embedding is another model's.
        """
        if embedding.model_version != self.model_version:
            raise ContextError(
                f"context embedding of model {embedding.model_version!r}, the rescorer is {self.model_version!r}: "
                "encode the context again"
            )
        same = without_bias([h for h in nbest if not h.from_context])
        if embedding.empty or not same or is_silence(same[0].text, same[0].acoustic if force_score else None):
            return Rescored(same)
        index = index or PhraseIndex(embedding.phrases)
        if force_score:
            readings, heard = self.readings(nbest, embedding.question, index, force_score)
            matches = [match(h.text, index) for h in readings]
            scores, margin = self._entry_scores(readings, heard, matches, index, embedding.question), 0.0
        else:
            head = same[:MAX_SCORED]
            texts = heard_texts([h.text for h in head])
            sounds = HeardPhrases.of(texts, index) if texts and index.phrases else None
            contact = self._contact(texts, sounds, index, embedding.question) if sounds else None
            readings, heard = self._ranked(head, index, embedding.question, contact), len(head)
            pool = Pool(
                tuple(normalize(h.text) for h in readings),
                tuple(h.acoustic for h in readings),
                tuple(h.language for h in readings),
                tuple(i if i < heard else -1 for i in range(len(readings))),
                texts,
            )
            matches = [match(text, index) for text in pool.texts]
            weighed = most_likely(pool)
            own = self._scores(pool.only(weighed), [matches[i] for i in weighed], embedding, index, sounds)
            scores, margin = dict(zip(weighed, own, strict=True)), self.constants.margin
            if contact:
                scores |= self._of_contacts(contact, pool, matches, index, scores)
        return self._decided(same, readings, heard, matches, scores, margin, index)

    def _decided(
        self,
        nbest: Sequence[Hypothesis],
        readings: Sequence[Hypothesis],
        heard: int,
        matches: Sequence[Match | None],
        scores: Mapping[int, float],
        margin: float,
        index: PhraseIndex,
    ) -> Rescored:
        """The n-best with the readings in the order of their sums, if another one than the plain 1-best comes first.

        scores: what the context says for readings, by place, nats; what has none keeps its place behind.
        """
        same = Rescored(tuple(nbest))
        base = [h.acoustic + h.language + h.attention for h in readings]
        total = {i: base[i] + score for i, score in scores.items()}
        order = sorted(total, key=lambda i: -total[i])
        first = order[0]
        plain = normalize(readings[0].text)
        if first == 0 or total[first] <= total[0] + margin or normalize(readings[first].text) == plain:
            return same
        if _same_entry(matches[first], matches[0], index):
            return same
        kept = [i for i in order if i < heard or total[i] > total[0] + margin]
        odds = torch.tensor([total[i] / NATS for i in kept], dtype=torch.float64).softmax(0).tolist()
        ranked = [
            _with_confidence(replace(readings[i], context=scores[i], from_context=i >= heard), chance, nbest[0].text)
            for i, chance in zip(kept, odds, strict=True)
        ]
        rest = [readings[i] for i in range(heard) if i not in scores]
        rank = 1 + sum(base[i] > base[first] for i in scores)
        biased = biased_words(ranked[0], nbest[0].text, index, rank)
        return Rescored((*ranked, *rest, *nbest[MAX_SCORED:]), True, biased)

    def _entry_scores(
        self,
        readings: Sequence[Hypothesis],
        heard: int,
        matches: Sequence[Match | None],
        index: PhraseIndex,
        question: Question,
    ) -> dict[int, float]:
        """What the context says for the readings of the n-best and for those that name an entry, nats: of these so
        much that they are ahead of the plain 1-best by `NATS` for each unit of their log-odds. No other is ahead of it.
        """
        base = [h.acoustic + h.language + h.attention for h in readings]
        attended = any(h.attention for h in readings)
        weights = self.constants.attended if attended else self.constants.unattended
        odds = {
            i: sum(w * x for w, x in zip(weights, numbers, strict=True))
            for i, numbers in evidence(readings, heard, matches, index, question, self.tables).items()
        }
        scores = {i: base[0] - base[i] + NATS * value for i, value in odds.items() if i}
        others = {i: min(0.0, base[0] - base[i]) for i in range(heard)}
        return others | scores | {0: NATS * max(0.0, odds.get(0, 0.0))}

    def readings(
        self, nbest: Sequence[Hypothesis], question: Question, index: PhraseIndex, force_score: ForceScore
    ) -> tuple[list[Hypothesis], int]:
        """What the context is asked about: the first of the n-best and its candidates, with exact scores; and how many
        of them are of the n-best. Arguments as for `rescore`."""
        led = [h.text for h in nbest if h.from_context]
        head = without_bias([h for h in nbest if not h.from_context])[:MAX_SCORED]
        texts = [h.text for h in head]
        found = candidates(texts, index, question, self.tables, MAX_CANDIDATES)
        named = (t for t in (*led[:MAX_LED], *found) if match(t, index))  # no other candidate can win
        first = list(dict.fromkeys((*texts, *named)))
        scored = dict(zip(first, force_score(first), strict=True))
        scores = {t: h.acoustic + h.attention for t, h in scored.items()}
        more = expand(texts, index, self.tables, scores, MAX_EXPANDED)
        if more:
            scored |= zip(more, force_score(more), strict=True)
        own = [_scored_as(h, scored[h.text]) for h in head]
        return own + [h for t, h in scored.items() if t not in texts], len(head)

    def _contact(
        self, texts: Sequence[str], heard: HeardPhrases, index: PhraseIndex, question: Question
    ) -> NamedContact | None:
        """The contact whose whole name may have been said; None where one of a few offered ones is meant ("Miller or
        Taylor?"), whom people name by a part."""
        weights = self.constants.contacts
        offered = question != "open" and any(p.weight >= OFFERED for p in index.phrases)
        return None if offered or not weights else named_contact(texts, heard, index, self.tables, weights)

    def _of_contacts(
        self,
        contact: NamedContact,
        pool: Pool,
        matches: Sequence[Match | None],
        index: PhraseIndex,
        scores: Mapping[int, float],
    ) -> dict[int, float]:
        """Scores of the readings that name a contact, by place. That which is its whole name alone wins by what
        `contact` says, unless the plain 1-best names one already. No other whole name wins, but among words that were
        heard around it; nor does any part of one where a name was heard ("julie" of another in "julia davies")."""
        name_heard = any(name_words(pool.texts[0].split(), self.tables))
        out = {}
        for i, found in enumerate(matches):
            if not found or index.phrases[found.part.phrase].signal != CONTACTS:
                continue
            alone, known = found.carrier == ("", ""), found.carrier in self.tables.carriers
            if found.part.kind == "full":
                barred = alone or not within(pool.texts[0], found.carrier) or (name_heard and not known)
            else:
                barred = name_heard if alone else not known
            if barred:
                out[i] = min(0.0, scores.get(i, 0.0))
        plain = matches[0]
        named = plain and plain.part.kind == "full" and index.phrases[plain.part.phrase].signal == CONTACTS
        place = pool.texts.index(contact.text)
        if place and not named and contact.nats > 0:
            out[place] = pool.base[0] - pool.base[place] + self.constants.margin + contact.nats
        return out

    def _ranked(
        self, nbest: Sequence[Hypothesis], index: PhraseIndex, question: Question, contact: NamedContact | None
    ) -> list[Hypothesis]:
        texts = [normalize(h.text) for h in nbest]
        values = pseudo_acoustic([h.score - h.bias for h in nbest])
        own = [replace(h, acoustic=v, language=0.0, attention=0.0) for h, v in zip(nbest, values, strict=True)]
        found = sounding_alike(texts, index, question, self.tables)
        if contact and contact.text not in {*texts, *found}:
            found.append(contact.text)
        scores = candidate_acoustics(found, texts, values)
        return own + [Hypothesis(t, acoustic=s) for t, s in zip(found, scores, strict=True)]

    def _scores(
        self,
        pool: Pool,
        named: Sequence[Match | None],
        embedding: ContextEmbedding,
        index: PhraseIndex,
        heard: HeardPhrases | None,
    ) -> list[float]:
        """What the context says for each reading of a list without audio, over the first, nats. named: the phrase in
        each."""
        known = pool_features(pool, embedding, index, self.model, self.tokenizer, self.tables, named, heard)
        with torch.inference_mode():
            scores: list[float] = self.ranked(known.rows, known.of_list, known.limits).tolist()
        return scores


def biased_words(answer: Hypothesis, plain: str, index: PhraseIndex, rank: int) -> tuple[BiasedWord, ...]:
    """The words of the answer, normalised, that the plain text has not, with what brought them. rank: as in
    `BiasedWord`."""
    words = _words(answer.text)
    found = match(" ".join(words), index)
    start = len(found.carrier[0].split()) if found else 0
    named = range(start, start + len(found.part.text.split())) if found else range(0)

    def word(place: int) -> BiasedWord:
        phrase = index.phrases[found.part.phrase] if found and place in named else None
        name, signal = (phrase.name, phrase.signal) if phrase else ("", "")
        entry_id = phrase.ids[0] if phrase and len(phrase.ids) == 1 else ""
        return BiasedWord(words[place], name, signal, answer.context, rank, entry_id)

    return tuple(map(word, _new_words(words, _words(plain))))


def _same_entry(found: Match | None, plain: Match | None, index: PhraseIndex) -> bool:
    """Whether two readings say the whole of one entry, in different spoken forms."""
    if found is None or plain is None or (found.part.phrase, found.carrier) != (plain.part.phrase, plain.carrier):
        return False
    return {found.part.text, plain.part.text} <= set(index.forms[plain.part.phrase])


def _words(text: str) -> list[str]:
    """The words of a reading: ours as they are ("dr brown"), another recogniser's normalised."""
    return text.split() if _OURS.fullmatch(text) else normalize(text).split()


def _new_words(words: Sequence[str], before: Sequence[str]) -> list[int]:
    """Places of those words that do not stand in the text before."""
    return [
        j
        for tag, _, _, start, end in SequenceMatcher(a=before, b=words, autojunk=False).get_opcodes()
        if tag in ("replace", "insert")
        for j in range(start, end)
    ]


def _with_confidence(reading: Hypothesis, chance: float, plain: str) -> Hypothesis:
    """The reading, right with a probability of `chance`; as it is where its words are not known (a foreign list's)."""
    words = list(reading.words)
    if not words:
        return reading
    for place in _new_words([word.text for word in words], plain.split()):
        words[place] = replace(words[place], confidence=chance)
    return replace(reading, words=tuple(words), confidence=sum(w.confidence for w in words) / len(words))


def is_silence(text: str, acoustic: float | None) -> bool:
    """Whether the plain 1-best says that nothing was said, and surely. acoustic: log P(y|x), None where unknown."""
    return not normalize(text) and (acoustic is None or acoustic > _SURE_SILENCE)


def without_bias(nbest: Sequence[Hypothesis]) -> tuple[Hypothesis, ...]:
    """As a search without phrases would rank these hypotheses; the very same ones where none has a bias."""
    if not any(h.bias for h in nbest):
        return tuple(nbest)
    return tuple(sorted((replace(h, bias=0.0) for h in nbest), key=lambda h: -h.score))


def _scored_as(hypothesis: Hypothesis, scored: Hypothesis) -> Hypothesis:
    """The hypothesis with another's exact scores of the same text."""
    return replace(hypothesis, acoustic=scored.acoustic, language=scored.language, attention=scored.attention)


def most_likely(pool: Pool) -> list[int]:
    """Places of readings to weigh: the plain one, then the best without context, at most MAX_WEIGHED."""
    base = pool.base
    return [0, *sorted(range(1, len(base)), key=lambda i: -base[i])[: MAX_WEIGHED - 1]]


def sounding_alike(texts: Sequence[str], index: PhraseIndex, question: Question, tables: AnswerTables) -> list[str]:
    """Candidates for a list without audio, where only sound can speak for them."""
    return candidates(texts, index, question, tables, MAX_CANDIDATES, reach=_REACH, by_sound_only=True)


def pseudo_acoustic(scores: Sequence[float]) -> list[float]:
    """Scores of any scale, higher better, as nats below the first; by rank where they say nothing."""
    n = len(scores)
    usable = all(map(math.isfinite, scores)) and all(a >= b for a, b in pairwise(scores))
    spread = (sum((s - sum(scores) / n) ** 2 for s in scores) / n) ** 0.5 if usable else 0.0
    if n < 3 or spread <= 1e-9 * max(1.0, abs(scores[0]) if usable else 1.0):
        return [-_SPREAD * math.log1p(i) for i in range(n)]
    return [-_SPREAD * min(4.0, (scores[0] - s) / spread) for s in scores]


def heard_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Of a list without audio: what phrases are compared with by sound."""
    return tuple(dict.fromkeys(t for t in map(normalize, texts[:_COMPARED]) if t))


def candidate_acoustics(found: Sequence[str], texts: Sequence[str], values: Sequence[float]) -> list[float]:
    """What candidates' scores may be where only texts are known: that of the reading that one resembles, less their
    distance in sound.

    Args:
        found: candidates. texts, values: the list's readings and their scores, best first; the first ten count.
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
