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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

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


def launch(
    folder: Path,
    *arguments: str,
    program: Sequence[str] = ("-m", "server.commands.serve"),
    says: int | IO[str] = subprocess.PIPE,
    **settings: str,
) -> subprocess.Popen[str]:
    environ = settings | {k: v for k, v in os.environ.items() if not k.startswith("CARRYOVER_")}
    return subprocess.Popen(
        [sys.executable, "-P", *program, *arguments],
        env={**environ, **PATIENT, "CARRYOVER_MODEL__WEIGHTS": str(folder)}, stderr=says, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tiny_model: Any, tiny_tokenizer: Any, tmp_path_factory: Any) -> Path:
    """An acoustic model that loads at once; the context model is the shipped one."""
    path = Path(tmp_path_factory.mktemp("acoustic"))
    save_model(path, tiny_model, tiny_tokenizer, "tiny")
    return path


def listening(process: subprocess.Popen[str], said: list[str]) -> int:
    """The port that a starting server listens on; what it says until then goes into `said`."""
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("".join(said))


class Serving(NamedTuple):
    """A server that listens. said: its lines so far. keys: the file of its keys, which has none at first."""

    process: subprocess.Popen[str]
    port: int
    said: list[str]
    keys: Path


@pytest.fixture(scope="module")
def serving(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A process for the tests that leave it running; SIGTERM ends it, whatever they did to it."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("# nobody yet\n")
    with launch(folder, "--port", "0", CARRYOVER_ACCESS__KEYS_FILE=str(keys)) as process:
        said: list[str] = []
        port = listening(process, said)
        reading = threading.Thread(target=lambda: said.extend(process.stderr or ()))
        reading.start()
        try:
            yield Serving(process, port, said, keys)
        finally:
            process.send_signal(signal.SIGTERM)
            ended = process.wait(60)
            reading.join(30)
        assert ended == 0 and any("SIGTERM: finishing" in line for line in said)


def audio_until(event: threading.Event, pcm: bytes, *after: bytes) -> Iterator[pb.StreamingRecognizeRequest]:
    """A stream's messages: some audio, and when the event has come, more of it."""
    config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000, interim_results=True)
    yield pb.StreamingRecognizeRequest(config=config)
    yield pb.StreamingRecognizeRequest(audio=pcm)
    assert event.wait(60)
    for audio in after:
        yield pb.StreamingRecognizeRequest(audio=audio)


def test_signals_that_do_not_end_it(serving: Serving) -> None:
    """SIGUSR1 and SIGUSR2 are ignored, SIGHUP reads the keys."""
    key, line = make_key("acme")
    metadata = [("authorization", f"Bearer {key}")]
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        serving.process.send_signal(number)
    until(lambda: sum("signal_ignored" in line for line in serving.said) == 2)
    with grpc.insecure_channel(f"127.0.0.1:{serving.port}") as channel:
        info = RecognizerStub(channel).GetServerInfo
        with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
            info(pb.GetServerInfoRequest(), timeout=60, metadata=metadata)
        serving.keys.write_text(line + "\n")
        serving.process.send_signal(signal.SIGHUP)
        until(lambda: any("keys_reloaded" in line for line in serving.said))
        assert info(pb.GetServerInfoRequest(), timeout=60, metadata=metadata).model_version


def frame(kind: int, payload: bytes) -> bytes:
    """An HTTP/2 frame of the connection itself."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


def test_what_clients_send_becomes_no_log_line(serving: Serving) -> None:
    """gRPC's core has words of its own for a GOAWAY, with the client's in them."""
    forged = b'secret words\n{"level": "INFO", "event": "forged"}\nserve: forged\n'
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, b"")
    sent = [
        *(hello + frame(7, bytes(4) + code.to_bytes(4, "big") + forged) for code in (1, 2, 11, 13)),
        hello + forged, forged, b"GET /" + forged + b" HTTP/1.1\r\n\r\n",
    ]  # fmt: skip
    for data in sent:
        with socket.create_connection(("127.0.0.1", serving.port), timeout=30) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while client.recv(4096):  # until the server has read it, and hangs up
                    pass
    ignored = sum("signal_ignored" in line for line in serving.said)
    serving.process.send_signal(signal.SIGUSR1)  # whose line comes after all that the above led to
    until(lambda: sum("signal_ignored" in line for line in serving.said) > ignored)
    assert not any("forged" in line or "secret" in line for line in serving.said), serving.said
    assert all(line.startswith("serve: ") or isinstance(json.loads(line), dict) for line in serving.said)


def test_a_port_that_is_in_use(serving: Serving, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said at once, not after the models are loaded."""
    for options in (["--port", str(serving.port)], ["--port", "0", "--http-port", str(serving.port)]):
        lines = said(monkeypatch, *options, weights=str(folder))
        assert len(lines) == 1 and lines[0].startswith(f"serve: cannot listen on 127.0.0.1:{serving.port}")
        assert f"choose another port ({options[-2]}, " in lines[0]
    for setting in ("health_port", "metrics_port"):
        config = tmp_path / f"{setting}.toml"
        config.write_text(f"{setting} = {serving.port}\n", encoding="utf-8")
        lines = said(monkeypatch, "--port", "0", "--config", str(config), weights=str(folder))
        assert len(lines) == 1 and lines[0].startswith(f"serve: cannot listen on 127.0.0.1:{serving.port} for ")
        assert f"choose another port ({setting}, " in lines[0]


def test_streams_are_finished_after_sigterm_and_nobody_reads_what_it_says(folder: Path, pcm: bytes) -> None:
    """A full disk behind standard error is no reason not to serve, nor to end with an error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open("/dev/full", "w") as full, launch(folder, "--port", str(port), says=full) as process:
        terminated = threading.Event()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub, request = RecognizerStub(channel), pb.GetServerInfoRequest()
            assert stub.GetServerInfo(request, timeout=60, wait_for_ready=True).model_version
            responses = stub.StreamingRecognize(audio_until(terminated, pcm, pcm), timeout=60)
            first = next(responses)
            process.send_signal(signal.SIGTERM)
            until(lambda: refused(stub, request))
            terminated.set()
            results = [result for response in (first, *responses) for result in response.results]
        assert results[-1].is_final
        assert results[-1].end == pytest.approx(6, abs=0.5)
        assert process.wait(60) == 0


def refused(stub: RecognizerStub, request: pb.GetServerInfoRequest) -> bool:
    """Whether the server drains."""
    try:
        stub.GetServerInfo(request, timeout=60)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


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


def test_the_second_sigterm_ends_it_at_once_even_where_an_encoder_hangs(folder: Path, pcm: bytes) -> None:
    with launch(folder, "--port", "0", program=("-c", HANGING)) as process:
        said: list[str] = []
        port = listening(process, said)
        events = [
            ctx.Event(event_id="1", utterance=ctx.Utterance(text="call meg")),
            ctx.Event(event_id="2", expect_speech=ctx.ExpectSpeech()),
        ]
        ended = threading.Event()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            context = ContextStub(channel)
            context.RecordEvents(ctx.RecordEventsRequest(dialogue_id="d", turn_id="1", events=events), timeout=30)
            request = ctx.GetContextStatusRequest(dialogue_id="d")
            until(lambda: context.GetContextStatus(request, timeout=30).state == ctx.ENCODING)
            responses = RecognizerStub(channel).StreamingRecognize(audio_until(ended, pcm), timeout=60)
            next(responses)  # and it never half-closes
            process.send_signal(signal.SIGTERM)
            assert any("SIGTERM: finishing" in line for line in process.stderr or ())
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            with pytest.raises(grpc.RpcError):
                list(responses)
            ended.set()
        said += process.stderr or ()
        assert process.wait(60) == 0
    assert any("a thread does not end" in line for line in said)


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
    file = tmp_path / "carryover.toml"
    file.write_text(settings.replace("GARBAGE", str(garbage)))
    last = said_in_one_line(monkeypatch, "--port", "0", "--config", str(file))
    assert last.startswith("serve: ")
    assert named in last


def said_in_one_line(monkeypatch: pytest.MonkeyPatch, *arguments: str, weights: str = "") -> str:
    """The last line of a command that gives up."""
    return said(monkeypatch, *arguments, weights=weights)[-1]


def said(monkeypatch: pytest.MonkeyPatch, *arguments: str, weights: str = "") -> list[str]:
    """The lines of a command that gives up."""
    for name in [name for name in os.environ if name.startswith("CARRYOVER_")]:
        monkeypatch.delenv(name)
    if weights:
        monkeypatch.setenv("CARRYOVER_MODEL__WEIGHTS", weights)
    result = CliRunner().invoke(serve.app, arguments)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    return result.stderr.splitlines()
