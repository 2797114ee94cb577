"""When the assistant asks to say it again: what was recognised first says which entry is likely to be meant."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from asr.context import phonetics
from asr.context.types import MAX_TEXT, Phrase, Turn
from asr.text import normalize

_AGAIN = re.compile(
    r"\b(repeat|once more|one more time|try again|pardon|(say|spell|tell me) [\w' ]{0,40}\bagain"
    r"|(did not|didn't|couldn't|could not) (quite )?(catch|hear|get|understand))\b",
    re.I,
)
_PER_DISTANCE = 1.5
"""Nats that a unit of phonetic distance to the earlier answer costs an entry."""
_FARTHEST = 4.0
_NONE_AT = 2.0
"""Distance at which "none of the entries" is taken to be."""
_DELETION_SHARE = 0.4
"""Share of a phone's cost where it was not recognised."""
_WEAKEST = -10.0


def repeated_answer(turns: Sequence[Turn]) -> str:
    """What the user said, normalised, where the last turn asks to say it again; else "".

    >>> repeated_answer([Turn("user", "Meg Power"), Turn("system", "Sorry, could you repeat the name?")])
    'meg power'
    """
    if len(turns) < 2 or (turns[-2].speaker, turns[-1].speaker) != ("user", "system"):
        return ""
    return normalize(turns[-2].text[-MAX_TEXT:]) if _AGAIN.search(turns[-1].text[-MAX_TEXT:]) else ""


def reweighted(answer: str, phrases: tuple[Phrase, ...]) -> tuple[Phrase, ...]:
    """The phrases with weights that also count how each one sounds like what was recognised the first time.

    Weights stay log probabilities; what no phrase has belongs to "none of them", as before.
    """
    sound = phonetics.phones(answer)
    if not sound or not phrases:
        return phrases
    distance = phonetics.least_distances([p.forms for p in phrases], [answer], _DELETION_SHARE)[0]
    weights = np.array([p.weight for p in phrases])
    none = math.log(max(1e-4, 1.0 - float(np.exp(weights).sum())))
    weighed = np.append(weights - _PER_DISTANCE * np.minimum(_FARTHEST, distance), none - _PER_DISTANCE * _NONE_AT)
    weighed = np.maximum(_WEAKEST, weighed - np.logaddexp.reduce(weighed))
    return tuple(replace(p, weight=w) for p, w in zip(phrases, weighed.tolist(), strict=False))
