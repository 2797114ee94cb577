"""The command `serve` as a process: it serves, ends properly on SIGTERM, and says in one line what is wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from asr.acoustic.checkpoint import save_model
from benchmarks.server.fault_proxy import Fault, fault_proxy
from carryover.v1 import context_pb2 as ctx
from carryover.v1 import recognizer_pb2 as pb
from carryover.v1.context_pb2_grpc import ContextStub
from carryover.v1.recognizer_pb2_grpc import RecognizerStub
from context_store.local_server import local_server
from server import hosting
from server.access import make_key
from server.commands import serve
from server.hosting import HostError, open_store
from server.settings import load_settings
from tests.support.dynalite_server import dynalite_server
from tests.support.moto_server import fresh_tables
from tests.support.waiting import PATIENT, until


def launch(folder: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    environ = settings | {k: v for k, v in os.environ.items() if not k.startswith("CARRYOVER_")}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "server.commands.serve", *arguments],
        env={**environ, **PATIENT, "CARRYOVER_MODEL__WEIGHTS": str(folder)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tiny_model: Any, tiny_tokenizer: Any, tmp_path_factory: Any) -> Path:
    """An acoustic model that loads at once; the context model is the shipped one."""
    path = Path(tmp_path_factory.mktemp("acoustic"))
    save_model(path, tiny_model, tiny_tokenizer, "tiny")
    return path


def test_serve_until_sigterm(folder: Path, pcm: bytes) -> None:
    with launch(folder, "--port", "0") as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
                break
        else:
            raise AssertionError("".join(said))
        reading = threading.Thread(target=lambda: said.extend(process.stderr or ()))
        reading.start()
        terminated = threading.Event()

        def messages() -> Iterator[pb.StreamingRecognizeRequest]:
            config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000, interim_results=True)
            yield pb.StreamingRecognizeRequest(config=config)
            yield pb.StreamingRecognizeRequest(audio=pcm)
            assert terminated.wait(60)
            yield pb.StreamingRecognizeRequest(audio=pcm)

        with grpc.insecure_channel(f"127.0.0.1:{found[1]}") as channel:
            responses = RecognizerStub(channel).StreamingRecognize(messages(), timeout=60)
            first = next(responses)
            busy = launch(folder, "--port", found[1])
            assert busy.communicate(timeout=60)[1].splitlines()[-1].startswith("serve: cannot listen on 127.0.0.1:")
            assert busy.returncode == 2
            process.send_signal(signal.SIGTERM)
            terminated.set()
            results = [result for response in (first, *responses) for result in response.results]
        assert results[-1].is_final
        assert results[-1].end == pytest.approx(6, abs=0.5)
        assert process.wait(60) == 0
        reading.join(30)
    assert any("SIGTERM" in line for line in said)


def listening(process: subprocess.Popen[str], said: list[str]) -> int:
    """The port that a starting server listens on; what it says until then goes into `said`."""
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("".join(said))


def frame(kind: int, payload: bytes) -> bytes:
    """An HTTP/2 frame of the connection itself."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


def test_what_clients_send_becomes_no_log_line(folder: Path) -> None:
    """gRPC's core has words of its own for a GOAWAY, with the client's in them."""
    forged = b'secret words\n{"level": "INFO", "event": "forged"}\nserve: forged\n'
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, b"")
    sent = [
        *(hello + frame(7, bytes(4) + code.to_bytes(4, "big") + forged) for code in (1, 2, 11, 13)),
        hello + forged, forged, b"GET /" + forged + b" HTTP/1.1\r\n\r\n",
    ]  # fmt: skip
    with launch(folder, "--port", "0") as process:
        said: list[str] = []
        port = listening(process, said)
        for data in sent:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                with suppress(ConnectionError):
                    while client.recv(4096):  # until the server has read it, and hangs up
                        pass
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            RecognizerStub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=60)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        said += process.stderr.readlines()
        assert process.wait(60) == 0
    assert not any("forged" in line or "secret" in line for line in said), said
    assert all(line.startswith("serve: ") or isinstance(json.loads(line), dict) for line in said)


def test_signals(folder: Path, pcm: bytes, tmp_path: Path) -> None:
    """SIGHUP reads the keys, SIGUSR1 and SIGUSR2 are ignored, SIGTERM drains, the second one ends at once."""
    key, line = make_key("acme")
    keys, environ = tmp_path / "keys", dict[str, str]()
    keys.write_text("# nobody yet\n")
    environ["CARRYOVER_ACCESS__KEYS_FILE"] = str(keys)
    with launch(folder, "--port", "0", **environ) as process:
        said: list[str] = []
        port = listening(process, said)
        reading = threading.Thread(target=lambda: said.extend(process.stderr or ()))
        reading.start()
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(number)
        until(lambda: sum("signal_ignored" in line for line in said) == 2)
        keys.write_text(line + "\n")
        process.send_signal(signal.SIGHUP)
        until(lambda: any("keys_reloaded" in line for line in said))
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:

            def messages() -> Iterator[pb.StreamingRecognizeRequest]:
                config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000, interim_results=True)
                yield pb.StreamingRecognizeRequest(config=config)
                yield pb.StreamingRecognizeRequest(audio=pcm)
                ended.wait(60)  # it never half-closes

            ended = threading.Event()
            metadata = [("authorization", f"Bearer {key}")]
            responses = RecognizerStub(channel).StreamingRecognize(messages(), timeout=60, metadata=metadata)
            next(responses)
            process.send_signal(signal.SIGTERM)
            until(lambda: any("SIGTERM: finishing" in line for line in said))
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.RpcError):
                list(responses)
            ended.set()
        assert process.wait(60) == 0
        reading.join(30)


def test_nobody_reads_what_it_says(folder: Path) -> None:
    """A full disk behind standard error is no reason not to serve, nor to end with an error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CARRYOVER_")}
    with open("/dev/full", "w") as full, subprocess.Popen(
        [sys.executable, "-P", "-m", "server.commands.serve", "--port", str(port)],
        env={**environ, **PATIENT, "CARRYOVER_MODEL__WEIGHTS": str(folder)}, stderr=full,
    ) as process:  # fmt: skip
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            info = RecognizerStub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=60, wait_for_ready=True)
            assert info.model_version
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_store_of_its_own_may_be_slow_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the first answers take longer than an answer may later."""

    @contextmanager
    def slow() -> Iterator[str]:
        with local_server() as url, fault_proxy(url, lambda operation: Fault.SLOW) as proxy:
            proxy.slow_s = 0.4
            yield proxy.url

    monkeypatch.setattr(hosting, "local_server", slow)
    said: list[str] = []
    with open_store(load_settings(None, {"store.read_timeout_s": 0.1}, {}), said.append):
        assert "until it answers there is no context" in said[-1]


def test_a_store_that_is_dead_at_the_start_is_no_reason_not_to_recognise(
    tables: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    said: list[str] = []
    with open_store(load_settings(None, {"store.endpoint": "http://127.0.0.1:1"}, {}), said.append):
        assert said[-1].startswith("warning: DynamoDB did not answer") and "no context" in said[-1]
    absent = load_settings(None, {"store.endpoint": tables.endpoint_url, "store.events_table": "absent"}, {})
    with pytest.raises(HostError, match="create_tables"), open_store(absent, said.append):
        pass


def test_what_the_store_lacks_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with open_store(load_settings(None, {}, {}), said.append):
        assert not [line for line in said if line.startswith("warning")]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    with dynalite_server() as url, fresh_tables(url) as tables:
        names = {"store.events_table": tables.events_table, "store.payload_table": tables.payload_table}
        with open_store(load_settings(None, {"store.endpoint": url, **names}, {}), said.append):
            (warning,) = [line for line in said if line.startswith("warning")]
            assert "time to live is off" in warning and "failed conditions" in warning


HANGING = """
import threading
from asr.context.encoder import ContextEncoder
ContextEncoder.encode = lambda self, context: threading.Event().wait()
from server.commands.serve import app
app()
"""


def test_an_encoder_that_hangs_does_not_keep_the_process(folder: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CARRYOVER_")}
    settings = {**PATIENT, "CARRYOVER_MODEL__WEIGHTS": str(folder), "CARRYOVER_DRAIN_S": "0.5"}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HANGING, "--port", "0"],
        env=environ | settings, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        found = next(filter(None, (re.search(r"listening on \S+:(\d+)", line) for line in process.stderr)))
        events = [
            ctx.Event(event_id="1", utterance=ctx.Utterance(text="call meg")),
            ctx.Event(event_id="2", expect_speech=ctx.ExpectSpeech()),
        ]
        with grpc.insecure_channel(f"127.0.0.1:{found[1]}") as channel:
            context = ContextStub(channel)
            context.RecordEvents(ctx.RecordEventsRequest(dialogue_id="d", turn_id="1", events=events), timeout=30)
            request = ctx.GetContextStatusRequest(dialogue_id="d")
            until(lambda: context.GetContextStatus(request, timeout=30).state == ctx.ENCODING)
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(60) == 0
    assert "a thread does not end" in said


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("drain_s = 'x'", "drain_s"),
        ("[limits]\nstreems = 3", "limits.streems"),
        ("[model]\nweights = '/absent'", "/absent"),
        ("[model]\nweights = 'GARBAGE'", "tokens.model"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, folder: Path, settings: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    garbage = shutil.copytree(folder, tmp_path / "model")
    (garbage / "tokens.model").write_bytes(b"\0garbage" * 100)
    for name in [name for name in os.environ if name.startswith("CARRYOVER_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "carryover.toml"
    file.write_text(settings.replace("GARBAGE", str(garbage)))
    result = CliRunner().invoke(serve.app, ["--port", "0", "--config", str(file)])
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    last = result.stderr.splitlines()[-1]
    assert last.startswith("serve: ")
    assert named in last
