"""What a connection does to speech: a telephone's 8 kHz, and codecs there and back."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from asr.audio import SAMPLE_RATE, Samples

NARROW = 8000


@dataclass(frozen=True)
class Channel:
    """share: how often, beside others. codec: a subtype of libsndfile, None for none; container: its format; kbps:
    lowest and highest, where it has several."""

    share: int
    rate: int
    codec: str | None = None
    container: str = "WAV"
    kbps: tuple[float, float] | None = None


CHANNELS = (
    Channel(3, NARROW),
    Channel(3, NARROW, "ULAW"),
    Channel(2, NARROW, "ALAW"),
    Channel(2, NARROW, "GSM610"),
    Channel(1, SAMPLE_RATE, "OPUS", "OGG", (8, 32)),
)
"""A narrow band alone, G.711 with both laws, GSM full rate, and Opus, rarely: it takes ten times as long."""


def draw_channel(rng: np.random.Generator) -> Channel:
    """One of them, by their shares."""
    shares = np.array([channel.share for channel in CHANNELS])
    return CHANNELS[rng.choice(len(CHANNELS), p=shares / shares.sum())]


def transmit(samples: Samples, channel: Channel, rng: np.random.Generator) -> Samples:
    """(n,) samples at 16 kHz as they come out at the other end: as many, in time with what went in."""
    sent = samples if channel.rate == SAMPLE_RATE else soxr.resample(samples, SAMPLE_RATE, channel.rate, "MQ")
    if channel.codec:
        sent = _coded(sent.clip(-1, 1), channel, rng)
    heard = sent if channel.rate == SAMPLE_RATE else soxr.resample(sent, channel.rate, SAMPLE_RATE, "MQ")
    out = np.zeros(len(samples), np.float32)
    out[: len(heard)] = heard[: len(samples)]
    return out


def _coded(samples: Samples, channel: Channel, rng: np.random.Generator) -> Samples:
    # libsndfile's level of Opus: 0 is 256 kbit/s, 1 is 6
    level = (256 - rng.uniform(*channel.kbps)) / 250 if channel.kbps else None
    file = io.BytesIO()
    soundfile.write(file, samples, channel.rate, channel.codec, format=channel.container, compression_level=level)
    file.seek(0)
    return np.asarray(soundfile.read(file, dtype="float32")[0])
