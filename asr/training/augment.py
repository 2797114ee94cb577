"""Augmentation on the fly: speed, level, noise, narrow band, SpecAugment (Park et al. 2019)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from asr.audio import Samples


def change_speed(samples: Samples, factor: float) -> Samples:
    """Faster and higher by `factor`, by linear interpolation."""
    count = max(1, int(len(samples) / factor))
    return np.interp(np.arange(count) * factor, np.arange(len(samples)), samples).astype(np.float32)


def coloured_noise(count: int, slope: float, rng: np.random.Generator) -> Samples:
    """Noise of unit power whose spectrum falls as 1 / f^slope (0 white, 1 pink, 2 brown)."""
    whole = -(-count // 4096) * 4096  # lengths with large prime factors transform slowly
    spectrum = np.fft.rfft(rng.standard_normal(whole))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** (slope / 2)
    noise = np.fft.irfft(spectrum, whole)[:count]
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


def augment(samples: Samples, babble: Samples, rng: np.random.Generator) -> Samples:
    """One random rendering of an utterance; `babble` is another utterance, mixed in now and then."""
    if rng.random() < 0.6:
        samples = change_speed(samples, rng.uniform(0.88, 1.14))
    before, after = (int(rng.uniform(0, s) * 16_000) for s in (0.3, 0.6))
    samples = np.pad(samples, (before, after))
    power = float(np.sqrt(np.mean(np.square(samples))) + 1e-6)
    if rng.random() < 0.5:
        noise = coloured_noise(len(samples), rng.uniform(0, 2), rng)
        samples = samples + noise * power * 10 ** (-rng.uniform(8, 35) / 20)
    if rng.random() < 0.15:
        other = np.resize(babble, len(samples))
        samples = samples + other * power / (float(other.std()) + 1e-6) * 10 ** (-rng.uniform(10, 25) / 20)
    peak = float(np.abs(samples).max()) + 1e-6
    return (samples / peak * 10 ** (-rng.uniform(0, 24) / 20)).astype(np.float32)


def mask_features(features: Tensor, lengths: Tensor, rng: np.random.Generator) -> Tensor:
    """SpecAugment and, for one in eight, a telephone's band; features (B, F, 80), lengths (B,) in frames."""
    features = features.clone()
    for row, length in zip(features, lengths.tolist(), strict=True):
        if rng.random() < 0.125:
            row[:, 62:] = -0.5  # above 4 kHz
        for _ in range(2):
            width = int(rng.integers(0, 20))
            start = int(rng.integers(0, row.shape[1] - width))
            row[:, start : start + width] = -0.5
        for _ in range(1 + length // 250):
            width = int(rng.integers(0, min(30, max(2, length // 8))))
            start = int(rng.integers(0, max(1, length - width)))
            row[start : start + width] = -0.5
    return features


def collate(waves: list[Samples], tail: int = 3200) -> tuple[Tensor, Tensor]:
    """Pads to (B, n) with half a window of silence in front and a tail behind, and feature lengths in frames.

    n fits a number of feature frames that is a multiple of 4.
    """
    longest = max(map(len, waves))
    frames = -(-(longest + tail) // 640) * 4
    out = torch.stack([F.pad(torch.from_numpy(w), (200, frames * 160 + 40 - len(w))) for w in waves])
    return out, torch.tensor([-(-(len(w) + tail) // 640) * 4 for w in waves])
