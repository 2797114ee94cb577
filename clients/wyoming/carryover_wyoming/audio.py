"""Samples of any format to what the server takes: 16 bits, one channel, at most 48,000 a second."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LEAST_RATE, _MOST_RATE = 8_000, 48_000
_MOST_CHANNELS = 16


class AudioFormatError(Exception):
    """Audio of this format cannot be recognised. The message says what to send."""


class AudioFormat(NamedTuple):
    """How a client writes samples: little-endian integers, channels interleaved."""

    rate: int
    """Samples a second."""
    width: int
    """Bytes of a sample, 1 to 4; those of one byte have no sign, as in WAV files."""
    channels: int


class Converter:
    """Converts the pieces of one recording; what a piece leaves of a sample waits for the next.

    Several channels are averaged. Above 48 kHz, whole groups of samples are averaged to one.

    Attributes:
        rate: samples a second of what comes out.

    Raises:
        AudioFormatError: the format cannot be taken.
    """

    def __init__(self, form: AudioFormat) -> None:
        for name, value, least, most in (
            ("rate", form.rate, _LEAST_RATE, 16 * _MOST_RATE),
            ("width", form.width, 1, 4),
            ("channels", form.channels, 1, _MOST_CHANNELS),
        ):
            if not isinstance(value, int) or not least <= value <= most:
                raise AudioFormatError(f"{name}: send {least} to {most}")
        self.format = form
        self._group = -(-form.rate // _MOST_RATE)
        self.rate = round(form.rate / self._group)
        self._whole = form.width * form.channels * self._group
        self._rest = b""

    def convert(self, piece: bytes) -> bytes:
        """LINEAR16 of one channel, little-endian."""
        piece = self._rest + piece
        whole = len(piece) - len(piece) % self._whole
        self._rest, piece = piece[whole:], piece[:whole]
        if self.format.width == 2 and self._whole == 2:
            return piece
        samples = _wide(piece, self.format.width).reshape(-1, self._group * self.format.channels)
        return np.asarray(np.rint(samples.mean(1) / 65_536).clip(-32_768, 32_767), "<i2").tobytes()


def _wide(piece: bytes, width: int) -> NDArray[np.int32]:
    """Samples as integers of 32 bits, full scale."""
    if width == 1:
        return (np.frombuffer(piece, np.uint8).astype(np.int32) - 128) << 24
    padded = np.zeros((len(piece) // width, 4), np.uint8)
    padded[:, 4 - width :] = np.frombuffer(piece, np.uint8).reshape(-1, width)
    return padded.view("<i4").ravel()
