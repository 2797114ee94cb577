"""Recognition over a socket: results, interim results, phrases, formats."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from typing import Any, cast

import grpc
import numpy as np
import pytest
import soundfile
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.text import normalize
from carryover import ChangeRequestError, aio
from carryover.v1 import inline_context_pb2
from carryover.v1 import recognizer_pb2 as pb
from tests.support.waiting import until


def test_stream_gives_what_the_recogniser_gives(shared: Any, pcm: bytes, tiny_recognizer: Recognizer) -> None:
    stream = tiny_recognizer.open(StreamOptions())
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768.0
    expected = [r for r in (*stream.accept(samples), *stream.finish()) if r.is_final]

    finals = shared.finals(pcm, max_alternatives=4, enable_word_time_offsets=True)

    assert [r.nbest[0].text for r in expected] == [f.alternatives[0].transcript for f in finals]
    assert any(f.alternatives[0].transcript for f in finals)
    for result, final in zip(expected, finals, strict=True):
        best, answer = result.nbest[0], final.alternatives[0]
        assert len(final.alternatives) == min(4, len(result.nbest))
        assert answer.confidence == pytest.approx(best.confidence)
        assert answer.score == best.score
        assert [(w.word, w.start, w.end) for w in answer.words] == [(w.text, w.start_s, w.end_s) for w in best.words]
        assert final.context.status == pb.ContextInfo.NOT_REQUESTED
        assert final.context.plain_transcript == best.text


def test_written_form_is_of_the_same_results(shared: Any, pcm: bytes) -> None:
    options = {"max_alternatives": 2, "enable_word_time_offsets": True, "interim_results": True}
    plain, written = (
        [r for response in shared.stream(pcm, automatic_punctuation=on, **options) for r in response.results]
        for on in (False, True)
    )
    assert len(plain) == len(written) and any(r.is_final for r in plain)
    for one, other in zip(plain, written, strict=True):
        if not one.is_final and not one.likely_final:
            assert one == other
            continue
        best, answer = one.alternatives[0], other.alternatives[0]
        assert best.transcript == best.transcript.lower() != answer.transcript == other.context.plain_transcript
        assert normalize(answer.transcript) == best.transcript
        assert answer.transcript == " ".join(w.word for w in answer.words)
        assert [(w.start, w.end) for w in answer.words] == [(w.start, w.end) for w in best.words]
        assert (answer.score, answer.confidence) == (best.score, best.confidence)


def test_a_result_that_cannot_be_written_stays_in_its_normal_form(
    shared: Any, pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = shared.finals(pcm)
    monkeypatch.setattr("server.recognizer_service.written_nbest", None)
    assert shared.finals(pcm, automatic_punctuation=True) == expected


@pytest.mark.parametrize("chunk", [22, 640, 31_998, 10**6])
def test_chunks_do_not_matter(shared: Any, pcm: bytes, chunk: int) -> None:
    piece = pcm[:32_000]
    assert shared.finals(piece, chunk=chunk) == shared.finals(piece, chunk=3200)


def test_interim_results_come_before_their_final(shared: Any, pcm: bytes) -> None:
    responses = shared.stream(pcm, interim_results=True)
    results = [result for response in responses for result in response.results]
    assert not results[0].is_final
    assert results[-1].is_final
    assert all(r.HasField("context") == r.is_final for r in results)
    assert all(0 <= r.stability <= 1 for r in results)


def test_a_likely_final_is_told_with_its_context(workshop: Any, pcm: bytes, dialogue: str) -> None:
    # random weights are never sure: only tokens count as speech
    replica = workshop.start(endpoint__likely_silence_s=0.1, endpoint__speech_threshold=1.0)
    replica.ask(dialogue, "1", "meg bauer")
    replica.wait_for("READY", dialogue)
    call = {"dialogue_id": dialogue, "turn_id": "2", "max_alternatives": 4}
    audio = pcm + bytes(2 * 16_000 * 2)

    def spoken() -> Iterator[bytes]:
        for start in range(0, len(audio), 3200):
            replica.run(replica.store_answered())  # it is asked again at each utterance
            yield audio[start : start + 3200]

    results = [r for response in replica.stream(spoken(), interim_results=True, **call) for r in response.results]
    likely = [result for result in results if result.likely_final]
    assert likely and not any(result.is_final or result.HasField("context") for result in likely)
    assert all(r.alternatives[0].transcript == "meg bauer" and r.stability == 1 for r in likely)
    assert all(len(r.alternatives) > 1 and r.alternatives[0].score for r in likely)
    assert [r.alternatives for r in results if r.is_final] == [r.alternatives for r in replica.finals(audio, **call)]


def test_word_times_and_alternatives_only_on_request(shared: Any, pcm: bytes) -> None:
    (final, *_) = shared.finals(pcm)
    assert len(final.alternatives) == 1
    assert not final.alternatives[0].words


def test_single_utterance_ends_by_itself(shared: Any, pcm: bytes) -> None:
    silence = bytes(2 * 16_000 * 3)
    assert len(shared.finals(pcm + silence + pcm + silence, single_utterance=True)) == 1
    assert len(shared.finals(pcm + silence + pcm + silence)) > 1


@pytest.mark.parametrize("rate", [8000, 22_050, 48_000])
@pytest.mark.parametrize("encoding", ["LINEAR16", "FLOAT32", "MULAW", "ALAW"])
def test_encodings_and_rates(shared: Any, encoding: str, rate: int) -> None:
    tone = (0.3 * np.sin(np.arange(rate) / 20)).astype(np.float32)
    data = {"LINEAR16": (tone * 32767).astype("<i2").tobytes(), "FLOAT32": tone.tobytes()}
    audio = data.get(encoding, bytes(range(256)) * (rate // 256))
    (*_, final) = shared.finals(audio, encoding=pb.AudioEncoding.Value(encoding), sample_rate_hertz=rate)
    assert final.end == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_files_give_what_their_samples_give(shared: Any, pcm: bytes, kind: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(pcm, "<i2"), 16_000, format=kind)
    raw = pb.RecognitionConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
    named = pb.RecognitionConfig(encoding=kind)
    rated = pb.RecognitionConfig(encoding=kind, sample_rate_hertz=16_000)
    answers = [
        shared.recognizer.Recognize(pb.RecognizeRequest(config=config, audio=audio), timeout=60)
        for config, audio in ((raw, pcm), *((config, file.getvalue()) for config in (named, rated, None)))
    ]
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert answers[0].results[0].alternatives[0].transcript
    assert len(answers[0].results) == 1


def test_silence_is_an_answer(shared: Any) -> None:
    (final,) = shared.finals(bytes(2 * 16_000 // 10))  # what the random model hears in it does not matter
    assert len(final.alternatives) == 1
    assert final.context.status == pb.ContextInfo.NOT_REQUESTED


def test_phrases_boost_and_are_reported(shared: Any, pcm: bytes) -> None:
    plain = shared.finals(pcm, max_alternatives=6)[0]
    other = next(a.transcript for a in plain.alternatives if a.transcript and a.transcript != "")
    contexts = [
        pb.SpeechContext(phrases=[other, "北京", "!?"], boost=15.0),
        pb.SpeechContext(phrases=["улица", "straße"]),
    ]
    first, *rest = shared.stream(pcm, speech_contexts=contexts)
    assert first.speech_context_report.accepted == 2
    rejected = [(r.context_index, r.phrase_index, r.phrase) for r in first.speech_context_report.rejected]
    assert rejected == [(0, 1, "北京"), (0, 2, "!?"), (1, 0, "улица")]
    assert all(r.reason for r in first.speech_context_report.rejected)
    assert not any(response.HasField("speech_context_report") for response in rest)
    assert rest[-1].results[-1].is_final


def test_phrases_that_are_off_or_listed_twice_are_not_in_use(shared: Any) -> None:
    contexts = [
        pb.SpeechContext(phrases=["meg bauer", "meg jones"], boost=0.0),
        pb.SpeechContext(phrases=["Meg Jones", "meg  jones", "sam", "!?"]),
        pb.SpeechContext(phrases=["SAM"], boost=9.0),
    ]
    report = shared.stream(bytes(6400), speech_contexts=contexts)[0].speech_context_report
    assert report.accepted == 2  # meg jones, sam
    rejected = {(r.context_index, r.phrase_index): r.reason.split(":")[0].split(",")[0] for r in report.rejected}
    assert rejected == {
        (0, 0): "its boost is 0", (0, 1): "its boost is 0", (1, 1): "listed before", (2, 0): "listed before",
        (1, 3): "the model cannot spell it; write it with the letters a to z",
    }  # fmt: skip
    off = [pb.SpeechContext(phrases=["meg", "sam"], boost=0.0)]
    report = shared.stream(bytes(6400), speech_contexts=off)[0].speech_context_report
    assert (report.accepted, len(report.rejected)) == (0, 2)


@pytest.mark.parametrize("phrases", [[], ["meg bauer"]])
def test_a_stream_says_that_it_is_accepted_before_its_audio(shared: Any, pcm: bytes, phrases: list[str]) -> None:
    accepted = threading.Event()
    config = pb.StreamingConfig(
        encoding=pb.LINEAR16, sample_rate_hertz=16_000, speech_contexts=[pb.SpeechContext(phrases=phrases)]
    )

    def messages() -> Iterator[pb.StreamingRecognizeRequest]:
        yield pb.StreamingRecognizeRequest(config=config)
        assert accepted.wait(60)
        yield pb.StreamingRecognizeRequest(audio=pcm)

    call = shared.recognizer.StreamingRecognize(messages(), timeout=60, metadata=[("x-request-id", "abc-2")])
    assert ("x-request-id", "abc-2") in [(m.key, m.value) for m in call.initial_metadata()]
    accepted.set()
    assert list(call)[-1].results[-1].is_final


def test_a_refusal_reaches_a_client_that_has_more_to_say(shared: Any, pcm: bytes) -> None:
    """gRPC's asyncio client loses the status of a call that is refused while it writes: ours waits before its audio."""
    asked: list[int] = []

    async def audio(number: int) -> AsyncIterator[bytes]:
        asked.append(number)
        for _ in range(10):
            yield pcm[:3200]

    async def refused() -> None:
        async with aio.Client(f"127.0.0.1:{shared.port}") as client:
            for number in range(20):
                with pytest.raises(ChangeRequestError, match="sample_rate_hertz"):
                    await anext(client.stream(audio(number), rate=number))

    asyncio.run(refused())
    assert not asked


def test_no_report_without_phrases(shared: Any, pcm: bytes) -> None:
    assert not any(response.HasField("speech_context_report") for response in shared.stream(pcm))


def test_health_and_reflection(shared: Any) -> None:
    check = cast(Any, health_pb2_grpc.HealthStub(shared.channel)).Check
    for name in ("", "carryover.v1.Recognizer", "carryover.v1.Context"):
        assert check(health_pb2.HealthCheckRequest(service=name), timeout=30).status == 1
    database = ProtoReflectionDescriptorDatabase(shared.channel)
    assert {"carryover.v1.Recognizer", "carryover.v1.Context"} <= set(database.get_services())
    service = DescriptorPool(database).FindServiceByName("carryover.v1.Recognizer")
    assert set(service.methods_by_name) == {"Recognize", "StreamingRecognize", "GetServerInfo"}


def test_request_id_comes_back(shared: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        shared.recognizer.Recognize(pb.RecognizeRequest(), metadata=[("x-request-id", "abc-1")], timeout=30)
    assert ("x-request-id", "abc-1") in [(m.key, m.value) for m in caught.value.trailing_metadata()]


def test_server_info(shared: Any, workshop: Any) -> None:
    info = shared.recognizer.GetServerInfo(pb.GetServerInfoRequest(), timeout=30)
    assert (info.model_version, info.context_model_version) == ("tiny", "echo-1")
    assert info.version == version("carryover-asr")
    assert info.limits["stream_seconds"] == 20
    assert info.limits["tenant_streams"] == info.limits["streams"] == 32
    plain = workshop.start(context__enabled=False, limits__tenant_streams=3)
    info = plain.recognizer.GetServerInfo(pb.GetServerInfoRequest(), timeout=30)
    assert not info.context_model_version and info.limits["tenant_streams"] == 3


def test_a_recording_of_several_utterances_gives_what_a_stream_gives(shared: Any, pcm: bytes) -> None:
    long = pcm + bytes(64_000) + pcm
    request = pb.RecognizeRequest(
        config=pb.RecognitionConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000, endpointing=pb.Endpointing()),
        audio=long,
    )
    results = shared.recognizer.Recognize(request, timeout=60).results
    streamed = shared.finals(long)
    assert len(results) > 1 and [r.end for r in results] == [r.end for r in streamed]
    assert [r.alternatives[0].transcript for r in results] == [r.alternatives[0].transcript for r in streamed]
    request.config.ClearField("endpointing")
    assert len(shared.recognizer.Recognize(request, timeout=60).results) == 1


def test_a_recording_brings_its_context_along(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start()
    replica.encoder.go_on.clear()  # the recording waits for it
    context = inline_context_pb2.InlineContext(
        entities=[inline_context_pb2.Entities(signal="contacts", entries=["Meg Bauer"])]
    )
    config = pb.RecognitionConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000, context=context)
    call = replica.recognizer.Recognize.future(pb.RecognizeRequest(config=config, audio=pcm), timeout=60)
    until(lambda: replica.server.streams.running)
    replica.encoder.go_on.set()
    (result,) = call.result().results
    assert result.context.status == pb.ContextInfo.APPLIED and result.alternatives[0].transcript == "meg bauer"
    config.dialogue_id = "d"
    with pytest.raises(grpc.RpcError, match="set it or dialogue_id, not both"):
        replica.recognizer.Recognize(pb.RecognizeRequest(config=config, audio=pcm), timeout=60)
