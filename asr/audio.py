"""Audio formats: raw PCM, containers, streaming resampling to 16 kHz."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.errors import AudioError

SAMPLE_RATE = 16_000
"""Everything behind this module is mono float32 at this rate."""
MIN_RATE, MAX_RATE = 8_000, 48_000
MAX_CHANNELS = 16
_BYTES = {"LINEAR16": 2, "FLOAT32": 4, "MULAW": 1, "ALAW": 1}
_BLOCK_S = 0.02

Samples = npt.NDArray[np.float32]


def check_rate(hertz: int) -> None:
    """Raises AudioError for a sample rate that is not supported."""
    if not MIN_RATE <= hertz <= MAX_RATE:
        raise AudioError(f"sample_rate_hertz is {hertz}; send audio of {MIN_RATE} to {MAX_RATE} Hz")


def check_samples(samples: Samples) -> Samples:
    """Raises AudioError unless `samples` is one-dimensional finite float32."""
    if samples.dtype != np.float32 or samples.ndim != 1:
        raise AudioError(f"audio is {samples.dtype} of {samples.ndim} dimensions; give mono float32, -1 to 1")
    if not np.isfinite(samples).all():
        raise AudioError("audio holds NaN or infinite samples; send finite values, -1 to 1")
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
        AudioError: an unknown encoding, part of a sample, NaN.
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


def read_container(source: bytes | Path, max_s: float | None = None) -> tuple[Samples, int]:
    """A WAV, FLAC or Ogg file to mono float32 samples and their rate in hertz; channels are averaged.

    max_s: no more than one sample beyond so many seconds is decoded, however much is there: a megabyte of FLAC may hold
    days of silence.

    Raises:
        AudioError: no such file, none of these kinds, no samples, an unsupported rate, too many channels, NaN.
    """
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise AudioError(f"the audio file cannot be read: {error.strerror}") from error
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate = int(file.samplerate)
            check_rate(rate)
            if file.channels > MAX_CHANNELS:
                raise AudioError(f"audio has {file.channels} channels; send at most {MAX_CHANNELS}")
            frames = -1 if max_s is None else int(max_s * rate) + 1
            samples = file.read(frames, dtype="float32", always_2d=True)
    except AudioError:
        raise
    except (soundfile.LibsndfileError, OSError, RuntimeError, ValueError) as error:
        raise AudioError("audio is not a WAV, FLAC or Ogg file that can be read") from error
    if not len(samples):
        raise AudioError("audio file holds no samples")
    return check_samples(np.ascontiguousarray(samples.mean(1, dtype=np.float32))), rate


def read_at_16k(source: bytes | Path) -> Samples:
    """(n,) a WAV, FLAC or Ogg file as `read_container` reads it, at 16 kHz whatever its own rate. Raises AudioError."""
    samples, rate = read_container(source)
    return samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32, copy=False)


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
