"""Weight of the language model and bonus of a token, fitted on dev: what gives the fewest word errors in the search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from asr.audio import Samples, read_container
from asr.decoding import BeamSearch
from asr.decoding.ngram import NGram
from asr.evaluation.manifest import read_manifest
from asr.evaluation.recordings import AudioReader
from asr.evaluation.wer import align, count
from asr.recognition.recognizer import Recognizer
from asr.text.tokenizer import Tokenizer
from recipes.acoustic.speech import corpus_of, find_manifests
from recipes.progress import Progress

WEIGHTS = np.arange(0.0, 1.01, 0.05)
BONUSES = np.arange(0.0, 3.01, 0.1)
_START = (0.35, 1.7)


@dataclass(frozen=True)
class Spoken:
    """A dev utterance, encoded: (T, J) frames as the joiner wants them."""

    corpus: str
    id: str
    text: str
    frames: Tensor


@dataclass(frozen=True)
class HypothesisScores:
    """What searches found for an utterance, one row a text: log P(y|x), log P(y), tokens, word errors."""

    acoustic: npt.NDArray[np.float64]
    language: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.float64]
    errors: npt.NDArray[np.float64]

    def chosen_errors(self, weight: float, bonus: float) -> float:
        """Word errors of the hypothesis that these values rank first."""
        return float(self.errors[np.argmax(self.acoustic + weight * self.language + bonus * self.tokens)])


@dataclass(frozen=True)
class Trial:
    """The search with one pair of values: word errors of each utterance, in order, and each corpus's WER."""

    weight: float
    bonus: float
    errors: tuple[int, ...]
    rates: dict[str, float]

    @property
    def mean(self) -> float:
        """Each corpus counts alike."""
        return float(np.mean(list(self.rates.values())))


def encode_dev(recognizer: Recognizer, data: Path, seconds: float, progress: Progress) -> list[Spoken]:
    """Utterances of each dev corpus and the follow-ups, drawn the same each time, so many seconds of each."""
    chosen = [drawn for manifest in find_manifests(data, "dev") for drawn in _draw(manifest, seconds)]
    out = []
    for done, (spoken, samples, rate) in enumerate(chosen, 1):
        encoded = recognizer.recognize(samples, rate, nbest=1).encoded
        if encoded is not None:
            out.append(replace(spoken, frames=encoded.frames))
        progress("encoding", done, len(chosen))
    return out


def _draw(manifest: Path, seconds: float) -> Iterator[tuple[Spoken, Samples, int]]:
    utterances = [u for u in read_manifest(manifest)[0] if u.text]
    with AudioReader() as audio:
        for i in np.random.default_rng(0).permutation(len(utterances)):
            utterance = utterances[i]
            samples, rate = read_container(audio.read(utterance.audio))
            seconds -= len(samples) / rate
            if seconds < 0:
                return
            yield Spoken(corpus_of(manifest), utterance.id, utterance.text, torch.empty(0)), samples, rate


class Fit:
    """Searches dev with values in turn, and learns from what was found which to try next.

    Args:
        spoken: of all corpora. beam: as in the recogniser that the values are for.
    """

    def __init__(
        self, recognizer: Recognizer, language: NGram, spoken: Sequence[Spoken], beam: int, progress: Progress
    ) -> None:
        self._recognizer, self._tokenizer, self._language = recognizer, recognizer.tokenizer, language
        self._spoken, self._beam, self._progress = spoken, beam, progress
        self._found: list[dict[tuple[int, ...], float]] = [{} for _ in spoken]
        self.trials: list[Trial] = []

    def run(self, rounds: int = 4) -> Trial:
        """The best trial. The first is without the model and without a bonus; each further one is what ranks the
        hypotheses found so far best, until that has been tried (minimum error rate training, Och 2003)."""
        self.search(0.0, 0.0)
        values = _START
        for _ in range(rounds):
            self.search(*values)
            values = best_values(self.hypothesis_scores(), [s.corpus for s in self._spoken], self._words())
            if any((t.weight, t.bonus) == values for t in self.trials):
                break
        return min(self.trials, key=lambda t: t.mean)

    def _words(self) -> list[int]:
        return [len(s.text.split()) for s in self._spoken]

    @torch.inference_mode()
    def search(self, weight: float, bonus: float) -> Trial:
        """One pass over all utterances."""
        model, heard = self._recognizer.model, self._recognizer.scorer.with_ctc
        search = BeamSearch(model, self._beam, language=self._language, language_weight=weight, token_bonus=bonus)
        errors = []
        for i, spoken in enumerate(self._spoken):
            found = heard(search.nbest(search.step(spoken.frames[None], search.start(1)), 0), spoken.frames)
            for hypothesis in found:
                self._found[i][hypothesis.tokens] = max(
                    hypothesis.acoustic, self._found[i].get(hypothesis.tokens, -np.inf)
                )
            best = max(found, key=lambda hypothesis: hypothesis.score)
            errors.append(word_errors(self._tokenizer, spoken.text, best.tokens))
            self._progress(f"search {len(self.trials) + 1}", i + 1, len(self._spoken))
        corpora = [s.corpus for s in self._spoken]
        self.trials.append(Trial(weight, bonus, tuple(errors), rates(errors, corpora, self._words())))
        return self.trials[-1]

    def hypothesis_scores(self) -> list[HypothesisScores]:
        """Of each utterance, what all searches so far found."""
        out = []
        for spoken, found in zip(self._spoken, self._found, strict=True):
            texts = list(found)
            errors = [word_errors(self._tokenizer, spoken.text, t) for t in texts]
            numbers = (list(found.values()), self._language.score_texts(texts), [len(t) for t in texts], errors)
            out.append(HypothesisScores(*(np.array(n, np.float64) for n in numbers)))
        return out


def word_errors(tokenizer: Tokenizer, reference: str, tokens: Sequence[int]) -> int:
    return count(align(reference, tokenizer.decode(tokens))).total


def rates(errors: Sequence[float], corpora: Sequence[str], words: Sequence[int]) -> dict[str, float]:
    """Word error rate of each corpus."""
    of = np.array(corpora)
    return {
        c: float(np.sum(np.array(errors)[of == c]) / np.sum(np.array(words)[of == c])) for c in sorted(set(corpora))
    }


def best_values(found: Sequence[HypothesisScores], corpora: Sequence[str], words: Sequence[int]) -> tuple[float, float]:
    """The weight and bonus around which the mean of the corpora's WER is least, if the searches' hypotheses are ranked.

    A point counts with its neighbours on the grid, so that one lucky ranking does not decide.
    """
    wer = np.empty((len(WEIGHTS), len(BONUSES)))
    for i, weight in enumerate(WEIGHTS):
        for j, bonus in enumerate(BONUSES):
            errors = [r.chosen_errors(weight, bonus) for r in found]
            wer[i, j] = np.mean(list(rates(errors, corpora, words).values()))
    padded = np.pad(wer, 1, mode="edge")
    smooth = sum(padded[i : i + wer.shape[0], j : j + wer.shape[1]] for i in range(3) for j in range(3))
    best = np.unravel_index(np.argmin(smooth), wer.shape)
    return round(float(WEIGHTS[best[0]]), 2), round(float(BONUSES[best[1]]), 1)
