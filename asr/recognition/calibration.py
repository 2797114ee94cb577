"""Calibration of words' confidences: of the words at 0.8, eight in ten are right.

The models' scores of a word are turned into a probability by a logistic regression (Platt scaling: Platt 1999,
"Probabilistic outputs for support vector machines"; for words of a recogniser Yu et al. 2011, arXiv:1109.5736), fitted
on recordings of dev.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from asr.errors import ModelError

FILE = "confidence.json"
_EDGE = 1e-4
_ROUNDS = 50
_RIDGE = 1e-2


def log_odds(log_probability: float) -> float:
    """Log-odds of a probability given as its logarithm, at most 9.2 either way."""
    p = min(max(math.exp(log_probability), _EDGE), 1 - _EDGE)
    return math.log(p / (1 - p))


@dataclass(frozen=True)
class Evidence:
    """The models' evidence for a word, from which its confidence is computed."""

    tokens: float
    """Log-odds that all of its tokens are right, by the transducer alone."""
    utterance: float
    """Log-odds of the utterance's mean token."""
    language: float
    """log P of its tokens after those before, nats."""
    letters: int
    """Letters of the word."""
    words: int
    """Words of the utterance."""
    posterior: float = 0.0
    """Log-odds of the share of the n-best's probability in hypotheses that have the word, by the attention decoder's
    scores too; 0 without the attention decoder."""

    @classmethod
    def of(
        cls, word: str, log_confidence: Sequence[float], whole: Sequence[float], language: Sequence[float], words: int
    ) -> Evidence:
        """The evidence without the attention decoder.

        Args:
            log_confidence: log-probability of each of the word's tokens.
            whole: of all of the utterance's tokens.
            language: log P of each of the word's tokens.
            words: words of the utterance.
        """
        return cls(log_odds(sum(log_confidence)), log_odds(sum(whole) / len(whole)), sum(language), len(word), words)

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers that a calibration weighs."""
        return self.tokens, self.utterance, self.language, float(self.letters), math.log(self.words), self.posterior


@dataclass(frozen=True)
class Calibration:
    """The probability that a word is right: 1 / (1 + exp(−constant − weights · evidence)).

    Each number but the constant is the weight of the evidence of the same name.
    """

    model: str
    """Version of the acoustic model whose evidence it was fitted to."""
    language_model: str
    """Version of the language model."""
    constant: float
    tokens: float
    utterance: float
    language: float
    letters: float
    words: float = 0.0
    """Of the logarithm of the number of words."""
    posterior: float = 0.0
    attention_model: str = field(default="", kw_only=True)
    """Version of the attention decoder; "" for results without it."""

    def confidence(self, evidence: Evidence) -> float:
        """A word's probability of being right, 0 to 1."""
        weights = (self.tokens, self.utterance, self.language, self.letters, self.words, self.posterior)
        at = self.constant + sum(w * x for w, x in zip(weights, evidence.values, strict=True))
        return 1 / (1 + math.exp(-min(max(at, -30.0), 30.0)))

    def save(self, folder: Path) -> None:
        """Write confidence.json into the model's folder."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n")


def load_calibration(folder: Path, model: str, language_model: str, attention_model: str = "") -> Calibration | None:
    """Load the calibration beside a model; None where there is none, or none for these versions.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = Calibration(**json.loads(path.read_text()))
        finite = all(math.isfinite(x) for x in asdict(found).values() if not isinstance(x, str))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: {error}; fit it again (scripts/calibrate_confidence)") from error
    if not finite:
        raise ModelError(f"{path}: a weight is not finite; fit it again (scripts/calibrate_confidence)")
    fitted_to = (found.model, found.language_model, found.attention_model)
    return found if fitted_to == (model, language_model, attention_model) else None


def fit_calibration(
    evidence: Sequence[Evidence],
    right: Sequence[bool],
    sets: Sequence[str],
    model: str = "",
    language_model: str = "",
    attention_model: str = "",
) -> Calibration:
    """Fit by maximum likelihood (Newton's method, a little ridge); each set counts alike, whatever its number of words.

    Args:
        evidence: of each word.
        right: whether each word is right.
        sets: the set that each word is from.
        model, language_model, attention_model: versions of the models.

    Raises:
        ModelError: fewer than two words, or all of them are right, or none.
    """
    if len(set(right)) < 2:
        raise ModelError("calibration needs words that are right and words that are wrong: give more recordings")
    x = np.array([(1.0, *e.values) for e in evidence])
    y = np.array(right, np.float64)
    names, place, count = np.unique(np.array(sets), return_inverse=True, return_counts=True)
    weight = (len(y) / len(names) / count)[place]
    beta = np.zeros(x.shape[1])
    for _ in range(_ROUNDS):
        p = 1 / (1 + np.exp(-(x @ beta).clip(-30, 30)))
        slope = x.T @ (weight * (p - y)) + _RIDGE * beta
        bend = (x * (weight * p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(len(beta))
        step = np.linalg.solve(bend, slope)
        beta -= step * min(1.0, 4.0 / (np.abs(step).max() + 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    numbers = (round(b, 4) for b in beta.tolist())
    return Calibration(model, language_model, *numbers, attention_model=attention_model)
