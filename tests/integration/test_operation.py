"""Draining, ports, logs and metrics without user text, and the client command."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import prometheus_client
import pytest
import soundfile
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

from carryover.v1 import recognizer_pb2 as pb
from server import app, logs
from server.commands import stream_client
from server.ports import PortError
from tests.support.waiting import until


def test_draining_ends_running_streams_properly_and_takes_no_new_ones(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start()
    expected = replica.finals(pcm)
    go_on = threading.Event()

    def messages() -> Iterator[pb.StreamingRecognizeRequest]:
        config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
        yield pb.StreamingRecognizeRequest(config=config)
        assert go_on.wait(60)
        for start in range(0, len(pcm), 6400):
            yield pb.StreamingRecognizeRequest(audio=pcm[start : start + 6400])

    call = replica.recognizer.StreamingRecognize(messages(), timeout=60)
    until(lambda: replica.server.streams.running == 1)
    drained = asyncio.run_coroutine_threadsafe(replica.server.drain(), replica.loop)
    until(lambda: replica.server.draining)
    with pytest.raises(grpc.RpcError) as caught:
        replica.finals(pcm)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "another replica" in (caught.value.details() or "")
    health = cast(Any, health_pb2_grpc.HealthStub(replica.channel)).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert not drained.done()
    go_on.set()
    assert [r for response in call for r in response.results if r.is_final] == expected
    assert drained.result(30)


def test_clients_connect_anew_now_and_then_and_lose_no_call(
    workshop: Any, pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else replicas that come when there is much to do would get nothing to do."""
    monkeypatch.setattr(app, "_CONNECTION_MS", 500)
    replica = workshop.start()
    expected = replica.finals(pcm)
    asked = threading.Event()

    def messages() -> Iterator[pb.StreamingRecognizeRequest]:
        config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
        yield pb.StreamingRecognizeRequest(config=config)
        assert asked.wait(60)
        yield pb.StreamingRecognizeRequest(audio=pcm)

    call = replica.recognizer.StreamingRecognize(messages(), timeout=60)
    call.initial_metadata()
    states: list[grpc.ChannelConnectivity] = []
    replica.channel.subscribe(states.append)
    until(lambda: grpc.ChannelConnectivity.IDLE in states)
    asked.set()
    assert [r for response in call for r in response.results if r.is_final] == expected
    for _ in range(3):
        assert replica.finals(pcm) == expected


def test_a_port_in_use_is_said_clearly(workshop: Any) -> None:
    replica = workshop.start()
    with pytest.raises(PortError, match=f"127.0.0.1:{replica.port}.*choose another port"):
        workshop.start(port=replica.port)
    with pytest.raises(PortError, match=f"127.0.0.1:{replica.port} for metrics.*metrics_port"):
        workshop.start(port=0, metrics_port=replica.port)


@pytest.fixture
def lines() -> list[str]:
    """The lines that the server logs."""
    logs.configure("DEBUG")
    logged: list[str] = []
    handler = logging.getLogger("carryover").handlers[0]
    handler.emit = lambda record: logged.append(handler.format(record))  # type: ignore[method-assign]
    return logged


def test_no_user_text_in_logs_or_metrics(workshop: Any, pcm: bytes, dialogue: str, lines: list[str]) -> None:
    secret = "xylophone"
    logging.getLogger().setLevel(logging.DEBUG)  # libraries too
    replica = workshop.start()
    name = f"{secret}-{dialogue}"
    replica.ask(name, secret, secret)
    replica.wait_for("READY", name)
    heard = [final.alternatives[0].transcript for final in replica.finals(pcm, dialogue_id=name, turn_id="2")]
    assert heard[0] == secret
    replica.encoder.error = ValueError(secret)
    replica.ask(name, f"{secret}2", secret)
    replica.wait_for("FAILED", name)
    replica.rescorer.error = ValueError(secret)
    replica.finals(pcm, dialogue_id=name, turn_id=f"{secret}2")
    contexts = [pb.SpeechContext(phrases=[secret])]
    replica.finals(pcm, speech_contexts=contexts)
    for call in (lambda: replica.ask(name, "#" + secret), lambda: replica.stream(b"1", dialogue_id=name)):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert secret not in (caught.value.details() or "")
    assert any("context_failed" in line for line in lines)
    assert any("rescoring_failed" in line for line in lines)
    assert all(json.loads(line) for line in lines)
    metrics = prometheus_client.generate_latest(replica.server.metrics.registry).decode()
    assert "carryover_context_results_total" in metrics
    assert secret not in "\n".join([*lines, metrics])


def test_one_log_line_a_call(workshop: Any, pcm: bytes, dialogue: str, lines: list[str]) -> None:
    replica = workshop.start()
    replica.finals(pcm, dialogue_id=dialogue)
    (line,) = [line for line in map(json.loads, lines) if line["event"] == "call"]
    assert (line["method"], line["code"], line["context"]) == ("StreamingRecognize", "OK", "NOT_FOUND")
    assert line["audio_s"] == 3.0
    assert line["request_id"]


@pytest.fixture
def wav(tmp_path: Path, speech: Any) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.clip(speech, -1, 1), 16_000, subtype="PCM_16")
    return path


def test_stream_client(workshop: Any, wav: Path, pcm: bytes, dialogue: str) -> None:
    replica = workshop.start()
    replica.ask(dialogue, "1", "meg bauer")
    replica.wait_for("READY", dialogue)
    server = ["--server", f"127.0.0.1:{replica.port}", "--fast"]
    plain = CliRunner().invoke(stream_client.app, [str(wav), *server, "--json", "--nbest", "3"])
    assert plain.exit_code == 0, plain.output
    first = json.loads(plain.stdout.splitlines()[0])
    assert first["transcript"] == replica.finals(pcm)[0].alternatives[0].transcript
    assert len(first["alternatives"]) == 3
    assert first["context"]["status"] == "NOT_REQUESTED"
    asked = CliRunner().invoke(stream_client.app, [str(wav), *server, "--dialogue", dialogue])
    assert "meg bauer" in asked.stdout.splitlines()[0]
    assert "APPLIED" in asked.stdout


def test_stream_client_says_why_there_is_no_microphone(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replica = workshop.start()
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    silent = CliRunner().invoke(stream_client.app, ["--microphone", "--server", f"127.0.0.1:{replica.port}"])
    assert silent.exit_code == 2, silent.output
    assert "pip install sounddevice" in silent.stderr
    until(lambda: not replica.server.streams.running)


def test_stream_client_says_what_is_wrong(wav: Path, tmp_path: Path) -> None:
    absent = CliRunner().invoke(stream_client.app, [str(wav), "--server", "127.0.0.1:1", "--fast"])
    assert absent.exit_code == 2
    assert "no server answers at 127.0.0.1:1" in absent.output
    assert len(absent.stderr.strip().splitlines()) == 1
    nowhere = CliRunner().invoke(stream_client.app, [str(tmp_path / "nowhere.wav")])
    assert "nowhere.wav: the audio file cannot be read: No such file" in nowhere.output
    (tmp_path / "no.wav").write_bytes(b"nothing")
    broken = CliRunner().invoke(stream_client.app, [str(tmp_path / "no.wav"), "--fast"])
    assert broken.exit_code == 2
    assert "no.wav" in broken.output
