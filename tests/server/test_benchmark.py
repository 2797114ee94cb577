from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from server.benchmark import Clip, Waits
from server.commands.benchmark_server import app


def test_a_clip_ends_with_its_speech_and_knows_where_it_begins() -> None:
    speech = np.sin(np.arange(8000) / 5).astype(np.float32)
    quiet = np.full(4000, 0.001, np.float32)
    clip = Clip.of(np.concatenate([quiet, speech, quiet]), 8000)
    assert clip.starts_s == pytest.approx(0.5, abs=0.02)
    assert len(clip.samples) == pytest.approx(12_000, abs=200)


def test_silence_is_a_clip_too() -> None:
    assert len(Clip.of(np.zeros(800, np.float32), 8000).samples) == 800


def test_the_summary_has_percentiles_of_both_waits() -> None:
    summary = Waits([3.0, 1.0, 2.0], [float(i) for i in range(101)]).summary()
    assert summary["first_partial_ms"]["p50"] == 2.0
    assert summary["final_ms"] == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert summary["utterances"] == 101
    assert json.loads(json.dumps(Waits().summary()))["final_ms"] == {"p50": None, "p95": None, "p99": None}


@pytest.mark.parametrize("streams", ["", "0", "1,x", "-3"])
def test_numbers_of_streams_that_cannot_be(streams: str) -> None:
    result = CliRunner().invoke(app, [f"--streams={streams}"])
    assert result.exit_code == 1 and "--streams takes numbers" in result.stderr
