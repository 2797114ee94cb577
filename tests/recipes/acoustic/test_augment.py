"""Augmentation: rooms, connections, babble, and all of it together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import SAMPLE_RATE, Samples
from recipes.acoustic.augment import augment, babble, coloured_noise
from recipes.acoustic.channels import CHANNELS, NARROW, Channel, draw_channel, transmit
from recipes.acoustic.rooms import convolve, room_response

seeds = st.integers(0, 2**31)
few = settings(max_examples=12, deadline=None)


def voice(seed: int, count: int = SAMPLE_RATE) -> Samples:
    """Something like speech: a gliding tone that comes and goes, and a little noise."""
    rng, t = np.random.default_rng(seed), np.arange(count) / SAMPLE_RATE
    tone = np.sin(2 * np.pi * (rng.uniform(150, 400) + 300 * t) * t) * (np.sin(2 * np.pi * 3 * t) > -0.3)
    return (0.3 * tone + 0.01 * rng.standard_normal(count)).astype(np.float32)


def lag(before: Samples, after: Samples) -> int:
    """By how many samples `after` follows `before`, where the two are most alike."""
    size = 2 * max(len(before), len(after))
    likeness = np.fft.irfft(np.fft.rfft(after, size) * np.fft.rfft(before, size).conj(), size)
    at = int(likeness.argmax())
    return at if at < size // 2 else at - size


@few
@given(seed=seeds)
def test_rooms_begin_with_the_direct_sound_and_decay(seed: int) -> None:
    response = room_response(np.random.default_rng(seed))
    assert response.dtype == np.float32 and np.isfinite(response).all() and response[0] == 1
    assert 0.2 * SAMPLE_RATE <= len(response) <= 0.85 * SAMPLE_RATE
    left = np.square(response[::-1].astype(np.float64)).cumsum()[::-1]  # Schroeder 1965
    half = len(response) // 2
    assert 10 * np.log10(left[half] / left[0]) < -20  # half of the reverberation time is 30 dB, less the early part
    assert np.array_equal(response, room_response(np.random.default_rng(seed)))


def test_reverberation_takes_as_long_as_the_room_says() -> None:
    """The slope of the decay, of all rooms together, is that of their reverberation times."""
    ratios = []
    for seed in range(40):
        response = room_response(np.random.default_rng(seed))
        wanted = len(response) / SAMPLE_RATE - 0.05
        left = 10 * np.log10(np.square(response[::-1].astype(np.float64)).cumsum()[::-1])
        first, last = (left < left[800] - 5).argmax(), (left < left[800] - 25).argmax()
        ratios.append(3 * (last - first) / SAMPLE_RATE / wanted)
    assert 0.85 < np.median(ratios) < 1.1


@few
@given(seed=seeds)
def test_rooms_keep_level_length_and_time(seed: int) -> None:
    dry, response = voice(seed), room_response(np.random.default_rng(seed))
    wet = convolve(dry, response)
    assert wet.shape == dry.shape and wet.dtype == np.float32
    assert np.isclose(np.square(wet).mean(), np.square(dry).mean(), rtol=1e-3)
    silent = convolve(np.zeros(100, np.float32), response)
    assert not silent.any()


def test_convolution_is_convolution() -> None:
    dry, response = voice(1, 3000), np.array([1, 0, -0.5, 0.25], np.float32)
    plain = np.convolve(dry, response)[:3000]
    wet = convolve(dry, response)
    assert np.allclose(wet / np.abs(wet).max(), plain / np.abs(plain).max(), atol=1e-4)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: f"{c.codec}-{c.rate}")
@pytest.mark.parametrize("count", [1, 333, SAMPLE_RATE])
def test_connections_keep_length_and_time(channel: Channel, count: int) -> None:
    sent = voice(count, count)
    heard = transmit(sent, channel, np.random.default_rng(0))
    assert heard.shape == sent.shape and heard.dtype == np.float32 and np.isfinite(heard).all()
    assert np.array_equal(heard, transmit(sent, channel, np.random.default_rng(0)))
    if count == SAMPLE_RATE:
        assert lag(sent, heard) == 0 and np.corrcoef(sent, heard)[0, 1] > 0.9 and not np.array_equal(sent, heard)
        if channel.rate == NARROW:
            spectrum = np.abs(np.fft.rfft(heard)) ** 2
            assert spectrum[4200:].sum() < 1e-3 * spectrum.sum()


def test_each_connection_is_drawn_by_its_share() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_channel(rng) for _ in range(2000)]
    for channel in CHANNELS:
        share = channel.share / sum(c.share for c in CHANNELS)
        assert abs(drawn.count(channel) / 2000 - share) < 0.04


@few
@given(seed=seeds)
def test_babble_is_many_voices_at_one_level(seed: int) -> None:
    rng, asked = np.random.default_rng(seed), list[Samples]()

    def draw() -> Samples:
        asked.append(voice(seed + len(asked), 5000))
        return asked[-1]

    mixed = babble(7000, draw, rng)
    assert mixed.shape == (7000,) and 1 <= len(asked) <= 5
    assert np.isclose(np.square(mixed).mean(), 1, rtol=1e-2)


@few
@given(seed=seeds, count=st.integers(400, 20_000))
def test_augmentation_is_the_seeds_and_keeps_the_level_in_range(seed: int, count: int) -> None:
    def once() -> Samples:
        rng = np.random.default_rng(seed)
        return augment(voice(seed, count), lambda: coloured_noise(900, 1.0, rng), rng)

    out = once()
    assert np.isfinite(out).all() and 0.002 < np.abs(out).max() <= 1.5 and out.dtype == np.float32
    assert count / 1.15 <= len(out) <= count / 0.88 + 0.9 * SAMPLE_RATE
    assert np.array_equal(out, once())


def test_augmentation_does_something_else_each_time() -> None:
    rng = np.random.default_rng(0)
    heard = {augment(voice(1), lambda: voice(2), rng).tobytes() for _ in range(12)}
    assert len(heard) == 12
