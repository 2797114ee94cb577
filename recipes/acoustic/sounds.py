"""Sounds that nobody speaks: tones, rings, chimes, music, keys, machines and voices in the background.

Every sound is drawn anew, with its own pitches, rhythm and loudness over time, so that a model that hears them with an
empty text learns the kinds and not the recordings. Mixed under speech, they keep it from taking a tone for silence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from asr.audio import SAMPLE_RATE, Samples

Rng = np.random.Generator
_Wave = npt.NDArray[np.float64]


def draw_sound(count: int, draw: Callable[[], Samples], rng: Rng) -> Samples:
    """(count,) samples of one of the kinds, or of two at once, with a peak of 1.

    Args:
        draw: gives another recording of speech each time, for voices in the background.
    """
    kinds = [tones, tones, dual_tones, hum, sweep, ring, chimes, melody, melody, rhythm, clicks, machine]
    sound = np.zeros(count)
    for _ in range(1 + int(rng.random() < 0.2)):
        kind = int(rng.integers(len(kinds) + 2))
        one = kinds[kind](count, rng) if kind < len(kinds) else crowd(count, draw, rng)
        sound += one / (np.abs(one).max() + 1e-9) * rng.uniform(0.3, 1.0)
    return (sound / (np.abs(sound).max() + 1e-9)).astype(np.float32)


def tones(count: int, rng: Rng) -> _Wave:
    """One to four steady tones, held or switched on and off: dial tones, busy signals, beeps, alarms."""
    t = np.arange(count) / SAMPLE_RATE
    wave = np.zeros(count)
    for _ in range(rng.integers(1, 5)):
        wave += rng.uniform(0.3, 1) * np.sin(2 * np.pi * (_pitch(rng, 80, 4000) * t + rng.random()))
    return wave * _switched(count, rng) if rng.random() < 0.7 else wave


def dual_tones(count: int, rng: Rng) -> _Wave:
    """Keys of a telephone, or pairs like them, at the pace of fingers or of a machine."""
    wave, at = np.zeros(count), 0
    low, high = _jittered((697, 770, 852, 941), rng), _jittered((1209, 1336, 1477, 1633), rng)
    on, off = rng.uniform(0.04, 0.4), rng.uniform(0.04, 0.6)
    while at < count:
        n = int(on * rng.uniform(0.7, 1.3) * SAMPLE_RATE)
        t = np.arange(min(n, count - at)) / SAMPLE_RATE
        wave[at : at + n] = np.sin(2 * np.pi * rng.choice(low) * t) + np.sin(2 * np.pi * rng.choice(high) * t)
        at += n + int(off * rng.uniform(0.7, 1.3) * SAMPLE_RATE)
    return wave


def hum(count: int, rng: Rng) -> _Wave:
    """The mains and its harmonics."""
    t, base = np.arange(count) / SAMPLE_RATE, rng.choice((50.0, 60.0)) * rng.uniform(0.97, 1.03)
    tilt = rng.uniform(0.3, 2)
    return np.sum([np.sin(2 * np.pi * (base * k * t + rng.random())) / k**tilt for k in range(1, 12)], axis=0)


def sweep(count: int, rng: Rng) -> _Wave:
    """A tone that glides up and down: sirens, modems, feedback."""
    t = np.arange(count) / SAMPLE_RATE
    middle, rate, width = _pitch(rng, 200, 2500), rng.uniform(0.1, 8), rng.uniform(0.05, 0.6)
    frequency = middle * (1 + width * _shape(rng)(2 * np.pi * rate * t))
    return np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE) * _switched(count, rng)


def ring(count: int, rng: Rng) -> _Wave:
    """A telephone: tones that tremble, with pauses."""
    t = np.arange(count) / SAMPLE_RATE
    tremble = 0.5 + 0.5 * _shape(rng)(2 * np.pi * rng.uniform(8, 40) * t)
    wave = sum(np.sin(2 * np.pi * _pitch(rng, 350, 3000) * t) for _ in range(rng.integers(1, 4)))
    return np.asarray(wave * tremble * _switched(count, rng, rng.uniform(0.3, 2), rng.uniform(0.2, 3)))


def chimes(count: int, rng: Rng) -> _Wave:
    """Struck bells: partials that are no harmonics, each dying away."""

    def bell(pitch: float, n: int) -> _Wave:
        t = np.arange(n) / SAMPLE_RATE
        partials = np.cumprod(np.concatenate([[1.0], rng.uniform(1.1, 2.2, rng.integers(2, 6))]))
        return np.sum([
            rng.uniform(0.2, 1) * np.sin(2 * np.pi * pitch * p * t) * np.exp(-t * rng.uniform(1, 9) * p**0.5)
            for p in partials if pitch * p < 7500
        ], axis=0)  # fmt: skip

    return _played(count, bell, rng, rng.uniform(0.15, 2))


def melody(count: int, rng: Rng) -> _Wave:
    """Plucked strings, reeds and pipes, one note or a chord at a time."""
    pluck, bright = rng.random() < 0.5, rng.uniform(0.5, 2.5)

    def note(pitch: float, n: int) -> _Wave:
        t = np.arange(n) / SAMPLE_RATE
        most = max(1, min(20, int(7000 / pitch)))
        decay = rng.uniform(1, 8) if pluck else 0.0
        vibrato = rng.uniform(0, 0.006) * np.sin(2 * np.pi * rng.uniform(4, 7) * t) / 5
        wave = np.sum([
            np.sin(2 * np.pi * pitch * k * (t + vibrato) + rng.random()) / k**bright * np.exp(-decay * k**0.7 * t)
            for k in range(1, most + 1)
        ], axis=0)  # fmt: skip
        fade = min(n, int(rng.uniform(0.002, 0.05) * SAMPLE_RATE))
        wave[:fade] *= np.linspace(0, 1, fade)
        wave[n - fade :] *= np.linspace(1, 0, fade)
        return np.asarray(wave)

    wave = _played(count, note, rng, rng.uniform(0.12, 0.9), int(rng.integers(1, 4)))
    return wave + rng.uniform(0, 0.8) * rhythm(count, rng) if rng.random() < 0.4 else wave


def rhythm(count: int, rng: Rng) -> _Wave:
    """Drums: bursts of noise and falling thumps on a beat."""

    def hit(_: float, n: int) -> _Wave:
        t = np.arange(n) / SAMPLE_RATE
        if rng.random() < 0.5:
            return np.asarray(np.sin(2 * np.pi * 60 * (1 + np.exp(-30 * t)) * t) * np.exp(-12 * t))
        return np.asarray(_coloured(n, rng.uniform(-1, 1), rng) * np.exp(-rng.uniform(10, 60) * t))

    return _played(count, hit, rng, rng.uniform(0.1, 0.5))


def clicks(count: int, rng: Rng) -> _Wave:
    """Keys, mice, knocks, cutlery: short bursts through a resonance, in bouts."""
    wave, at = np.zeros(count), 0
    pace, colour, rings = rng.uniform(0.05, 0.7), rng.uniform(-1, 1.5), rng.uniform(30, 400)
    while at < count:
        n = min(count - at, int(0.12 * SAMPLE_RATE))
        t = np.arange(n) / SAMPLE_RATE
        resonance = 1 + rng.uniform(0, 2) * np.sin(2 * np.pi * _pitch(rng, 150, 4000) * t)
        burst = _coloured(n, colour, rng) * resonance * np.exp(-rings * rng.uniform(0.5, 2) * t)
        wave[at : at + n] += rng.uniform(0.2, 1) * burst
        at += int(SAMPLE_RATE * (rng.exponential(pace) + 0.02 + (rng.random() < 0.1) * rng.uniform(0.3, 2)))
    return wave


def machine(count: int, rng: Rng) -> _Wave:
    """A fan, a vacuum cleaner, an engine: noise and harmonics that rise and fall together."""
    t, base = np.arange(count) / SAMPLE_RATE, _pitch(rng, 20, 400)
    phase = 2 * np.pi * np.cumsum(base * (1 + 0.1 * _slow(count, rng))) / SAMPLE_RATE
    turning = np.sum([np.sin(k * phase) / k for k in range(1, 9)], axis=0)
    beat = 1 + rng.uniform(0, 0.8) * np.sin(2 * np.pi * rng.uniform(0.5, 20) * t)
    return np.asarray((rng.uniform(0, 1) * turning + _coloured(count, rng.uniform(0, 2), rng)) * beat)


def crowd(count: int, draw: Callable[[], Samples], rng: Rng) -> _Wave:
    """Six to twelve voices at once, none of them louder than the others: nobody can be followed."""
    wave = np.zeros(count)
    for _ in range(rng.integers(6, 13)):
        voice = np.roll(np.resize(draw().astype(np.float64), count), int(rng.integers(count)))
        wave += voice / (voice.std() + 1e-6)
    return wave


def _pitch(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _jittered(values: tuple[float, ...], rng: Rng) -> _Wave:
    return np.array(values) * rng.uniform(0.9, 1.1)


def _shape(rng: Rng) -> Callable[[_Wave], _Wave]:
    return np.sin if rng.random() < 0.6 else lambda x: np.sign(np.sin(x))


def _switched(count: int, rng: Rng, on: float | None = None, off: float | None = None) -> _Wave:
    """1 and 0 in turns of so many seconds, with soft edges."""
    on, off = on or rng.uniform(0.08, 1.5), off or rng.uniform(0.08, 1.5)
    t = np.arange(count) / SAMPLE_RATE + rng.uniform(0, on + off)
    gate = ((t % (on + off)) < on).astype(np.float64)
    edge = int(rng.uniform(0.001, 0.01) * SAMPLE_RATE)
    return np.convolve(gate, np.full(edge, 1 / edge), "same") if edge > 1 else gate


def _slow(count: int, rng: Rng) -> _Wave:
    """Something that wanders between -1 and 1."""
    points = rng.uniform(-1, 1, 2 + count // SAMPLE_RATE)
    return np.interp(np.linspace(0, len(points) - 1, count), np.arange(len(points)), points)


def _coloured(count: int, slope: float, rng: Rng) -> _Wave:
    """Noise whose spectrum falls as 1 / f^slope, of unit power."""
    whole = 1 << max(1, count - 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(whole)) / np.maximum(np.arange(whole // 2 + 1), 1.0) ** (slope / 2)
    noise = np.fft.irfft(spectrum, whole)[:count]
    return np.asarray(noise / (noise.std() + 1e-9))


def _played(count: int, play: Callable[[float, int], _Wave], rng: Rng, pace: float, voices: int = 1) -> _Wave:
    """Notes of a scale one after the other, `pace` seconds each or a multiple; voices: notes at once."""
    wave, at, root = np.zeros(count), 0, _pitch(rng, 80, 800)
    scale = np.sort(rng.choice(np.arange(25), rng.integers(3, 10), replace=False))
    while at < count:
        step = int(pace * rng.choice((0.5, 1, 1, 1, 2)) * SAMPLE_RATE)
        n = min(count - at, int(step * rng.uniform(0.6, 2.5)) + 1)
        for _ in range(voices):
            wave[at : at + n] += rng.uniform(0.4, 1) * play(root * 2 ** (rng.choice(scale) / 12), n)
        at += max(1, step + int((rng.random() < 0.1) * rng.uniform(0, 2) * SAMPLE_RATE))
    return wave
