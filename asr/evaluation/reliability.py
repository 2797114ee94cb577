"""Whether a confidence of 0.8 is right eight times in ten: reliability and expected calibration error of the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.evaluation.alternatives import closest
from asr.evaluation.wer import align_words

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Words whose confidence lies in one tenth of 0 to 1: how many, their mean confidence, the share that is right."""

    words: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """The reliability curve of all words, empty bins left out."""

    words: int
    error: float
    """Expected calibration error, the bins' |confidence − right| weighted by their words (Naeini et al. 2015,
    "Obtaining Well Calibrated Probabilities Using Bayesian Binning")."""
    bins: tuple[Bin, ...]


def words_right(reference: str, hypothesis: str) -> list[bool]:
    """For each word of a hypothesis, in order, whether it stands for the same word of the reference."""
    ours, theirs = closest(reference, hypothesis)
    if ours == theirs:
        return [True] * len(hypothesis.split())
    return [step.kind == "equal" for step in align_words(ours, hypothesis.split()) if step.hypothesis]


def reliability(confidences: Sequence[float], right: Sequence[bool]) -> Reliability | None:
    """The curve of words with these confidences, 0 to 1; None where there are no words."""
    if not confidences:
        return None
    sure, hits = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    groups = [place == i for i in range(BINS) if (place == i).any()]
    bins = tuple(Bin(int(g.sum()), float(sure[g].mean()), float(hits[g].mean())) for g in groups)
    error = sum(b.words * abs(b.confidence - b.right) for b in bins) / len(sure)
    return Reliability(len(sure), error, bins)
