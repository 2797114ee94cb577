"""The weights that rank lists of texts with the fewest word errors, and what they are worth on lists not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from asr.fitted import FittedWeights
from recipes.second_pass.lists import TextList

Array = npt.NDArray[np.float64]
CTC, ATTENTION, WORD_BONUS = np.arange(0, 1.61, 0.1), np.arange(0.5, 4.01, 0.25), np.arange(-1.0, 2.01, 0.5)


@dataclass(frozen=True)
class Rates:
    """Word error rate of each set, percent; all sets count alike in the mean."""

    of: dict[str, float]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.of.values())))


class DevLists:
    """Lists as arrays: N texts of an utterance, K weights that are tried."""

    def __init__(self, lists: Sequence[TextList]) -> None:
        self.sets = sorted({x.set for x in lists})
        self._of = np.array([self.sets.index(x.set) for x in lists])
        self._words = np.bincount(self._of, [x.words for x in lists], len(self.sets))
        self._errors = [np.array(x.errors) for x in lists]
        self._scores = [
            np.array(
                [(c.transducer, c.ctc, c.language, c.tokens, c.attention, len(c.text.split())) for c in x.candidates]
            )
            for x in lists
        ]

    def errors(self, tried: Sequence[FittedWeights]) -> Array:
        """(N, K) word errors of the text that each of the weights ranks first."""
        first = np.array([(1.0, w.ctc, w.language, w.token_bonus) for w in tried]).T
        second = np.array([(w.attention, w.word_bonus) for w in tried]).T
        limits = np.array([w.limit for w in tried])
        out = []
        for scores, errors in zip(self._scores, self._errors, strict=True):
            heard = scores[:, :4] @ first
            total = np.maximum(heard, heard.max(0) - limits) + scores[:, 4:] @ second
            out.append(errors[np.argmax(total, axis=0)])
        return np.array(out, np.float64)

    def rates(self, errors: Array) -> Array:
        """(N, K) word errors → (sets, K) word error rates, percent."""
        return np.array([100 * errors[self._of == s].sum(0) / self._words[s] for s in range(len(self.sets))])

    def named(self, errors: Array) -> Rates:
        """(N,) word errors → the sets' rates."""
        return Rates(dict(zip(self.sets, self.rates(errors[:, None])[:, 0].tolist(), strict=True)))

    def least(self) -> Rates:
        """Of any ranking."""
        return self.named(np.array([e.min() for e in self._errors], np.float64))

    def halves(self) -> npt.NDArray[np.bool_]:
        """(N,) every other utterance of each set."""
        place = np.zeros(len(self._of), np.int64)
        for s in range(len(self.sets)):
            mine = self._of == s
            place[mine] = np.arange(mine.sum())
        return place % 2 == 1


@dataclass(frozen=True)
class Fit:
    """weights: of all lists. before, after: rates with the weights at the start and with these. held_out: rates where
    each half of the lists is ranked by weights fitted to the other half."""

    weights: FittedWeights
    before: Rates
    after: Rates
    held_out: Rates

    @property
    def better(self) -> bool:
        """Whether the gain is more than luck with these lists."""
        return self.held_out.mean < self.before.mean


def fit(lists: DevLists, start: FittedWeights) -> Fit:
    """Fits the weights that count in the ranking alone; the language model's, which count in the search too, stay."""
    tried = [
        replace(start, ctc=round(float(c), 1), attention=float(a), word_bonus=float(b))
        for c in CTC
        for a in ATTENTION
        for b in WORD_BONUS
    ]
    errors, before = lists.errors(tried), lists.errors([start])
    odd = lists.halves()
    held_out = np.empty(len(odd))
    for half in (odd, ~odd):
        held_out[half] = errors[half, _best(lists, np.where(half[:, None], 0.0, errors))]
    best = _best(lists, errors)
    return Fit(tried[best], lists.named(before[:, 0]), lists.named(errors[:, best]), lists.named(held_out))


def _best(lists: DevLists, errors: Array) -> int:
    """The place in the grid around which the mean over the sets is least: a point counts with its neighbours, so that
    one lucky ranking does not decide, and of equal ones the middle is taken."""
    shape = (len(CTC), len(ATTENTION), len(WORD_BONUS))
    mean = lists.rates(errors).mean(0).reshape(shape)
    padded = np.pad(mean, 1, mode="edge")
    smooth = np.mean(
        [padded[tuple(slice(i, i + n) for i, n in zip(at, shape, strict=True))] for at in np.ndindex(3, 3, 3)], 0
    )
    equal = np.argwhere(smooth <= smooth.min() + 1e-9)
    middle = equal[np.argmin(np.abs(equal - equal.mean(0)).sum(1))]
    return int(np.ravel_multi_index(tuple(middle), shape))
