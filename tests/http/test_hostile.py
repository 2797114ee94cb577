"""Clients that leave half-way, dribble or send garbage: their own calls end, and nobody else's."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.conftest import call, form, metric, transcribe
from tests.integration.test_fuzz import FUZZ
from tests.support.waiting import until


def connect(replica: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", replica.server.http_port), 60)


def head(path: str, length: int, kind: str = "application/json") -> bytes:
    lines = (f"POST {path} HTTP/1.1", "host: 127.0.0.1", f"content-type: {kind}", f"content-length: {length}", "", "")
    return "\r\n".join(lines).encode()


def idle(replica: Any) -> bool:
    server = replica.server
    return not (server.streams.running or server.calls.running or server.recordings.taken)


def test_a_client_that_leaves_in_its_upload(workshop: Any) -> None:
    replica = workshop.start(http_port=0)
    with connect(replica) as leaving:
        leaving.sendall(head("/v1/audio/transcriptions", 1 << 20, "multipart/form-data; boundary=x") + b"--x\r\n")
        until(lambda: replica.server.recordings.taken)
    until(lambda: idle(replica))
    assert metric(replica, "calls_total", method="openai.Transcribe", code="CANCELLED") == 1


def test_a_client_that_leaves_before_its_result(workshop: Any, wav: str) -> None:
    replica = workshop.start(http_port=0)
    replica.encoder.go_on.clear()
    body, kind = form(("file", Path(wav).read_bytes()), ("prompt", "which one?"))
    with connect(replica) as leaving:
        leaving.sendall(head("/v1/audio/transcriptions", len(body), kind) + body)
        until(lambda: replica.server.streams.running)
    until(lambda: idle(replica))
    replica.encoder.go_on.set()


def test_a_body_that_dribbles(workshop: Any, wav: str) -> None:
    replica = workshop.start(http_port=0, limits__idle_seconds=1, limits__tenant_calls=1)
    with connect(replica) as slow:
        slow.sendall(head("/carryover.v1.Context/RecordEvents", 100) + b"{")
        until(lambda: replica.server.calls.running)
        refused = call(replica, "/carryover.v1.Context/RecordEvents", b"{}", content_type="application/json")
        assert refused.status == 429 and "limits.tenant_calls" in refused.json["message"]
        answer = slow.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 ")
    assert transcribe(replica, ("file", Path(wav).read_bytes())).status == 200


def test_a_body_that_lies_about_its_length(workshop: Any) -> None:
    replica = workshop.start(http_port=0)
    with connect(replica) as broken:
        broken.sendall(b"POST /stt HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        with suppress(ConnectionResetError):
            assert broken.recv(4096).startswith(b"HTTP/1.0 400 ")
    until(lambda: idle(replica))


UPGRADE = (
    "host: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    f"sec-websocket-key: {base64.b64encode(bytes(16)).decode()}\r\n"
)
NO_PROTOCOL = [
    (b"GET /health HTTP/9.9\r\n\r\n", b" 400 "),
    (b"\x16\x03\x01\x00\x00", b" 400 "),
    (b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\na b: c\r\n\r\n", b" 400 "),
    (b"GET /health HTTP/1.1\r\na: " + b"x" * 20_000 + b"\r\n\r\n", b" 400 "),
    (b"POST /stt HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: -1\r\n\r\n", b" 400 "),
    (f"GET /v1/realtime HTTP/1.1\r\n{UPGRADE}sec-websocket-protocol: x\r\n\r\n".encode(), b" 101 "),
]


@pytest.mark.parametrize(("sent", "status"), NO_PROTOCOL)
def test_no_stranger_makes_a_library_log(
    shared: Any, caplog: pytest.LogCaptureFixture, sent: bytes, status: bytes
) -> None:
    with connect(shared) as stranger:
        stranger.sendall(sent)
        assert status in stranger.recv(32)
    until(lambda: idle(shared))
    assert [record.name for record in caplog.records if record.name != "carryover"] == []


PATHS = (
    "/v1/audio/transcriptions", "/stt", "/carryover.v1.Context/RecordEvents", "/carryover.v1.Context/Rescore",
    "/carryover.v1.Recognizer/Recognize",
)  # fmt: skip
NAMES = ("events", "nbest", "config", "audio", "context", "event_id", "x")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.tuples(
    st.sampled_from(["file", "model", "prompt", "keywords[]", "stream", "chunking_strategy"]), st.binary(max_size=60)
)


@FUZZ
@given(st.sampled_from(PATHS), JSON | st.binary(max_size=200))
def test_whatever_is_sent_is_no_fault_of_the_server(shared: Any, path: str, sent: Any) -> None:
    body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    answer = call(shared, path, body, content_type="application/json")
    assert answer.status in (200, 400, 404, 413), answer


@FUZZ
@given(st.lists(FIELDS, max_size=5))
def test_whatever_a_form_holds(shared: Any, fields: list[tuple[str, bytes]]) -> None:
    answer = transcribe(shared, *fields)
    assert answer.status in (200, 400, 413), answer
