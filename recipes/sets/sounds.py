"""Sounds that nobody says anything in, made by rule. A maker takes a generator and a length: (n,) samples at 16 kHz.

They are for measuring: no model is trained on what these functions make.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from asr.audio import SAMPLE_RATE

Signal = npt.NDArray[np.float64]
Maker = Callable[[np.random.Generator, int], Signal]
_KEYS = ((697, 770, 852, 941), (1209, 1336, 1477))
_PENTATONIC = (0, 2, 4, 7, 9, 12, 14, 16)
_BELL = (1.0, 2.0, 2.4, 3.0, 4.2, 5.4)
"""Partials of a bell beside its strike note."""


def _seconds(n: int) -> Signal:
    return np.arange(n) / SAMPLE_RATE


def _coloured(rng: np.random.Generator, n: int, slope: float, low: float = 20.0, high: float = 8000.0) -> Signal:
    """Noise whose power goes with the frequency's power `slope` (0 white, -1 pink, -2 brown) within a band in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    inside = (frequency >= low) & (frequency <= high)
    spectrum[inside] *= frequency[inside] ** (slope / 2)
    spectrum[~inside] = 0
    return np.fft.irfft(spectrum, n)


def _steady(*frequencies: float) -> Maker:
    """Sines together, each from a random phase."""

    def make(rng: np.random.Generator, n: int) -> Signal:
        phases = rng.uniform(0, 2 * np.pi, len(frequencies))
        angles = (2 * np.pi * f * _seconds(n) + p for f, p in zip(frequencies, phases, strict=True))
        return np.sum([np.sin(angle) for angle in angles], axis=0)

    return make


def _cadence(maker: Maker, *on_off_s: float) -> Maker:
    """A sound that is on, off, on, off … for so long each, over and over, with edges of 5 ms."""

    def make(rng: np.random.Generator, n: int) -> Signal:
        period = sum(on_off_s)
        at = (_seconds(n) + rng.uniform(0, period)) % period
        edges = np.cumsum((0.0, *on_off_s))
        gate = np.zeros(n)
        for start, end in zip(edges[:-1:2], edges[1::2], strict=True):
            gate[(at >= start) & (at < end)] = 1
        return maker(rng, n) * np.convolve(gate, np.ones(80) / 80, "same")

    return make


def _hum(frequency: float) -> Maker:
    """Mains hum: harmonics that fall off, the uneven ones louder."""
    return lambda rng, n: np.sum(
        [_steady(k * frequency)(rng, n) / k ** rng.uniform(0.8, 2) * (1 if k % 2 else 0.4) for k in range(1, 12)],
        axis=0,
    )


def _scattered(event: Callable[[np.random.Generator], Signal], gap_s: tuple[float, float]) -> Maker:
    """Events that begin a random time apart and may overlap."""

    def make(rng: np.random.Generator, n: int) -> Signal:
        out, at = np.zeros(n), int(rng.uniform(*gap_s) * SAMPLE_RATE)
        while at < n:
            sound = event(rng)[: n - at]
            out[at : at + len(sound)] += sound
            at += max(1, int(rng.uniform(*gap_s) * SAMPLE_RATE))
        return out

    return make


def _key(rng: np.random.Generator) -> Signal:
    n = int(rng.uniform(0.08, 0.25) * SAMPLE_RATE)
    return _steady(rng.choice(_KEYS[0]), rng.choice(_KEYS[1]))(rng, n)


def _struck(partials: Sequence[float], decay_s: float, frequency: float) -> Signal:
    """Partials that die away, the higher the faster."""
    time = _seconds(int(3 * decay_s * SAMPLE_RATE))
    each = [np.sin(2 * np.pi * p * frequency * time) * np.exp(-time * p / decay_s) / p for p in partials]
    return np.sum(each, axis=0)


def _chime(rng: np.random.Generator) -> Signal:
    """A doorbell's two notes, or a wind chime's one."""
    frequency = rng.uniform(400, 1500)
    high = _struck(_BELL, rng.uniform(0.3, 1.5), frequency)
    if rng.random() < 0.5:
        return high
    low = _struck(_BELL, 1.0, frequency * 0.8)
    start = int(rng.uniform(0.4, 0.8) * SAMPLE_RATE)
    out = np.zeros(max(len(high), start + len(low)))
    out[: len(high)] += high
    out[start : start + len(low)] += low
    return out


def _string(rng: np.random.Generator, frequency: float, length_s: float) -> Signal:
    """A plucked string (Karplus and Strong 1983)."""
    period = round(SAMPLE_RATE / frequency)
    line, turns = rng.uniform(-1, 1, period), int(length_s * SAMPLE_RATE) // period + 1
    out = np.empty((turns, period))
    for turn in out:
        turn[:] = line
        line = 0.498 * (line + np.roll(line, 1))
    return out.ravel()


def _pitch(rng: np.random.Generator, low: int = 45) -> float:
    """A note of a pentatonic scale, Hz."""
    note = low + 12 * rng.integers(0, 2) + rng.choice(_PENTATONIC)
    return float(440 * 2 ** ((note - 69) / 12))


def _plucked(rng: np.random.Generator) -> Signal:
    return _string(rng, _pitch(rng, 50), rng.uniform(0.3, 1.5))


def _chord(rng: np.random.Generator) -> Signal:
    """Three or four notes held like an organ's or a pad's."""
    n = int(rng.uniform(0.8, 2.5) * SAMPLE_RATE)
    root = _pitch(rng)
    third = rng.choice([1.2, 1.25, 4 / 3])
    notes = [root, root * third, root * 1.5, root * 2][: rng.integers(3, 5)]
    held = np.sum([_steady(*(note * k for k in range(1, 5)))(rng, n) for note in notes], axis=0)
    time = _seconds(n)
    return held * np.minimum(1, time / rng.uniform(0.01, 0.2)) * np.minimum(1, (n / SAMPLE_RATE - time) / 0.2)


def _click(rng: np.random.Generator) -> Signal:
    """A key of a keyboard: down and up."""
    down, up = (_burst(rng, rng.uniform(1500, 5000), 0.004) for _ in range(2))
    gap = np.zeros(int(rng.uniform(0.05, 0.12) * SAMPLE_RATE))
    return np.concatenate([down, gap, 0.5 * up])


def _burst(rng: np.random.Generator, frequency: float, decay_s: float) -> Signal:
    time = _seconds(int(8 * decay_s * SAMPLE_RATE) + 1)
    ringing = np.sin(2 * np.pi * frequency * time + rng.uniform(0, 6)) + 0.7 * rng.standard_normal(len(time))
    return ringing * np.exp(-time / decay_s)


def _knock(rng: np.random.Generator) -> Signal:
    """Two to four knocks on wood."""
    frequency = rng.uniform(120, 400)
    blows = [
        np.pad(_burst(rng, frequency, 0.03), (0, int(rng.uniform(0.1, 0.3) * SAMPLE_RATE)))
        for _ in range(rng.integers(2, 5))
    ]
    return np.concatenate(blows)


def _machine(low: float, high: float, slope: float, turning: tuple[float, float]) -> Maker:
    """Noise of a band with the harmonics of what turns in it, its speed a little uneven."""

    def make(rng: np.random.Generator, n: int) -> Signal:
        noise = _coloured(rng, n, slope, low, high)
        drift = np.cumsum(_coloured(rng, n, -2, 0.1, 2))
        angle = 2 * np.pi * rng.uniform(*turning) * (_seconds(n) + 0.002 * drift / (np.abs(drift).max() + 1e-9))
        harmonics = np.sum([np.sin(k * angle + rng.uniform(0, 6)) / k for k in range(1, 9)], axis=0)
        return noise / noise.std() + rng.uniform(0.2, 1.5) * harmonics

    return make


def _bell(rng: np.random.Generator, n: int) -> Signal:
    """A telephone's bell, struck twenty times a second."""
    stroke = _struck(_BELL, 0.12, rng.uniform(900, 1600))
    return _scattered(lambda _: stroke, (0.045, 0.055))(rng, n)


def _warble(rng: np.random.Generator, n: int) -> Signal:
    """An electronic ring: two square-like tones in turn."""
    low, rate = rng.uniform(500, 1400), rng.uniform(8, 25)
    first = (_seconds(n) * rate) % 2 < 1
    angle = 2 * np.pi * np.cumsum(np.where(first, low, low * rng.uniform(1.15, 1.5))) / SAMPLE_RATE
    return np.tanh(3 * np.sin(angle))


def _beeps(rng: np.random.Generator, n: int) -> Signal:
    """An alarm clock's, an oven's: one to four beeps and a pause."""
    on = rng.uniform(0.05, 0.2)
    pattern = (*[on] * (2 * int(rng.integers(1, 5)) - 1), rng.uniform(0.4, 1.2))
    return _cadence(_steady(rng.uniform(1500, 3500)), *pattern)(rng, n)


KINDS: dict[str, Maker] = {
    "digital silence": lambda rng, n: np.zeros(n),
    "white noise": lambda rng, n: _coloured(rng, n, 0),
    "pink noise": lambda rng, n: _coloured(rng, n, -1),
    "brown noise": lambda rng, n: _coloured(rng, n, -2),
    "hum 50 Hz": _hum(50),
    "hum 60 Hz": _hum(60),
    "hum 100 Hz": _hum(100),
    "tone 1 kHz": _steady(1000),
    "dial tone US": _steady(350, 440),
    "dial tone EU": _steady(425),
    "busy US": _cadence(_steady(480, 620), 0.5, 0.5),
    "busy EU": _cadence(_steady(425), 0.48, 0.48),
    "ringback US": _cadence(_steady(440, 480), 2, 4),
    "ringback UK": _cadence(_steady(400, 450), 0.4, 0.2, 0.4, 2),
    "DTMF": _scattered(_key, (0.1, 1.5)),
    "bell ring": _cadence(_bell, 2, 3),
    "electronic ring": _cadence(_warble, 1.2, 1.8),
    "chimes": _scattered(_chime, (0.5, 4)),
    "plucked melody": _scattered(_plucked, (0.12, 0.6)),
    "chords": _scattered(_chord, (0.6, 2.2)),
    "keyboard": _scattered(_click, (0.06, 0.4)),
    "knocks": _scattered(_knock, (0.6, 3)),
    "vacuum cleaner": _machine(200, 6000, -0.5, (180, 320)),
    "fan": _machine(30, 2500, -1.5, (15, 40)),
    "engine": _machine(20, 900, -2, (25, 90)),
    "alarm beeps": _beeps,
}
"""By kind."""
