"""The server's benchmark."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.server.benchmark_server import app
from benchmarks.server.waits import Clip, Waits, ratio_of_p99


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
    assert summary["utterances"] == 101 and summary["second_pass_share"] is None
    assert Waits(finals=8, second_passes=7).summary()["second_pass_share"] == 0.875
    assert json.loads(json.dumps(Waits().summary()))["final_ms"] == {"p50": None, "p95": None, "p99": None}


def test_the_ratio_of_two_p99s_has_an_interval() -> None:
    waits = np.random.default_rng(1).normal(100, 10, 400).tolist()
    same, twice = ratio_of_p99(waits, waits), ratio_of_p99([2 * wait for wait in waits], waits)
    assert same and same["low"] < same["ratio"] == 1.0 < same["high"]
    assert twice and 1.5 < twice["low"] < twice["ratio"] == 2.0 < twice["high"]
    assert ratio_of_p99([], waits) is None


@pytest.mark.parametrize("streams", ["", "0", "1,x", "-3"])
def test_numbers_of_streams_that_cannot_be(streams: str) -> None:
    result = CliRunner().invoke(app, [f"--streams={streams}"])
    assert result.exit_code == 2 and "--streams takes numbers" in result.stderr
