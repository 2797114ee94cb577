"""Pipecat's and LiveKit's own services for NVIDIA, unchanged, reach the server through Riva's door."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carryover.v1 import recognizer_pb2
from tests.doors.conftest import attached
from tests.doors.test_riva import target
from tests.support.frameworks import LIVEKIT, PIPECAT
from tests.support.remote_client import RemoteClient, remote_client

FOLDER = Path(__file__).parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipecat() -> Iterator[RemoteClient]:
    with remote_client(FOLDER / "pipecat_client.py", PIPECAT, PATH=os.environ["PATH"]) as client:
        yield client


@pytest.fixture(scope="module")
def livekit() -> Iterator[RemoteClient]:
    with remote_client(FOLDER / "livekit_client.py", LIVEKIT, PATH=os.environ["PATH"]) as client:
        yield client


def texts(shared: Any, pcm: bytes, **config: Any) -> list[str]:
    """Our own final transcripts."""
    return [r.alternatives[0].transcript for r in shared.finals(pcm, **config) if r.alternatives[0].transcript]


@pytest.fixture
def ended(pcm: bytes, tmp_path: Path) -> tuple[bytes, str]:
    """Audio after which no utterance is under way, and its path."""
    audio = pcm[:48_000] + bytes(96_000)
    (tmp_path / "ended").write_bytes(audio)
    return audio, str(tmp_path / "ended")


def test_pipecat(pipecat: RemoteClient, shared: Any, ended: tuple[bytes, str]) -> None:
    """Its own settings: 320 ms of silence, written form."""
    endpointing = recognizer_pb2.Endpointing(trailing_silence_s=0.32)
    expected = texts(shared, ended[0], endpointing=endpointing, automatic_punctuation=True)
    frames = pipecat("transcribe", target=target(shared), audio=ended[1], finals=1)
    finals = [text for kind, text in frames if kind == "TranscriptionFrame"]
    assert [text.strip() for text in finals] == expected[: len(finals)] and finals
    assert any(kind == "InterimTranscriptionFrame" for kind, _ in frames)


def test_pipecat_in_a_dialogue(pipecat: RemoteClient, shared: Any, dialogue: str, ended: tuple[bytes, str]) -> None:
    shared.ask(dialogue, "1", "meg bauer")
    shared.wait_for("READY", dialogue)
    asked = {"target": target(shared), "audio": ended[1], "custom": f"dialogue_id:{dialogue},turn_id:2", "finals": 1}
    settings = {"automatic_punctuation": False}
    with attached(shared) as wait:
        frames = pipecat("transcribe", before_audio=wait, settings=settings, **asked)
    assert next(text for kind, text in frames if kind == "TranscriptionFrame") == "meg bauer "


@pytest.mark.parametrize("punctuate", [True, False])
def test_livekit(livekit: RemoteClient, shared: Any, pcm: bytes, raw: str, punctuate: bool) -> None:
    expected = texts(shared, pcm, automatic_punctuation=punctuate)
    events = livekit("transcribe", target=target(shared), audio=raw, punctuate=punctuate)
    finals = [(text.strip(), words) for kind, text, words in events if kind == "final_transcript"]
    assert [text for text, _ in finals] == expected
    assert [words for _, words in finals] == [len(text.split()) for text in expected]
    kinds = [kind for kind, _, _ in events]
    assert kinds[0] == "start_of_speech" and "interim_transcript" in kinds and "end_of_speech" in kinds
