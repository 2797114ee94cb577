"""The shipped models on the packaged recordings: word errors stay below a bound, on CUDA as on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from asr.context import ContextModels
from asr.evaluation.manifest import read_manifest
from asr.evaluation.run import Outcome, evaluate
from asr.evaluation.wer import Errors, align, count
from asr.recognition.recognizer import Recognizer

SAMPLES = Path(__file__).parents[2] / "samples"


def errors(recognizer: Recognizer, name: str, *conditions: str) -> Mapping[str, Errors]:
    """Word errors of a list of samples under each condition."""
    utterances, problems = read_manifest(SAMPLES / f"{name}.jsonl")
    models = ContextModels.load(models=recognizer.models) if len(conditions) > 1 else None
    sums = dict.fromkeys(conditions, Errors())
    for outcome in evaluate(utterances, conditions, recognizer, models):
        assert isinstance(outcome, Outcome)
        for condition, result in outcome.results.items():
            sums[condition] += count(align(outcome.utterance.reference, result.nbest[0]))
    assert not problems
    return sums


@pytest.mark.slow
def test_word_errors_of_the_shipped_weights_stay_below_a_bound() -> None:
    """Measured: of 75 words of people 6 errors; of 37 of follow-ups 8, with their context 1."""
    recognizer = Recognizer.load()
    people = errors(recognizer, "people", "none")["none"]
    followups = errors(recognizer, "followups", "none", "relevant")
    assert people.words == 75 and people.total <= 8
    assert followups["none"].words == 37 and followups["none"].total <= 10
    assert followups["relevant"].total <= 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is there")
def test_word_errors_on_cuda_are_those_of_the_cpu() -> None:
    there = errors(Recognizer.load(device="cuda"), "people", "none")["none"]
    assert abs(there.total - errors(Recognizer.load(), "people", "none")["none"].total) <= 1
