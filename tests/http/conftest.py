"""Real servers with an HTTP port, as tests/integration has them, and those who call it."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.recognition.recognizer import Recognizer
from context_store import StoreConfig, WrappingKey
from tests.integration.conftest import dialogue, key, pcm, tables, workshop
from tests.support.remote_client import RemoteClient, remote_client
from tests.support.replicas import DEADLINE_S, RATE, Replica, Workshop

__all__ = ["dialogue", "key", "pcm", "tables", "workshop"]

OPENAI_CLIENT = ("openai==3.57.0", "websockets==17.4")
OPENAI_PROGRAM = Path(__file__).parent / "openai_client.py"


@pytest.fixture(scope="session")
def openai() -> Iterator[RemoteClient]:
    """OpenAI's client."""
    with remote_client(OPENAI_PROGRAM, OPENAI_CLIENT, PATH=os.environ["PATH"]) as client:
        yield client


@pytest.fixture(scope="module")
def shared(tiny_recognizer: Recognizer, tables: StoreConfig, key: WrappingKey) -> Iterator[Replica]:
    """One replica for tests that leave no trace in it."""
    shop = Workshop(tiny_recognizer, tables, key)
    yield shop.start(http_port=0, limits__stream_seconds=20, limits__recording_seconds=20)
    shop.close()


@pytest.fixture
def wav(pcm: bytes, tmp_path: Path) -> str:
    """Path of a WAV file of the samples."""
    path = tmp_path / "audio.wav"
    soundfile.write(path, np.frombuffer(pcm, "<i2"), RATE, subtype="PCM_16")
    return str(path)


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(replica: Replica, path: str, body: bytes | None = None, scheme: str = "http", **headers: str) -> Answer:
    """A request's response; GET without a body. Headers with _ for the hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{replica.server.http_port}{path}", body, named)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def form(*fields: tuple[str, str | bytes]) -> tuple[bytes, str]:
    """A form as multipart/form-data, and its content type; bytes are a file's."""
    parts = [
        f'--x\r\ncontent-disposition: form-data; name="{name}"'.encode()
        + (b'; filename="audio.wav"' if isinstance(value, bytes) else b"")
        + b"\r\n\r\n"
        + (value if isinstance(value, bytes) else value.encode())
        + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x"


def transcribe(replica: Replica, *fields: tuple[str, str | bytes], **headers: str) -> Answer:
    """The response to a form."""
    body, kind = form(*fields)
    return call(replica, "/v1/audio/transcriptions", body, content_type=kind, **headers)


def metric(replica: Replica, name: str, **labels: str) -> float:
    return replica.server.metrics.registry.get_sample_value(f"carryover_{name}", labels) or 0.0
