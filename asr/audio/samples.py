"""Samples: their checks, raw PCM, streaming resampling to 16 kHz."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr

from asr.errors import AudioError

SAMPLE_RATE = 16_000
"""Everything behind this module is mono float32 at this rate."""
MIN_RATE, MAX_RATE = 8_000, 48_000
LOUDEST = 16.0
"""What is beyond is no float sample of -1 to 1, however overdriven, but an integer that was not divided."""
_BYTES = {"LINEAR16": 2, "FLOAT32": 4, "MULAW": 1, "ALAW": 1}
_BLOCK_S = 0.02

Samples = npt.NDArray[np.float32]


def check_rate(hertz: int) -> None:
    """Raises AudioError for a sample rate that is not supported."""
    if not MIN_RATE <= hertz <= MAX_RATE:
        raise AudioError(f"sample_rate_hertz is {hertz}; send audio of {MIN_RATE} to {MAX_RATE} Hz")


def check_samples(samples: Samples) -> Samples:
    """Raises AudioError unless `samples` is one-dimensional finite float32, about -1 to 1."""
    if samples.dtype != np.float32 or samples.ndim != 1:
        raise AudioError(f"audio is {samples.dtype} of {samples.ndim} dimensions; give mono float32, -1 to 1")
    if not np.isfinite(samples).all():
        raise AudioError("audio holds NaN or infinite samples; send finite values of -1 to 1, floats little-endian")
    if len(samples) and (peak := float(np.abs(samples).max())) > LOUDEST:
        advice = "send floats of -1 to 1, little-endian (16-bit values divided by 32768), or send LINEAR16"
        raise AudioError(f"audio has float samples as large as {peak:.4g}; {advice}")
    return samples


def _mulaw_table() -> Samples:
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> Samples:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code & 0x70) >> 4).astype(np.int32)
    mantissa = ((code & 0x0F).astype(np.int32) << 4) + 8
    magnitude = np.where(exponent == 0, mantissa, (mantissa + 0x100) << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


_COMPANDED = {"MULAW": _mulaw_table(), "ALAW": _alaw_table()}


def decode_pcm(data: bytes, encoding: str) -> Samples:
    """Raw mono little-endian samples to float32, -1 to 1.

    Args:
        data: whole samples.
        encoding: LINEAR16, FLOAT32, MULAW or ALAW (ITU-T G.711).
    Raises:
        AudioError: an unknown encoding, part of a sample, NaN, floats far beyond 1.
    """
    if encoding not in _BYTES:
        raise AudioError(f"encoding {encoding[:20]!r} is not known; use one of {', '.join(_BYTES)}")
    if len(data) % _BYTES[encoding]:
        raise AudioError(f"audio of {len(data)} bytes is not whole {encoding} samples of {_BYTES[encoding]} bytes")
    if encoding == "LINEAR16":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0
    if encoding == "FLOAT32":
        return check_samples(np.frombuffer(data, "<f4").astype(np.float32))
    return _COMPANDED[encoding][np.frombuffer(data, np.uint8)]


class Resampler:
    """Streaming conversion to 16 kHz; the output does not depend on how the input is cut.

    Args:
        rate_in: 8000 to 48000 hertz.
    """

    def __init__(self, rate_in: int) -> None:
        check_rate(rate_in)
        self._block = int(rate_in * _BLOCK_S)
        self._rest = np.zeros(0, np.float32)
        self._stream = None if rate_in == SAMPLE_RATE else soxr.ResampleStream(rate_in, SAMPLE_RATE, 1, "float32", "HQ")

    def accept(self, samples: Samples) -> Samples:
        """(n,) float32 at the input rate → what is ready at 16 kHz."""
        if self._stream is None:
            return samples
        held = np.concatenate([self._rest, samples])
        whole = len(held) // self._block * self._block
        self._rest = held[whole:]
        blocks = np.split(held[:whole], range(self._block, whole, self._block))
        return np.concatenate([self._stream.resample_chunk(b) for b in blocks]).astype(np.float32)

    def flush(self) -> Samples:
        """The rest; ends the stream."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest, self._rest = self._rest, np.zeros(0, np.float32)
        return np.asarray(self._stream.resample_chunk(rest, last=True), np.float32)
