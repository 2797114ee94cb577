"""Files as they come out of a pipe: headers that do not say how long the audio is, recordings one behind the other."""

from __future__ import annotations

import re

_BOS = re.compile(rb"OggS\x00[\x02\x03\x06\x07]")
"""An Ogg page that begins a stream (RFC 3533)."""


def with_data_size(wav: bytes) -> bytes:
    """A WAV file whose data chunk is as long as what is there; anything else as it is.

    A program that writes to a pipe cannot know the size when it writes the header: it puts 0 or the largest number
    there. What follows a size that is too small belongs to the data too, unless it is chunks, or the RIFF chunk around
    all ends there.
    """
    if wav[:4] != b"RIFF" or wav[8:12] != b"WAVE":
        return wav
    at = 12
    while at + 8 <= len(wav) and wav[at : at + 4] != b"data":
        at += 8 + _size(wav, at) + _size(wav, at) % 2
    begin, riff_end = at + 8, 8 + _size(wav, 0)
    there = len(wav) - begin
    if there <= 0:
        return wav
    size = _size(wav, at)
    end = begin + size + size % 2
    if end == len(wav) or (size and end == riff_end) or (end < len(wav) and _chunks(wav, end)):
        return wav
    return b"".join([wav[:4], _number(len(wav) - 8), wav[8 : at + 4], _number(there), wav[begin:]])


def _chunks(wav: bytes, at: int) -> bool:
    """Whether what is there begins with a chunk: a name in letters, and no longer than the file."""
    name = wav[at : at + 4]
    return len(name) == 4 and name.isalnum() and name.isascii() and at + 8 + _size(wav, at) <= len(wav) + 1


def _size(wav: bytes, at: int) -> int:
    return int.from_bytes(wav[at + 4 : at + 8], "little")


def _number(value: int) -> bytes:
    return min(value, 0xFFFFFFFF).to_bytes(4, "little")


def ogg_links(ogg: bytes) -> list[bytes]:
    """The recordings of a chained Ogg file, in order; of anything else, all of it."""
    if ogg[:4] != b"OggS":
        return [ogg]
    starts, after = [], -1
    for found in _BOS.finditer(ogg):
        if found.start() != after:  # else of the same recording: several streams begin together
            starts.append(found.start())
        lacing = ogg[found.start() + 27 :][: ogg[found.start() + 26]] if found.start() + 26 < len(ogg) else b""
        after = found.start() + 27 + len(lacing) + sum(lacing)
    return [ogg[a:b] for a, b in zip(starts, [*starts[1:], len(ogg)], strict=True)] or [ogg]
