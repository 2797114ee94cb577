"""OpenAI's realtime transcription, with OpenAI's own client where it has words for it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soxr

from server.access import make_key
from server.http import realtime_session
from server.http.realtime_session import Session
from server.http.stable_words import StableWords
from tests.http.conftest import metric
from tests.support.pages import blocks
from tests.support.remote_client import CallError, RemoteClient
from tests.support.waiting import until

TRANSCRIPTION = "conversation.item.input_audio_transcription"
COMMIT = {"type": "input_audio_buffer.commit"}
DONE = f"{TRANSCRIPTION}.completed"
UPGRADE = {
    "connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
    "sec-websocket-key": base64.b64encode(bytes(16)).decode(),
}  # fmt: skip
MANUAL = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}


def target(replica: Any) -> str:
    return f"http://127.0.0.1:{replica.server.http_port}/v1"


@pytest.fixture
def pcm24(pcm: bytes) -> bytes:
    """The samples at OpenAI's rate."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
    return (np.clip(soxr.resample(samples, 16_000, 24_000), -1, 1) * 32767).astype("<i2").tobytes()


@pytest.fixture
def raw24(pcm24: bytes, tmp_path: Path) -> str:
    """Path of them."""
    (tmp_path / "pcm24").write_bytes(pcm24)
    return str(tmp_path / "pcm24")


def of(events: list[Any], kind: str) -> list[Any]:
    return [event for event in events if event["type"].endswith(kind)]


def test_the_client_commits(openai: RemoteClient, shared: Any, raw24: str, pcm24: bytes) -> None:
    steps = [
        {"until": "session.created"}, {"update": MANUAL}, {"until": "session.updated"},
        {"audio": raw24}, {"commit": 1}, {"until": f"{TRANSCRIPTION}.completed"},
        {"audio": raw24}, {"commit": 1}, {"until": f"{TRANSCRIPTION}.completed"},
    ]  # fmt: skip
    events = openai("realtime", target=target(shared), steps=steps)
    created, updated = events[:2]
    assert created["class"] == "SessionCreatedEvent" and created["session"]["type"] == "transcription"
    assert created["session"]["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert updated["session"]["audio"]["input"]["turn_detection"] is None
    first, second = of(events, ".completed")
    committed = of(events, ".committed")
    assert [one["item_id"] for one in committed] == [first["item_id"], second["item_id"]]
    assert committed[1]["previous_item_id"] == first["item_id"] and not of(events, ".speech_started")
    assert first["class"] == "ConversationItemInputAudioTranscriptionCompletedEvent"
    assert first["usage"]["seconds"] == pytest.approx(len(pcm24) / 48_000, abs=0.1)
    (result,) = first["carryover"]["results"]
    assert result["finalized"] and result["alternatives"][0]["transcript"] == first["transcript"]
    for item in (first, second):
        deltas = [one["delta"] for one in of(events, ".delta") if one["item_id"] == item["item_id"]]
        assert deltas and item["transcript"]
    assert len({event["event_id"] for event in events}) == len(events)


def test_the_server_ends_utterances(openai: RemoteClient, shared: Any, raw24: str, tmp_path: Path) -> None:
    (tmp_path / "silence").write_bytes(bytes(96_000))
    detection = {"type": "server_vad", "silence_duration_ms": 300}
    asked = {"type": "transcription", "audio": {"input": {"turn_detection": detection}}}
    steps = [
        {"update": asked}, {"audio": raw24}, {"audio": str(tmp_path / "silence")}, {"until": DONE}
    ]  # fmt: skip
    events = openai("realtime", target=target(shared), steps=steps)
    (done,) = of(events, ".completed")
    own = [event for event in events if event.get("item_id") == done["item_id"]]
    kinds = [kind for kind, _ in itertools.groupby(event["type"].rpartition(".")[2] for event in own)]
    assert (kinds[0] == "speech_started" and kinds[-3:] == ["speech_stopped", "committed", "completed"]) or (
        kinds[-2:] == ["committed", "completed"] and "speech_stopped" in kinds
    )
    started, stopped = of(own, ".speech_started")[0], of(own, ".speech_stopped")[0]
    assert 0 <= started["audio_start_ms"] < stopped["audio_end_ms"] <= 5000


async def talk(replica: Any, *sent: dict[str, Any], done: str, **options: Any) -> list[Any]:
    """What the server says to events, up to one of a kind."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        url = f"{target(replica)}/realtime?intent=transcription"
        async with session.ws_connect(url, **options) as socket:
            for event in sent:
                await socket.send_json(event)
            events: list[Any] = []
            while not events or events[-1]["type"] != done:
                events.append(await socket.receive_json())
            return events


def append(pcm: bytes, pieces: int = 20) -> list[dict[str, Any]]:
    size = len(pcm) // pieces // 2 * 2
    return [
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm[i : i + size]).decode()}
        for i in range(0, len(pcm), size)
    ]


def updated(manual: bool = True, own: Any = None, **transcription: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"transcription": transcription, **({"turn_detection": None} if manual else {})}
    session = {"type": "transcription", "audio": {"input": asked}, **({"carryover": own} if own else {})}
    return {"type": "session.update", "session": session}


def heard(**asked: Any) -> dict[str, Any]:
    """An update of the input."""
    return {"type": "session.update", "session": {"audio": {"input": asked}}}


def heavy(weight: float) -> dict[str, Any]:
    """An inline context of one entry."""
    return {"entities": [{"signal": "contacts", "items": [{"text": "Meg Bauer", "weight": weight}]}]}


def test_a_dialogue_is_recorded_and_used(workshop: Any, dialogue: str, pcm24: bytes) -> None:
    replica = workshop.start(http_port=0)
    events = [
        {"event_id": "a", "reply": {"text": "which meg do you mean"}},
        {"event_id": "b", "entities": {"signal": "contacts", "items": [{"text": "Meg Bauer", "id": "7"}]}},
        {"event_id": "c", "expect_speech": {}},
    ]
    record = {"type": "carryover.record_events", "turn_id": "1", "events": events}

    url = f"{target(replica)}/realtime"

    async def session() -> list[Any]:
        async with aiohttp.ClientSession() as http, asyncio.timeout(60), http.ws_connect(url) as socket:
            await socket.send_json(updated(own={"dialogue_id": dialogue, "turn_id": "2", "max_alternatives": 2}))
            await socket.send_json(record)
            told: list[Any] = []
            while not told or told[-1]["type"] != "carryover.events_recorded":
                told.append(await socket.receive_json())
            await asyncio.to_thread(replica.wait_for, "READY", dialogue)
            first, *others = append(pcm24)
            await socket.send_json(first)
            while not replica.server.streams.running or await asyncio.to_thread(
                replica.call, lambda: replica.server.contexts.asking
            ):
                await asyncio.sleep(0.01)
            for event in (*others, COMMIT):
                await socket.send_json(event)
            while told[-1]["type"] != DONE:
                told.append(await socket.receive_json())
            return told

    told = asyncio.run(session())
    assert of(told, "events_recorded")[0] | {"event_id": ""} == {
        "type": "carryover.events_recorded", "event_id": "", "dialogue_id": dialogue, "turn_id": "1", "triggered": True,
    }  # fmt: skip
    (result,) = told[-1]["carryover"]["results"]
    assert result["context"]["status"] == "APPLIED" and len(result["alternatives"]) == 2
    assert told[-1]["transcript"].lower().rstrip(".") == "meg bauer"
    assert metric(replica, "calls_total", method="openai.RecordEvents", code="OK") == 1
    until(lambda: metric(replica, "calls_total", method="openai.Realtime", code="OK") == 1)


def test_keywords_and_prompt_may_change(workshop: Any, pcm24: bytes) -> None:
    replica = workshop.start(http_port=0)
    events = asyncio.run(
        talk(
            replica,
            updated(keywords=["meg bauer", "jack quick"], prompt="which meg do you mean?"),
            *append(pcm24), COMMIT,
            updated(keywords=[], prompt=""),
            *append(pcm24), COMMIT,
            {"type": "stop"},
            done="error",
        )
    )  # fmt: skip
    assert len(of(events, "session.updated")) == 2 and events[-1]["error"]["param"] == "type"
    assert [turn.text for turn in replica.encoder.seen[0].turns] == ["which meg do you mean?"]


BAD: list[tuple[dict[str, Any], str | None, str]] = [
    ({"type": "response.create"}, "type", "this server only transcribes"),
    ({"no": "type"}, "type", "send events as JSON objects"),
    ({"type": "input_audio_buffer.append", "audio": "!"}, "audio", "is no base64"),
    ({"type": "input_audio_buffer.append"}, "audio", "send samples in base64"),
    (COMMIT, "input_audio_buffer", "is empty"),
    ({"type": "session.update", "session": {"type": "realtime"}}, "session.type", "transcription"),
    ({"type": "session.update", "session": {"voice": "x"}}, "session.voice", "is not known here"),
    ({"type": "session.update"}, "session", "send an object"),
    (heard(format={"type": "audio/pcm", "rate": 1 << 40}), "session.audio.input.format.rate", "less than"),
    (heard(format={"type": "audio/pcm", "rate": -5}), "session.audio.input.format.rate", "8000 to 48000 Hz"),
    (
        heard(turn_detection={"type": "server_vad", "silence_duration_ms": 10**400}),
        "session.audio.input.turn_detection.silence_duration_ms",
        "less than",
    ),
    (updated(prompt="\ud800"), "session.audio.input.transcription.prompt", "remove lone surrogates"),
    (updated(keywords=["a", "\ud800"]), "session.audio.input.transcription.keywords[1]", "remove lone surrogates"),
    (updated(own={"dialogue_id": "\ud800"}), "session.carryover.dialogue_id", "remove lone surrogates"),
    (updated(own={"context": heavy(10**400)}), "session.carryover.context", "is no InlineContext"),
    (updated(language="fr"), "session.audio.input.transcription.language", "only English"),
    (updated(keywords=["x" * 200]), "session.audio.input.transcription.keywords[0]", "keywords[0]: 200 characters"),
    (updated(prompt="x" * 5000), "session.audio.input.transcription.prompt", "prompt: 5000 characters"),
    (
        heard(turn_detection={"type": "server_vad", "silence_duration_ms": 9}),
        "session.audio.input.turn_detection.silence_duration_ms",
        "100 to 10000 ms",
    ),
    ({"type": "session.update", "session": {"audio": "x"}}, "session.audio", "session.audio: send an object"),
    (heard(noise_reduction="x"), "session.audio.input.noise_reduction", "send an object"),
    (heard(noise_reduction=[1]), "session.audio.input.noise_reduction", "send an object"),
    (updated(own={"turn_id": "1"}), "session.carryover.dialogue_id", "is required"),
    (updated(own={"context": {"turn": 1}}), "session.carryover.context", "is no InlineContext"),
    ({"type": "carryover.record_events", "turn_id": "1", "events": []}, None, "dialogue_id"),
    ({"type": "carryover.record_events", "turns": "1"}, "request", "near turns"),
]  # fmt: skip


@pytest.mark.parametrize(("event", "field", "says"), BAD)
def test_bad_input_ends_no_session(shared: Any, pcm24: bytes, event: dict[str, Any], field: str, says: str) -> None:
    sent = [updated(), {**event, "event_id": "mine"}, *append(pcm24), COMMIT]
    events = asyncio.run(talk(shared, *sent, done=DONE))
    (refused,) = of(events, "error")
    error = refused["error"]
    assert says in error["message"] and error["param"] == field and error["event_id"] == "mine"
    assert events[-1]["transcript"]


def test_what_cannot_change(shared: Any, pcm24: bytes) -> None:
    for change in (
        {"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}}},
        updated(own={"dialogue_id": "d"}),
    ):
        events = asyncio.run(talk(shared, updated(), *append(pcm24), change, done="error"))
        assert "cannot change once there was audio" in events[-1]["error"]["message"]


def test_audio_that_is_cleared(shared: Any, pcm24: bytes) -> None:
    clear = {"type": "input_audio_buffer.clear"}
    events = asyncio.run(talk(shared, updated(), *append(pcm24), clear, *append(pcm24), COMMIT, done=DONE))
    assert of(events, ".cleared") and len(of(events, ".completed")) == 1 == len(of(events, ".committed"))


async def waiting(replica: Any, sessions: int, pcm24: bytes) -> tuple[list[Any], Any]:
    """The events of a session among others without audio, and the refusal of one too many."""
    async with aiohttp.ClientSession() as session, AsyncExitStack() as open_now, asyncio.timeout(60):
        url = f"{target(replica)}/realtime"
        for _ in range(sessions):
            socket = await open_now.enter_async_context(session.ws_connect(url))
            assert (await socket.receive_json())["type"] == "session.created"
        assert not replica.server.streams.running
        too_many = await session.get(url, headers=UPGRADE)
        for event in (updated(), append(pcm24)[0]):
            await socket.send_json(event)
        while not replica.server.streams.running:
            await asyncio.sleep(0.01)
        events = await talk(replica, updated(), *append(pcm24), done="error")  # its place is taken by the one above
        return events, (too_many.status, await too_many.json())


def test_a_session_takes_no_place_of_a_stream_before_there_is_audio(workshop: Any, pcm24: bytes) -> None:
    replica = workshop.start(http_port=0, limits__streams=1, limits__tenant_calls=3)
    events, (status, refused) = asyncio.run(waiting(replica, 3, pcm24))
    assert status == 429 and "3 of your sessions have no audio yet" in refused["error"]["message"]
    error = events[-1]["error"]
    assert error["code"] == "resource_exhausted" and "limits.streams" in error["message"]
    until(lambda: not replica.server.streams.running)
    assert asyncio.run(talk(replica, updated(), *append(pcm24), COMMIT, done=DONE))[-1]["transcript"]


def test_keys(openai: RemoteClient, workshop: Any, raw24: str, tmp_path: Path) -> None:
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(http_port=0, access__keys_file=str(tmp_path / "keys"))
    steps = [{"update": MANUAL}, {"audio": raw24}, {"commit": 1}, {"until": DONE}]
    assert of(openai("realtime", target=target(replica), steps=steps, key=secret), ".completed")
    with pytest.raises(CallError, match="401"):
        openai("realtime", target=target(replica), steps=steps, key="co_no")
    browsers = ("realtime", f"openai-insecure-api-key.{secret}")
    assert asyncio.run(talk(replica, done="session.created", protocols=browsers))


def test_the_program_of_the_page(openai: RemoteClient, shared: Any, wav: str) -> None:
    _, code = blocks("docs/http.md", "python")
    for written, here in (("http://127.0.0.1:8080/v1", target(shared)), ("answer.wav", wav)):
        assert written in code
        code = code.replace(written, here)
    *deltas, text = openai("python", code=code)
    assert deltas and text


def test_the_page_has_every_field() -> None:
    page = Path("docs/http.md").read_text()
    rows = re.findall(r"^\| (`.+?`) \| (?:used|no effect|refused) \|", page[page.index("in `session`") :], re.MULTILINE)
    documented = {name.rpartition(".")[2] for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    models = (Session, realtime_session._Input, realtime_session._Transcription)
    assert documented == {name for model in models for name in model.model_fields} - {"audio", "transcription"}


def test_stable_words() -> None:
    words = StableWords()
    texts = ["call", "call me", "call meg", "call meg now", "call meg now or", "call meg now or never"]
    assert [words.partial(text) for text in texts] == ["", "", "call", "", "meg", "now"]
    assert words.partial("all") == ""  # what is sent is sent
    assert words.final("Call Meg now, or never.") == "or never."
    assert StableWords().final("Call Meg.") == "Call Meg."
    words = StableWords()
    assert [words.partial(text) for text in ("twenty past one", "twenty past one o")] == ["", "twenty past"]
    assert words.final("20 past 1") == "1"
    assert words.final("At 20 past 1") == ""  # it would not go on as it began
