"""Answers that the context makes possible and that sound like what was heard.

A candidate is a part of a phrase alone, within a carrier ("play …", "… please"), in the place of a similar sounding
span of a hypothesis, or a common answer to the kind of question asked ("the second one"). Sound only chooses what is
worth scoring; whether a candidate wins is decided by its exact acoustic score and the rescorer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from asr.context import phonetics
from asr.context.index import PhraseIndex
from asr.context.types import ContextEmbedding

_CARRIERS = (8, 2)
"""Carriers tried with what the first, second, … hypothesis heard; as many hypotheses are compared with candidates."""
_FREQUENT = 2
"""Carriers tried with parts that only explain all that was heard."""
_KEPT_PARTS = 8
_KEPT_SPANS = 2
_MAX_SPAN_WORDS = 6
_MAX_HEARD_WORDS = 30
_WEIGHT = 0.1
"""Worth of a nat of prior weight, in units of phonetic distance, when candidates are chosen."""
_CHANCE = 0.2
"""Distance per phone at which a span resembles anything."""
_UNHEARD = 0.2
"""Share of a phone's cost where it was not heard."""
_EXPANDED, _CARRIERS_OF_EACH = 5, 4
_PER_PHONE = 0.2
"""Nats for each phone of a part when parts of different lengths are compared by their acoustic scores."""
_LIKELY = -3.0
"""Weight, a log probability, of a phrase that is scored however it sounds."""
_UNKNOWN_CARRIER = 0.3
"""What leaving the rest of a hypothesis as it was heard costs, in units of distance."""


@dataclass(frozen=True)
class Carrier:
    """Words around an entity, with their sounds."""

    before: str
    after: str
    sound_before: str
    sound_after: str
    logp: float


@dataclass(frozen=True)
class AnswerTables:
    """What training texts say about how people answer.

    carriers: (before, after) the entity → log probability, ("", "") among them. answers: by kind of question, whole
    answers that name no entity → log probability. given, surnames: frequent names, normalised.
    """

    carriers: dict[tuple[str, str], float] = field(default_factory=lambda: {("", ""): 0.0})
    answers: dict[str, dict[str, float]] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    surnames: frozenset[str] = frozenset()

    @cached_property
    def by_sound(self) -> tuple[Carrier, ...]:
        """The carriers, most frequent first."""
        ranked = sorted(self.carriers.items(), key=lambda c: -c[1])
        return tuple(Carrier(b, a, phonetics.phones(b), phonetics.phones(a), p) for (b, a), p in ranked)

    @cached_property
    def spoken(self) -> dict[str, tuple[list[str], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
        """By kind of question: whole answers, their sounds and lengths, their log probabilities."""
        return {
            q: (list(known), *phonetics.encode([phonetics.phones(t) for t in known]),
                np.array(list(known.values()), np.float32))
            for q, known in self.answers.items()
        }  # fmt: skip

    @cached_property
    def logps(self) -> NDArray[np.float32]:
        """Of `by_sound`."""
        return np.array([c.logp for c in self.by_sound], np.float32)


@dataclass(frozen=True)
class _Heard:
    words: tuple[str, ...]
    starts: tuple[int, ...]
    """First phone of each word."""
    sound: str

    @classmethod
    def of(cls, text: str) -> _Heard:
        words = tuple(text.split()[:_MAX_HEARD_WORDS])
        starts, sound = [], ""
        for word in words:
            starts.append(len(sound))
            sound += phonetics.word_phones(word)
        return cls(words, tuple(starts), sound)


def candidates(
    nbest: Sequence[str],
    embedding: ContextEmbedding,
    tables: AnswerTables,
    limit: int,
    reach: float = 0.8,
    by_sound_only: bool = False,
) -> list[str]:
    """Texts worth scoring that are not in the n-best.

    A third of the places is for what was probably meant (an offered choice), however different it sounds.

    Args:
        nbest: texts, best first. limit: the most that are returned.
        reach: phonetic distance, as a share of the longer text's phones, past which nothing else is returned.
        by_sound_only: no such places; for lists without audio, where only sound can speak for a candidate.
    """
    different = {h.sound: h for h in map(_Heard.of, list(dict.fromkeys(nbest))[: len(_CARRIERS)]) if h.sound}
    heard = list(different.values())
    if not heard or embedding.empty:
        return []
    found = [_common(heard, tables, embedding.question, reach)]
    if embedding.phrases:
        index, starts = embedding.index, [h.starts for h in heard]
        sounds = phonetics.encode([h.sound for h in heard])
        inside, alone = phonetics.spans_and_whole(index.sounds, index.sound_lengths, *sounds, starts, _UNHEARD)
        found.append(_whole(heard, index, inside, alone, tables.by_sound, reach))
        found.append(_within(heard, index, inside, reach))
    costs: dict[str, float] = {}
    for of_kind in found:
        for place, of_heard in enumerate(of_kind):
            _lower(costs, {t: c + 0.1 * place for t, c in of_heard.items()})
    known = set(nbest)
    offered = [t for t in _likely(embedding.index) if t not in known][: 0 if by_sound_only else limit // 3]
    ranked = [t for _, t in sorted((c, t) for t, c in costs.items()) if t not in known and t not in offered]
    return [*offered, *ranked][:limit]


def expand(
    nbest: Sequence[str], embedding: ContextEmbedding, tables: AnswerTables, scores: Mapping[str, float], limit: int
) -> list[str]:
    """The parts that the audio supports best so far, within the carriers that fit what was heard around them.

    Args:
        nbest: texts, best first. scores: log P(y|x) of everything scored so far. limit: the most that are returned.
    """
    index = embedding.index
    heard = [h for h in (_Heard.of(t) for t in list(dict.fromkeys(nbest))[:2]) if h.sound]
    known = [(scores[p.text] + _PER_PHONE * len(s), p.text, s)
             for p, s in zip(index.parts, index.heard_as, strict=True) if p.text in scores]  # fmt: skip
    best = sorted(known, reverse=True)[:_EXPANDED]
    if not best:
        return []
    carriers = tables.by_sound
    texts = [[f"{c.before} {part} {c.after}".strip() for c in carriers] for _, part, _ in best]
    around = phonetics.encode([c.sound_before + sound + c.sound_after for _, _, sound in best for c in carriers])
    costs: dict[str, float] = {}
    for found in _global(*around, heard, 1.0):
        by_part = found.reshape(len(best), -1) - _WEIGHT * tables.logps
        for distances, within in zip(by_part.tolist(), texts, strict=True):
            ranked = sorted(zip(distances, within, strict=True))
            _lower(costs, {t: c for c, t in ranked[:_CARRIERS_OF_EACH] if c < np.inf and t not in scores})
    return [t for _, t in sorted((c, t) for t, c in costs.items())][:limit]


def _likely(index: PhraseIndex) -> list[str]:
    """Parts of the phrases that were probably meant: worth scoring whatever was heard, likeliest first."""
    good = [i for i in np.argsort(-index.weights) if index.weights[i] > _LIKELY and index.parts[i].kind != "other"]
    return [index.parts[i].text for i in good]


def _lower(costs: dict[str, float], other: dict[str, float]) -> None:
    for text, cost in other.items():
        costs[text] = min(cost, costs.get(text, np.inf))


def _global(
    sounds: NDArray[np.int64], lengths: NDArray[np.int64], heard: Sequence[_Heard], reach: float
) -> NDArray[np.float32]:
    """Distance of each sound to all that was heard, infinite past reach. → (heard, sounds)."""
    n, k = len(sounds), len(heard)
    to = np.repeat(np.arange(k), n)
    return _near(np.tile(sounds, (k, 1)), np.tile(lengths, k), [h.sound for h in heard], to, reach).reshape(k, n)


def _near(
    sounds: NDArray[np.int64], lengths: NDArray[np.int64], others: Sequence[str], to: NDArray[np.int64], reach: float
) -> NDArray[np.float32]:
    """Distance of each sound to that of the others that `to` says, infinite past reach."""
    heard, heard_lengths = phonetics.encode(others)
    distance = phonetics.distances(sounds, lengths, heard, heard_lengths, _UNHEARD, to)
    far = distance > reach * np.maximum(lengths, heard_lengths[to])
    return np.where(far, np.inf, distance).astype(np.float32)


def _common(heard: Sequence[_Heard], tables: AnswerTables, question: str, reach: float) -> list[dict[str, float]]:
    """Common answers to the kind of question, by what was heard."""
    if not tables.answers.get(question):
        return []
    texts, sounds, lengths, logps = tables.spoken[question]
    costs = _global(sounds, lengths, heard, reach) - _WEIGHT * logps
    return [{texts[i]: float(row[i]) for i in np.flatnonzero(row < np.inf)} for row in costs]


def _whole(
    heard: Sequence[_Heard],
    index: PhraseIndex,
    inside: NDArray[np.float32],
    alone: NDArray[np.float32],
    carriers: Sequence[Carrier],
    reach: float,
) -> list[dict[str, float]]:
    """Parts that explain all that was heard, alone or within a carrier.

    inside: (heard, parts) least distance of each part to a span; alone: to all that was heard.
    """
    prior = _WEIGHT * index.weights
    texts, sounds, priors, to = [], [], [], []
    for place in range(len(heard)):
        in_carrier = np.argsort(inside[place] - _CHANCE * index.sound_lengths - prior)[:_KEPT_PARTS].tolist()
        by_itself = np.argsort(alone[place] - prior)[:_KEPT_PARTS].tolist()
        for i in dict.fromkeys([*by_itself, *in_carrier]):
            part, sound = index.parts[i].text, index.heard_as[i]
            for carrier in carriers[: _CARRIERS[place] if i in in_carrier else min(_FREQUENT, _CARRIERS[place])]:
                texts.append(f"{carrier.before} {part} {carrier.after}".strip())
                sounds.append(carrier.sound_before + sound + carrier.sound_after)
                priors.append(prior[i] + _WEIGHT * carrier.logp)
                to.append(place)
    distance = _near(*phonetics.encode(sounds), [h.sound for h in heard], np.array(to, np.int64), reach)
    out: list[dict[str, float]] = [{} for _ in heard]
    for text, cost, p, place in zip(texts, distance.tolist(), priors, to, strict=True):
        if cost < np.inf:
            out[place][text] = min(out[place].get(text, np.inf), cost - float(p))
    return out


def _within(
    heard: Sequence[_Heard], index: PhraseIndex, inside: NDArray[np.float32], reach: float
) -> list[dict[str, float]]:
    """Parts in the place of the spans of whole words that they resemble. inside: as of `_whole`."""
    gain = inside - _CHANCE * index.sound_lengths - _WEIGHT * index.weights
    spans = [[(place, *span) for span in _spans(h)] for place, h in enumerate(heard)]
    every = [span for of_heard in spans for span in of_heard]
    others = [heard[place].sound[slice(*_phones_of(heard[place], s, e))] for place, s, e in every]
    first = np.cumsum([0, *map(len, spans)])
    pairs = [
        (int(i), to)
        for place in range(len(heard))
        for i in np.argsort(gain[place])[:_KEPT_PARTS]
        for to in range(first[place], first[place + 1])
    ]
    if not pairs:
        return []
    rows, to = np.array(pairs).T
    lengths = index.sound_lengths[rows]
    distance = _near(index.sounds[rows], lengths, others, to, reach)
    longer = np.maximum(lengths, np.array(list(map(len, others)))[to])
    out: list[dict[str, float]] = [{} for _ in heard]
    used: dict[tuple[int, int], int] = {}
    for pair in np.argsort(distance - _CHANCE * longer):
        i, (place, s, e) = pairs[pair][0], every[pairs[pair][1]]
        if distance[pair] == np.inf or used.get((place, i), 0) == _KEPT_SPANS:
            continue
        used[place, i] = used.get((place, i), 0) + 1
        text = " ".join((*heard[place].words[:s], index.parts[i].text, *heard[place].words[e:]))
        out[place].setdefault(text, float(distance[pair] - _WEIGHT * index.weights[i]) + _UNKNOWN_CARRIER)
    return out


def _spans(heard: _Heard) -> list[tuple[int, int]]:
    """Runs of words that are heard, but not all of them: (first, past the last)."""
    n = len(heard.words)
    runs = [(s, e) for s in range(n) for e in range(s + 1, min(s + _MAX_SPAN_WORDS, n) + 1) if (s, e) != (0, n)]
    return [run for run in runs if len(range(*_phones_of(heard, *run)))]


def _phones_of(heard: _Heard, start: int, end: int) -> tuple[int, int]:
    """Where a run of words begins and ends in the sound."""
    return heard.starts[start], heard.starts[end] if end < len(heard.words) else len(heard.sound)
