"""Samples: decoding, checks, resampling."""

import io
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import Resampler, check_samples, decode_pcm, read_container
from asr.errors import AudioError


def test_linear16_scale() -> None:
    assert decode_pcm(np.array([0, 16384, -32768], "<i2").tobytes(), "LINEAR16").tolist() == [0.0, 0.5, -1.0]


@pytest.mark.parametrize(
    ("encoding", "values"),
    [
        ("MULAW", {0x00: -32124, 0x80: 32124, 0xFF: 0, 0x7F: 0, 0xF0: 120}),
        ("ALAW", {0x2A: -32256, 0xAA: 32256, 0x55: -8, 0xD5: 8, 0xC5: 264}),
    ],
)
def test_companded_codes(encoding: str, values: dict[int, int]) -> None:
    """ITU-T G.711: the ends of both laws, and what is next to silence."""
    assert (32768 * decode_pcm(bytes(values), encoding)).tolist() == list(values.values())


@pytest.mark.parametrize(
    ("data", "encoding", "says"),
    [
        (b"123", "LINEAR16", "whole LINEAR16 samples"),
        (b"12345", "FLOAT32", "whole FLOAT32 samples"),
        (np.array([np.nan], "<f4").tobytes(), "FLOAT32", "NaN"),
        (b"", "MP3", "use one of"),
    ],
)
def test_bad_pcm_says_what_to_change(data: bytes, encoding: str, says: str) -> None:
    with pytest.raises(AudioError, match=says):
        decode_pcm(data, encoding)


@pytest.mark.parametrize("fmt", ["WAV", "FLAC"])
def test_containers_are_mixed_to_mono(fmt: str) -> None:
    sound = np.sin(np.arange(800))
    stereo = np.stack([0.5 * sound, 0.25 * sound], 1).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, stereo, 22_050, format=fmt)
    samples, rate = read_container(file.getvalue())
    assert rate == 22_050 and samples.shape == (800,)
    assert np.allclose(samples, 0.375 * sound, atol=1e-4)


def test_not_a_container() -> None:
    with pytest.raises(AudioError, match="WAV, FLAC or Ogg"):
        read_container(b"RIFF no")


@pytest.mark.parametrize("rate", [0, 7999, 48001, -1])
def test_impossible_rates(rate: int) -> None:
    with pytest.raises(AudioError, match="8000 to 48000"):
        Resampler.start(rate)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([8000, 11_025, 22_050, 44_100, 48_000]), st.lists(st.integers(0, 3000), max_size=8))
def test_resampling_does_not_depend_on_the_cut(rate: int, cuts: list[int]) -> None:
    samples = np.random.default_rng(1).standard_normal(6000).astype(np.float32)

    def run(parts: list[np.ndarray]) -> np.ndarray:
        resampler, converted = Resampler.start(rate), []
        for part in parts:
            resampler, more = resampler.accept(part)
            converted.append(more)
        return np.concatenate([*converted, resampler.flush()[1]])

    whole = run([samples])
    assert np.array_equal(whole, run(np.split(samples, np.clip(np.cumsum(cuts), 0, 6000))))
    assert abs(len(whole) - 6000 * 16_000 / rate) < 2


def test_a_resampler_goes_on_once_or_with_the_same_samples() -> None:
    """Of libsoxr's state there is one: going on from an older one with others would mix two streams."""
    begun, noise = Resampler.start(8000), np.random.default_rng(1).standard_normal(1600).astype(np.float32)
    after, first = begun.accept(noise[:800])
    again, same = begun.accept(noise[:800])
    assert again == replace(after, rest=again.rest) and np.array_equal(first, same)
    for other in (lambda: begun.accept(noise[800:]), begun.flush):
        with pytest.raises(ValueError, match="newest state"):
            other()
    second, more = again.accept(noise[800:])
    with pytest.raises(ValueError, match="newest state"):
        begun.accept(noise[:800])
    whole = Resampler.start(8000).accept(noise)[1]
    assert np.array_equal(whole, np.concatenate([first, more])) and second.calls == 2


def test_samples_must_be_mono_float32() -> None:
    with pytest.raises(AudioError, match="mono float32"):
        check_samples(np.zeros((2, 2), np.float32))
    with pytest.raises(AudioError, match="mono float32"):
        check_samples(np.zeros(2))  # type: ignore[arg-type]
