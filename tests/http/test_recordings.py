"""OpenAI's file transcription, with OpenAI's own client where it has words for it, and Open Voice OS's route."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from carryover.v1 import recognizer_pb2 as pb
from server.access import make_key
from server.http.calls import Calls
from server.http.forms import read_form
from server.http.recordings import FIELDS
from server.settings import Limits
from tests.http.conftest import call, form, metric, transcribe
from tests.support.media_files import media_file
from tests.support.pages import blocks
from tests.support.remote_client import CallError, RemoteClient
from tests.support.waiting import until


def target(replica: Any) -> str:
    return f"http://127.0.0.1:{replica.server.http_port}/v1"


def ours(replica: Any, audio: bytes, **config: Any) -> list[pb.StreamingRecognitionResult]:
    """What `Recognize` says of a file that is cut into utterances."""
    asked = pb.RecognitionConfig(
        endpointing=pb.Endpointing(), automatic_punctuation=True, enable_word_time_offsets=True, **config
    )
    return list(replica.recognizer.Recognize(pb.RecognizeRequest(config=asked, audio=audio), timeout=60).results)


def text_of(results: list[pb.StreamingRecognitionResult]) -> str:
    return " ".join(r.alternatives[0].transcript for r in results if r.alternatives[0].transcript)


def test_the_formats(openai: RemoteClient, shared: Any, wav: str) -> None:
    results = ours(shared, Path(wav).read_bytes())
    words = [word for result in results for word in result.alternatives[0].words]
    text = text_of(results)
    assert text

    def asked(**options: Any) -> Any:
        (answer,) = openai("transcribe", target=target(shared), audio=wav, options=options)
        return answer

    plain = asked()
    assert plain["type"] == "Transcription" and plain["text"] == text and plain["usage"]["type"] == "duration"
    assert [r["alternatives"][0]["transcript"] for r in plain["carryover"]["results"]] == [
        r.alternatives[0].transcript for r in results
    ]
    assert plain["carryover"]["results"][0]["context"]["status"] == "NOT_REQUESTED"
    assert asked(response_format="text") == f"{text}\n"
    verbose = asked(response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert verbose["type"] == "TranscriptionVerbose" and (verbose["text"], verbose["language"]) == (text, "english")
    assert verbose["duration"] == pytest.approx(3.0, abs=0.1)
    assert [(w["word"], w["start"], w["end"]) for w in verbose["words"]] == [(w.word, w.start, w.end) for w in words]
    assert " ".join(segment["text"].strip() for segment in verbose["segments"]) == text
    assert all(segment["end"] > segment["start"] and segment["avg_logprob"] <= 0 for segment in verbose["segments"])
    assert asked(response_format="verbose_json")["words"] is None
    logprobs = asked(include=["logprobs"])["logprobs"]
    assert [one["token"] for one in logprobs] == [w.word for w in words]


def test_what_a_browser_records(shared: Any) -> None:
    webm = media_file("webm", "libopus", 48_000)
    answer = transcribe(shared, ("file", webm), ("model", "whisper-1"), ("language", "english"))
    assert answer.status == 200 and answer.json["text"] == text_of(ours(shared, webm)) != ""


def test_subtitles(openai: RemoteClient, shared: Any, wav: str) -> None:
    text = text_of(ours(shared, Path(wav).read_bytes()))
    for kind, time in (("srt", r"\d\d:\d\d:\d\d,\d{3}"), ("vtt", r"\d\d:\d\d:\d\d\.\d{3}")):
        (told,) = openai("transcribe", target=target(shared), audio=wav, options={"response_format": kind})
        cues = re.findall(rf"^({time}) --> ({time})\n(.+)\n$", told, re.MULTILINE)
        assert " ".join(cue for _, _, cue in cues) == text and told.startswith("1\n" if kind == "srt" else "WEBVTT\n\n")
        assert all(start < end for start, end, _ in cues)


def test_events_bring_each_utterance(openai: RemoteClient, shared: Any, pcm: bytes, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.frombuffer(pcm + bytes(64_000) + pcm, "<i2"), 16_000, subtype="PCM_16")
    events = openai("transcribe", target=target(shared), audio=str(path), options={"stream": True})
    results = [r for r in ours(shared, path.read_bytes()) if r.alternatives[0].transcript]
    *deltas, done = events
    assert len(deltas) == len(results) > 1 and {one["type"] for one in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done" and done["text"] == text_of(results)
    assert "".join(one["delta"] for one in deltas) == done["text"]


def test_an_error_behind_the_first_event_is_an_event(openai: RemoteClient, workshop: Any, wav: str) -> None:
    replica = workshop.start(http_port=0)
    recognizer = replica.server._recognizer
    recording = recognizer.recording

    async def broken(*arguments: Any) -> AsyncIterator[Any]:
        async for response in recording(*arguments):
            yield response
        raise RuntimeError("meg bauer")

    recognizer.recording = broken
    with pytest.raises(CallError) as told:
        openai("transcribe", target=target(replica), audio=wav, options={"stream": True})
    assert told.value.code == "APIError" and "an error inside the server" in told.value.details
    assert metric(replica, "calls_total", method="openai.Transcribe", code="INTERNAL") == 1


def test_keywords_are_phrases(openai: RemoteClient, shared: Any, wav: str) -> None:
    keywords = ["meg bauer", "jack quick"]
    phrases = pb.SpeechContext(phrases=keywords)
    (answer,) = openai("transcribe", target=target(shared), audio=wav, options={"keywords": keywords})
    results = ours(shared, Path(wav).read_bytes(), speech_contexts=[phrases])
    assert answer["text"] == text_of(results) != text_of(ours(shared, Path(wav).read_bytes()))
    assert answer["carryover"]["speech_context_report"] == {"accepted": 2}


def test_a_prompt_is_what_the_assistant_asked(openai: RemoteClient, workshop: Any, wav: str) -> None:
    replica = workshop.start(http_port=0)
    options = {"prompt": "do you mean Meg Jones or Meg Bauer?"}
    (answer,) = openai("transcribe", target=target(replica), audio=wav, options=options)
    assert {r["context"]["status"] for r in answer["carryover"]["results"]} == {"APPLIED"}
    (seen,) = replica.encoder.seen
    assert [(turn.speaker, turn.text) for turn in seen.turns] == [("system", options["prompt"])]


def test_a_dialogue(openai: RemoteClient, shared: Any, dialogue: str, wav: str) -> None:
    shared.ask(dialogue, "1", "meg bauer")
    shared.wait_for("READY", dialogue)
    options = {"extra_body": {"dialogue_id": dialogue, "turn_id": "2", "max_alternatives": "3"}}
    (answer,) = openai("transcribe", target=target(shared), audio=wav, options=options)
    result = answer["carryover"]["results"][0]
    assert result["context"]["status"] == "APPLIED" and result["context"]["context_turn_id"] == "1"
    assert answer["text"].lower().startswith("meg bauer") and len(result["alternatives"]) == 3


BAD = [
    ({"response_format": "diarized_json"}, "response_format", "use one of json, text"),
    ({"language": "de"}, "language", "only English"),
    ({"keywords": ["a", "x" * 101]}, "keywords[1]", "keywords[1]: 101 characters"),
    ({"prompt": "x" * 5000}, "prompt", "prompt: 5000 characters"),
    ({"stream": True, "response_format": "srt"}, "stream", "no such response_format"),
    ({"chunking_strategy": {"type": "server_vad", "silence_duration_ms": 9}}, "chunking_strategy", "100 to 10000 ms"),
    ({"known_speaker_names": ["Meg"]}, "known_speaker_names", "are not told apart"),
    ({"extra_body": {"dialogue_id": "a#b"}}, "dialogue_id", "remove '#'"),
    ({"extra_body": {"turn_id": "1"}}, "dialogue_id", "is required"),
    ({"extra_body": {"colour": "1"}}, "colour", "there is no field"),
    ({"extra_body": {"max_alternatives": "99"}}, "max_alternatives", "ask for 1 to 32"),
    ({"prompt": "hello", "extra_body": {"dialogue_id": "d"}}, "prompt", "set it or dialogue_id"),
]


@pytest.mark.parametrize(("options", "field", "says"), BAD, ids=lambda one: one if isinstance(one, str) else "")
def test_bad_input_is_told_as_openai_does(
    openai: RemoteClient, shared: Any, wav: str, options: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(CallError) as refused:
        openai("transcribe", target=target(shared), audio=wav, options=options)
    error = json.loads(refused.value.details)
    assert error["param"] == field and says in error["message"] and error["type"] == "invalid_request_error"
    assert refused.value.code == ("APIStatusError" if "characters" in says else "BadRequestError")  # 413, 400


def test_files_that_are_none(shared: Any, pcm: bytes) -> None:
    for fields, param, says in (
        ([("model", "x")], "file", "is missing or empty"),
        ([("file", b"not audio")], "file", "is not a WAV, FLAC or Ogg file"),
        ([("file", b"a"), ("file", b"b")], "file", "more than once"),
        ([("file", b"a"), ("stream", "soon")], "stream", "send true or false"),
        ([("file", b"a"), ("model", "a"), ("language", "en"), ("language", "en")], "language", "more than once"),
    ):
        answer = transcribe(shared, *fields)
        assert answer.status == 400 and answer.json["error"]["param"] == param, fields
        assert says in answer.json["error"]["message"]
    for body, kind in (
        (b"{}", "application/json"),
        (b"broken", "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data"),
        (b"--x\r\nno header\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"--x\r\n" + b"a" * 20_000, "multipart/form-data; boundary=x"),
    ):
        answer = call(shared, "/v1/audio/transcriptions", body, content_type=kind)
        assert answer.status == 400 and "multipart/form-data" in answer.json["error"]["message"], answer


def test_forms_that_are_broken_on_the_way(shared: Any) -> None:
    body, kind = form(("file", b"a"))
    answer = call(shared, "/v1/audio/transcriptions", body, content_type=kind, content_encoding="gzip")
    assert answer.status == 400 and "is broken" in answer.json["error"]["message"]
    for strategy in ("[" * 100_000, f'{{"silence_duration_ms": {10**400}}}'):
        answer = transcribe(shared, ("file", b"a"), ("chunking_strategy", strategy))
        assert answer.status == 400 and answer.json["error"]["param"] == "chunking_strategy"


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"--x\r\ncontent-disp"])
def test_forms_that_do_not_come(workshop: Any, begun: bytes) -> None:
    """They hold the memory of a recording, and so they end."""
    replica = workshop.start(http_port=0, limits__idle_seconds=1)
    head = (
        b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9999\r\n"
        b"content-type: multipart/form-data; boundary=x\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", replica.server.http_port), 30) as sender:
        sender.sendall(head + begun)
        until(lambda: bool(replica.server.recordings.taken))
        assert sender.recv(12) == b"HTTP/1.1 408"
    until(lambda: not replica.server.recordings.taken)


@pytest.mark.parametrize("sent", [b"a\r\n" * 1000, form(*[("keywords[]", "a")] * 1000)[0]], ids=["lines", "parts"])
def test_a_long_form_holds_up_nobody(sent: bytes) -> None:
    order: list[str] = []

    async def read() -> None:
        loop, limits, nobody = asyncio.get_running_loop(), Limits(), cast(Any, None)
        body = StreamReader(BaseProtocol(loop), 1 << 20, loop=loop)
        body.feed_data(sent + b"--x--\r\n")
        body.feed_eof()
        kind = {"content-type": "multipart/form-data; boundary=x"}
        await read_form(make_mocked_request("POST", "/", kind, payload=body), Calls(nobody, limits), limits)
        order.append("form")

    async def both() -> None:
        form = asyncio.create_task(read())
        for _ in range(100):
            await asyncio.sleep(0)
        order.append("others")
        await form

    asyncio.run(both())
    assert order == ["others", "form"]


def test_too_large(workshop: Any) -> None:
    replica = workshop.start(
        http_port=0, limits__message_bytes=1 << 16, limits__request_bytes=1 << 12, limits__phrases=5
    )
    for fields in (
        [("file", bytes(1 << 17))],
        [("prompt", "x" * 5000), ("file", b"a")],
        [("keywords[]", "a")] * 200,
    ):
        answer = transcribe(replica, *fields)
        assert answer.status == 413 and answer.headers["x-should-retry"] == "false"
    assert metric(replica, "calls_total", method="openai.Transcribe", code="RESOURCE_EXHAUSTED") == 3
    assert not replica.server.streams.running and not replica.server.recordings.taken


def test_recordings_share_the_quota_of_streams(workshop: Any, wav: str) -> None:
    replica = workshop.start(http_port=0, limits__tenant_streams=1)
    with replica.call(lambda: replica.server.streams.one("default")):
        answer = transcribe(replica, ("file", Path(wav).read_bytes()))
    assert answer.status == 429 and answer.headers["retry-after-ms"] == "1000"
    assert answer.json["error"]["type"] == "rate_limit_error"


def test_the_models(openai: RemoteClient, shared: Any) -> None:
    one, again = openai("models", target=target(shared))
    assert one == again and (one["id"], one["object"]) == ("tiny", "model")
    with pytest.raises(CallError, match="there is no such model"):
        openai("models", target=target(shared), model="gpt-9")


def test_keys(openai: RemoteClient, workshop: Any, wav: str, tmp_path: Path) -> None:
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(http_port=0, access__keys_file=str(tmp_path / "keys"))
    (answer,) = openai("transcribe", target=target(replica), audio=wav, options={}, key=secret)
    assert answer["text"]
    for do in ("transcribe", "models"):
        with pytest.raises(CallError) as refused:
            openai(do, target=target(replica), audio=wav, options={}, key="co_" + "A" * 43)
        assert refused.value.code == "AuthenticationError"
    assert metric(replica, "tenant_calls_total", tenant="acme", code="OK") == 1


def test_the_program_of_the_page(openai: RemoteClient, workshop: Any, wav: str) -> None:
    replica = workshop.start(http_port=0)
    code, _ = blocks("docs/http.md", "python")
    for written, here in (("http://127.0.0.1:8080/v1", target(replica)), ("answer.wav", wav)):
        assert written in code
        code = code.replace(written, here)
    text, status = openai("python", code=code)
    assert text and status == "APPLIED"


def test_the_page_has_every_field() -> None:
    page = Path("docs/http.md").read_text()
    table = page[page.index("| field |") : page.index("## OpenAI's realtime")]
    rows = re.findall(r"^\| (`.+?`) \| (?:used|no effect|refused) \|", table, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {"file"} | {name for name in FIELDS if "[" not in name}


def test_open_voice_os(shared: Any, wav: str, pcm: bytes) -> None:
    """What ovos-stt-plugin-server sends, and what it takes."""
    answer = call(shared, "/stt?lang=en-us", Path(wav).read_bytes(), content_type="audio/wav")
    request = pb.RecognizeRequest(
        config=pb.RecognitionConfig(endpointing=pb.Endpointing()), audio=Path(wav).read_bytes()
    )
    spoken = text_of(list(shared.recognizer.Recognize(request, timeout=60).results))
    assert (
        answer.status == 200
        and answer.body.decode() == spoken
        and answer.headers["content-type"].startswith("text/plain")
    )
    assert call(shared, "/stt?lang=pt-br", Path(wav).read_bytes()).body.startswith(b"lang: only English")
    assert call(shared, "/stt?lang=en", b"nothing").body.startswith(b"file: ")
