"""The pointer over phrases, token by token: how likely the context's phrases make each next token of a text.

After the tree-constrained pointer generator of Sun, Zhang and Woodland 2021 (arXiv:2109.00627), with two changes: the
probability of each phrase comes from the entry pointer, and the tree is a sorted list of spellings, searched by prefix,
so that it costs nothing to build.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.text.tokenizer import WORD_START

COPY_FEATURES = 4
"""Inside a phrase, a phrase may end here, log share of the phrases that go on from here, log mass of all phrases."""
_LAST = "\uffff"
NEVER = -30.0
"""Log probability that stands for none."""
_FAINTEST = -8.0


class Place(NamedTuple):
    """How far a text is into a phrase."""

    inside: str | None
    """The spelling so far, None outside."""
    mass: float
    """Of the phrases that begin so."""
    done: bool
    """Whether one may end here."""


class PhrasePrefixes:
    """Probability mass of the ways to name phrases, by the beginning of their spelling.

    Args:
        named: (words, probability) of each way to name one; the same words may repeat.
    """

    def __init__(self, named: Iterable[tuple[str, float]]) -> None:
        mass: dict[str, float] = {}
        for text, weight in named:
            mass[text] = mass.get(text, 0.0) + weight
        self._texts = sorted(mass)
        self._sums = [0.0, *accumulate(mass[t] for t in self._texts)]
        self._whole = mass
        self.total = self._sums[-1]
        self._everything = max(_FAINTEST, math.log(self.total)) if self.total > 0 else _FAINTEST

    def starting_with(self, prefix: str) -> float:
        """Mass of the spellings that begin so."""
        low = bisect_left(self._texts, prefix)
        high = bisect_left(self._texts, prefix + _LAST, low)
        return self._sums[high] - self._sums[low]

    def rows(self, pieces: Sequence[str]) -> NDArray[np.float32]:
        """Along a text of L SentencePiece pieces: (L + 1, 1 + COPY_FEATURES), one row before each piece and one after.

        Column 0: log probability of the next piece by the phrases alone; the rest is known before that piece.
        """
        out = np.zeros((len(pieces) + 1, 1 + COPY_FEATURES), np.float32)
        out[:, 0] = NEVER
        places = [self.start]
        for i, piece in enumerate(pieces):
            place, out[i, 0] = self.step(places[-1], piece)
            places.append(place)
        out[:, 1:] = self.known(places)
        return out

    @property
    def start(self) -> Place:
        """Outside of all phrases."""
        return Place(None, self.total, False)

    def known(self, places: Sequence[Place]) -> NDArray[np.float32]:
        """(places, COPY_FEATURES): what is known at each before the next piece."""
        inside = np.array([p.inside is not None for p in places])
        mass = np.array([p.mass for p in places])
        out = np.zeros((len(places), COPY_FEATURES), np.float32)
        out[:, 0], out[:, 1], out[:, 3] = inside, [p.done for p in places], self._everything
        out[inside, 2] = np.maximum(_FAINTEST, np.log(mass[inside] / self.total))
        return out

    def step(self, place: Place, piece: str) -> tuple[Place, float]:
        """Where a piece leads, and its log probability.

        It goes on, or begins anew where a phrase is whole or none is begun.
        """
        starts = piece.startswith(WORD_START)
        letters = piece.removeprefix(WORD_START)
        if place.inside is not None:
            longer = place.inside + (" " if starts else "") + letters
            mass = self.starting_with(longer)
            if mass > 0:
                share = mass / place.mass * (0.5 if place.done else 1.0)
                return Place(longer, mass, longer in self._whole), math.log(share)
        if starts:
            mass = self.starting_with(letters)
            if mass > 0:
                share = mass / self.total * (1.0 if place.inside is None else 0.5)
                logp = math.log(share) if place.inside is None or place.done else NEVER
                return Place(letters, mass, letters in self._whole), logp
        return self.start, NEVER
