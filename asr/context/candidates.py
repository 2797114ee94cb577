"""Answers that the context makes possible and that sound like the n-best.

A candidate is a part of a phrase alone, within a carrier ("play …", "… please"), in the place of a similar sounding
span of a hypothesis, or a common answer to the kind of question asked ("the second one"). Sound only chooses what is
worth scoring; whether a candidate wins is decided by its exact acoustic score and the rescorer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.context import phonetics
from asr.context.answer_tables import AnswerTables, Carrier
from asr.context.phrase_index import PhraseIndex
from asr.context.types import Question

_CARRIERS = (8, 2)
"""Carriers tried with what the first, second, … hypothesis has; as many hypotheses are compared with candidates."""
_FREQUENT = 2
"""Carriers tried with parts that only explain the whole hypothesis."""
_KEPT_PARTS = 12
_KEPT_SPANS = 2
_MAX_SPAN_WORDS = 6
_MAX_WORDS = 30
_WEIGHT = 0.1
"""Worth of a nat of prior weight, in units of phonetic distance, when candidates are chosen."""
_CHANCE = 0.2
"""Distance per phone at which a span resembles anything."""
_DELETION_SHARE = 0.2
"""Share of a phone's cost where it was not recognised."""
_EXPANDED, _CARRIERS_OF_EACH = 5, 4
_PER_PHONE = 0.2
"""Nats for each phone of a part when parts of different lengths are compared by their acoustic scores."""
_LIKELY = -3.0
"""Weight, a log probability, of a phrase that is scored however it sounds."""
_PER_PLACE = 0.1
"""What each place in the n-best costs, in units of distance."""
_UNKNOWN_CARRIER = 0.3
"""What leaving the rest of a hypothesis as it is costs, in units of distance."""


@dataclass(frozen=True)
class _Sounded:
    words: tuple[str, ...]
    starts: tuple[int, ...]
    """First phone of each word."""
    sound: str

    @classmethod
    def of(cls, texts: Iterable[str]) -> list[_Sounded]:
        """What of the texts has a sound."""
        sounds, found = phonetics.WordSounds(), []
        for text in texts:
            words = tuple(text.split()[:_MAX_WORDS])
            starts, sound = [], ""
            for word in words:
                starts.append(len(sound))
                sound += sounds[word]
            if sound:
                found.append(cls(words, tuple(starts), sound))
        return found


class _Tried(NamedTuple):
    """A text that may have been said."""

    text: str
    sound: str
    """Phones by which it is judged."""
    other: str
    """Phones of the n-best that they are compared with."""
    cost: float
    """Beside their distance."""
    part: int | None = None
    """Where the sound stands for a span: which part of which hypothesis."""


def candidates(
    nbest: Sequence[str],
    index: PhraseIndex,
    question: Question,
    tables: AnswerTables,
    limit: int,
    reach: float = 0.8,
    by_sound_only: bool = False,
) -> list[str]:
    """Texts worth scoring that are not in the n-best.

    Half of the places are for what was probably meant (an offered choice), however different it sounds.

    Args:
        nbest: texts, best first. limit: the most that are returned.
        reach: phonetic distance, as a share of the longer text's phones, past which nothing else is returned.
        by_sound_only: no such places; for lists without audio, where only sound can speak for a candidate.
    """
    different = {h.sound: h for h in _Sounded.of(list(dict.fromkeys(nbest))[: len(_CARRIERS)])}
    hypotheses = list(different.values())
    if not hypotheses:
        return []
    tried = _common(hypotheses, tables, question)
    if index.phrases:
        starts = [h.starts for h in hypotheses]
        sounds = phonetics.encode([h.sound for h in hypotheses])
        inside, alone = phonetics.spans_and_whole(
            index.phone_ids, index.phone_lengths, *sounds, starts, _DELETION_SHARE
        )
        tried += _whole(hypotheses, index, inside, alone, tables.by_sound)
        tried += _within(hypotheses, index, inside)
    costs: dict[str, float] = {}
    for one, distance in _nearest(tried, reach):
        costs[one.text] = min(distance + one.cost, costs.get(one.text, np.inf))
    known = set(nbest)
    offered = [t for t in _likely(index) if t not in known][: 0 if by_sound_only else limit // 2]
    ranked = [t for _, t in sorted((c, t) for t, c in costs.items()) if t not in known and t not in offered]
    return [*offered, *ranked][:limit]


def expand(
    nbest: Sequence[str], index: PhraseIndex, tables: AnswerTables, scores: Mapping[str, float], limit: int
) -> list[str]:
    """The parts that the audio supports best so far, within the carriers that fit the n-best around them.

    Args:
        nbest: texts, best first. scores: log P(y|x) of everything scored so far. limit: the most that are returned.
    """
    hypotheses = _Sounded.of(list(dict.fromkeys(nbest))[:2])
    known = [(scores[p.text] + _PER_PHONE * len(s), p.text, s)
             for p, s in zip(index.parts, index.phones, strict=True) if p.text in scores]  # fmt: skip
    best = sorted(known, reverse=True)[:_EXPANDED]
    if not best:
        return []
    carriers = tables.by_sound
    texts = [[f"{c.before} {part} {c.after}".strip() for c in carriers] for _, part, _ in best]
    around = [c.sound_before + sound + c.sound_after for _, _, sound in best for c in carriers]
    distance = _distances(around * len(hypotheses), [h.sound for h in hypotheses for _ in around], 1.0)
    found = distance.reshape(len(hypotheses), len(best), -1) - _WEIGHT * tables.logps
    costs: dict[str, float] = {}
    for row in found.tolist():
        for of_part, within in zip(row, texts, strict=True):
            ranked = sorted(zip(of_part, within, strict=True))[:_CARRIERS_OF_EACH]
            for cost, text in ranked:
                if cost < np.inf and text not in scores:
                    costs[text] = min(cost, costs.get(text, np.inf))
    return [t for _, t in sorted((c, t) for t, c in costs.items())][:limit]


def _likely(index: PhraseIndex) -> list[str]:
    """Parts of the phrases that were probably meant: worth scoring whatever the n-best, likeliest first."""
    good = [i for i in np.argsort(-index.weights) if index.weights[i] > _LIKELY and index.parts[i].kind != "other"]
    return [index.parts[i].text for i in good]


def _distances(sounds: Sequence[str], others: Sequence[str], reach: float) -> NDArray[np.float32]:
    """Of each sound to the other of the same place; infinite past reach, a share of the longer one's phones."""
    different = {sound: place for place, sound in enumerate(dict.fromkeys(others))}
    to = np.array([different[other] for other in others], np.int64)
    ids, lengths = phonetics.encode(sounds)
    other_ids, other_lengths = phonetics.encode(list(different))
    distance = phonetics.distances(ids, lengths, other_ids, other_lengths, _DELETION_SHARE, to)
    far = distance > reach * np.maximum(lengths, other_lengths[to])
    return np.where(far, np.inf, distance).astype(np.float32)


def _nearest(tried: Sequence[_Tried], reach: float) -> Iterator[tuple[_Tried, float]]:
    """What is within reach, with its distance; of the spans in whose place a part is tried, the nearest few."""
    distances = _distances([one.sound for one in tried], [one.other for one in tried], reach).tolist()
    spans: dict[int, list[tuple[float, int]]] = {}
    for place, (one, distance) in enumerate(zip(tried, distances, strict=True)):
        if distance == np.inf:
            continue
        if one.part is None:
            yield one, distance
        else:
            longer = max(len(one.sound), len(one.other))
            spans.setdefault(one.part, []).append((distance - _CHANCE * longer, place))
    for ranked in map(sorted, spans.values()):
        yield from ((tried[place], distances[place]) for _, place in ranked[:_KEPT_SPANS])


def _common(hypotheses: Sequence[_Sounded], tables: AnswerTables, question: Question) -> list[_Tried]:
    """Common answers to the kind of question."""
    known = tables.spoken.get(question, [])
    return [
        _Tried(text, sound, h.sound, _PER_PLACE * place - _WEIGHT * logp)
        for place, h in enumerate(hypotheses)
        for text, sound, logp in known
    ]


def _whole(
    hypotheses: Sequence[_Sounded],
    index: PhraseIndex,
    inside: NDArray[np.float32],
    alone: NDArray[np.float32],
    carriers: Sequence[Carrier],
) -> list[_Tried]:
    """Parts that explain the whole hypothesis, alone or within a carrier.

    inside: (hypotheses, parts) least distance of each part to a span; alone: to all of it.
    """
    prior = _WEIGHT * index.weights
    out = []
    for place, h in enumerate(hypotheses):
        in_carrier = np.argsort(inside[place] - _CHANCE * index.phone_lengths - prior)[:_KEPT_PARTS].tolist()
        by_itself = np.argsort(alone[place] - prior)[:_KEPT_PARTS].tolist()
        for i in dict.fromkeys([*by_itself, *in_carrier]):
            part, sound, cost = index.parts[i].text, index.phones[i], _PER_PLACE * place - float(prior[i])
            for c in carriers[: _CARRIERS[place] if i in in_carrier else min(_FREQUENT, _CARRIERS[place])]:
                text = f"{c.before} {part} {c.after}".strip()
                around = c.sound_before + sound + c.sound_after
                out.append(_Tried(text, around, h.sound, cost - _WEIGHT * c.logp))
    return out


def _within(hypotheses: Sequence[_Sounded], index: PhraseIndex, inside: NDArray[np.float32]) -> list[_Tried]:
    """Parts in the place of the spans of whole words that they resemble. inside: as of `_whole`."""
    gain = inside - _CHANCE * index.phone_lengths - _WEIGHT * index.weights
    out = []
    for place, h in enumerate(hypotheses):
        spans = _spans(h)
        for i in np.argsort(gain[place])[:_KEPT_PARTS].tolist():
            part, sound = index.parts[i].text, index.phones[i]
            cost = _PER_PLACE * place - _WEIGHT * float(index.weights[i]) + _UNKNOWN_CARRIER
            for start, end, span in spans:
                text = " ".join((*h.words[:start], part, *h.words[end:]))
                out.append(_Tried(text, sound, span, cost, part=place * len(index.parts) + i))
    return out


def _spans(hypothesis: _Sounded) -> list[tuple[int, int, str]]:
    """Runs of words of a hypothesis, but not all of them: first, past the last, sound."""
    n, starts = len(hypothesis.words), (*hypothesis.starts, len(hypothesis.sound))
    runs = [(s, e) for s in range(n) for e in range(s + 1, min(s + _MAX_SPAN_WORDS, n) + 1) if (s, e) != (0, n)]
    return [(s, e, hypothesis.sound[starts[s] : starts[e]]) for s, e in runs if starts[e] > starts[s]]
