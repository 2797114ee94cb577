"""Texts for recordings without one: what two recognisers agree on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr.audio import Samples
from asr.context.types import Context
from asr.evaluation.jsonl import read_objects, write_objects
from benchmarks.peers.recognizers import Answer, Transcribe
from recipes.acoustic import label_speech
from recipes.acoustic.labels import apart, label
from recipes.acoustic.speech import SpeechCache


@pytest.mark.parametrize(
    ("first", "second", "rate", "text"),
    [
        ("Two lattes, please.", "2 lattes please", 0.0, "two lattes please"),
        ("Call 512.", "call five one two", 0.0, "call five one two"),
        ("A 16 ounce latte", "A 16 ounce latte.", 0.0, "a sixteen ounce latte"),
        ("one two three four", "one two three for", 0.25, "one two three four"),
        ("one two", "one two three four", 0.5, "one two"),
        ("", "one", 1.0, ""),
        ("", "", 1.0, ""),
    ],
)
def test_texts_are_apart_by_their_words(first: str, second: str, rate: float, text: str) -> None:
    assert apart(first, second) == (rate, text)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Three tones, and a file that is none."""
    lines = []
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * (i + 1) * np.ones(8000), 16_000)
        lines.append({"id": f"u/{i}", "audio": {"path": f"{i}.wav"}, "speaker": "s", "corpus": "untranscribed",
                      "text": None, "duration_s": 0.5})  # fmt: skip
    (tmp_path / "3.wav").write_bytes(b"broken")
    write_objects(tmp_path / "untranscribed-train.jsonl.gz", lines)
    return tmp_path / "untranscribed-train.jsonl.gz"


def hears(*texts: str) -> Transcribe:
    """A recogniser that tells recordings by their level."""

    def transcribe(samples: Samples, _: Context) -> Answer:
        return Answer(texts[round(float(samples.mean()) * 10) - 1])

    return transcribe


def never(samples: Samples, _: Context) -> Answer:
    raise AssertionError("heard twice")


def test_what_both_hear_becomes_the_text(manifest: Path, tmp_path: Path) -> None:
    one = hears("a b c d e f g h i j", "Yes.", "nothing alike")
    other = hears("a b c d e f g h i k", "yes", "whatever else")
    kept, heard, problems = label(manifest, tmp_path / "out", {"one": one, "other": other}, 0.1)
    assert [(line["id"], line["text"], line["apart"]) for line in kept] == [
        ("u/0", "a b c d e f g h i j", 0.1),
        ("u/1", "yes", 0.0),
    ]
    assert heard == 3 and [name for name, _ in problems] == ["u/3"]
    strict, _, _ = label(manifest, tmp_path / "out", {"one": never, "other": never}, 0.0)  # goes on from what was heard
    assert [line["id"] for line in strict] == ["u/1"]
    assert list(read_objects(tmp_path / "out/labelled-train.jsonl.gz")) == strict


def test_labels_are_trained_on_from_anywhere(manifest: Path, tmp_path: Path) -> None:
    texts = hears("one", "two", "three")
    label(manifest, tmp_path / "out", {"one": texts, "other": texts}, 0.0)
    cache = SpeechCache([tmp_path / "out/labelled-train.jsonl.gz"], tmp_path / "cache")
    assert [(u.text, u.corpus, u.samples) for u in cache.utterances] == [
        ("one", "untranscribed", 8000), ("two", "untranscribed", 8000), ("three", "untranscribed", 8000),
    ]  # fmt: skip


def test_the_command_tells_what_it_kept(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = hears("one", "two", "three")
    monkeypatch.setattr(label_speech, "LOADERS", {"whisper": lambda: texts, "moonshine": lambda: texts})
    run = CliRunner().invoke(label_speech.app, [str(manifest), "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    assert "3 of 3 recordings" in run.stderr and "u/3" in run.stderr
    assert run.stdout.strip() == str(tmp_path / "out/labelled-train.jsonl.gz")
    assert json.loads((tmp_path / "out/heard.jsonl").read_text().splitlines()[0])["texts"]["whisper"] == "one"


@pytest.mark.parametrize("names", ["whisper", "whisper,whisper", "whisper,nobody", ""])
def test_it_wants_two_recognisers(names: str, manifest: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(label_speech.app, [str(manifest), "--out", str(tmp_path / "out"), "--recognizers", names])
    assert run.exit_code == 2 and "are not two of whisper, moonshine, pocketsphinx" in " ".join(run.stderr.split())
