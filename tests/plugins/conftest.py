"""Real servers, as tests/integration has them, and recordings as files."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.voice_agents.follow_ups import recordings
from tests.integration.conftest import dialogue, key, pcm, shared, shipped, tables, workshop
from tests.support.waiting import until

__all__ = ["dialogue", "key", "pcm", "shared", "shipped", "tables", "workshop"]


@pytest.fixture
def raw(pcm: bytes, tmp_path: Path) -> str:
    """Path of three seconds of samples."""
    path = tmp_path / "pcm"
    path.write_bytes(pcm)
    return str(path)


def replaced(workshop: Any, replica: Any, **settings: Any) -> Any:
    """Another server in the place of one that goes away while a stream runs."""
    until(lambda: replica.call(lambda: replica.server.streams.running))
    workshop.replicas.remove(replica)
    replica.close()
    return workshop.start(port=replica.port, **settings)


class HangsUp:
    """A port where whoever calls is hung up on."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.calls = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                called, _ = self._socket.accept()
                self.calls += 1
                called.close()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def hangs_up() -> Iterator[HangsUp]:
    made = HangsUp()
    yield made
    made.close()


@pytest.fixture(scope="session")
def wavs() -> Iterator[Path]:
    """The folder of the follow-ups' recordings as WAV files."""
    with recordings() as folder:
        yield folder
