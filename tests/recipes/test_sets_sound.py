"""Conditions of sound and sounds without speech: what they are called is what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.acoustic import Transducer
from asr.audio import SAMPLE_RATE, Samples
from asr.decoding import BoostedPhrase
from asr.evaluation.jsonl import write_objects
from asr.evaluation.manifest import read_manifest
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.text.tokenizer import Tokenizer
from recipes.sets import conditions, false_alarms, non_speech
from recipes.sets.sounds import KINDS


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    tone = 0.3 * np.sin(np.arange(SAMPLE_RATE) / 4) * (np.arange(SAMPLE_RATE) > SAMPLE_RATE // 2)
    soundfile.write(tmp_path / "a.flac", tone, SAMPLE_RATE)
    line = {"id": "c/a", "path": "a.flac", "text": "one", "make": "an4", "target": "One"}
    write_objects(tmp_path / "an4.jsonl", [line])
    return tmp_path / "an4.jsonl"


def test_conditions_are_what_they_are_called(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "audio").mkdir(parents=True)
    names = list(conditions.CONDITIONS)
    write_objects(out / "an4.jsonl", conditions.remade(manifest, out, names, None, 0))
    utterances, problems = read_manifest(out / "an4.jsonl")
    assert not problems and [u.target for u in utterances] == ["one"] * len(names)
    sounds = {name: soundfile.read(u.audio.path)[0] for name, u in zip(names, utterances, strict=True)}
    for name, sound in sounds.items():
        assert len(sound) == SAMPLE_RATE and np.isfinite(sound).all()
        if name.endswith("dBFS"):
            assert 20 * np.log10(np.abs(sound).max()) == pytest.approx(float(name.split()[0]), abs=0.1)
    quiet = {db: np.std(sounds[f"{db} dB noise"][: SAMPLE_RATE // 2]) for db in (20, 10, 5)}
    assert 20 * np.log10(0.3 / np.sqrt(2) / quiet[10]) == pytest.approx(10, abs=1.5)
    assert quiet[20] < quiet[10] < quiet[5]
    makes = [json.loads(text)["make"] for text in (out / "an4.jsonl").read_text().splitlines()]
    assert makes == [f"an4 at {name}" for name in names]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_has_its_length_and_is_heard(kind: str) -> None:
    rng, n = np.random.default_rng(1), 3 * SAMPLE_RATE
    sound = KINDS[kind](rng, n)
    assert sound.shape == (n,) and np.isfinite(sound).all()
    at_level = non_speech.heard(sound, rng)
    if kind == "digital silence":
        assert not at_level.any()
    elif np.abs(sound).max():  # a ring may pause for three seconds
        assert -31 < 20 * np.log10(np.abs(at_level).max()) < -5


def test_tones_have_their_frequencies() -> None:
    for kind, expected in {"dial tone US": {350, 440}, "dial tone EU": {425}, "tone 1 kHz": {1000}}.items():
        spectrum = np.abs(np.fft.rfft(KINDS[kind](np.random.default_rng(0), SAMPLE_RATE)))
        assert {int(f) for f in np.flatnonzero(spectrum > spectrum.max() / 4)} == expected


def test_sound_files_are_read_at_any_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "ring.wav", np.sin(np.arange(96_000) / 30)[:, None] * [0.5, 0.4], 96_000)
    soundfile.write(tmp_path / "audio-channel-left.wav", np.ones(8000), 8000)
    sound = non_speech.files_of(tmp_path)(np.random.default_rng(0), 5 * SAMPLE_RATE)
    assert len(sound) == 5 * SAMPLE_RATE and 0.9 < sound.max() < 1.1


def test_alarms_are_the_finals_of_live_streams(
    tiny_model: Transducer, tiny_tokenizer: Tokenizer, speech: Samples
) -> None:
    recognizer = Recognizer(tiny_model, tiny_tokenizer, beam=4, ctc_weight=0.0, second_pass=False)
    graphs = [recognizer.compile(map(BoostedPhrase, phrases)) for phrases in ((), ("yes", "no"))]
    for graph, texts in zip(graphs, false_alarms.texts_in(recognizer, speech, graphs), strict=True):
        stream = recognizer.open(StreamOptions(graph=graph))
        finals = [r for r in [*stream.accept(speech), *stream.finish()] if r.is_final]
        assert texts == [r.nbest[0].text for r in finals if r.nbest[0].text]


def test_alarms_are_told_for_ten_minutes() -> None:
    alarms = false_alarms.alarms(["no", "up up", "no"], 60)
    assert alarms == false_alarms.Alarms(40.0, 30.0, ("no", "up up"))
    assert false_alarms.table({"both": {"tone 1 kHz": dict.fromkeys(false_alarms.PHRASES, alarms)}}).row_count == 1
