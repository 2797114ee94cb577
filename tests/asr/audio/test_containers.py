"""Files of every make: what is there is read, no channel cancels another, and nothing is decoded beyond its bound."""

import io
import struct
from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import Samples, containers, decode_blocks, decode_pcm, mixed, read_at_16k, read_container
from asr.errors import AudioError, AudioLengthError

RATE = 16_000
TONE = (0.3 * np.sin(2 * np.pi * 300 * np.arange(2 * RATE) / RATE)).astype(np.float32)
NOISE = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)


def written(samples: np.ndarray, fmt: str, subtype: str | None = None, rate: int = RATE, endian: str = "FILE") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=fmt, subtype=subtype, endian=endian)
    return file.getvalue()


WHOLE = (32768 * NOISE).astype(np.int16)
WAV, FLAC = written(WHOLE, "WAV"), written(WHOLE, "FLAC")


def with_sizes(riff: int | None, data: int) -> bytes:
    """A WAV file with another size of its RIFF and its data chunk."""
    size = WAV[4:8] if riff is None else struct.pack("<I", riff)
    return WAV[:4] + size + WAV[8:40] + struct.pack("<I", data) + WAV[44:]


def of_unknown_length(flac: bytes) -> bytes:
    """As `flac` writes it to a pipe: 0 for all samples."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


ID3 = b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(128)


@pytest.mark.parametrize(
    "data",
    [
        with_sizes(0, 0),
        with_sizes(36, 0),
        with_sizes(0xFFFFFFFF, 0xFFFFFFFF),
        with_sizes(0x7FFFFFFF, 0x7FFFFFDB),
        with_sizes(None, 70_000),
        with_sizes(None, 30_000),
        WAV[:12] + b"LIST" + struct.pack("<I", 4) + b"INFO" + with_sizes(0, 0)[12:],
        WAV + b"\x01\x02\x03" * 999,
        WAV + b"LIST" + struct.pack("<I", 4) + b"INFO",
        of_unknown_length(FLAC),
        ID3 + FLAC,
        FLAC + b"\x01\x02\x03" * 999,
    ],
)
def test_all_samples_are_read_whatever_the_header_says(data: bytes) -> None:
    samples, rate = read_container(data)
    assert rate == RATE and np.array_equal(samples, WHOLE / np.float32(32768))


def test_an_empty_file_stays_empty() -> None:
    """The chunk behind it is no audio."""
    with pytest.raises(AudioError, match="no samples"):
        read_container(WAV[:40] + bytes(4) + b"LIST" + struct.pack("<I", 4) + b"INFO")
    with pytest.raises(AudioError, match="no samples"):
        read_container(WAV[:44])


@pytest.mark.parametrize("make", [lambda d: d, of_unknown_length])
def test_of_a_cut_flac_file_what_is_there_is_read(make: Callable[[bytes], bytes]) -> None:
    whole = make(FLAC)
    samples, _ = read_container(whole[: len(whole) * 3 // 4])
    assert 1.2 * RATE < len(samples) < 1.5 * RATE
    assert np.array_equal(samples, read_container(WAV)[0][: len(samples)])
    assert np.array_equal(read_container(WAV[:-10_001])[0], read_container(WAV)[0][:-5001])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_of_a_cut_ogg_file_what_is_there_is_read(subtype: str) -> None:
    whole = written(np.tile(NOISE, 5), "OGG", subtype)
    expected = soundfile.read(io.BytesIO(whole), dtype="float32")[0]
    samples, _ = read_container(whole[: len(whole) * 3 // 4])
    assert len(expected) // 4 < len(samples) < len(expected)
    assert np.allclose(samples[:-4000], expected[: len(samples) - 4000], atol=1e-4)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_all_recordings_of_a_chained_ogg_file_are_read(subtype: str) -> None:
    """At the rate of the first, whatever their own rates and channels are."""
    first = written(TONE, "OGG", subtype)
    second = written(np.stack([TONE, TONE], 1)[:24_000], "OGG", subtype, 24_000)
    samples, rate = read_container(first + second)
    own = [read_at_16k(part) for part in (first, second)]
    assert rate == RATE and len(samples) == sum(map(len, own)) == 3 * RATE
    assert np.allclose(samples, np.concatenate(own), atol=1e-5)
    cut = first + second[:100]
    assert np.array_equal(read_container(cut)[0], own[0])
    with pytest.raises(AudioLengthError, match="2.5 s"):
        read_container(first + second, 2.5)


@pytest.mark.parametrize(
    ("fmt", "subtype", "endian"),
    [
        ("WAV", "PCM_U8", "FILE"), ("WAV", "PCM_24", "FILE"), ("WAV", "PCM_32", "FILE"), ("WAV", "FLOAT", "FILE"),
        ("WAV", "DOUBLE", "FILE"), ("WAV", "ULAW", "FILE"), ("WAV", "ALAW", "FILE"), ("WAV", "PCM_16", "BIG"),
        ("WAVEX", "PCM_16", "FILE"), ("RF64", "PCM_16", "FILE"), ("W64", "PCM_16", "FILE"), ("FLAC", "PCM_24", "FILE"),
        ("AIFF", "PCM_16", "BIG"), ("AU", "PCM_16", "BIG"), ("CAF", "PCM_16", "FILE"), ("OGG", "VORBIS", "FILE"),
        ("OGG", "OPUS", "FILE"), ("MP3", "MPEG_LAYER_III", "FILE"),
    ],
)  # fmt: skip
def test_kinds_of_files(fmt: str, subtype: str, endian: str) -> None:
    samples, rate = read_container(written(TONE, fmt, subtype, endian=endian))
    assert rate == RATE and abs(len(samples) - len(TONE)) <= 1200
    assert np.corrcoef(samples[: len(TONE)], TONE[: len(samples)])[0, 1] > 0.9


def test_other_kinds_are_refused_by_name() -> None:
    with pytest.raises(AudioError, match="is a PVF file"):
        read_container(written(TONE, "PVF"))
    with pytest.raises(AudioError, match="not a WAV, FLAC or Ogg file"):
        read_container(b"some text, and no audio")


def stereo(*channels: Samples) -> Samples:
    """The samples read from a file of these channels."""
    return read_container(written(np.stack(channels, 1), "WAV", "FLOAT"))[0]


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ([TONE, TONE], TONE),
        ([TONE, -TONE], TONE),  # out of phase
        ([TONE, -0.9 * TONE], 0.95 * TONE),
        ([TONE, 0 * TONE], TONE),
        ([0 * TONE, TONE], TONE),
        ([0.01 * NOISE, TONE], TONE),
        ([0.5 + 0 * TONE, TONE], TONE),  # an offset is no sound
        ([TONE, TONE, -TONE, -TONE], TONE),
        ([0 * TONE, 0 * TONE], 0 * TONE),
    ],
)
def test_no_channel_cancels_another(channels: list[Samples], expected: Samples) -> None:
    mixture = stereo(*(c.astype(np.float32) for c in channels))
    expected = expected - expected.mean()
    assert min(np.abs(mixture - mixture.mean() - sign * expected).max() for sign in (1, -1)) < 1e-6


def test_two_speakers_on_channels_of_their_own_are_both_in_the_mixture() -> None:
    mixture = stereo(TONE, NOISE)
    assert min(np.abs(mixture - (TONE + sign * NOISE) / 2).max() for sign in (1, -1)) < 1e-6


@settings(max_examples=30, deadline=None)
@given(gains=st.lists(st.tuples(*2 * [st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])]), min_size=2, max_size=6))
def test_a_mixture_is_never_far_below_its_loudest_channel(gains: list[tuple[float, float]]) -> None:
    sources = np.stack([TONE, NOISE])[:, :2000]
    channels = np.array(gains, np.float32) @ sources
    assert stereo(*channels).var() >= 0.24 * channels.var(1).max()


@pytest.mark.parametrize("scale", [32767.0, 2.0**31])
def test_floats_at_the_scale_of_integers_are_refused(scale: float) -> None:
    loud = (TONE * scale).astype(np.float32)
    for subtype in ("FLOAT", "DOUBLE"):
        with pytest.raises(AudioError, match="-1 to 1.*divided by 32768"):
            read_container(written(loud, "WAV", subtype))
    with pytest.raises(AudioError, match="LINEAR16"):
        decode_pcm(loud.astype("<f4").tobytes(), "FLOAT32")
    with pytest.raises(AudioError, match="little-endian"):
        decode_pcm(TONE.astype(">f4").tobytes(), "FLOAT32")
    assert np.array_equal(decode_pcm((4 * TONE).astype("<f4").tobytes(), "FLOAT32"), 4 * TONE)  # overdriven


def test_a_file_that_is_too_long_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = io.BytesIO()
    with soundfile.SoundFile(bomb, "w", 8000, 8, format="FLAC") as file:
        for _ in range(10):
            file.write(np.zeros((60 * 8000, 8), np.int16))
    data = bomb.getvalue()
    assert len(data) < 600_000
    decoded: list[int] = []
    real = containers._next

    def counted(file: soundfile.SoundFile, frames: int, channels: int) -> Samples:
        decoded.append(frames * channels)
        return real(file, frames, channels)

    monkeypatch.setattr(containers, "_next", counted)
    with pytest.raises(AudioLengthError, match="300 s"):
        read_container(data, 300)
    with pytest.raises(AudioError, match="8 channels may last 250 s; send one channel"):
        read_container(data, 1000)
    assert not decoded
    with pytest.raises(AudioError, match="8 channels may last 5 s"):  # it does not say how long it is
        read_container(of_unknown_length(data), 20)
    assert sum(decoded) <= 2 * 20 * 8000 + 8 * 8000


def test_blocks_are_decoded_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a caller can let others have their turn in between."""
    blocks = decode_blocks(FLAC)
    first = next(blocks)
    assert first.samples.shape == (RATE, 1) and first.rate == RATE
    rest = list(islice(blocks, 5))
    assert len(rest) == 1
    assert np.array_equal(mixed([first, *rest])[0], read_container(WAV)[0])
