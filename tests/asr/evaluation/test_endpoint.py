"""Endpoint delay: the end of speech by energy, and its figures."""

from __future__ import annotations

import numpy as np
import pytest

from asr.audio import Samples
from asr.evaluation.endpoint_delay import Ending, endpoint_figures, find_ending, speech_end
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Recognizer

RATE = 16_000


def burst(seconds: float, silence: float, noise: float = 0.0) -> Samples:
    """A tone of that length between two stretches of background."""
    rng = np.random.default_rng(1)
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * RATE)) / RATE)
    quiet = np.zeros(round(silence * RATE))
    audio = np.concatenate([quiet, tone, quiet])
    return (audio + noise * rng.standard_normal(len(audio))).astype(np.float32)


@pytest.mark.parametrize("noise", [0.0, 1e-4, 3e-3])
def test_speech_ends_where_the_energy_does(noise: float) -> None:
    assert speech_end(burst(1.0, 0.5, noise), RATE) == pytest.approx(1.5, abs=0.021)


def test_energy_that_does_not_change_tells_no_end() -> None:
    rng = np.random.default_rng(2)
    assert speech_end((0.1 * rng.standard_normal(RATE)).astype(np.float32), RATE) is None
    assert speech_end(np.zeros(RATE, np.float32), RATE) is None
    assert speech_end(np.zeros(10, np.float32), RATE) is None


def test_the_endpoint_of_a_recording(tiny_recognizer: Recognizer, speech: Samples) -> None:
    ending = find_ending(tiny_recognizer, speech, RATE)
    assert ending is not None and 2.0 < ending.speech_end_s <= 3.0
    assert ending.endpoint_s is None or ending.endpoint_s > EndpointRule().trailing_silence_s
    if ending.endpoint_s is not None and ending.likely_s is not None:
        assert ending.likely_s < ending.endpoint_s


def test_likely_finals_that_were_confirmed_and_withdrawn() -> None:
    endings = [Ending(1.0, 1.7, 1.3), Ending(1.0, 1.9, 1.5), Ending(1.0, 1.7, None, True), Ending(1.0, 0.5, 0.3)]
    figures = endpoint_figures(endings, list("abcd"), 50, 0)
    assert figures.likely_ms == (400, 480) and figures.withdrawn.value == 0.25
    assert endpoint_figures(endings[2:3], ["a"], 10, 0).likely_ms is None


def test_early_cuts_are_no_delays() -> None:
    endings = [Ending(1.0, 1.5), Ending(1.0, 1.7), Ending(1.0, 0.6), Ending(1.0, None)]
    figures = endpoint_figures(endings, list("abcd"), 50, 0)
    assert figures.delay_ms == (600, 680) and figures.utterances == 4
    assert figures.early.value == figures.missed.value == 0.25
    assert endpoint_figures([Ending(1.0, 0.5)], ["a"], 10, 0).delay_ms is None
