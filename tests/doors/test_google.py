"""Google's own clients, unchanged and in an environment of their own, against a server on a real socket."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from carryover.v1 import recognizer_pb2
from server.access import make_key
from tests.doors.conftest import GOOGLE_CLIENT, GOOGLE_PROGRAM, attached
from tests.support.certificates import Authority
from tests.support.pages import blocks
from tests.support.remote_client import CallError, RemoteClient, remote_client

RECOGNIZER = "projects/p/locations/global/recognizers/_"
BOTH = pytest.mark.parametrize("version", ["v1", "v2"])


def target(replica: Any) -> str:
    return f"127.0.0.1:{replica.port}"


def configuration(version: str, *, dialogue: str = "", times: bool = False, **features: Any) -> dict[str, Any]:
    """Of 16 kHz samples."""
    name = f"projects/p/locations/global/phraseSets/{dialogue}"
    if version == "v1":
        return {
            "encoding": "LINEAR16", "sample_rate_hertz": 16_000, "language_code": "en-US",
            "enable_word_time_offsets": times, "enable_word_confidence": times,
            "adaptation": {"phrase_set_references": [name] if dialogue else []}, **features,
        }  # fmt: skip
    return {
        "explicit_decoding_config": {"encoding": "LINEAR16", "sample_rate_hertz": 16_000, "audio_channel_count": 1},
        "language_codes": ["en-US"], "model": "long",
        "features": {"enable_word_time_offsets": times, "enable_word_confidence": times, **features},
        "adaptation": {"phrase_sets": [{"phrase_set": name}] if dialogue else []},
    }  # fmt: skip


def streaming(version: str, config: dict[str, Any] | None = None, **features: Any) -> dict[str, Any]:
    config = config or configuration(version)
    if version == "v1":
        return {"config": config, "interim_results": True, **features}
    return {"config": config, "streaming_features": {"interim_results": True, **features}}


def call(replica: Any, version: str, **more: Any) -> dict[str, Any]:
    return {"target": target(replica), "version": version, "recognizer": RECOGNIZER, **more}


def results(responses: list[Any]) -> list[Any]:
    return [result for response in responses for result in response.get("results", [])]


def finals(responses: list[Any]) -> list[str]:
    return [result["alternatives"][0]["transcript"] for result in results(responses) if result.get("is_final")]


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


@BOTH
@pytest.mark.parametrize("do", ["stream", "stream_async"])
def test_a_stream_says_what_ours_does(
    google: RemoteClient, shared: Any, pcm: bytes, raw: str, version: str, do: str
) -> None:
    responses = shared.stream(pcm, interim_results=True, enable_word_time_offsets=True)
    ours = [r for one in responses for r in one.results]
    shown = [r for r in ours if not r.is_final or r.alternatives[0].transcript]
    config = streaming(version, configuration(version, times=True))
    answers = google(do, **call(shared, version, config=config, audio=raw))
    theirs = results(answers)
    assert len(theirs) == len(shown) and any(r.is_final for r in shown)
    start, end = ("start_time", "end_time") if version == "v1" else ("start_offset", "end_offset")
    for result, own in zip(theirs, shown, strict=True):
        best, own_best = result["alternatives"][0], own.alternatives[0]
        assert best.get("transcript", "") == own_best.transcript
        assert result.get("is_final", False) == own.is_final
        assert (result.get("stability") == 1.0) == own.likely_final
        words = [(w["word"], seconds(w.get(start, "0s")), seconds(w[end])) for w in best.get("words", [])]
        assert words == [(w.word, round(w.start, 3), round(w.end, 3)) for w in own_best.words]
        assert all(w["confidence"] > 0 for w in best.get("words", []))
        ended = result["result_end_time" if version == "v1" else "result_end_offset"]
        assert seconds(ended) == pytest.approx(own.end, abs=0.001)
    total = answers[-1]["total_billed_time"] if version == "v1" else answers[-1]["metadata"]["total_billed_duration"]
    assert seconds(total) == pytest.approx(3.0, abs=0.01)


@BOTH
def test_a_recording(google: RemoteClient, shared: Any, wav: str, version: str) -> None:
    """A file as people send it: named LINEAR16, with its header."""
    whole = shared.recognizer.Recognize(recognizer_pb2.RecognizeRequest(audio=Path(wav).read_bytes()), timeout=60)
    (answer,) = google("recognize", **call(shared, version, config=configuration(version), audio=wav))
    assert answer["results"][0]["alternatives"][0]["transcript"] == whole.results[0].alternatives[0].transcript
    total = answer["total_billed_time"] if version == "v1" else answer["metadata"]["total_billed_duration"]
    assert seconds(total) == 3.0
    assert int(answer["request_id"]) if version == "v1" else answer["metadata"]["request_id"]


@BOTH
def test_a_dialogue_among_the_phrase_sets(
    google: RemoteClient, shared: Any, dialogue: str, raw: str, version: str
) -> None:
    named = configuration(version, dialogue=f"dialogue-{dialogue}-turn-2")
    with attached(shared) as wait:
        asked = call(shared, version, config=streaming(version, named), audio=raw)
        unknown = google("stream", **asked, before_audio=wait)
    shared.ask(dialogue, "1", "meg bauer")
    shared.wait_for("READY", dialogue)
    with attached(shared) as wait:
        followed = google("stream", **asked, before_audio=wait)
    assert finals(followed)[0] == "meg bauer" != finals(unknown)[0]
    assert finals(unknown) == finals(google("stream", **call(shared, version, config=streaming(version), audio=raw)))
    if version == "v1":
        missed = [one["speech_adaptation_info"] for one in unknown if "speech_adaptation_info" in one]
        assert missed[0]["adaptation_timeout"] and missed[0]["timeout_message"].startswith("context NOT_FOUND: ")
        assert not any("speech_adaptation_info" in one for one in followed)


@BOTH
def test_inline_phrases(google: RemoteClient, shared: Any, pcm: bytes, raw: str, version: str) -> None:
    config = configuration(version)
    boosted = {"phrases": [{"value": "${who} bauer", "boost": 4.0}, {"value": "jack quick"}], "boost": 4.0}
    classes = [{"items": [{"value": "meg"}, {"value": "zoe"}]}]
    if version == "v1":
        classes[0]["custom_class_id"] = "who"  # type: ignore[assignment]
        config["adaptation"] = {"phrase_sets": [boosted], "custom_classes": classes}
    else:
        classes[0]["name"] = "projects/p/locations/global/customClasses/who"  # type: ignore[assignment]
        config["adaptation"] = {"phrase_sets": [{"inline_phrase_set": boosted}], "custom_classes": classes}
    phrases = recognizer_pb2.SpeechContext(phrases=["meg bauer", "zoe bauer", "jack quick"], boost=4.0)
    ours = [r.alternatives[0].transcript for r in shared.finals(pcm, speech_contexts=[phrases])]
    expected = [text for text in ours if text]
    asked = call(shared, version, config=streaming(version, config), audio=raw)
    assert finals(google("stream", **asked)) == expected
    plain = call(shared, version, config=streaming(version), audio=raw)
    assert finals(google("stream", **plain)) != expected


@BOTH
def test_bad_input_and_what_does_not_exist(google: RemoteClient, shared: Any, raw: str, version: str) -> None:
    config = configuration(version)
    config |= {"language_code": "de-DE"} if version == "v1" else {"language_codes": ["de-DE"]}
    for do in ("stream", "stream_async", "recognize"):
        asked = call(shared, version, config=config if do == "recognize" else streaming(version, config), audio=raw)
        with pytest.raises(CallError) as refused:
            google(do, **asked)
        assert refused.value.code == "INVALID_ARGUMENT" and "language_code" in refused.value.details
    with pytest.raises(CallError) as refused:
        google("elsewhere", **call(shared, version))
    assert refused.value.code == "UNIMPLEMENTED" and "use Recognize" in refused.value.details


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("v1", {"sample_rate_hertz": 96_000}, "config.sample_rate_hertz: "),
    ("v1", {"encoding": "AMR"}, "config.encoding: "),
    ("v1", {"max_alternatives": 99}, "config.max_alternatives: "),
    ("v1", {"adaptation": {"phrase_set_references": ["others"]}}, "config.adaptation.phrase_set_references: "),
    (
        "v1", {"adaptation": {"phrase_set_references": ["phraseSets/dialogue-a#b"]}},
        "config.adaptation.phrase_set_references: remove '#'",
    ),
    ("v1", {"speech_contexts": [{"phrases": ["the $MONTH"]}]}, "config.adaptation: holds a class of Google's"),
    ("v1", {"speech_contexts": [{"phrases": ["the ${it}"]}]}, "config.adaptation: names a class that is not"),
    (
        "v2", {"explicit_decoding_config": {"encoding": "LINEAR16", "sample_rate_hertz": 1}},
        "config.explicit_decoding_config.sample_rate_hertz: ",
    ),
    ("v2", {"features": {"max_alternatives": 99}}, "config.features.max_alternatives: "),
    ("v2", {"adaptation": {"phrase_sets": [{"phrase_set": "others"}]}}, "config.adaptation.phrase_sets.phrase_set: "),
]  # fmt: skip


@pytest.mark.parametrize(("version", "config", "says"), BAD)
@pytest.mark.parametrize("do", ["stream", "recognize"])
def test_bad_input_is_told_in_googles_words(
    google: RemoteClient, shared: Any, raw: str, version: str, config: dict[str, Any], says: str, do: str
) -> None:
    config = configuration(version) | config
    config = streaming(version, config) if do == "stream" else config
    with pytest.raises(CallError) as refused:
        google(do, **call(shared, version, config=config, audio=raw))
    prefix = "streaming_config." if do == "stream" else ""
    assert refused.value.code == "INVALID_ARGUMENT" and refused.value.details.startswith(prefix + says)


@BOTH
def test_statuses_are_googles(google: RemoteClient, workshop: Any, raw: str, version: str) -> None:
    replica = workshop.start(limits__stream_seconds=2)
    with pytest.raises(CallError) as ended:
        google("stream", **call(replica, version, config=streaming(version), audio=raw))
    assert ended.value.code == "OUT_OF_RANGE" and "limits.stream_seconds" in ended.value.details


@BOTH
def test_an_idle_stream_is_aborted(google: RemoteClient, workshop: Any, raw: str, version: str) -> None:
    replica = workshop.start(limits__idle_seconds=0.3)
    with attached(replica) as wait:

        def outlive() -> None:
            wait()
            while replica.server.streams.running:
                replica.run(_short())

        with pytest.raises(CallError) as ended:
            google("stream", **call(replica, version, config=streaming(version), audio=raw), before_audio=outlive)
    assert ended.value.code == "ABORTED" and "limits.idle_seconds" in ended.value.details


async def _short() -> None:
    """A turn of the event loop."""


@BOTH
def test_a_key_over_tls(workshop: Any, raw: str, tmp_path: Path, version: str) -> None:
    """The endpoint and the key are all that is changed in a program."""
    authority = Authority(tmp_path, "ca")
    files = authority.issue("server")
    secret, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\n")
    replica = workshop.start(
        access__keys_file=str(tmp_path / "keys"), tls__certificate=files["certificate"], tls__key=files["key"]
    )
    asked = call(replica, version, config=streaming(version), audio=raw) | {"target": f"localhost:{replica.port}"}
    roots = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority.ca), "PATH": os.environ["PATH"]}
    with remote_client(GOOGLE_PROGRAM, GOOGLE_CLIENT, **roots) as client:
        assert finals(client("stream", key=secret, **asked))
        for do in ("stream", "recognize", "elsewhere"):
            config = asked["config"] if do == "stream" else configuration(version)
            with pytest.raises(CallError) as refused:
                client(do, key="co_" + "A" * 43, **asked | {"config": config})
            assert refused.value.code == "UNAUTHENTICATED"


def test_the_program_of_the_page(google: RemoteClient, shared: Any, dialogue: str, pcm: bytes, wav: str) -> None:
    (code,) = [one for one in blocks("docs/doors.md", "python") if "google" in one]
    for written, here in (
        ("127.0.0.1:50051", target(shared)),
        ("answer.wav", wav),
        ("dialogue-d", f"dialogue-{dialogue}"),
    ):
        assert written in code
        code = code.replace(written, here)
    expected = [r.alternatives[0].transcript for r in shared.finals(pcm) if r.alternatives[0].transcript]
    assert google("python", code=code) == expected
