"""The command that calibrates words' confidences, over recordings made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr.audio import Samples
from asr.decoding.ngram import NGram, hash_tokens
from asr.recognition.calibration import FILE, load_calibration
from asr.recognition.recognizer import Recognizer
from recipes.acoustic import calibrate_confidence


@pytest.fixture
def recognizer(tiny_recognizer: Recognizer) -> Recognizer:
    vocab = tiny_recognizer.tokenizer.vocab_size
    language = NGram(
        np.arange(vocab), np.full(vocab, -np.log(vocab)), np.zeros(vocab, np.int64), np.zeros(1), order=2,
        vocab_size=vocab, tokens_hash=hash_tokens(tiny_recognizer.tokenizer), version="lm",
    )  # fmt: skip
    return Recognizer(tiny_recognizer.model, tiny_recognizer.tokenizer, beam=6, version="tiny", language=language)


@pytest.fixture
def spoken(tmp_path: Path, speech: Samples, recognizer: Recognizer) -> Path:
    """Ten recordings of which every other word is heard wrong."""
    lines = []
    for i in range(10):
        samples = np.ascontiguousarray(speech[2500 * i : 2500 * i + 20_000])
        soundfile.write(tmp_path / f"{i}.wav", samples, 16_000, subtype="FLOAT")
        heard = recognizer.recognize(samples).nbest[0].text.split()
        said = " ".join(word if (i + j) % 2 else "something" for j, word in enumerate(heard))
        lines.append({"id": f"u{i}", "audio": {"path": f"{i}.wav"}, "text": said})
    path = tmp_path / "made-dev.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_command_fits_and_writes(spoken: Path, recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recognizer, "load", lambda *_, **__: recognizer)
    folder = spoken.parent
    arguments = [str(spoken), "--model", str(folder)]
    result = CliRunner().invoke(calibrate_confidence.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "made-dev" in result.stdout and FILE in result.stdout
    fitted = load_calibration(folder, "tiny", "lm")
    assert fitted is not None
    recognizer.scorer.calibration = fitted
    before = (folder / FILE).read_text()
    (folder / "3.wav").unlink()
    result = CliRunner().invoke(calibrate_confidence.app, arguments, catch_exceptions=False)
    assert result.exit_code == 1 and "1 lines or recordings could not be used" in result.stderr
    assert (folder / FILE).read_text() != before


def test_the_command_says_what_is_missing(
    spoken: Path, tiny_recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recognizer, "load", lambda *_, **__: tiny_recognizer)
    result = CliRunner().invoke(calibrate_confidence.app, [str(spoken), "--model", str(spoken.parent)])
    assert result.exit_code == 2 and "needs a language model" in result.stderr
    assert not (spoken.parent / FILE).exists()
