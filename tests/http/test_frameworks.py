"""Pipecat's and LiveKit's own services for OpenAI, unchanged, through the realtime WebSocket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from server.access import make_key
from tests.http.conftest import metric
from tests.support.frameworks import LIVEKIT, PIPECAT
from tests.support.remote_client import remote_client
from tests.support.waiting import until

PROGRAM = Path(__file__).parent / "framework_client.py"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("framework", "packages"), [("pipecat", PIPECAT), ("livekit", LIVEKIT)])
def test_a_framework(workshop: Any, pcm: bytes, tmp_path: Path, framework: str, packages: tuple[str, ...]) -> None:
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    (tmp_path / "audio").write_bytes(pcm[:48_000] + bytes(96_000))
    replica = workshop.start(http_port=0, access__keys_file=str(tmp_path / "keys"))
    target = f"http://127.0.0.1:{replica.server.http_port}/v1"
    with remote_client(PROGRAM, packages, PATH=os.environ["PATH"]) as client:
        told = client(framework, target=target, audio=str(tmp_path / "audio"), key=secret)
        until(lambda: metric(replica, "tenant_audio_seconds_total", tenant="acme"))
    *interim, (kind, final) = told
    assert kind.lower().startswith(("final", "transcription")) and interim
    assert final.strip() and metric(replica, "tenant_audio_seconds_total", tenant="acme") > 1.0
