"""Who is let in on the HTTP port, and how it comes and goes."""

from __future__ import annotations

import socket
import ssl
import sys
import urllib.request
from contextlib import nullcontext
from typing import Any

import pytest

from server.access import make_key
from server.http.errors import NotAllowedError
from server.http.listener import check_origin
from server.ports import PortError
from server.settings import ConfigError
from tests.http.conftest import call, metric, transcribe
from tests.support.certificates import Authority
from tests.support.waiting import until


def test_health_and_metrics(shared: Any) -> None:
    answer = call(shared, "/health")
    assert (answer.status, answer.json) == (200, {"status": "serving"})
    assert b"carryover_streams 0.0" in call(shared, "/metrics").body


def test_a_server_that_drains(workshop: Any, wav: str) -> None:
    replica = workshop.start(http_port=0)
    replica.run(replica.server.drain())
    assert call(replica, "/health").status == 503
    answer = transcribe(replica, ("file", b"a"))
    assert answer.status == 503 and "retry on another replica" in answer.json["error"]["message"]
    assert metric(replica, "calls_total", method="openai.Transcribe", code="UNAVAILABLE") == 1


@pytest.mark.parametrize(
    ("host", "origin", "anyone", "allowed"),
    [
        ("127.0.0.1:8080", None, True, True),
        ("localhost", None, True, True),
        ("[::1]:8080", None, True, True),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", True, True),
        ("127.0.0.1:8080", "http://127.0.0.1:9090", True, False),
        ("127.0.0.1:8080", "http://evil.example", True, False),
        ("127.0.0.1:8080", "null", True, False),
        ("evil.example:8080", "http://evil.example:8080", True, False),  # whose name leads here
        ("evil.example:8080", None, True, False),
        ("", None, True, False),
        ("127.0.0.1.evil.example", None, True, False),
        ("asr.example", None, False, True),
        ("asr.example", "https://asr.example", False, True),
        ("asr.example", "https://evil.example", False, False),
        ("[", None, True, False),
        ("127.0.0.1:8080", "http://[", True, False),
    ],
)
def test_pages_from_elsewhere(host: str, origin: str | None, anyone: bool, allowed: bool) -> None:
    with nullcontext() if allowed else pytest.raises(NotAllowedError):
        check_origin(host, origin, anyone=anyone)


def test_an_origin_is_checked_on_every_path(shared: Any) -> None:
    for path in ("/health", "/v1/models", "/", "/carryover.v1.Recognizer/StreamingRecognize"):
        assert call(shared, path, origin="http://evil.example").status == 403
        assert call(shared, path, host="evil.example").status == 403


def test_paths_that_are_none(shared: Any) -> None:
    answer = call(shared, "/v1/chat/completions", b"{}")
    assert answer.status == 404 and answer.json["error"]["code"] == "not_found"
    assert "below /v1" in call(shared, "/audio/transcriptions", b"{}").json["error"]["message"]
    answer = call(shared, "/v1/models", b"{}")
    assert answer.status == 405 and answer.headers["allow"] == "GET,HEAD"
    assert answer.json["error"]["message"] == "this path takes GET and HEAD, not POST"


def test_a_request_id_of_the_client(shared: Any) -> None:
    assert call(shared, "/v1/models", x_request_id="mine-1").headers["x-request-id"] == "mine-1"
    assert len(call(shared, "/v1/models", x_request_id="not mine").headers["x-request-id"]) == 16


def test_tls_with_keys(workshop: Any, tmp_path: Any) -> None:
    authority = Authority(tmp_path, "ca")
    files = authority.issue("server")
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(
        host="0.0.0.0", http_port=0,
        access__keys_file=str(tmp_path / "keys"), tls__certificate=files["certificate"], tls__key=files["key"],
    )  # fmt: skip
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    url = f"https://localhost:{replica.server.http_port}/v1/models"

    def get(**headers: str) -> int:
        try:
            return int(urllib.request.urlopen(urllib.request.Request(url, headers=headers), context=trusting).status)
        except urllib.error.HTTPError as error:
            return error.code

    assert get(authorization=f"Bearer {secret}") == 200
    assert get() == get(authorization="Bearer co_no") == 401
    assert get(host="asr.example", authorization=f"Bearer {secret}") == 200
    with pytest.raises(OSError, match="closed connection"):
        call(replica, "/health")  # without TLS
    place = ("127.0.0.1", replica.server.http_port)
    before = ssl.get_server_certificate(place, ca_certs=str(authority.ca))
    assert ssl.get_server_certificate(place, ca_certs=str(authority.ca)) == before
    authority.issue("server")  # renewed
    assert ssl.get_server_certificate(place, ca_certs=str(authority.ca)) != before
    (tmp_path / "server.pem").write_text("half of one")
    assert get(authorization=f"Bearer {secret}") == 200
    with pytest.raises(urllib.error.HTTPError, match="404"):  # tenants' names are not for every tenant
        urllib.request.urlopen(f"https://localhost:{replica.server.http_port}/metrics", context=trusting)


def test_certificates_of_clients(workshop: Any, tmp_path: Any) -> None:
    authority = Authority(tmp_path, "ca")
    files, client = authority.issue("server"), authority.issue("phones")
    (tmp_path / "keys").write_text("acme cert:localhost\n")
    replica = workshop.start(
        http_port=0, access__keys_file=str(tmp_path / "keys"), tls__certificate=files["certificate"],
        tls__key=files["key"], tls__client_ca=str(authority.ca),
    )  # fmt: skip
    trusting = ssl.create_default_context(cafile=str(authority.ca))
    trusting.load_cert_chain(client["certificate"], client["key"])
    url = f"https://localhost:{replica.server.http_port}/v1/models"
    assert urllib.request.urlopen(url, context=trusting).status == 200
    assert metric(replica, "tenant_calls_total", tenant="acme", code="OK") == 1
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(url, context=ssl.create_default_context(cafile=str(authority.ca)))


def test_a_port_that_is_taken(workshop: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortError, match="for HTTP: it is in use"):
            workshop.start(http_port=taken.getsockname()[1])


def test_connections_that_say_nothing(workshop: Any) -> None:
    replica = workshop.start(http_port=0, limits__idle_seconds=1, limits__calls=2)
    place = ("127.0.0.1", replica.server.http_port)
    with socket.create_connection(place, 30) as first, socket.create_connection(place, 30) as second:
        until(lambda: replica.call(lambda: replica.server.listener.connections) == 2)
        with socket.create_connection(place, 30) as third:  # too many
            assert third.recv(1) == b""
        first.sendall(b"GET /heal")  # and no more
        assert first.recv(1) == second.recv(1) == b""
    assert call(replica, "/health").status == 200


def test_without_the_extra(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("aiohttp", "server.http"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ConfigError, match=r"http_port takes more packages: .*carryover-asr\[web\]"):
        workshop.start(http_port=0)
