"""Audio of other protocols' streams: whole samples, and the WAV header that some clients send along."""

from __future__ import annotations

from dataclasses import dataclass

from carryover.v1 import recognizer_pb2 as pb
from server.errors import InvalidRequestError

MAX_HEADER_BYTES = 65_536
"""Before its samples a WAV file may have chunks of other kinds; no more than this of them is read."""

_BYTES = {pb.LINEAR16: 2, pb.FLOAT32: 4, pb.MULAW: 1, pb.ALAW: 1}
_FORMATS = {(1, 16): pb.LINEAR16, (3, 32): pb.FLOAT32, (7, 8): pb.MULAW, (6, 8): pb.ALAW}
"""By the format tag and the bits of a sample (RFC 2361)."""
_EXTENSIBLE = 0xFFFE
_FILES = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"ID3")


def is_wav(audio: bytes) -> bool:
    """Does it begin as a WAV file does?"""
    return audio[:4] == b"RIFF" and audio[8:12] == b"WAVE"


def is_file(audio: bytes) -> bool:
    """Does it begin as an audio file does, and not with samples?"""
    return audio.startswith(_FILES)


@dataclass(frozen=True)
class Header:
    """What a WAV header says of the samples behind it."""

    encoding: pb.AudioEncoding
    rate: int
    """Hertz."""
    size: int
    """Bytes before the first sample."""
    data_bytes: int | None
    """Of samples; None: it does not say."""


def wav_header(audio: bytes) -> Header | None:
    """The header that audio begins with; None where more of it is needed to know.

    Raises:
        InvalidRequestError: its samples cannot be streamed.
    """
    at, form = 12, b""
    while at + 8 <= len(audio):
        name, size = audio[at : at + 4], int.from_bytes(audio[at + 4 : at + 8], "little")
        if name == b"data":
            encoding, rate = _format(form)
            return Header(encoding, rate, at + 8, size if size not in (0, 0xFFFFFFFF) else None)
        if name == b"fmt ":
            form = audio[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    if max(at, len(audio)) > MAX_HEADER_BYTES:
        raise InvalidRequestError("audio", "has a WAV header that does not end; send raw samples")
    return None


def _format(form: bytes) -> tuple[pb.AudioEncoding, int]:
    """The encoding and the rate in a `fmt ` chunk."""
    tag, channels, rate, bits = (
        int.from_bytes(form[a:b], "little") for a, b in ((0, 2), (2, 4), (4, 8), (14, 16))
    )  # fmt: skip
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(form[24:26], "little")
    if (tag, bits) not in _FORMATS:
        advice = "has a WAV header of samples that are not streamed; send 16-bit integers, 32-bit floats, mu- or A-law"
        raise InvalidRequestError("audio", advice)
    if channels != 1:
        raise InvalidRequestError("audio", f"has a WAV header of {channels} channels; send one")
    return _FORMATS[tag, bits], rate


class Samples:
    """Cuts a client's bytes into whole samples.

    Args:
        encoding: ENCODING_UNSPECIFIED: the audio begins with a WAV header, which says it.
        rate: hertz; 0: the header says it.
    """

    def __init__(self, encoding: pb.AudioEncoding, rate: int) -> None:
        self.encoding, self.rate = encoding, rate
        self._kept = b""
        self._begun = False
        self._left: int | None = None

    @property
    def known(self) -> bool:
        """Are the encoding and the rate?"""
        return bool(self.encoding and self.rate)

    def take(self, data: bytes) -> bytes:
        """The whole samples that there are with more bytes. Those of a part of one, and of a header, are kept.

        Raises:
            InvalidRequestError: a header that contradicts the configuration, or none where it is needed.
        """
        data = self._kept + data
        self._kept = b""
        if not self._begun:
            if len(data) < 12 and (not self.known or b"RIFF".startswith(data[:4])):
                self._kept = data
                return b""
            if is_wav(data):
                header = wav_header(data)
                if header is None:
                    self._kept = data
                    return b""
                self._agree(header)
                data, self._left = data[header.size :], header.data_bytes
            elif not self.known:
                raise InvalidRequestError(*_unknown(data, self.encoding))
            self._begun = True
        if self._left is not None:
            data = data[: self._left]
        whole = len(data) - len(data) % _BYTES[self.encoding]
        self._kept = data[whole:]
        if self._left is not None:
            self._left -= whole
        return data[:whole]

    def _agree(self, header: Header) -> None:
        if self.encoding not in (pb.ENCODING_UNSPECIFIED, header.encoding):
            advice = (
                f"the audio's WAV header says {pb.AudioEncoding.Name(header.encoding)}; set that, or leave it unset"
            )
            raise InvalidRequestError("config.encoding", advice)
        if self.rate not in (0, header.rate):
            advice = f"the audio's WAV header says {header.rate}; set that, or leave it unset"
            raise InvalidRequestError("config.sample_rate_hertz", advice)
        self.encoding, self.rate = header.encoding, header.rate


def _unknown(audio: bytes, encoding: pb.AudioEncoding) -> tuple[str, str]:
    if is_file(audio):
        return "audio", "is a file that cannot be streamed; send raw samples, or a WAV file"
    if encoding:
        return "config.sample_rate_hertz", "is required for raw samples"
    return "config.encoding", "is required for raw samples: the audio has no WAV header"
