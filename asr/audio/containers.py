"""Audio files: decoded block by block, mixed to mono so that no channel cancels another.

WAV (integers of 8 to 32 bits, floats, A-law, mu-law; also RF64 and W64), FLAC, Ogg Vorbis and Opus, MP3, AIFF, AU and
CAF are read, by libsndfile; WebM, MP4 and others with the extra `media` (`asr.audio.media`). Of a file that was cut
off, or came out of a pipe and does not tell how long it is, what is there is read.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from asr.audio.media import MediaKind, decode_media, media_kind
from asr.audio.repair import ogg_links, with_data_size
from asr.audio.samples import SAMPLE_RATE, Samples, check_rate, check_samples
from asr.errors import AudioError, AudioLengthError

MAX_CHANNELS = 16
BLOCK_S = 1.0
_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF")
_MAX_LINKS = 1000
_UNKNOWN = 1 << 62
"""Frames of a file that does not say how many there are, or more."""
_AUDIBLE = 0.01
"""A channel 20 dB below the loudest is left out."""
_CANCELLED = 0.25
"""A mixture 6 dB below its loudest channel is not taken: then that channel is."""


@dataclass(frozen=True)
class AudioBlock:
    """A second of a file, or less."""

    samples: Samples
    """(n, channels) float32, -1 to 1."""
    rate: int
    """Hertz."""
    link: int
    """Which recording of a chained Ogg file it is of, each with its own rate and channels; else 0."""


def read_container(source: bytes | Path, max_s: float | None = None) -> tuple[Samples, int]:
    """Read an audio file.

    Args:
        source: the file's content, or its path.
        max_s: see `decode_blocks`; so much is decoded at most.

    Returns:
        (n,) mono float32 samples, and their rate in hertz.

    Raises:
        AudioError: no such file, of no kind that is read, no samples, an unsupported rate, too many channels, NaN,
            floats far beyond 1.
        AudioLengthError: longer than `max_s`.
    """
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise AudioError(f"the audio file cannot be read: {error.strerror}") from error
    return mixed(decode_blocks(data, max_s))


def read_at_16k(source: bytes | Path) -> Samples:
    """Read an audio file as `read_container`, as (n,) samples at 16 kHz. Raises AudioError."""
    samples, rate = read_container(source)
    return _resampled(samples, rate, SAMPLE_RATE)


def decode_blocks(data: bytes, max_s: float | None = None) -> Iterator[AudioBlock]:
    """Decode an audio file block by block, each when it is asked for; `mixed` makes one recording of them.

    Args:
        max_s: the longest recording that is taken, of one or two channels; with more channels as much less, so that
            neither time nor memory grow with them. A longer one is refused before its first block where its header says
            so, else as soon as so much has been decoded.

    Raises:
        AudioError, AudioLengthError: as `read_container`.
    """
    if (kind := media_kind(data)) is not None:
        yield from _media_blocks(data, kind, max_s)
        return
    links = ogg_links(with_data_size(data))
    if len(links) > _MAX_LINKS:
        raise AudioError(f"audio is an Ogg file of {len(links)} recordings; send at most {_MAX_LINKS} in one")
    read_s = 0.0
    for link, part in enumerate(links):
        try:
            for block in _link_blocks(part, link, max_s, read_s):
                read_s += len(block.samples) / block.rate
                yield block
        except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
            if link + 1 < len(links) or not link:  # else its beginning was cut off
                advice = "audio is not a WAV, FLAC or Ogg file (nor MP3, AIFF, AU, CAF) that can be read"
                raise AudioError(advice) from error
    if not read_s:
        raise AudioError("audio file holds no samples")


def _media_blocks(data: bytes, kind: MediaKind, max_s: float | None) -> Iterator[AudioBlock]:
    read = 0
    for samples, rate in decode_media(data, kind):
        _check_form(rate, samples.shape[1])
        read += len(samples)
        _check_length(read / rate, samples.shape[1], max_s)
        yield AudioBlock(samples, rate, 0)
    if not read:
        raise AudioError("audio file holds no samples")


def _link_blocks(data: bytes, link: int, max_s: float | None, before_s: float) -> Iterator[AudioBlock]:
    """before_s: seconds of other links that count too."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        rate, channels = int(file.samplerate), int(file.channels)
        if file.format not in _FORMATS:
            raise AudioError(f"audio is a {file.format} file; send a WAV, FLAC or Ogg file")
        _check_form(rate, channels)
        known = file.frames if file.frames < _UNKNOWN else 0
        _check_length(before_s + known / rate, channels, max_s)
        read = 0
        while len(samples := _next(file, int(BLOCK_S * rate), channels)):
            read += len(samples)
            _check_length(before_s + read / rate, channels, max_s)
            yield AudioBlock(samples, rate, link)


def _check_form(rate: int, channels: int) -> None:
    check_rate(rate)
    if channels > MAX_CHANNELS:
        raise AudioError(f"audio has {channels} channels; send at most {MAX_CHANNELS}")


def _next(file: soundfile.SoundFile, frames: int, channels: int) -> Samples:
    """The next (n, channels) samples; where the file is cut off, those before that; none at its end."""
    samples = np.full((frames, channels), np.nan, np.float32)
    try:
        return samples[: len(file.read(out=samples))]
    except (soundfile.LibsndfileError, OSError, RuntimeError):
        unread = np.flatnonzero(np.isnan(samples[:, 0]))
        return samples[: unread[0]] if len(unread) else samples


def _check_length(seconds: float, channels: int, max_s: float | None) -> None:
    if max_s is None:
        return
    if seconds > max_s:
        raise AudioLengthError(f"audio is longer than {max_s:g} s; send it in several parts")
    if seconds * channels > 2 * max_s:
        longest = f"audio of {channels} channels may last {2 * max_s / channels:g} s"
        raise AudioError(f"{longest}; send one channel, or several parts")


def mixed(blocks: Iterable[AudioBlock]) -> tuple[Samples, int]:
    """Mix blocks to (n,) mono samples; their rate is that of the first. Raises AudioError: NaN, far beyond 1."""
    parts: list[Samples] = []
    rate = 0
    for _, group in groupby(blocks, lambda block: block.link):
        own = list(group)
        rate = rate or own[0].rate
        parts.append(_resampled(_mono([block.samples for block in own]), own[0].rate, rate))
    return check_samples(np.concatenate(parts)), rate


def _mono(blocks: list[Samples]) -> Samples:
    """(n, channels) each → (n,): the mean of the audible channels, an inverted one put right.

    Where they cancel each other all the same, it is the loudest.
    """
    channels = blocks[0].shape[1]
    weights = np.ones(1)
    if channels > 1:
        covariance = _covariance(blocks)
        power = covariance.diagonal()
        loudest = int(power.argmax())
        audible = power >= _AUDIBLE * power[loudest]
        weights = np.where(covariance[loudest] < 0, -1.0, 1.0) * audible / audible.sum()
        if weights @ covariance @ weights < _CANCELLED * power[loudest]:
            weights = np.eye(channels)[loudest]
    return np.concatenate([block @ weights.astype(np.float32) for block in blocks])


def _covariance(blocks: list[Samples]) -> npt.NDArray[np.float64]:
    """(channels, channels); an offset of a channel is no sound."""
    length = sum(map(len, blocks))
    mean = sum(block.sum(0, dtype=np.float64) for block in blocks) / length
    centred = (block - mean for block in blocks)
    return np.asarray(sum(block.T @ block for block in centred) / length)


def _resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    return samples if rate == wanted else soxr.resample(samples, rate, wanted).astype(np.float32, copy=False)
