"""Features: the same however the samples arrive, and the same as Whisper's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.features import FLOOR, FeatureStream, features, log_mel, loudness
from asr.audio.mel import mel_filters
from tests.support.torchaudio_pair import need_torchaudio


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 9000),
    st.lists(st.integers(0, 1200), max_size=10),
    st.sampled_from([(4, 0), (8, 1), (16, 0), (32, 1)]),
)
def test_features_have_no_seam(count: int, cuts: list[int], shape: tuple[int, int]) -> None:
    samples = np.random.default_rng(count).standard_normal(count).astype(np.float32) * 0.1
    block, lead = shape
    begun, parts = FeatureStream(log_mel, block, lead), []
    stream = begun
    for piece in np.split(samples, np.clip(np.cumsum(cuts), 0, count)):
        stream, part = stream.accept(piece)
        parts.append(part)
    found = torch.cat([*parts, stream.flush()[1]])
    whole, first = begun.accept(samples)  # the stream before is a value: it is as it was
    assert torch.equal(found, torch.cat([first, whole.flush()[1]]))
    assert not count or len(found) % block == lead
    expected = features(samples)
    assert len(found) * 160 >= count and torch.allclose(found[: len(expected)], expected[: len(found)], atol=1e-5)


def test_every_sample_is_in_a_frame() -> None:
    for count in (1, 159, 160, 640, 641, 16_000):
        frames = len(features(np.zeros(count, np.float32)))
        assert frames % 4 == 0 and frames * 160 >= count > (frames - 4) * 160


def test_agrees_with_a_transform_of_the_whole() -> None:
    samples = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    whole = log_mel(torch.nn.functional.pad(torch.from_numpy(samples), (200, 40)))
    assert torch.allclose(features(samples)[:99], whole[:99], atol=1e-5)


def test_silence_is_the_floor_and_a_tone_is_its_band() -> None:
    assert torch.allclose(features(np.zeros(1600, np.float32)), torch.tensor(np.log10(FLOOR) / 4 + 1).float())
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    bands = features(tone)[50]
    assert 20 < int(bands.argmax()) < 32  # 1 kHz is in the lower third of 80 mel bands


def test_loudness_is_in_decibels() -> None:
    tone = np.sin(np.arange(1600) / 3).astype(np.float32)
    louder = loudness(features(tone)) - loudness(features(0.1 * tone))
    torch.testing.assert_close(louder, torch.full_like(louder, 20.0), atol=0.01, rtol=0)


def test_same_as_whispers_up_to_the_floor() -> None:
    """Radford et al. 2022: hann window, 400/160, slaney bank, (log10 + 4) / 4."""
    samples = torch.from_numpy(np.random.default_rng(2).standard_normal(8000).astype(np.float32))
    stft = torch.stft(samples, 400, 160, window=torch.hann_window(400), return_complex=True)[..., :-1].abs() ** 2
    bank = mel_filters(201, 80, 16_000)
    expected = ((stft.T @ bank).clamp(min=1e-10).log10() + 4) / 4
    ours = features(samples.numpy())
    assert torch.allclose(ours[2:48], expected[2:48], atol=1e-4)  # the edges are padded differently


@pytest.mark.parametrize(("bins", "mels", "rate"), [(201, 80, 16_000), (201, 128, 16_000), (129, 23, 8000)])
def test_the_filters_are_torchaudios_bit_for_bit(bins: int, mels: int, rate: int) -> None:
    theirs = need_torchaudio().functional.melscale_fbanks(
        bins, 0.0, rate / 2, mels, rate, norm="slaney", mel_scale="slaney"
    )
    assert torch.equal(mel_filters(bins, mels, rate).view(torch.int32), theirs.view(torch.int32))


def test_the_filters_are_those_that_the_models_were_trained_with() -> None:
    """As torchaudio 2.11.0 computed them, where it is not installed too."""
    bank = mel_filters(201, 80, 16_000)
    assert bank.shape == (201, 80) and bank.dtype == torch.float32
    values = [float(bank[at]) for at in ((1, 0), (2, 1), (31, 32), (199, 79))]
    recorded = [0.02486259490251541, 0.022871768102049828, 0.009250405244529247, 0.0004487370024435222]
    assert values == pytest.approx(recorded, rel=1e-6)
    assert float(bank.double().sum()) == pytest.approx(1.999024099612143, rel=1e-7)
