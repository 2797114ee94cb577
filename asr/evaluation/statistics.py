"""Bootstrap intervals of ratios: dialogues are drawn with replacement, all figures from the same draws.

Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation": errors of one
dialogue hang together, so whole dialogues are drawn; drawing two conditions together pairs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval; all NaN where it is not defined (nothing was counted)."""

    value: float
    low: float
    high: float


class Bootstrap:
    """Draws of the clusters (dialogues) that the utterances belong to.

    Args:
        clusters: (U,) the dialogue of each utterance.
        draws: how many samples; seed: the same seed draws the same.
    """

    def __init__(self, clusters: Sequence[str], draws: int = 2000, seed: int = 0) -> None:
        names, self._cluster = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
        self._clusters = len(names)
        rng = np.random.default_rng(seed)
        even = np.full(self._clusters, 1 / max(1, self._clusters))
        self._weights = rng.multinomial(self._clusters, even, size=draws).astype(np.float64)  # (draws, clusters)

    def _sums(self, values: npt.ArrayLike) -> Array:
        """(U,) → (1 + draws,): the sum over the utterances as they are, then over each draw."""
        per_cluster = np.bincount(self._cluster, np.asarray(values, np.float64), minlength=self._clusters)
        return np.concatenate([[per_cluster.sum()], self._weights @ per_cluster])

    def ratio(self, numerator: npt.ArrayLike, denominator: npt.ArrayLike) -> Interval:
        """Sum of (U,) over sum of (U,): a word error rate, or a share of utterances."""
        return _interval(self._sums(numerator), self._sums(denominator))

    def change(self, numerator: npt.ArrayLike, baseline: npt.ArrayLike) -> Interval:
        """Relative change of a sum against a baseline's, paired: -0.26 is 26% fewer errors."""
        before = self._sums(baseline)
        return _interval(self._sums(numerator) - before, before)


def _interval(numerator: Array, denominator: Array) -> Interval:
    if denominator[0] == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    defined = denominator[1:] != 0
    samples = numerator[1:][defined] / denominator[1:][defined]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(samples, [tail, 1 - tail]) if len(samples) else (float("nan"), float("nan"))
    return Interval(float(numerator[0] / denominator[0]), float(low), float(high))
