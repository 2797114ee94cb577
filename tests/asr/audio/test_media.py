"""What browsers and phones record, decoded in a process of its own."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import av
import numpy as np
import pytest

from asr.audio import Samples, media, media_decoder, read_at_16k, read_container
from asr.errors import AudioError, AudioLengthError
from tests.support.media_files import SPEECH, media_file

BEYOND = 0.1
"""Seconds that a codec may add at the ends."""


def likeness(samples: Samples) -> float:
    """How much they are like the speech, wherever it begins: 1 at most."""
    padded = np.pad(samples, len(SPEECH) // 2)
    found = np.correlate(padded, SPEECH, "valid").max()
    return float(found / np.linalg.norm(SPEECH) / np.linalg.norm(samples))


@pytest.mark.parametrize(
    ("kind", "codec", "rate", "channels"),
    [
        ("webm", "libopus", 48_000, 1), ("webm", "libopus", 48_000, 2), ("matroska", "flac", 16_000, 1),
        ("mp4", "aac", 44_100, 2), ("ipod", "aac", 48_000, 1), ("adts", "aac", 16_000, 1), ("ogg", "flac", 16_000, 1),
    ],
)  # fmt: skip
def test_kinds_of_files(kind: str, codec: str, rate: int, channels: int) -> None:
    data = media_file(kind, codec, rate, channels)
    samples, found = read_container(data)
    assert found == rate and 0 <= len(samples) / rate - 3 < BEYOND
    assert likeness(read_at_16k(data)) > 0.9


def test_what_is_there_of_a_file_that_was_cut_off_or_damaged() -> None:
    webm = media_file("webm", "libopus", 48_000)
    samples, rate = read_container(webm[: len(webm) // 2])
    assert 1 < len(samples) / rate < 2
    middle = len(webm) // 2
    damaged, _ = read_container(webm[:middle] + bytes(40) + webm[middle + 40 :])
    assert len(damaged) / rate > 1
    mp4 = b"\0\0\0\x20ftypM4A " + bytes(100)
    for nothing in (webm[:300], webm[:4] + bytes(100), media_file("mp4", "aac")[:2000], mp4):
        with pytest.raises(AudioError, match="(WebM|MP4).*, damaged or without an audio track; convert it to a WAV"):
            read_container(nothing)


def test_a_film_without_sound() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match="MP4.*without an audio track"):
        read_container(file.getvalue())


def test_no_more_is_decoded_than_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def popen(*arguments: object, **named: object) -> subprocess.Popen[bytes]:
        started.append(original(*arguments, **named))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(AudioLengthError, match="longer than 2 s"):
        read_container(media_file("webm", "libopus", 48_000, seconds=60), 2.0)
    (decoder,) = started
    assert decoder.poll() is not None


@pytest.mark.parametrize("program", ["import os; os.abort()", "data = [bytearray(1 << 20) for _ in range(1 << 20)]"])
def test_a_decoder_that_crashes_or_takes_too_much_harms_nobody(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmful = tmp_path / "harmful.py"
    folder = str(Path(media_decoder.__file__).parent)
    start = f"import sys\nsys.path.append({folder!r})\nimport media_decoder\nmedia_decoder.limit(1 << 28, 10)\n"
    harmful.write_text(start + program, encoding="utf-8")
    monkeypatch.setattr(media, "_PROGRAM", harmful)
    with pytest.raises(AudioError, match="damaged"):
        read_container(b"\x1aE\xdf\xa3" + bytes(1 << 20))
    done = subprocess.run([sys.executable, str(harmful)], capture_output=True, check=False)
    assert done.returncode and (b"MemoryError" in done.stderr or done.returncode == -6)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(name: str) -> ModuleSpec | None:
        assert name == "av"
        return None

    monkeypatch.setattr(media, "find_spec", find_spec)
    with pytest.raises(AudioError, match=r"is WebM or Matroska, which takes the extra `media`.*convert it to a WAV"):
        read_container(b"\x1aE\xdf\xa3" + bytes(100))
