"""Sounds that nobody speaks, for training."""

import numpy as np
import pytest
import torch

from recipes.acoustic import sounds
from recipes.acoustic.losses import band_starts
from tests.support.torchaudio_pair import need_torchaudio

KINDS = [sounds.tones, sounds.dual_tones, sounds.hum, sounds.sweep, sounds.ring, sounds.chimes, sounds.melody,
         sounds.rhythm, sounds.clicks, sounds.machine]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_sounds_and_no_two_alike(kind: object) -> None:
    for count in (64_000, 81_111):
        one, other = (kind(count, np.random.default_rng(seed)) for seed in (1, 2))  # type: ignore[operator]
        assert one.shape == (count,) and np.isfinite(one).all() and np.isfinite(other).all()
        assert np.abs(one).max() > 0 and not np.array_equal(one, other)


def test_a_sound_is_the_seeds_and_has_a_peak_of_one() -> None:
    def voice() -> np.ndarray:
        return np.sin(np.arange(3000) / 9).astype(np.float32)

    for seed in range(30):
        one, again = (sounds.draw_sound(16_000, voice, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one, again) and one.dtype == np.float32
        assert np.abs(one).max() == pytest.approx(1.0, abs=1e-5)


def test_an_utterance_without_words_has_its_band_at_the_start() -> None:
    need_torchaudio()
    scores = torch.randn(2, 9, 5).log_softmax(-1)
    starts = band_starts(scores, torch.tensor([[1, 2], [0, 0]]), torch.tensor([9, 7]), torch.tensor([2, 0]), 0, 4)
    assert not starts[1].any()
