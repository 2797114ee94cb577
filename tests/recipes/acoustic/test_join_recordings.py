"""Joining recordings: what goes together, and that nothing of the sound is lost."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from asr.evaluation.manifest import read_manifest
from recipes.acoustic import join_recordings
from recipes.acoustic.join_recordings import joined

lines = st.lists(
    st.fixed_dictionaries({"speaker": st.sampled_from("abc"), "duration_s": st.floats(0.1, 20)}), max_size=30
)


@given(lines=lines, seconds=st.floats(1, 60))
def test_joined_recordings_are_one_speakers_and_long_enough(lines: list[dict[str, object]], seconds: float) -> None:
    numbered = [{**line, "id": i} for i, line in enumerate(lines)]
    groups = list(joined(numbered, seconds))
    used = [line["id"] for group in groups for line in group]
    assert len(set(used)) == len(used)
    for group in groups:
        lengths = [line["duration_s"] for line in group]
        assert len({line["speaker"] for line in group}) == 1
        assert sum(lengths) >= seconds > sum(lengths[:-1])
        assert [line["id"] for line in group] == sorted(line["id"] for line in group)
    for speaker in "abc":
        left = [n["duration_s"] for n in numbered if n["speaker"] == speaker and n["id"] not in used]
        assert sum(left) < seconds


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rng, made = np.random.default_rng(0), []
    for i in range(6):
        samples = rng.uniform(-0.5, 0.5, 8000)
        soundfile.write(tmp_path / f"{i}.wav", samples, 8000 if i == 1 else 16_000)
        made.append({"id": f"u{i}", "audio": {"path": f"{i}.wav"}, "text": f"word {i}", "speaker": "ab"[i % 2],
                     "duration_s": 1.0 if i == 1 else 0.5})  # fmt: skip
    path = tmp_path / "made.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in made))
    return path


def test_the_command(manifest: Path) -> None:
    out = manifest.parent / "out"
    arguments = [str(manifest), "--out", str(out), "--seconds", "1.2"]
    result = CliRunner().invoke(join_recordings.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "2 recordings of 3 s" in result.stdout
    whole, _ = read_manifest(out / "joined.jsonl")
    pieces, _ = read_manifest(out / "pieces.jsonl")
    assert [u.text for u in whole] == ["word one word three", "word zero word two word four"]
    assert [u.id for u in pieces] == ["u1", "u3", "u0", "u2", "u4"]
    assert [p.dialogue for p in pieces] == [whole[0].id] * 2 + [whole[1].id] * 3
    samples, rate = soundfile.read(whole[1].audio.path, dtype="float32")
    parts = [soundfile.read(p.audio.path, dtype="float32")[0] for p in pieces[2:]]
    assert rate == 16_000 and np.abs(samples - np.concatenate(parts)).max() < 1e-4


def test_the_command_says_what_is_wrong(manifest: Path) -> None:
    text = manifest.read_text()
    manifest.write_text('{"id": "x", "text": "y"}\n' + text)
    (manifest.parent / "3.wav").unlink()
    arguments = [str(manifest), "--out", str(manifest.parent / "out"), "--seconds", "1.2"]
    result = CliRunner().invoke(join_recordings.app, arguments)
    assert result.exit_code == 1 and "line 1: id, text, speaker" in result.stderr
    assert "joined-000 left out" in result.stderr and "1 recordings" in result.stdout
    result = CliRunner().invoke(join_recordings.app, [str(manifest), "--out", str(manifest.parent), "--seconds", "99"])
    assert result.exit_code == 2 and "fewer --seconds" in result.stderr
