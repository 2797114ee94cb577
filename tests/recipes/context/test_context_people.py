"""Follow-ups of people's recordings, for training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import Samples
from recipes.context.lists import read_samples
from recipes.context.people import read_people


@pytest.fixture
def manifest(tmp_path: Path, speech: Samples) -> Path:
    soundfile.write(tmp_path / "a.wav", speech, 16_000, subtype="FLOAT")
    lines = []
    for i, name in enumerate(["bauer", "jones", "okafor", "rivera"]):
        entities = [{"signal": "contacts", "text": t} for t in (name, f"sound alike {i}")]
        context = {"turns": [{"speaker": "system", "text": f"Do you mean {name}?"}], "entities": entities}
        lines.append({"id": f"c/{i}", "audio": {"path": "a.wav"}, "text": name, "target": name, "set": "answer",
                      "context": context})  # fmt: skip
    path = tmp_path / "people.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_people_are_drawn_with_the_contexts_of_evaluation(manifest: Path) -> None:
    some, all_ = read_people(manifest, 3, noisy=True), read_people(manifest, 10, noisy=True)
    assert len(some.rows) == 3
    assert set(some.rows) < set(all_.rows)
    for row in all_.rows:
        assert row.set == "people answer"
        assert "/" not in row.id
        contexts = all_.contexts[row.id]
        assert contexts["relevant"] is row.context or contexts["relevant"] == row.context
        assert row.text not in str(contexts["irrelevant"])
        assert row.text not in str(contexts["anti"])
        assert "sound alike" in contexts["anti"].turns[0].text


def test_noise_is_the_same_whenever_it_is_heard_and_as_loud_as_said(manifest: Path, speech: Samples) -> None:
    clean = {r.id: read_samples(r, Path())[0] for r in read_people(manifest, 4, noisy=False).rows}
    for row in read_people(manifest, 4, noisy=True).rows:
        assert row.noise_db is not None
        assert 5 <= row.noise_db <= 25
        noisy, rate = read_samples(row, Path())
        assert rate == 16_000
        assert np.array_equal(noisy, read_samples(row, Path())[0])
        noise = noisy - clean[row.id]
        ratio = 10 * np.log10(np.mean(np.square(clean[row.id])) / np.var(noise))  # a constant offset is not heard
        assert ratio == pytest.approx(row.noise_db, abs=0.2)
