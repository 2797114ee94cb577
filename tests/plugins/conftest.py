"""Real servers, as tests/integration has them, and recordings as files."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from tests.integration.conftest import dialogue, key, pcm, shared, shipped, tables, workshop

__all__ = ["dialogue", "key", "pcm", "shared", "shipped", "tables", "workshop"]

RECORDINGS = Path(__file__).parents[2] / "server/demo/audio"


@pytest.fixture
def raw(pcm: bytes, tmp_path: Path) -> str:
    """Path of three seconds of samples."""
    path = tmp_path / "pcm"
    path.write_bytes(pcm)
    return str(path)


@pytest.fixture
def follow_up(tmp_path: Path) -> list[str]:
    """Paths of two WAV files: "call Meg", and the answer to the question which one."""
    paths = []
    for name in ("call_meg", "bauer"):
        samples, rate = soundfile.read(RECORDINGS / f"{name}.flac", dtype="int16")
        soundfile.write(tmp_path / f"{name}.wav", samples, rate, subtype="PCM_16")
        paths.append(str(tmp_path / f"{name}.wav"))
    return paths
