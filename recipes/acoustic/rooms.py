"""Simulated rooms: impulse responses of the image method with a diffuse tail."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from asr.audio import SAMPLE_RATE, Samples

Vector = npt.NDArray[np.float64]
SOUND = 343.0
"""Metres a second."""
_EARLY_S = 0.05
"""Reflections that arrive within this after the direct sound are images, the later ones noise."""
_ORDER = 3
"""Rooms mirrored in each direction and dimension: enough for all that arrives early in all but the narrowest."""


def room_response(rng: np.random.Generator) -> Samples:
    """(n,) impulse response at 16 kHz of a random room of 15 to 290 m³, the direct sound first and of height 1.

    Early reflections are images of the source in six equally absorbing walls (Allen and Berkley 1979); what comes later
    is Gaussian noise that decays by 60 dB in the reverberation time, as loud as the diffuse field of the room (Lehmann
    and Johansson 2010; levels by the critical distance, Kuttruff, "Room Acoustics", section 5.1). Reverberation times
    of 0.15 to 0.8 s, distances to the microphone of 0.3 m to 5 m.
    """
    size = rng.uniform([2.8, 2.5, 2.2], [9.0, 8.0, 4.0])
    decay_s = rng.uniform(0.15, 0.8)
    volume, walls = size.prod(), 2 * (size * np.roll(size, 1)).sum()
    absorbed = 1 - np.exp(-0.161 * volume / (walls * decay_s))  # Eyring's formula
    microphone = rng.uniform(0.3, size - 0.3)
    direction = rng.standard_normal(3)
    source = microphone + direction / np.linalg.norm(direction) * rng.uniform(0.3, 5.0)
    source = source.clip(0.3, size - 0.3)
    distance = max(0.1, float(np.linalg.norm(source - microphone)))

    length = int((_EARLY_S + decay_s) * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    reverberant = 16 * np.pi * distance**2 * (1 - absorbed) / (walls * absorbed)
    rate = 6 * np.log(10) / decay_s
    power = reverberant * rate / SAMPLE_RATE * np.exp(-rate * (time + distance / SOUND))
    response = np.where(time < _EARLY_S, 0.0, rng.standard_normal(length) * np.sqrt(power))

    delay, height = _images(size, source, microphone, distance, np.sqrt(1 - absorbed))
    early = (delay > 0) & (delay < _EARLY_S)
    np.add.at(response, (delay[early] * SAMPLE_RATE).astype(int), height[early])
    response[0] = 1.0
    return response.astype(np.float32)


def _images(
    size: Vector, source: Vector, microphone: Vector, distance: float, reflected: float
) -> tuple[Vector, Vector]:
    """Seconds after the direct sound, and height beside its, of every image of the source up to `_ORDER` rooms away."""
    rooms = np.arange(-_ORDER, _ORDER + 1)
    along, walls_hit = [], []
    for axis in range(3):
        offset = [(1 - 2 * p) * source[axis] + 2 * rooms * size[axis] - microphone[axis] for p in (0, 1)]
        along.append(np.concatenate(offset) ** 2)
        walls_hit.append(np.concatenate([np.abs(rooms - p) + np.abs(rooms) for p in (0, 1)]))
    squared = along[0][:, None, None] + along[1][None, :, None] + along[2]
    hits = walls_hit[0][:, None, None] + walls_hit[1][None, :, None] + walls_hit[2]
    far = np.sqrt(squared).clip(0.05).ravel()
    return (far - distance) / SOUND, distance / far * reflected ** hits.ravel()


def convolve(samples: Samples, response: Samples) -> Samples:
    """(n,) samples heard through the response: what comes after their end is cut off, and they stay as loud."""
    whole = -(-(len(samples) + len(response)) // 4096) * 4096  # lengths with large prime factors transform slowly
    heard = np.fft.irfft(np.fft.rfft(samples, whole) * np.fft.rfft(response, whole), whole)[: len(samples)]
    power = np.square(samples, dtype=np.float64).mean() / (np.square(heard, dtype=np.float64).mean() + 1e-20)
    return (heard * np.sqrt(power)).astype(np.float32)
