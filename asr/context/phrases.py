"""Phrases that a client sends with its request (`speech_contexts`), weighed after the search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher

import numpy as np

from asr.context.candidates import AnswerTables, candidates
from asr.context.rescorer import MAX_CANDIDATES, ForceScore
from asr.context.types import MAX_PHRASES, MAX_TEXT, BiasedWord, ContextEmbedding, Phrase, Rescored
from asr.hypothesis import Hypothesis
from asr.text import normalize

SIGNAL = "speech_contexts"
MAX_BOOST = 20.0
"""Nats; a boost beyond it, up or down, counts as this much."""


def rescore_phrases(
    nbest: Sequence[Hypothesis], phrases: Sequence[tuple[str, float]], force_score: ForceScore | None
) -> Rescored:
    """Adds each phrase's boost to the readings that hold it, and tries the phrases in the place of what sounds alike.

    Args:
        nbest: best first. phrases: (text, boost in nats); the first MAX_PHRASES with words in them count, a repeated
            one with its largest boost. force_score: exact scores of texts; None: no reading joins the list.

    Returns:
        The very same hypotheses in the same order where no reading holds a phrase; else the n-best with the boosts in
        `bias`, and the joined readings that come before the plain first one.
    """
    boosts: dict[str, float] = {}
    for text, boost in phrases[:MAX_PHRASES]:
        words = normalize(text[:MAX_TEXT])
        if words and math.isfinite(boost):
            limited = max(-MAX_BOOST, min(MAX_BOOST, boost))
            boosts[words] = max(limited, boosts.get(words, -MAX_BOOST))
    if not boosts or not nbest or not nbest[0].text:
        return Rescored(tuple(nbest))
    readings = [*nbest, *_joining(nbest, boosts, force_score)]
    found = [_held(h.text, boosts) for h in readings]
    if not any(found):
        return Rescored(tuple(nbest))
    scored = [replace(h, bias=sum(boosts[p] for p in held)) for h, held in zip(readings, found, strict=True)]
    order = sorted(range(len(scored)), key=lambda i: -scored[i].score)
    kept = [i for i in order if i < len(nbest) or scored[i].score > scored[0].score]
    first = kept[0]
    if scored[first].text == nbest[0].text:
        return Rescored(tuple(scored[i] for i in kept))
    return Rescored(tuple(scored[i] for i in kept), True, _biased(scored[first].text, nbest[0].text, found[first]))


def _joining(nbest: Sequence[Hypothesis], boosts: dict[str, float], force_score: ForceScore | None) -> list[Hypothesis]:
    """Readings with phrases in them that sound like the n-best, with exact scores on its scale."""
    raised = tuple(Phrase(text, SIGNAL, 0.0) for text, boost in boosts.items() if boost > 0)
    if force_score is None or not raised:
        return []
    nothing = np.zeros((0, 1), np.float32)
    context = ContextEmbedding(nothing, np.zeros(1, np.float32), raised, "none", "")
    texts = [
        t
        for t in candidates([h.text for h in nbest], context, AnswerTables(), 2 * MAX_CANDIDATES, by_sound_only=True)
        if _held(t, boosts)
    ][:MAX_CANDIDATES]
    if not texts:
        return []
    plain, *others = force_score([nbest[0].text, *texts])
    # the search's estimate of the plain reading may be below its exact score: others move by as much
    shift = nbest[0].acoustic - plain.acoustic
    return [
        replace(h, acoustic=h.acoustic + shift, language=nbest[0].language, from_context=True)
        for h in others
        if h.acoustic > -math.inf
    ]


def _held(text: str, boosts: dict[str, float]) -> list[str]:
    """The phrases in a text, longest first, none within another."""
    words, held, at = text.split(), [], 0
    longest = max(p.count(" ") + 1 for p in boosts)
    while at < len(words):
        for size in range(min(longest, len(words) - at), 0, -1):
            piece = " ".join(words[at : at + size])
            if piece in boosts:
                held.append(piece)
                at += size
                break
        else:
            at += 1
    return held


def _biased(text: str, plain: str, held: Sequence[str]) -> tuple[BiasedWord, ...]:
    words, before = text.split(), plain.split()
    owner = {word: phrase for phrase in held for word in phrase.split()}
    return tuple(
        BiasedWord(words[j], owner.get(words[j], ""), SIGNAL if words[j] in owner else "")
        for tag, _, _, start, end in SequenceMatcher(a=before, b=words, autojunk=False).get_opcodes()
        if tag in ("replace", "insert")
        for j in range(start, end)
    )
