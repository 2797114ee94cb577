"""Audio to stream: WAV files and raw samples with nothing else installed, other files with the package soundfile."""

from __future__ import annotations

import os
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from carryover.errors import AudioError, ChangeRequestError

PathLike: TypeAlias = str | os.PathLike[str]

PIECE_S = 0.1
"""Seconds of audio that are sent at a time."""
_BYTES = {"LINEAR16": 2, "FLOAT32": 4, "MULAW": 1, "ALAW": 1}
_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE


@dataclass(frozen=True, slots=True)
class Audio:
    """Samples of one channel."""

    samples: bytes = field(repr=False)
    """Whole samples, little-endian."""
    rate: int = 16_000
    """Samples a second."""
    encoding: str = "LINEAR16"
    """LINEAR16, FLOAT32, MULAW or ALAW."""

    def __post_init__(self) -> None:
        if self.encoding not in _BYTES:
            raise AudioError(f"encoding: {self.encoding} is none of {', '.join(_BYTES)}")
        if self.rate <= 0:
            raise AudioError(f"rate: {self.rate} samples a second cannot be")

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of 0.1 s."""
        size = max(1, int(self.rate * PIECE_S)) * _BYTES[self.encoding]
        for start in range(0, len(self.samples), size):
            yield self.samples[start : start + size]


class Clock:
    """When pieces of audio would have been spoken: the first begins to be when this is made."""

    def __init__(self, rate: int, encoding: str) -> None:
        self._bytes_per_s = rate * _BYTES[encoding]
        self._spoken_s = time.monotonic()

    def wait_s(self, piece: bytes) -> float:
        """Seconds from now until the next piece has been spoken, at least 0."""
        self._spoken_s += len(piece) / self._bytes_per_s
        return max(0.0, self._spoken_s - time.monotonic())


def format_of(audio: object, rate: int, encoding: str) -> tuple[int, str]:
    """Rate and encoding of audio to stream: its own attributes of that name, or, of bare pieces, those given."""
    if isinstance(audio, bytes | bytearray | memoryview):
        raise ChangeRequestError("audio: give Audio(samples, rate), a file's path, or an iterable of pieces")
    encoding = getattr(audio, "encoding", encoding)
    if encoding not in _BYTES:
        raise ChangeRequestError(f"encoding: {encoding} is none of {', '.join(_BYTES)}", field="config.encoding")
    return getattr(audio, "rate", rate), encoding


def recording(audio: PathLike | bytes | Audio) -> tuple[bytes, int, str]:
    """Content, rate and encoding of one recording; 0 and ENCODING_UNSPECIFIED where a file's header says both.

    Raises AudioError.
    """
    if isinstance(audio, Audio):
        return audio.samples, audio.rate, audio.encoding
    return (audio if isinstance(audio, bytes) else _read_file(audio)), 0, "ENCODING_UNSPECIFIED"


def linear16(samples: Any) -> bytes:
    """Encode a numpy array of (n,) float samples, -1 to 1, as LINEAR16."""
    encoded: bytes = (samples.clip(-1.0, 1.0) * 32767).astype("<i2").tobytes()
    return encoded


def read_audio(path: PathLike) -> Audio:
    """Read a file. Several channels are averaged.

    WAV with integers of 8 to 32 bits, floats, A-law or mu-law is read here; everything else by soundfile, where that
    is installed. `Client.recognize` needs neither: it sends the file as it is.

    Raises:
        AudioError: it cannot be read.
    """
    data = _read_file(path)
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE" and (audio := _parse_wav(data)) is not None:
        return audio
    return _read_other(path)


def _read_file(path: PathLike) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise AudioError(f"{os.fspath(path)} cannot be read ({error.strerror})") from None


def _parse_wav(data: bytes) -> Audio | None:
    """None: an encoding that is not known here. Of a file that was cut off, what is there."""
    kind = channels = rate = bits = place = 0
    place = 12
    while place + 8 <= len(data):
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        body = data[place + 8 : place + 8 + size]
        if name == b"fmt " and size >= 16:
            kind, channels, rate, bits = (int.from_bytes(body[a:b], "little") for a, b in _FMT)
            if kind == _EXTENSIBLE:
                kind = int.from_bytes(body[24:26], "little")
        elif name == b"data" and channels and rate:
            if not size:  # from a pipe, which did not know its length
                body = data[place + 8 :]
            return _decode(body, kind, channels, rate, bits)
        place += 8 + size + size % 2
    return None


_FMT = ((0, 2), (2, 4), (4, 8), (14, 16))
"""Of a WAV file's format: kind, channels, samples a second, bits."""


def _decode(body: bytes, kind: int, channels: int, rate: int, bits: int) -> Audio | None:
    if kind in (_ALAW, _MULAW):
        return Audio(body, rate, "ALAW" if kind == _ALAW else "MULAW") if channels == 1 else None
    width = bits // 8
    body = body[: len(body) // (width * channels) * width * channels] if width else b""
    if kind == _FLOAT and bits in (32, 64):
        floats = array("f", _little_endian("f" if bits == 32 else "d", body))
        return Audio(_bytes(_averaged(floats, channels)), rate, "FLOAT32")
    if kind == _PCM and bits in (8, 16, 24, 32):
        if bits == 8:  # the only width without a sign
            integers = array("h", ((value - 128) << 8 for value in body))
        else:  # the two most significant bytes of each sample
            kept = bytearray(len(body) // width * 2)
            kept[0::2], kept[1::2] = body[width - 2 :: width], body[width - 1 :: width]
            integers = _little_endian("h", bytes(kept))
        return Audio(_bytes(_averaged(integers, channels)), rate)
    return None


def _averaged(samples: array[Any], channels: int) -> array[Any]:
    if channels == 1:
        return samples
    sums = (sum(frame) for frame in zip(*(samples[i::channels] for i in range(channels)), strict=True))
    if samples.typecode == "f":
        return array("f", (total / channels for total in sums))
    return array(samples.typecode, (round(total / channels) for total in sums))


def _little_endian(typecode: str, data: bytes) -> array[Any]:
    values = array(typecode, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _bytes(values: array[Any]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _read_other(path: PathLike) -> Audio:
    try:
        import soundfile
    except (ImportError, OSError):
        advice = "pip install soundfile, or let Client.recognize send the file as it is"
        raise AudioError(f"{os.fspath(path)} is no WAV file that can be read without soundfile: {advice}") from None
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError):
        raise AudioError(f"{os.fspath(path)} is no audio file that soundfile can read") from None
    return Audio(linear16(samples.mean(axis=1)), int(rate))
