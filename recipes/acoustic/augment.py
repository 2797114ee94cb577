"""Augmentation on the fly: speed, rooms, noise, babble, level, connections, SpecAugment (Park et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from asr.acoustic.encoder import LOOKAHEAD
from asr.audio import Samples
from asr.audio.features import HOP, MELS, SILENCE, WINDOW, FeatureStream
from recipes.acoustic.channels import draw_channel, transmit
from recipes.acoustic.rooms import convolve, room_response
from recipes.acoustic.sounds import draw_sound

BLOCK = 32
"""Feature frames that a stream reads at once."""


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


def babble(count: int, draw: Callable[[], Samples], rng: np.random.Generator) -> Samples:
    """(count,) of unit power: one to five utterances of `draw` that talk at once, each repeated to fill it."""
    mixed = np.zeros(count, np.float32)
    for _ in range(rng.integers(1, 6)):
        voice = draw()
        voice = np.roll(np.resize(voice, count), int(rng.integers(count)))
        mixed += voice / (_rms(voice) + 1e-6) * 10 ** (-rng.uniform(0, 6) / 20)
    return mixed / (_rms(mixed) + 1e-6)


def augment(samples: Samples, draw: Callable[[], Samples], rng: np.random.Generator) -> Samples:
    """One random rendering of an utterance: speed, a room, noise, babble, sounds, level and a connection, now and then.

    Args:
        draw: gives another utterance each time, for babble.
    """
    if rng.random() < 0.6:
        samples = change_speed(samples, rng.uniform(0.88, 1.14))
    before, after = (int(rng.uniform(0, s) * 16_000) for s in (0.3, 0.6))
    samples = np.pad(samples, (before, after))
    if rng.random() < 0.3:
        samples = convolve(samples, room_response(rng))
    power = _rms(samples) + 1e-6
    if rng.random() < 0.5:
        noise = coloured_noise(len(samples), rng.uniform(0, 2), rng)
        samples = samples + noise * power * 10 ** (-rng.uniform(8, 35) / 20)
    if rng.random() < 0.2:
        samples = samples + babble(len(samples), draw, rng) * power * 10 ** (-rng.uniform(8, 25) / 20)
    if rng.random() < 0.1:
        sound = draw_sound(len(samples), draw, rng)
        samples = samples + sound * (power / (_rms(sound) + 1e-6)) * 10 ** (-rng.uniform(10, 30) / 20)
    return recorded(samples, rng)


def recorded(samples: Samples, rng: np.random.Generator) -> Samples:
    """At some level, a peak of 0 to -24 dBFS or, one in five, to -50, in 16 bits; now and then over a connection."""
    peak = float(np.abs(samples).max()) + 1e-6
    level = rng.uniform(24, 50) if rng.random() < 0.2 else rng.uniform(0, 24)
    samples = (np.rint(samples / peak * 10 ** (-level / 20) * 32767) / 32768).astype(np.float32)
    return transmit(samples, draw_channel(rng), rng) if rng.random() < 0.2 else samples


def _rms(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def mask_features(features: Tensor, lengths: Tensor, rng: np.random.Generator) -> Tensor:
    """SpecAugment; features (B, F, 80), lengths (B,) in frames."""
    features = features.clone()
    for row, length in zip(features, lengths.tolist(), strict=True):
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
    """Features as a stream's (`FeatureStream`), each with a tail of silence behind: (B, F, 80), F a multiple of 4, and
    each one's frames, (B,)."""
    lengths = torch.tensor([-(-(len(w) + tail) // 640) * 4 for w in waves])
    out = torch.full((len(waves), int(lengths.max()), MELS), SILENCE)
    for row, wave, length in zip(out, waves, lengths.tolist(), strict=True):
        stream = FeatureStream(block=BLOCK, lead=LOOKAHEAD)
        row[:length] = stream.accept(np.pad(wave, (0, (length + BLOCK) * HOP - len(wave) + WINDOW)))[1][:length]
    return out, lengths
