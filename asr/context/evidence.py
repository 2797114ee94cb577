"""What speaks for a hypothesis that names an entry of the context: fifteen numbers, which the rescorer adds up.

The weights are those of a logistic regression (`asr.fitted.RescorerConstants`): of the hypotheses that name an entry,
and the plain 1-best as it stands, which is right? So a sum is a log-odds, and few numbers were learned from many makes
of lists. Absolute evidence is among them: how far apart the hypothesis and the n-best sound, and how surprised the
attention decoder is by the plain 1-best, as rare names leave it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from asr.context import phonetics
from asr.context.answer_tables import AnswerTables
from asr.context.contact_classifier import SIGNAL as CONTACTS
from asr.context.features import Match
from asr.context.phrase_index import PhraseIndex
from asr.context.question import TURN_SIGNAL
from asr.context.types import Question
from asr.recognition.results import Hypothesis

EVIDENCE = (
    "constant",  # 1
    "acoustic",  # acoustic score over the plain 1-best's, tens of nats, at least -10
    "language",  # language score over the plain 1-best's, tens of nats, at least -10
    "attention",  # attention decoder's score over the plain 1-best's, tens of nats, at least -10
    "unlike",  # phonetic distance from what the n-best has in the entry's place, fifths of the longer one's phones
    "distance",  # the same distance, threes of phones
    "surprise",  # attention (or else acoustic) score of the plain 1-best, nats a letter, at least -1
    "phones",  # of the name, fives
    "prior",  # the entry's weight, twos of nats
    "entries",  # log of how many phrases there are, twos
    "offered",  # whether the entry is one of a few that a question offers
    "whole",  # whether all of the entry is said
    "carrier",  # log probability of the words around it, fives of nats, 0 where it is not known
    "strange",  # whether it is not known
    "person",  # whether it is a contact, or a name that the question offers
)
COMPARED = 10
"""Hypotheses of the n-best that sounds are compared with."""
OFFERED = math.log(0.19)
"""Weight of a phrase that was probably meant: one of a few that are offered."""
_LEAST, _LEAST_SURE = -10.0, -1.0


def evidence(
    hypotheses: Sequence[Hypothesis],
    n_best: int,
    matches: Sequence[Match | None],
    index: PhraseIndex,
    question: Question,
    tables: AnswerTables,
) -> dict[int, tuple[float, ...]]:
    """The numbers of `EVIDENCE`, by rank, for the hypotheses that name an entry alone or among carrier words.

    A name or a surname also counts in the place of other words of the plain 1-best.

    Args:
        hypotheses: the plain 1-best first; the first `n_best` are of the n-best. matches: the phrase in each.
    """
    plain = hypotheses[0]
    surprise = max(_LEAST_SURE, (plain.attention or plain.acoustic) / max(1, len(plain.text)))
    entries = math.log(max(1, len(index.phrases))) / 2
    named = {
        i: found
        for i, found in enumerate(matches)
        if found
        and (
            found.carrier in tables.carriers
            or (found.part.kind in ("full", "last") and within(plain.text, found.carrier))
        )
    }
    distances = apart([h.text for h in hypotheses], n_best, named)
    out: dict[int, tuple[float, ...]] = {}
    for i, found in named.items():
        phrase = index.phrases[found.part.phrase]
        offered = phrase.weight >= OFFERED or (question == "which" and phrase.signal == TURN_SIGNAL)
        words, (distance, share) = found.part.text.split(), distances[i]
        hypothesis = hypotheses[i]
        out[i] = (
            1.0,
            max(_LEAST, (hypothesis.acoustic - plain.acoustic) / 10),
            max(_LEAST, (hypothesis.language - plain.language) / 10),
            max(_LEAST, (hypothesis.attention - plain.attention) / 10),
            share / 0.2,
            distance / 3,
            surprise,
            len(index.phones_of(found.part)) / 5,
            phrase.weight / 2,
            entries,
            float(offered),
            float(found.part.kind == "full"),
            tables.carriers.get(found.carrier, 0.0) / 5,
            float(found.carrier not in tables.carriers),
            float(phrase.signal == CONTACTS or (phrase.signal == TURN_SIGNAL and any(map(tables.is_name, words)))),
        )
    return out


def within(text: str, carrier: tuple[str, str]) -> str:
    """The words of a text that a carrier has around it; "" where it is another one, or there are none."""
    words, before, after = text.split(), carrier[0].split(), carrier[1].split()
    end = len(words) - len(after)
    if len(before) >= end or words[: len(before)] != before or words[end:] != after:
        return ""
    return " ".join(words[len(before) : end])


def apart(texts: Sequence[str], n_best: int, named: Mapping[int, Match]) -> dict[int, tuple[float, float]]:
    """How far some hypotheses are from the nearest of the first few of the n-best, in sound.

    Also that as a share of the longer one's phones: what each names from what stands there in its place, or the whole
    where all have other words around it.
    """
    others = [text for text in texts[: min(n_best, COMPARED)] if text]
    pairs = []
    for i, found in named.items():
        inside = [(i, found.part.text, words) for text in others if (words := within(text, found.carrier))]
        pairs += inside or [(i, texts[i], text) for text in others]
    least = dict.fromkeys(named, (math.inf, 1.0))
    if pairs:
        sounds, lengths = phonetics.encode(phonetics.phones_of(own for _, own, _ in pairs))
        of, of_lengths = phonetics.encode(phonetics.phones_of(other for *_, other in pairs))
        distances = phonetics.distances(sounds, lengths, of, of_lengths)
        longer = np.maximum(1, np.maximum(lengths, of_lengths))
        for (i, *_), distance, share in zip(pairs, distances.tolist(), (distances / longer).tolist(), strict=True):
            least[i] = min(least[i], (distance, share), key=lambda pair: pair[1])
    return {i: (min(distance, 10.0), share) for i, (distance, share) in least.items()}
