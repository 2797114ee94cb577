"""Re-order an utterance's n-best list with a dialogue's context.

With audio, a hypothesis that names an entry is ahead of the plain 1-best by `NATS` for each unit of its log-odds, which
are a logistic regression's (`asr.context.evidence`); no other hypothesis gains anything. What the search added for
phrases (`bias`) counts for nothing here. Another recogniser's list is scored by `asr.context.foreign_nbest`. The plain
1-best stands unless another hypothesis beats it by a margin.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

import torch

from asr.context.candidates import candidates, expand
from asr.context.evidence import evidence
from asr.context.features import Match, match
from asr.context.foreign_nbest import MAX_CANDIDATES, TextListScorer
from asr.context.phrase_index import PhraseIndex
from asr.context.types import BiasedWord, ContextEmbedding, Question, Rescored
from asr.errors import ContextError
from asr.recognition.results import Hypothesis
from asr.text import normalize
from asr.threads import one_thread

ForceScore = Callable[[Sequence[str]], list[Hypothesis]]
MAX_BIASED = 8
"""Hypotheses of the search with the context's phrases."""
MAX_EXPANDED = 12
"""Candidates of the second round: what the first round's scores support, within carriers."""
MAX_SCORED = 16
"""Hypotheses of the n-best that are weighed; those after keep their order behind."""
_SURE_SILENCE = -2.0
"""log P(nothing said | audio) above which silence is believed whatever the context."""
_OURS = re.compile("[a-z' ]*")
NATS = 10.0
"""Nats of a score for each unit of log-odds."""


class Rescorer:
    """Weighs n-best lists with contexts. Blocking, CPU bound; safe to use from several threads.

    Args:
        text_lists: the scorer of lists without audio, with the answers' tables and the constants that both use.
        model_version: of the embeddings that it takes.
    """

    def __init__(self, text_lists: TextListScorer, model_version: str) -> None:
        self.text_lists, self.model_version = text_lists, model_version
        self.tables, self.constants = text_lists.tables, text_lists.constants

    @one_thread()
    def rescore(
        self,
        nbest: Sequence[Hypothesis],
        embedding: ContextEmbedding,
        force_score: ForceScore | None,
        index: PhraseIndex | None = None,
    ) -> Rescored:
        """The n-best, re-ordered, with the context's candidates that beat its first hypothesis.

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
            hypothesis, context included; the other words' are as before.

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
            hypotheses, in_nbest = self.scored(nbest, embedding.question, index, force_score)
            matches = [match(h.text, index) for h in hypotheses]
            scores, margin = self._entry_scores(hypotheses, in_nbest, matches, index, embedding.question), 0.0
        else:
            head = same[:MAX_SCORED]
            hypotheses, matches, scores = self.text_lists.score(head, embedding, index)
            in_nbest, margin = len(head), self.constants.margin
        return self._decided(same, hypotheses, in_nbest, matches, scores, margin, index)

    def _decided(
        self,
        nbest: Sequence[Hypothesis],
        hypotheses: Sequence[Hypothesis],
        in_nbest: int,
        matches: Sequence[Match | None],
        scores: Mapping[int, float],
        margin: float,
        index: PhraseIndex,
    ) -> Rescored:
        """The n-best with the hypotheses in the order of their sums, if another one than the plain 1-best comes first.

        scores: what the context says for hypotheses, by place, nats; what has none keeps its place behind.
        """
        same = Rescored(tuple(nbest))
        base = [h.acoustic + h.language + h.attention for h in hypotheses]
        total = {i: base[i] + score for i, score in scores.items()}
        order = sorted(total, key=lambda i: -total[i])
        first = order[0]
        plain = normalize(hypotheses[0].text)
        if first == 0 or total[first] <= total[0] + margin or normalize(hypotheses[first].text) == plain:
            return same
        if _same_entry(matches[first], matches[0], index):
            return same
        kept = [i for i in order if i < in_nbest or total[i] > total[0] + margin]
        odds = torch.tensor([total[i] / NATS for i in kept], dtype=torch.float64).softmax(0).tolist()
        ranked = [
            _with_confidence(
                replace(hypotheses[i], context=scores[i], from_context=i >= in_nbest), chance, nbest[0].text
            )
            for i, chance in zip(kept, odds, strict=True)
        ]
        rest = [hypotheses[i] for i in range(in_nbest) if i not in scores]
        rank = 1 + sum(base[i] > base[first] for i in scores)
        biased = biased_words(ranked[0], nbest[0].text, index, rank)
        return Rescored((*ranked, *rest, *nbest[MAX_SCORED:]), True, biased)

    def _entry_scores(
        self,
        hypotheses: Sequence[Hypothesis],
        in_nbest: int,
        matches: Sequence[Match | None],
        index: PhraseIndex,
        question: Question,
    ) -> dict[int, float]:
        """What the context says for the hypotheses of the n-best and for those that name an entry, nats.

        The latter get so much that they are ahead of the plain 1-best by `NATS` for each unit of their log-odds. No
        other is ahead of it.
        """
        base = [h.acoustic + h.language + h.attention for h in hypotheses]
        attended = any(h.attention for h in hypotheses)
        weights = self.constants.attended if attended else self.constants.unattended
        odds = {
            i: sum(w * x for w, x in zip(weights, numbers, strict=True))
            for i, numbers in evidence(hypotheses, in_nbest, matches, index, question, self.tables).items()
        }
        scores = {i: base[0] - base[i] + NATS * value for i, value in odds.items() if i}
        others = {i: min(0.0, base[0] - base[i]) for i in range(in_nbest)}
        return others | scores | {0: NATS * max(0.0, odds.get(0, 0.0))}

    def scored(
        self, nbest: Sequence[Hypothesis], question: Question, index: PhraseIndex, force_score: ForceScore
    ) -> tuple[list[Hypothesis], int]:
        """What the context is asked about: the first of the n-best and its candidates, with exact scores.

        And how many of them are of the n-best. Arguments as for `rescore`.
        """
        biased = [h.text for h in nbest if h.from_context]
        head = without_bias([h for h in nbest if not h.from_context])[:MAX_SCORED]
        texts = [h.text for h in head]
        found = candidates(texts, index, question, self.tables, MAX_CANDIDATES)
        named = (t for t in (*biased[:MAX_BIASED], *found) if match(t, index))  # no other candidate can win
        first = list(dict.fromkeys((*texts, *named)))
        scored = dict(zip(first, force_score(first), strict=True))
        scores = {t: h.acoustic + h.attention for t, h in scored.items()}
        more = expand(texts, index, self.tables, scores, MAX_EXPANDED)
        if more:
            scored |= zip(more, force_score(more), strict=True)
        own = [_scored_as(h, scored[h.text]) for h in head]
        return own + [h for t, h in scored.items() if t not in texts], len(head)


def biased_words(answer: Hypothesis, plain: str, index: PhraseIndex, rank: int) -> tuple[BiasedWord, ...]:
    """The words of the answer, normalised, that the plain text has not, with what brought them.

    rank: as in `BiasedWord`.
    """
    words = _words(answer.text)
    found = match(" ".join(words), index)
    start = len(found.carrier[0].split()) if found else 0
    named = range(start, start + len(found.part.text.split())) if found else range(0)

    def word(place: int) -> BiasedWord:
        phrase = index.phrases[found.part.phrase] if found and place in named else None
        name, signal = (phrase.name, phrase.signal) if phrase else ("", "")
        ids = index.ids(found.part) if found and phrase else ()
        entry_id = ids[0] if len(ids) == 1 else ""
        return BiasedWord(words[place], name, signal, answer.context, rank, entry_id)

    return tuple(map(word, _new_words(words, _words(plain))))


def _same_entry(found: Match | None, plain: Match | None, index: PhraseIndex) -> bool:
    """Whether two hypotheses say the whole of one entry, in different spoken forms."""
    if found is None or plain is None or (found.part.phrase, found.carrier) != (plain.part.phrase, plain.carrier):
        return False
    return {found.part.text, plain.part.text} <= set(index.forms[plain.part.phrase])


def _words(text: str) -> list[str]:
    """The words of a hypothesis: ours as they are ("dr brown"), another recogniser's normalised."""
    return text.split() if _OURS.fullmatch(text) else normalize(text).split()


def _new_words(words: Sequence[str], before: Sequence[str]) -> list[int]:
    """Places of those words that do not stand in the text before."""
    return [
        j
        for tag, _, _, start, end in SequenceMatcher(a=before, b=words, autojunk=False).get_opcodes()
        if tag in ("replace", "insert")
        for j in range(start, end)
    ]


def _with_confidence(hypothesis: Hypothesis, chance: float, plain: str) -> Hypothesis:
    """The hypothesis, right with a probability of `chance`; unchanged where its words are unknown (foreign list's)."""
    words = list(hypothesis.words)
    if not words:
        return hypothesis
    for place in _new_words([word.text for word in words], plain.split()):
        words[place] = replace(words[place], confidence=chance)
    return replace(hypothesis, words=tuple(words), confidence=sum(w.confidence for w in words) / len(words))


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
