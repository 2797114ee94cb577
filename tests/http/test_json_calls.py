"""Methods of carryover.v1 in JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from server.access import make_key
from tests.http.conftest import Answer, call, metric


def post(replica: Any, method: str, message: Any, **headers: str) -> Answer:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return call(replica, f"/carryover.v1.{method}", body, **{"content_type": "application/json"} | headers)


def test_a_dialogue_in_json(shared: Any, dialogue: str, pcm: bytes) -> None:
    events = [
        {"event_id": "a", "reply": {"text": "which meg do you mean"}},
        {"eventId": "b", "entities": {"signal": "contacts", "items": [{"text": "Meg Bauer", "id": "7"}]}},
        {"event_id": "c", "expect_speech": {}},
    ]
    turn = {"dialogue_id": dialogue, "turn_id": "1"}
    assert post(shared, "Context/RecordEvents", {**turn, "events": events}).json == {"triggered": True}
    shared.wait_for("READY", dialogue)
    status = post(shared, "Context/GetContextStatus", turn).json
    assert status["state"] == "READY" and [one["state"] for one in status["timeline"]][-1] == "READY"
    audio = base64.b64encode(pcm).decode()
    config = {"encoding": "LINEAR16", "sample_rate_hertz": 16_000, "dialogue_id": dialogue, "turn_id": "2"}
    (result,) = post(shared, "Recognizer/Recognize", {"config": config, "audio": audio}).json["results"]
    assert result["alternatives"][0]["transcript"] == "meg bauer" and result["context"]["status"] == "APPLIED"
    assert post(shared, "Context/DeleteDialogue", {"dialogue_id": dialogue}).json["items_deleted"] > 0
    missing = post(shared, "Context/GetContextStatus", turn)
    assert missing.status == 404 and missing.json["code"] == "not_found"
    assert metric(shared, "calls_total", method="http.RecordEvents", code="OK") >= 1


def test_what_is_no_message(shared: Any) -> None:
    secret_text = "meg bauer"
    for message, says in (
        (b"", "in JSON"),
        (b"[]", "in JSON"),
        (b"{", "in JSON"),
        (b"\xff", "in JSON"),
        ({"dialog": secret_text}, "near dialog"),
        ({"dialogue_id": "d", "turn_id": "1", "events": [{"reply": secret_text}]}, "near events"),
        ({"dialogue_id": "a#b", "turn_id": "1", "events": []}, "dialogue_id"),
        (b"[" * 10_000, "in JSON"),
        ({"events": [{"entities": {"items": [{"weight": 10**400}]}}]}, "in JSON"),
        (b'{"events": ' * 50 + b"1" + b"}" * 50, "in JSON"),
    ):
        answer = post(shared, "Context/RecordEvents", message)
        assert answer.status == 400 and answer.json["code"] == "invalid_argument", message
        assert says in answer.json["message"] and secret_text not in answer.json["message"]
    assert (
        post(shared, "Context/RecordEvents", {}, content_type="text/plain").json["message"].startswith("content-type")
    )


@pytest.mark.parametrize("audio", ["@@@@", "AAAA@@@@", "AA\nAA", "A", "AA=A", "AAAA====", "\u00e9"])
def test_audio_that_is_no_base64(shared: Any, audio: str) -> None:
    config = {"encoding": "LINEAR16", "sample_rate_hertz": 16_000}
    answer = post(shared, "Recognizer/Recognize", {"config": config, "audio": audio})
    assert answer.status == 400 and answer.json["code"] == "invalid_argument", answer
    assert answer.json["message"].startswith("audio: is no base64")


def test_audio_in_either_alphabet(shared: Any, pcm: bytes) -> None:
    config = {"encoding": "LINEAR16", "sample_rate_hertz": 16_000}
    pcm += bytes(2 * ((2 - len(pcm)) % 3 or 3))  # not a multiple of three bytes, so that there is padding
    usual, other = base64.b64encode(pcm).decode(), base64.urlsafe_b64encode(pcm).decode()
    assert usual.endswith("=") and usual != other
    heard = [
        post(shared, "Recognizer/Recognize", {"config": config, "audio": audio}).json["results"][0]["alternatives"]
        for audio in (usual, other, usual.rstrip("="), other.rstrip("="))
    ]
    assert heard[0][0]["transcript"] and heard == [heard[0]] * 4


def test_too_much(workshop: Any) -> None:
    replica = workshop.start(http_port=0, limits__request_bytes=1 << 12, limits__message_bytes=1 << 16)
    text = "x" * 3000
    event = {"event_id": "a", "reply": {"text": text}}
    for events in ([event, {**event, "event_id": "b"}], [event] * 10):
        answer = post(replica, "Context/RecordEvents", {"dialogue_id": "d", "turn_id": "1", "events": events})
        assert answer.status == 413 and answer.json["code"] == "resource_exhausted", answer
    many: dict[str, Any] = {"nbest": [{}] * 1000, "context": {}}
    answer = post(replica, "Context/Rescore", many)
    assert answer.status == 413 and "limits." in answer.json["message"]


def test_keys(workshop: Any, tmp_path: Any) -> None:
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(http_port=0, access__keys_file=str(tmp_path / "keys"))
    methods = [
        f"{service}/{name}"
        for service, names in (
            ("Recognizer", ("Recognize", "GetServerInfo")),
            ("Context", ("RecordEvents", "GetContextStatus", "GetContextEmbedding", "Rescore", "DeleteDialogue")),
        )
        for name in names
    ]
    for method in methods:
        assert post(replica, method, {}).status == 401
        assert post(replica, method, {}, authorization=f"Bearer {secret}").status in (200, 400)


@pytest.mark.parametrize("path", ["Recognizer/StreamingRecognize", "Recognizer/Nothing"])
def test_what_is_no_call(shared: Any, path: str) -> None:
    assert post(shared, path, {}).status in (404, 405)
