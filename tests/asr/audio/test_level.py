"""Automatic gain: quiet speech is raised, noise and loud speech are not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import Samples
from asr.audio.features import FeatureStream, features
from asr.audio.level import MOST_DB, Level


def bursts(peak_db: float, noise_db: float = -90.0, seed: int = 0) -> Samples:
    """Two seconds of tones with pauses, over noise; in 16 bits."""
    rng, t = np.random.default_rng(seed), np.arange(32_000) / 16_000
    sound = np.sin(2 * np.pi * 400 * t) * (np.sin(2 * np.pi * 2 * t) > 0.3) * 10 ** (peak_db / 20)
    noise = rng.standard_normal(len(t)) * 10 ** (noise_db / 20)
    return (np.rint((sound + noise) * 32767) / 32768).astype(np.float32)


def features_of(samples: Samples) -> torch.Tensor:
    stream, begun = FeatureStream(block=32, lead=1).accept(samples)
    return torch.cat([begun, stream.flush()[1]])


@pytest.mark.parametrize("peak_db", [-35.0, -45.0, -50.0])
def test_quiet_sounds_have_the_features_of_loud_ones(peak_db: float) -> None:
    assert float((features_of(bursts(peak_db)).amax(-1) - features_of(bursts(-28.0)).amax(-1)).abs().mean()) < 0.05


def test_what_is_loud_enough_is_not_changed_in_a_bit() -> None:
    for samples in (bursts(0.0), bursts(-20.0), bursts(-20.0, noise_db=-40.0)):
        block, level = samples[:5120], Level()
        for start in range(0, len(samples) - len(block), len(block)):
            level = level.after(samples[start : start + len(block)])
            assert level.gain == 1.0


@settings(max_examples=20, deadline=None)
@given(st.floats(-85, -10), st.integers(0, 99))
def test_steady_noise_is_not_raised(noise_db: float, seed: int) -> None:
    noise, level = np.random.default_rng(seed).standard_normal(80_000) * 10 ** (noise_db / 20), Level()
    for block in np.split(noise.astype(np.float32), 16):
        level = level.after(block)
        assert level.gain == 1.0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 9000), max_size=8), st.sampled_from([-50.0, -38.0, -20.0]))
def test_gains_do_not_depend_on_how_samples_arrive(cuts: list[int], peak_db: float) -> None:
    samples = bursts(peak_db, noise_db=-70.0)
    stream, parts = FeatureStream(block=32, lead=1), []
    for piece in np.split(samples, np.clip(np.cumsum(cuts), 0, len(samples))):
        stream, part = stream.accept(piece)
        parts.append(part)
    assert torch.equal(torch.cat([*parts, stream.flush()[1]]), features_of(samples))


def test_gains_have_a_bound_and_digital_silence_none() -> None:
    level = Level().after(np.zeros(5120, np.float32))
    assert level == Level() and level.gain == 1.0
    assert level.after(bursts(-74.0)[:5120]).gain == pytest.approx(10 ** (MOST_DB / 20))


def test_the_gain_falls_at_once_for_louder_speech_and_rises_in_seconds_for_quieter() -> None:
    quiet, loud = bursts(-50.0), bursts(-10.0)
    level = Level().after(quiet[:5120])
    assert level.gain > 5
    level = level.after(loud[:5120])
    assert level.gain == 1.0
    for _ in range(18):  # six seconds
        level = level.after(quiet[:5120])
    assert level.gain > 5


def test_a_recording_as_a_whole_is_raised_too() -> None:
    assert float(features(bursts(-50.0)).amax()) > float(features(bursts(-80.0)).amax())
