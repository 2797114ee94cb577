"""Recordings as browsers and phones make them: WebM, MP4 and others, which libsndfile does not read."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from asr.audio.samples import Samples
from asr.errors import AudioError

_PROGRAM = Path(__file__).with_name("media_decoder.py")
_HEADER = struct.Struct("<II")
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PYTHONPATH")
"""What the decoder knows of this process's environment: no secrets."""
_ADVICE = "convert it to a WAV, FLAC or Ogg file (Opus or Vorbis)"


@dataclass(frozen=True)
class MediaKind:
    """A kind of files."""

    name: str
    demuxer: str
    """FFmpeg's name."""
    at: int
    """Where its sign stands."""
    signs: tuple[bytes, ...]
    """One of them."""


_KINDS = (
    MediaKind("WebM or Matroska", "matroska", 0, (b"\x1aE\xdf\xa3",)),
    MediaKind("MP4 or M4A", "mov", 4, (b"ftyp",)),
    MediaKind("FLAC inside Ogg", "ogg", 28, (b"\x7fFLAC",)),
    MediaKind("Speex", "ogg", 28, (b"Speex ",)),
    MediaKind("AMR", "amr", 0, (b"#!AMR",)),
    MediaKind("AAC", "aac", 0, (b"\xff\xf0", b"\xff\xf1", b"\xff\xf8", b"\xff\xf9")),
)


def media_kind(data: bytes) -> MediaKind | None:
    """What kind of file this is, by its first bytes; None: another one."""
    return next((kind for kind in _KINDS if data.startswith(kind.signs, kind.at)), None)


def decode_media(data: bytes, kind: MediaKind) -> Iterator[tuple[Samples, int]]:
    """Decode the first audio track of a file in a process of its own, which ends with the iteration.

    Yields:
        (n, channels) float32 samples of a second, at the end fewer, and their rate in hertz.

    Raises:
        AudioError: the extra `media` is not installed, or nothing of the file can be decoded.
    """
    if find_spec("av") is None:
        raise AudioError(f"audio is {kind.name}, which takes the extra `media` of carryover-asr here; or {_ADVICE}")
    command = [sys.executable, "-P", str(_PROGRAM), kind.demuxer, str(len(data))]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, env=environment) as decoder:
        assert decoder.stdin and decoder.stdout
        try:
            with suppress(BrokenPipeError):
                decoder.stdin.write(data)
                decoder.stdin.close()
            header = decoder.stdout.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise AudioError(f"audio is {kind.name}, damaged or without an audio track; {_ADVICE}")
            rate, channels = _HEADER.unpack(header)
            frame = 4 * channels
            while piece := decoder.stdout.read(frame * max(1, rate)):
                whole = piece[: len(piece) - len(piece) % frame]
                yield np.frombuffer(whole, np.float32).reshape(-1, channels), rate
        finally:
            decoder.kill()
