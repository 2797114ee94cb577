"""Samples: their checks, raw PCM, streaming resampling to 16 kHz."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.errors import AudioError

SAMPLE_RATE = 16_000
"""Hertz; everything behind this module is mono float32 at this rate."""
MIN_RATE, MAX_RATE = 8_000, 48_000
LOUDEST = 16.0
"""A sample beyond this is no float of -1 to 1, however overdriven, but an integer that was not divided."""
_BYTES = {"LINEAR16": 2, "FLOAT32": 4, "MULAW": 1, "ALAW": 1}
_COMPANDED = {"MULAW": "ULAW", "ALAW": "ALAW"}
"""Names that libsndfile has for them."""
_BLOCK_S = 0.02

Samples = npt.NDArray[np.float32]


def check_rate(hertz: int) -> None:
    """Raise AudioError for a sample rate that is not supported."""
    if not MIN_RATE <= hertz <= MAX_RATE:
        raise AudioError(f"sample_rate_hertz is {hertz}; send audio of {MIN_RATE} to {MAX_RATE} Hz")


def check_samples(samples: Samples) -> Samples:
    """Raise AudioError unless `samples` is one-dimensional finite float32, about -1 to 1."""
    if samples.dtype != np.float32 or samples.ndim != 1:
        raise AudioError(f"audio is {samples.dtype} of {samples.ndim} dimensions; give mono float32, -1 to 1")
    if not np.isfinite(samples).all():
        raise AudioError("audio holds NaN or infinite samples; send finite values of -1 to 1, floats little-endian")
    if len(samples) and (peak := float(np.abs(samples).max())) > LOUDEST:
        advice = "send floats of -1 to 1, little-endian (16-bit values divided by 32768), or send LINEAR16"
        raise AudioError(f"audio has float samples as large as {peak:.4g}; {advice}")
    return samples


def decode_pcm(data: bytes, encoding: str) -> Samples:
    """Decode raw mono little-endian samples to float32, -1 to 1.

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
    subtype = _COMPANDED[encoding]
    file = io.BytesIO(data)
    raw = {"samplerate": SAMPLE_RATE, "channels": 1, "format": "RAW", "subtype": subtype}
    return np.asarray(soundfile.read(file, dtype="float32", **raw)[0])


class _Conversion:
    """A libsoxr conversion under way. It cannot be copied, so it counts its calls and knows what the last one gave."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32", "HQ")
        self._calls = 0
        self._last = np.zeros(0, np.float32), False, np.zeros(0, np.float32)

    @property
    def begun(self) -> bool:
        """Whether anything has been converted."""
        return self._calls > 0

    def convert(self, call: int, samples: Samples, block: int, *, last: bool) -> Samples:
        """Convert what is read in a call, block by block; the newest call may be made again."""
        if call == self._calls - 1 and last == self._last[1] and np.array_equal(samples, self._last[0]):
            return self._last[2]
        if call != self._calls:
            raise ValueError("the resampler of this state has been continued with other audio: use the newest state")
        self._calls += 1
        parts = np.split(samples, range(block, len(samples), block))
        converted = np.concatenate([self._stream.resample_chunk(part, last=last) for part in parts])
        self._last = samples, last, converted.astype(np.float32)
        return self._last[2]


@dataclass(frozen=True)
class Resampler:
    """Streaming conversion to 16 kHz; the output does not depend on how the input is cut.

    A value at 16 kHz, where nothing is converted. At other rates libsoxr's state is shared with the resamplers that
    follow, so only the newest one goes on, and the one before it with the same samples once more.
    """

    block: int
    """Input samples that are converted at once (20 ms)."""
    rest: Samples
    """(n,) input samples that do not fill a block."""
    conversion: _Conversion | None
    """None at 16 kHz."""
    calls: int = 0
    """Calls of the conversion so far."""

    @classmethod
    def start(cls, rate: int) -> Resampler:
        """A resampler of input at `rate` hertz, 8000 to 48000. Raises AudioError for other rates."""
        check_rate(rate)
        conversion = None if rate == SAMPLE_RATE else _Conversion(rate)
        return cls(int(rate * _BLOCK_S), np.zeros(0, np.float32), conversion)

    def accept(self, samples: Samples) -> tuple[Resampler, Samples]:
        """Convert (n,) float32 samples at the input rate.

        Returns:
            The resampler behind them, and the samples at 16 kHz that are complete.

        Raises:
            ValueError: the resampler has been continued with other samples, at another rate than 16 kHz.
        """
        if self.conversion is None:
            return self, samples
        held = np.concatenate([self.rest, samples])
        whole = len(held) // self.block * self.block
        converted = self.conversion.convert(self.calls, held[:whole], self.block, last=False)
        return replace(self, rest=held[whole:], calls=self.calls + 1), converted

    def flush(self) -> tuple[Resampler, Samples]:
        """End the input: the resampler behind it, and the rest of the samples at 16 kHz. Raises as `accept`."""
        if self.conversion is None or not (self.conversion.begun or len(self.rest)):
            return self, np.zeros(0, np.float32)
        converted = self.conversion.convert(self.calls, self.rest, self.block, last=True)
        return replace(self, rest=np.zeros(0, np.float32), calls=self.calls + 1), converted

    def restart(self) -> tuple[Resampler, Samples]:
        """As `flush`, but the resampler goes on with input that follows. Raises as `accept`."""
        if self.conversion is None:
            return self, np.zeros(0, np.float32)
        return Resampler.start(self.conversion.rate), self.flush()[1]
