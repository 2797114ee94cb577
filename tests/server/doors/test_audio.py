"""Streams of other protocols: whole samples out of any pieces, with and without a WAV header."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import decode_pcm
from carryover.v1 import recognizer_pb2 as pb
from server.doors.audio import MAX_HEADER_BYTES, Samples, is_file, is_wav, wav_header
from server.errors import InvalidRequestError

VALUES = (np.sin(np.arange(400)) * 0.5).astype(np.float32)
SUBTYPES = {"PCM_16": pb.LINEAR16, "FLOAT": pb.FLOAT32, "ULAW": pb.MULAW, "ALAW": pb.ALAW}
cuts = st.lists(st.integers(0, 60), max_size=40)


def wav(subtype: str = "PCM_16", rate: int = 22_050, kind: str = "WAV", channels: int = 1) -> bytes:
    file = io.BytesIO()
    values = np.stack([VALUES] * channels, 1)
    soundfile.write(file, values, rate, format=kind, subtype=subtype)
    return file.getvalue()


def taken(samples: Samples, data: bytes, sizes: list[int]) -> bytes:
    """What comes out of pieces of these sizes, and the rest as one."""
    out, at = b"", 0
    for size in sizes:
        out += samples.take(data[at : at + size])
        at += size
    return out + samples.take(data[at:])


@given(st.sampled_from(sorted(SUBTYPES)), st.sampled_from(["WAV", "WAVEX"]), cuts, st.binary(max_size=20))
def test_a_wav_file_in_pieces(subtype: str, kind: str, sizes: list[int], behind: bytes) -> None:
    """Its samples come out, as libsndfile reads them; what stands behind them does not."""
    file = wav(subtype, kind=kind)
    samples = Samples(pb.ENCODING_UNSPECIFIED, 0)
    data = taken(samples, file + behind, sizes)
    assert (samples.encoding, samples.rate) == (SUBTYPES[subtype], 22_050)
    expected, _ = soundfile.read(io.BytesIO(file), dtype="float32")
    decoded = decode_pcm(data, pb.AudioEncoding.Name(samples.encoding))
    assert len(decoded) == len(expected)
    np.testing.assert_allclose(decoded, expected, atol=1e-4)


@given(st.binary(max_size=200), cuts, st.sampled_from([(pb.LINEAR16, 2), (pb.FLOAT32, 4), (pb.ALAW, 1)]))
def test_samples_in_pieces(data: bytes, sizes: list[int], encoding: Any) -> None:
    kind, size = encoding
    samples, out = Samples(kind, 8000), []
    at = 0
    for length in [*sizes, len(data)]:
        out.append(samples.take(data[at : at + length]))
        at += length
    assert all(len(piece) % size == 0 for piece in out)
    if len(data) >= 12 and not is_wav(data):
        assert b"".join(out) == data[: len(data) - len(data) % size]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_header_out_of_a_pipe(size: int) -> None:
    file = bytearray(wav())
    file[40:44] = size.to_bytes(4, "little")
    assert taken(Samples(pb.LINEAR16, 22_050), bytes(file), []) == bytes(file[44:])


def test_a_header_that_contradicts_the_configuration() -> None:
    for samples, field in ((Samples(pb.ALAW, 22_050), "encoding"), (Samples(pb.LINEAR16, 16_000), "sample_rate_hertz")):
        with pytest.raises(InvalidRequestError, match=f"config.{field}: the audio's WAV header says"):
            samples.take(wav())


@pytest.mark.parametrize(
    ("file", "field"),
    [
        (wav("PCM_24"), "audio"),
        (wav(channels=2), "audio"),
        (wav(kind="FLAC"), "audio"),
        (b"OggS" + bytes(20), "audio"),
        (bytes(20), "config.encoding"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + bytes(20), "audio"),
    ],
)
def test_what_cannot_be_streamed(file: bytes, field: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        Samples(pb.ENCODING_UNSPECIFIED, 0).take(file)
    assert refused.value.field == field


def test_samples_need_a_rate() -> None:
    with pytest.raises(InvalidRequestError, match="config.sample_rate_hertz: is required"):
        Samples(pb.LINEAR16, 0).take(bytes(20))
    assert not is_file(bytes(20))


def test_a_header_that_does_not_end_is_refused_soon() -> None:
    chunk = b"junk" + (1000).to_bytes(4, "little") + bytes(1000)
    samples, head = Samples(pb.ENCODING_UNSPECIFIED, 0), b"RIFF\0\0\0\0WAVE"
    samples.take(head)
    for _ in range(MAX_HEADER_BYTES // len(chunk)):
        samples.take(chunk)
    with pytest.raises(InvalidRequestError, match="does not end"):
        samples.take(2 * chunk)
    with pytest.raises(InvalidRequestError, match="does not end"):
        wav_header(head + b"junk\xff\xff\xff\xff")
