"""Phrases and the shipped acoustic model: where nobody speaks, no weight brings a phrase out."""

import numpy as np
import pytest
import torch

from asr.decoding import BeamSearch, BoostedPhrase, PhraseCompiler
from asr.decoding.phrase_graph import MAX_WEIGHT, PER_TOKEN
from asr.recognition.recognizer import Recognizer

NAMES = (
    "yes", "no", "bauer", "meg", "restaurant", "kitchen", "lights", "call", "the", "please", "thank you", "jack",
    "paris", "tomorrow", "seven", "eight hundred", "alexander", "christopher", "elizabeth",
)  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> Recognizer:
    return Recognizer.load()


@torch.inference_mode()
@pytest.mark.parametrize("loudness", [0.0, 0.003, 0.03])
def test_no_phrase_is_recognised_in_silence_or_noise(shipped: Recognizer, loudness: float) -> None:
    samples = loudness * np.random.default_rng(0).standard_normal(64_000)
    encoded = shipped.recognize(samples.astype(np.float32)).encoded
    assert encoded is not None
    search = BeamSearch(shipped.model, 8)
    first = shipped.model.start(1)[0]
    scores = shipped.model.join(encoded.frames[:, None], first[None]).log_softmax(-1)[:, 0]
    tokens = torch.arange(shipped.model.vocab_size) != shipped.model.blank
    assert (
        float(scores[:, tokens].max()) < -PER_TOKEN
    )  # what a token costs where nobody speaks is more than it can gain
    graph = PhraseCompiler(shipped.tokenizer).compile([BoostedPhrase(name, MAX_WEIGHT) for name in NAMES])
    best = search.nbest(search.step(encoded.frames[None], search.start(1), [graph]), 0)[0]
    assert best.tokens == () and best.bias == 0
