"""Audio files: WAV of every usual kind without another package, as soundfile reads it; the rest with soundfile."""

from __future__ import annotations

import struct
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from carryover import Audio, AudioError, ChangeRequestError, read_audio
from carryover.audio import Clock, format_of, linear16, recording

SAMPLES = (0.5 * np.sin(np.arange(3000) / 7)).astype(np.float32)
AS = {"LINEAR16": "<i2", "FLOAT32": "<f4"}


@pytest.fixture
def without_soundfile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)


def floats(audio: Audio) -> Any:
    values = np.frombuffer(audio.samples, AS[audio.encoding])
    return values / 32768.0 if audio.encoding == "LINEAR16" else values


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("channels", [1, 3])
def test_wav_alone(without_soundfile: None, tmp_path: Path, subtype: str, form: str, channels: int) -> None:
    several = np.stack([SAMPLES * (channel + 1) / channels for channel in range(channels)], axis=1)
    soundfile.write(tmp_path / "a.wav", several, 22_050, subtype=subtype, format=form)
    audio = read_audio(tmp_path / "a.wav")
    assert audio.rate == 22_050
    expected, _ = soundfile.read(tmp_path / "a.wav", always_2d=True)
    assert floats(audio) == pytest.approx(expected.mean(1), abs=1.01 / 32768)


@pytest.mark.parametrize(("subtype", "encoding"), [("ULAW", "MULAW"), ("ALAW", "ALAW")])
def test_telephone_wav(without_soundfile: None, tmp_path: Path, subtype: str, encoding: str) -> None:
    soundfile.write(tmp_path / "a.wav", SAMPLES, 8000, subtype=subtype)
    audio = read_audio(str(tmp_path / "a.wav"))
    assert (audio.encoding, audio.rate, len(audio.samples)) == (encoding, 8000, len(SAMPLES))


def test_a_wav_that_was_cut_off_or_came_from_a_pipe(without_soundfile: None, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(linear16(SAMPLES))
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:1044])
    assert read_audio(tmp_path / "cut.wav").samples == linear16(SAMPLES)[:1000]
    place = whole.index(b"data")
    for unknown in (0, 0xFFFFFFFF):
        (tmp_path / "pipe.wav").write_bytes(whole[: place + 4] + struct.pack("<I", unknown) + whole[place + 8 :])
        assert read_audio(tmp_path / "pipe.wav").samples == linear16(SAMPLES)


def test_other_files_take_soundfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.flac", np.stack([SAMPLES, SAMPLES], axis=1), 16_000)
    audio = read_audio(tmp_path / "a.flac")
    assert audio.rate == 16_000 and floats(audio) == pytest.approx(SAMPLES, abs=2 / 32768)
    (tmp_path / "no.flac").write_bytes(b"nothing")
    with pytest.raises(AudioError, match=r"no\.flac is no audio file"):
        read_audio(tmp_path / "no.flac")
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(AudioError, match=r"a\.flac .* pip install soundfile, or let Client\.recognize send"):
        read_audio(tmp_path / "a.flac")


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"absent\.wav cannot be read \(No such file"):
        read_audio(tmp_path / "absent.wav")
    with pytest.raises(AudioError, match="absent"):
        recording(tmp_path / "absent.wav")
    with pytest.raises(AudioError, match="MP3 is none of LINEAR16"):
        Audio(b"", encoding="MP3")
    with pytest.raises(AudioError, match="0 samples a second"):
        Audio(b"", 0)
    with pytest.raises(ChangeRequestError, match="MP3 is none of LINEAR16") as caught:
        format_of([b""], 16_000, "MP3")
    assert caught.value.field == "config.encoding"
    with pytest.raises(ChangeRequestError, match=r"give Audio\(samples, rate\)"):
        format_of(b"\0\0", 16_000, "LINEAR16")


def test_pieces_are_a_tenth_of_a_second_of_whole_samples() -> None:
    audio = Audio(bytes(2 * 4410 + 2), 22_050)
    assert [len(piece) for piece in audio] == [4410, 4410, 2]
    assert b"".join(audio) == audio.samples
    assert [len(piece) for piece in Audio(bytes(900), 8000, "MULAW")] == [800, 100]


def test_pieces_are_due_when_they_have_been_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = Clock(16_000, "LINEAR16")
    assert clock.wait_s(bytes(3200)) == pytest.approx(0.1)
    now = 100.15
    assert clock.wait_s(bytes(3200)) == pytest.approx(0.05)
    now = 101.0
    assert clock.wait_s(bytes(3200)) == 0.0
