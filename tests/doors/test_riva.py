"""NVIDIA's own client, unchanged and in an environment of its own, against a server on a real socket."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from carryover.v1 import recognizer_pb2
from server.access import make_key
from tests.doors.conftest import attached
from tests.support.certificates import Authority
from tests.support.pages import blocks
from tests.support.remote_client import CallError, RemoteClient


def target(replica: Any) -> str:
    return f"127.0.0.1:{replica.port}"


def streaming(rate: int = 16_000, interim: bool = True, **config: Any) -> dict[str, Any]:
    raw = {"encoding": "LINEAR_PCM", "sample_rate_hertz": rate, "audio_channel_count": 1} if rate else {}
    return {"config": {"language_code": "en-US", **raw, **config}, "interim_results": interim}


def finals(responses: list[Any]) -> list[str]:
    return [r["alternatives"][0]["transcript"] for one in responses for r in one["results"] if r.get("is_final")]


def test_a_stream_says_what_ours_does(riva: RemoteClient, shared: Any, pcm: bytes, raw: str) -> None:
    ours = [r for one in shared.stream(pcm, interim_results=True, enable_word_time_offsets=True) for r in one.results]
    config = streaming(enable_word_time_offsets=True, max_alternatives=1)
    results = [r for one in riva("stream", target=target(shared), config=config, audio=raw) for r in one["results"]]
    shown = [r for r in ours if not r.is_final or r.alternatives[0].transcript]
    assert len(results) == len(shown) and any(r.is_final for r in shown)
    for result, own in zip(results, shown, strict=True):
        best, own_best = result["alternatives"][0], own.alternatives[0]
        assert best.get("transcript", "") == own_best.transcript + " " * own.is_final
        assert (result["stability"] == 1.0) == (own.is_final or own.likely_final)
        assert result["audio_processed"] == pytest.approx(own.end)
        words = [(w["word"], w.get("start_time", 0), w["end_time"]) for w in best.get("words", [])]
        assert words == [(w.word, round(w.start * 1000), round(w.end * 1000)) for w in own_best.words]
    assert {r["channel_tag"] for r in results} == {1}


def test_nvidias_scripts_transcribe_a_file(riva: RemoteClient, shared: Any, pcm: bytes, wav: str) -> None:
    """They send the file as it is, with its header, and name neither its encoding nor its rate."""
    ours = [f"## {r.alternatives[0].transcript} " for r in shared.finals(pcm) if r.alternatives[0].transcript]
    assert riva("printed", target=target(shared), config=streaming(rate=0), audio=wav) == ours
    request = recognizer_pb2.RecognizeRequest(audio=Path(wav).read_bytes())
    whole = shared.recognizer.Recognize(request, timeout=60).results[0]
    (line,) = riva("offline", target=target(shared), config={"language_code": "en-US"}, audio=wav)
    assert line == f"Final transcript: {whole.alternatives[0].transcript} "


def test_phrases_of_the_boost_that_clients_send(riva: RemoteClient, shared: Any, pcm: bytes, wav: str) -> None:
    phrases = ["meg bauer", "jack quick"]
    ours = shared.finals(pcm, speech_contexts=[recognizer_pb2.SpeechContext(phrases=phrases, boost=4.0)])
    expected = [f"## {r.alternatives[0].transcript} " for r in ours if r.alternatives[0].transcript]
    boosted = riva("printed", target=target(shared), config=streaming(), audio=wav, boost=phrases)
    assert boosted == expected != riva("printed", target=target(shared), config=streaming(), audio=wav)


def test_a_dialogue_in_the_custom_configuration(
    riva: RemoteClient, shared: Any, dialogue: str, raw: str, wav: str
) -> None:
    shared.ask(dialogue, "1", "meg bauer")
    shared.wait_for("READY", dialogue)
    config = streaming(custom_configuration={"dialogue_id": dialogue, "turn_id": "2"})
    with attached(shared) as wait:
        followed = riva("stream", target=target(shared), config=config, audio=raw, before_audio=wait)
    assert finals(followed)[0] == "meg bauer "
    own = streaming(custom_configuration={"dialogue_id": dialogue, "turn_id": "1"})
    with attached(shared) as wait:
        assert finals(riva("stream", target=target(shared), config=own, audio=raw, before_audio=wait)) == finals(
            riva("stream", target=target(shared), config=streaming(), audio=raw)
        )
    asked = {"custom_configuration": {"dialogue_id": dialogue, "turn_id": "2"}}
    # the context is in memory: a recording is recognised with it at once
    (response,) = riva("recognize", target=target(shared), config=asked, audio=wav)
    assert response["results"][0]["alternatives"][0]["transcript"] == "meg bauer "


def test_the_models(riva: RemoteClient, shared: Any) -> None:
    (listed,) = riva("models", target=target(shared))
    names = {one["model_name"] for one in listed["model_config"]}
    assert names == {"tiny"}
    assert [one["parameters"] for one in listed["model_config"]] == [
        {"type": kind, "language_code": "en-US"} for kind in ("online", "offline")
    ]
    assert riva("models", target=target(shared), model="tiny") == [listed]
    assert riva("models", target=target(shared), model="parakeet") == [{}]


def test_a_requests_id_comes_back(riva: RemoteClient, shared: Any, pcm: bytes) -> None:
    messages = [
        {"streaming_config": streaming(), "id": {"value": "first"}},
        sent(pcm[:64_000]),
        sent(pcm[64_000:], id={"value": "second"}),
    ]
    responses = riva("requests", target=target(shared), messages=messages)
    ids = [one["id"]["value"] for one in responses]
    assert ids == sorted(ids) and set(ids) == {"first", "second"}


def sent(pcm: bytes, **more: Any) -> dict[str, Any]:
    return {"audio_content": base64.b64encode(pcm).decode(), **more}


def test_a_turn_that_follows_in_the_same_stream(
    riva: RemoteClient, shared: Any, dialogue: str, pcm: bytes
) -> None:  # fmt: skip
    shared.ask(dialogue, "1", "meg bauer")
    shared.wait_for("READY", dialogue)
    config = streaming(interim=False, custom_configuration={"dialogue_id": dialogue, "turn_id": "1"})
    messages = [
        {"streaming_config": config}, sent(pcm[:48_000], runtime_config={"force_eou": "true"}),
        {"runtime_config": {"turn_id": "2"}}, sent(pcm), sent(bytes(64_000)),
    ]  # fmt: skip
    texts = finals(riva("requests", target=target(shared), messages=messages))
    assert texts[0] != "meg bauer " == texts[1]


BAD = [
    ({"encoding": "FLAC"}, "streaming_config.config.encoding"),
    ({"sample_rate_hertz": 96_000}, "streaming_config.config.sample_rate_hertz"),
    ({"max_alternatives": 99}, "streaming_config.config.max_alternatives"),
    ({"speech_contexts": [{"phrases": ["a"], "boost": -1}]}, "streaming_config.config.speech_contexts.boost"),
    ({"custom_configuration": {"dialog": "d"}}, "streaming_config.config.custom_configuration: the key dialog is"),
    (
        {"custom_configuration": {"dialogue_id": "a#b"}},
        "streaming_config.config.custom_configuration.dialogue_id: remove '#'",
    ),
    (
        {"custom_configuration": {"turn_id": "1"}},
        "streaming_config.config.custom_configuration.dialogue_id: is required",
    ),
    ({"endpointing_config": {"stop_history": 20}}, "streaming_config.config.endpointing_config.stop_history"),
    ({"endpointing_config": {"stop_history_eou": 5000}}, "streaming_config.config.endpointing_config.stop_history_eou"),
]


@pytest.mark.parametrize(("config", "says"), BAD, ids=lambda one: one if isinstance(one, str) else "")
def test_bad_input_is_told_in_rivas_words(
    riva: RemoteClient, shared: Any, raw: str, config: dict[str, Any], says: str
) -> None:
    with pytest.raises(CallError) as refused:
        riva("stream", target=target(shared), config=streaming(**config), audio=raw)
    assert refused.value.code == "INVALID_ARGUMENT" and refused.value.details.startswith(says)


def test_messages_out_of_order(riva: RemoteClient, shared: Any, pcm: bytes) -> None:
    first = {"streaming_config": streaming()}
    for messages, says in (
        ([], "streaming_config: the stream is empty"),
        ([sent(pcm)], "streaming_config: send the configuration in the first message"),
        ([first, first], "streaming_config: was sent twice"),
        ([first], "audio_content: the stream ended without any"),
        ([first, {}], "audio_content: send audio in every message"),
        ([first, sent(pcm, runtime_config={"pause": "1"})], "runtime_config: the key pause is not known"),
        ([first, sent(pcm, runtime_config={"turn_id": "2"})], "runtime_config.turn_id: needs a dialogue"),
        ([first, sent(pcm, runtime_config={"force_eou": "soon"})], "runtime_config.force_eou: send true or false"),
    ):
        with pytest.raises(CallError) as refused:
            riva("requests", target=target(shared), messages=messages)
        assert (refused.value.code, refused.value.details[: len(says)]) == ("INVALID_ARGUMENT", says)


def test_keys_and_tls(riva: RemoteClient, workshop: Any, raw: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    files = authority.issue("server")
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(
        access__keys_file=str(tmp_path / "keys"), tls__certificate=files["certificate"], tls__key=files["key"]
    )
    call: dict[str, Any] = {
        "target": f"localhost:{replica.port}",
        "ca": str(authority.ca),
        "config": streaming(),
        "audio": raw,
    }
    assert finals(riva("stream", key=secret, **call))
    for do in ("stream", "recognize", "models"):
        config = streaming()["config"] if do == "recognize" else streaming()
        with pytest.raises(CallError) as refused:
            riva(do, **call | {"config": config}, key="co_" + "A" * 43)
        assert refused.value.code == "UNAUTHENTICATED"


def test_the_program_of_the_page(riva: RemoteClient, shared: Any, dialogue: str, pcm: bytes, wav: str) -> None:
    (code, *_) = blocks("docs/doors.md", "python")
    for written, here in (("127.0.0.1:50051", target(shared)), ("answer.wav", wav), ('"d"', f'"{dialogue}"')):
        assert written in code
        code = code.replace(written, here)
    expected = [f"## {r.alternatives[0].transcript} " for r in shared.finals(pcm) if r.alternatives[0].transcript]
    assert [line for line in riva("python", code=code) if line.startswith("##")] == expected


def test_doors_can_be_shut(riva: RemoteClient, workshop: Any, raw: str) -> None:
    replica = workshop.start(doors=False)
    with pytest.raises(CallError) as refused:
        riva("stream", target=target(replica), config=streaming(), audio=raw)
    assert refused.value.code == "UNIMPLEMENTED"
