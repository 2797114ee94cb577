"""Real servers, as tests/integration has them, and recordings as files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.voice_agents.follow_ups import recordings
from tests.integration.conftest import dialogue, key, pcm, shared, shipped, tables, workshop

__all__ = ["dialogue", "key", "pcm", "shared", "shipped", "tables", "workshop"]


@pytest.fixture
def raw(pcm: bytes, tmp_path: Path) -> str:
    """Path of three seconds of samples."""
    path = tmp_path / "pcm"
    path.write_bytes(pcm)
    return str(path)


@pytest.fixture(scope="session")
def wavs() -> Iterator[Path]:
    """The folder of the follow-ups' recordings as WAV files."""
    with recordings() as folder:
        yield folder
