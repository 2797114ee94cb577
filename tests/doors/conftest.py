"""Real servers, as tests/integration has them, and what is said to them through other protocols' clients."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.integration.conftest import dialogue, key, pcm, shared, shipped, tables, workshop
from tests.support.remote_client import RemoteClient, remote_client
from tests.support.replicas import DEADLINE_S, RATE

__all__ = ["dialogue", "key", "pcm", "shared", "shipped", "tables", "workshop"]

RIVA_CLIENT = ("nvidia-riva-client==2.28.0",)
RIVA_PROGRAM = Path(__file__).parent / "riva_client.py"
GOOGLE_CLIENT = ("google-cloud-speech==2.41.0",)
GOOGLE_PROGRAM = Path(__file__).parent / "google_client.py"


@pytest.fixture(scope="session")
def riva() -> Iterator[RemoteClient]:
    """NVIDIA's client."""
    with remote_client(RIVA_PROGRAM, RIVA_CLIENT, PATH=os.environ["PATH"]) as client:
        yield client


@pytest.fixture(scope="session")
def google() -> Iterator[RemoteClient]:
    """Google's clients, without TLS."""
    with remote_client(GOOGLE_PROGRAM, GOOGLE_CLIENT, PATH=os.environ["PATH"]) as client:
        yield client


@pytest.fixture
def raw(pcm: bytes, tmp_path: Path) -> str:
    """Path of the samples without a header."""
    path = tmp_path / "pcm"
    path.write_bytes(pcm)
    return str(path)


@pytest.fixture
def wav(pcm: bytes, tmp_path: Path) -> str:
    """Path of a WAV file of them."""
    path = tmp_path / "audio.wav"
    soundfile.write(path, np.frombuffer(pcm, "<i2"), RATE, subtype="PCM_16")
    return str(path)


@contextmanager
def attached(replica: Any) -> Iterator[Callable[[], None]]:
    """Gives a function that waits until a stream has begun and the store has said what it knows of its dialogue."""
    contexts, begun = replica.server.contexts, threading.Event()
    attach = contexts.attach

    @contextmanager
    def watched(*arguments: Any) -> Iterator[Any]:
        with attach(*arguments) as handle:
            begun.set()
            yield handle

    def wait() -> None:
        assert begun.wait(DEADLINE_S)
        replica.run(replica.store_answered())

    contexts.attach = watched
    try:
        yield wait
    finally:
        del contexts.attach
