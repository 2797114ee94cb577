"""Everything that a client can do wrong: a status that says what to change, and everyone else is served on."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile

from asr.recognition.recognizer import Recognizer
from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from tests.support.waiting import until

INVALID = grpc.StatusCode.INVALID_ARGUMENT
TOO_MUCH = grpc.StatusCode.RESOURCE_EXHAUSTED
CONFIG = pb.StreamingRecognizeRequest(
    config=pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
)  # fmt: skip


@pytest.fixture
def refused(shared: Any, pcm: bytes) -> Iterator[Any]:
    """Asserts that a call ends with a status whose message names something; afterwards others are still served."""
    before = shared.finals(pcm[:32_000])

    def refused(code: grpc.StatusCode, named: str, call: Any) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert (caught.value.code(), named in (caught.value.details() or "")) == (code, True), caught.value.details()
        return str(caught.value.details())

    yield refused
    assert shared.finals(pcm[:32_000]) == before


def send(replica: Any, *messages: pb.StreamingRecognizeRequest) -> list[pb.StreamingRecognizeResponse]:
    return list(replica.recognizer.StreamingRecognize(iter(messages), timeout=60))


def audio(data: bytes) -> pb.StreamingRecognizeRequest:
    return pb.StreamingRecognizeRequest(audio=data)


def test_audio_before_configuration(shared: Any, refused: Any) -> None:
    refused(INVALID, "config: send the configuration in the first message", lambda: send(shared, audio(bytes(640))))


def test_two_configurations(shared: Any, refused: Any) -> None:
    refused(INVALID, "config: was sent twice", lambda: send(shared, CONFIG, audio(bytes(640)), CONFIG))


def test_message_with_nothing_in_it(shared: Any, refused: Any) -> None:
    empty = pb.StreamingRecognizeRequest()
    refused(INVALID, "config", lambda: send(shared, empty))
    refused(INVALID, "audio", lambda: send(shared, CONFIG, empty))


@pytest.mark.parametrize("encoding", [0, pb.WAV, pb.FLAC, 99])
def test_unknown_encoding(shared: Any, refused: Any, encoding: int) -> None:
    refused(INVALID, "config.encoding", lambda: shared.stream(bytes(640), encoding=encoding))


@pytest.mark.parametrize("rate", [0, -1, 7999, 48_001, 2**31 - 1])
def test_impossible_sample_rate(shared: Any, refused: Any, rate: int) -> None:
    refused(INVALID, "8000 to 48000", lambda: shared.stream(bytes(640), sample_rate_hertz=rate))


def test_impossible_number_of_alternatives(shared: Any, refused: Any) -> None:
    for wanted in (-1, 33):
        refused(INVALID, "config.max_alternatives", lambda n=wanted: shared.stream(bytes(640), max_alternatives=n))


def test_empty_stream(shared: Any, refused: Any) -> None:
    refused(INVALID, "the stream is empty", lambda: send(shared))
    refused(INVALID, "audio: the stream ended without any", lambda: send(shared, CONFIG))
    refused(INVALID, "audio: the stream ended without any", lambda: send(shared, CONFIG, audio(b"")))


def test_odd_byte_count(shared: Any, refused: Any) -> None:
    refused(INVALID, "audio", lambda: send(shared, CONFIG, audio(bytes(641))))
    config = pb.RecognitionConfig(encoding=pb.FLOAT32, sample_rate_hertz=16_000)
    request = pb.RecognizeRequest(config=config, audio=bytes(4001))
    refused(INVALID, "audio", lambda: shared.recognizer.Recognize(request, timeout=60))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(shared: Any, refused: Any, value: float) -> None:
    samples = np.zeros(1600, np.float32)
    samples[7] = value
    refused(INVALID, "NaN", lambda: shared.stream(samples.tobytes(), encoding=pb.FLOAT32))


def test_a_file_that_is_none(shared: Any, refused: Any) -> None:
    for data in (b"no file", b"RIFF\0\0\0\0WAVE", b"fLaC" + bytes(100)):
        request = pb.RecognizeRequest(audio=data)
        refused(INVALID, "audio", lambda r=request: shared.recognizer.Recognize(r, timeout=60))
    refused(INVALID, "audio", lambda: shared.recognizer.Recognize(pb.RecognizeRequest(), timeout=60))


def test_a_rate_that_is_not_the_files(shared: Any, refused: Any) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1600, np.float32), 16_000, format="WAV")
    request = pb.RecognizeRequest(config=pb.RecognitionConfig(sample_rate_hertz=8000), audio=file.getvalue())
    refused(INVALID, "config.sample_rate_hertz: the file", lambda: shared.recognizer.Recognize(request, timeout=60))


def test_a_stream_that_is_too_long_keeps_what_was_said(shared: Any, refused: Any, pcm: bytes) -> None:
    finals: list[Any] = []

    def ten_minutes() -> None:
        def messages() -> Iterator[pb.StreamingRecognizeRequest]:
            yield CONFIG
            for _ in range(200):
                yield audio(pcm)

        for response in shared.recognizer.StreamingRecognize(messages(), timeout=120):
            finals.extend(response.results)

    message = refused(TOO_MUCH, "longer than 20 s", ten_minutes)
    assert "limits.stream_seconds" in message
    assert finals[-1].is_final
    assert finals[-1].end == pytest.approx(20, abs=0.5)
    config = pb.RecognitionConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
    request = pb.RecognizeRequest(config=config, audio=pcm * 7)
    message = refused(TOO_MUCH, "longer than 20 s", lambda: shared.recognizer.Recognize(request, timeout=60))
    assert "limits.recording_seconds" in message


def test_a_ten_minute_stream_where_it_is_allowed(
    workshop: Any, pcm: bytes, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    fast = Recognizer(tiny_model, tiny_tokenizer, beam=1)
    replica = workshop.start(recognizer=fast, limits__stream_seconds=700)
    quiet = (np.random.default_rng(1).standard_normal(16_000 * 600) * 3).astype("<i2").tobytes()
    assert replica.finals(quiet, chunk=320_000, deadline_s=600)[-1].end == pytest.approx(600, abs=1)
    assert replica.finals(pcm)


def test_a_message_that_is_too_big(shared: Any, refused: Any) -> None:
    refused(TOO_MUCH, "send smaller pieces", lambda: send(shared, CONFIG, audio(bytes((1 << 20) + 2))))


def test_a_megabyte_long_phrase(shared: Any, refused: Any) -> None:
    contexts = [pb.SpeechContext(phrases=["fine", "x" * 1_000_000])]
    call = lambda: shared.stream(bytes(640), speech_contexts=contexts)  # noqa: E731
    refused(TOO_MUCH, "speech_contexts[0].phrases[1]: 1000000 characters; send at most 100", call)


def test_ten_thousand_phrases(shared: Any, refused: Any, pcm: bytes) -> None:
    letters = "abcdefghij"
    phrases = [f"phrase {' '.join(letters[int(digit)] for digit in f'{i:04}')}" for i in range(10_000)]
    contexts = [pb.SpeechContext(phrases=phrases[:9999]), pb.SpeechContext(phrases=phrases[9999:])]
    refused(TOO_MUCH, "10000 phrases; send at most 5000", lambda: shared.stream(bytes(640), speech_contexts=contexts))
    first, *rest = shared.stream(pcm[:32_000], speech_contexts=[pb.SpeechContext(phrases=phrases[:5000])])
    assert first.speech_context_report.accepted == 5000
    assert rest[-1].results[-1].is_final


def test_only_unspellable_phrases(shared: Any, pcm: bytes) -> None:
    contexts = [pb.SpeechContext(phrases=["北京", "Москва", "", "\U0001f600"])]
    first, *rest = shared.stream(pcm, speech_contexts=contexts)
    assert first.speech_context_report.accepted == 0
    assert [r.phrase for r in first.speech_context_report.rejected] == list(contexts[0].phrases)
    results = [result for response in rest for result in response.results]
    assert results == shared.finals(pcm)


@pytest.mark.parametrize("boost", [-1.0, 21.0, float("nan"), float("inf")])
def test_impossible_boost(shared: Any, refused: Any, boost: float) -> None:
    contexts = [pb.SpeechContext(phrases=["fine"], boost=boost)]
    refused(INVALID, "speech_contexts.boost", lambda: shared.stream(bytes(640), speech_contexts=contexts))


def test_ids_that_are_not_utf8(shared: Any, refused: Any) -> None:
    def raw(path: str, request: Any) -> None:
        data = request.SerializeToString().replace(b"BADBAD", b"\xff\xfe\xfd\xfc\xfb\xfa")
        if path.endswith("StreamingRecognize"):
            list(shared.channel.stream_stream(path)(iter([data]), timeout=60))
        else:
            shared.channel.unary_unary(path)(data, timeout=60)

    stream = pb.StreamingRecognizeRequest(config=pb.StreamingConfig(sample_rate_hertz=16_000, dialogue_id="BADBAD"))
    refused(INVALID, "config.dialogue_id: is not valid UTF-8",
            lambda: raw("/carryover.v1.Recognizer/StreamingRecognize", stream))  # fmt: skip
    recognize = pb.RecognizeRequest(config=pb.RecognitionConfig(turn_id="BADBAD"), audio=b"x")
    refused(INVALID, "config.turn_id", lambda: raw("/carryover.v1.Recognizer/Recognize", recognize))
    events = [context_pb2.Event(event_id="BADBAD")]
    record = context_pb2.RecordEventsRequest(dialogue_id="a", turn_id="b", events=events)
    refused(INVALID, "events.event_id", lambda: raw("/carryover.v1.Context/RecordEvents", record))
    delete = context_pb2.DeleteDialogueRequest(dialogue_id="BADBAD")
    refused(INVALID, "dialogue_id", lambda: raw("/carryover.v1.Context/DeleteDialogue", delete))


def test_bytes_that_are_no_message(shared: Any, refused: Any) -> None:
    def raw(data: bytes) -> None:
        shared.channel.unary_unary("/carryover.v1.Context/RecordEvents")(data, timeout=60)

    for data in (b"\xff", b"\x0a\xff\xff", bytes(range(256))):
        refused(INVALID, "RecordEventsRequest", lambda d=data: raw(d))


def test_ids_that_cannot_be_keys(shared: Any, refused: Any) -> None:
    for bad in ("a#b", "a\nb", "x" * 257, "\0"):
        refused(INVALID, "dialogue_id", lambda b=bad: shared.stream(bytes(640), dialogue_id=b))
        refused(INVALID, "turn_id", lambda b=bad: shared.stream(bytes(640), dialogue_id="a", turn_id=b))
        refused(INVALID, "turn_id", lambda b=bad: shared.ask("a", b))
        refused(INVALID, "dialogue_id", lambda b=bad: shared.status(b))
    refused(INVALID, "dialogue_id", lambda: shared.stream(bytes(640), turn_id="1"))


def test_unknown_dialogue(shared: Any, refused: Any, dialogue: str) -> None:
    refused(grpc.StatusCode.NOT_FOUND, "dialogue", lambda: shared.status(dialogue))
    request = context_pb2.GetContextEmbeddingRequest(dialogue_id=dialogue, turn_id="1")
    refused(grpc.StatusCode.NOT_FOUND, "turn", lambda: shared.context.GetContextEmbedding(request, timeout=60))


def test_events_that_cannot_be_recorded(shared: Any, refused: Any, dialogue: str) -> None:
    event, entities = context_pb2.Event, context_pb2.Entities
    many, long_id = [context_pb2.Entry(text="a")] * 1000, [context_pb2.Entry(text="a", id="x" * 257)]
    cases = [
        (INVALID, "events: is empty", []),
        (INVALID, "events[0].event", [event(event_id="a")]),
        (INVALID, "events[0].utterance.text", [event(utterance=context_pb2.Utterance())]),
        (INVALID, "events[0].entities.signal", [event(entities=entities(signal=" ", entries=["a"]))]),
        (INVALID, "events[0].entities.signal", [event(entities=entities(signal="a\nb", entries=["a"]))]),
        (INVALID, "events[0].entities.signal", [event(entities=entities(signal="a" * 65, entries=["a"]))]),
        (INVALID, "events[0].entities.entries", [event(entities=entities(signal="contacts"))]),
        (INVALID, "events[0].time", [event(time={"seconds": -1}, speak=context_pb2.Speak())]),
        (INVALID, "events[0].time", [event(time={"seconds": 1_700_000_000_000}, speak=context_pb2.Speak())]),
        (INVALID, "events[0].time", [event(time={"nanos": 1_000_000_000}, speak=context_pb2.Speak())]),
        (TOO_MUCH, "limits.text_characters", [event(reply=context_pb2.Reply(text="x" * 4001))]),
        (TOO_MUCH, "limits.entries", [event(entities=entities(signal="contacts", entries=["a"] * 1001))]),
        (TOO_MUCH, "limits.entries", [event(entities=entities(signal="x", entries=["a"], items=many))]),
        (INVALID, "events[0].entities.items[0].id", [event(entities=entities(signal="x", items=long_id))]),
        (TOO_MUCH, "limits.phrase_characters", [event(entities=entities(signal="contacts", entries=["a" * 101]))]),
        (TOO_MUCH, "events", [event(event_id=f"e{i}", speak=context_pb2.Speak()) for i in range(33)]),
    ]
    for code, named, events in cases:
        refused(code, named, lambda e=events: shared.record(dialogue, "1", *e))
    refused(grpc.StatusCode.NOT_FOUND, "", lambda: shared.status(dialogue))
    shared.record(dialogue, "1", event(utterance=context_pb2.Utterance(text="first")))
    again = event(utterance=context_pb2.Utterance(text="another text"))
    refused(INVALID, "event_id", lambda: shared.record(dialogue, "1", again))
    other_kind = event(speak=context_pb2.Speak())
    assert "another" not in refused(INVALID, "event_id", lambda: shared.record(dialogue, "1", other_kind))


def test_lists_that_cannot_be_rescored(shared: Any, refused: Any) -> None:
    entry, inline = context_pb2.NBestEntry, context_pb2.InlineContext
    turn = context_pb2.ContextTurn(text="hello")
    cases = [
        (INVALID, "nbest: is empty", {"context": inline()}),
        (INVALID, "source", {"nbest": [entry(text="a")]}),
        (INVALID, "nbest.score", {"nbest": [entry(text="a", score=1), entry(text="b")], "context": inline()}),
        (INVALID, "nbest[0].score", {"nbest": [entry(text="a", score=float("nan"))], "context": inline()}),
        (INVALID, "context.turns[0].speaker", {"nbest": [entry(text="a")], "context": inline(turns=[turn])}),
        (
            INVALID,
            "context.entities[0].signal",
            {"nbest": [entry(text="a")], "context": inline(entities=[context_pb2.Entities(entries=["a"])])},
        ),
        (TOO_MUCH, "limits.nbest", {"nbest": [entry(text="a")] * 65, "context": inline()}),
    ]
    fields: Any
    for code, named, fields in cases:
        request = context_pb2.RescoreRequest(**fields)
        refused(code, named, lambda r=request: shared.context.Rescore(r, timeout=60))


def test_too_many_streams(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start(limits__streams=2)
    go_on = threading.Event()

    def slowly() -> Iterator[pb.StreamingRecognizeRequest]:
        yield CONFIG
        yield audio(bytes(640))
        while not go_on.wait(0.02):
            yield audio(bytes(640))

    running = [replica.recognizer.StreamingRecognize(slowly(), timeout=60) for _ in range(2)]
    until(lambda: replica.server.streams.running == 2)
    with pytest.raises(grpc.RpcError) as caught:
        replica.finals(pcm)
    assert caught.value.code() == TOO_MUCH
    assert "limits.streams" in (caught.value.details() or "")
    utterance = pb.RecognizeRequest(audio=b"neither decoded nor called what it is: that would be work")
    with pytest.raises(grpc.RpcError) as caught:
        replica.recognizer.Recognize(utterance, timeout=60)
    assert caught.value.code() == TOO_MUCH
    go_on.set()
    for stream in running:
        assert list(stream)[-1].results[0].is_final
    assert replica.finals(pcm)


def ends_idle(replica: Any, messages: Iterator[pb.StreamingRecognizeRequest], named: str) -> list[Any]:
    """What a stream of messages was answered until it ended because nothing came."""
    heard = list[Any]()
    answers = replica.recognizer.StreamingRecognize(messages, timeout=60)
    with pytest.raises(grpc.RpcError) as caught:
        heard.extend(result for response in answers for result in response.results)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert named in (caught.value.details() or "")
    assert replica.server.streams.running == 0  # before the client is told
    return heard


@pytest.mark.parametrize("said", [True, False])
def test_a_client_that_says_nothing_more_keeps_what_it_said(workshop: Any, pcm: bytes, said: bool) -> None:
    replica = workshop.start(limits__idle_seconds=2, limits__muted_seconds=2)
    expected = replica.finals(pcm) if said else []
    answered = threading.Event()

    def silent() -> Iterator[pb.StreamingRecognizeRequest]:
        yield CONFIG
        if said:
            yield audio(pcm)
        answered.wait(60)

    assert ends_idle(replica, silent(), "no message for 2 s") == expected
    answered.set()


def test_a_client_that_dribbles_does_not_keep_its_place(workshop: Any) -> None:
    """Each message comes in time, and the audio would not be over for hours."""
    replica = workshop.start(limits__idle_seconds=4, limits__stream_seconds=0.1)
    answered = threading.Event()

    def dribble() -> Iterator[pb.StreamingRecognizeRequest]:
        yield CONFIG
        while not answered.wait(0.2):
            yield audio(bytes(20))

    heard = ends_idle(replica, dribble(), "too slowly for 4.1 s")
    answered.set()
    assert heard[-1].is_final


def test_a_client_that_vanishes_harms_nobody(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start()
    expected = replica.finals(pcm)
    for how in ("cancel", "close"):
        channel = grpc.insecure_channel(f"127.0.0.1:{replica.port}", options=[("grpc.use_local_subchannel_pool", 1)])
        stub = channel.stream_stream(
            "/carryover.v1.Recognizer/StreamingRecognize",
            request_serializer=pb.StreamingRecognizeRequest.SerializeToString,
            response_deserializer=pb.StreamingRecognizeResponse.FromString,
        )

        left = threading.Event()

        def endless(left: threading.Event = left) -> Iterator[pb.StreamingRecognizeRequest]:
            yield CONFIG
            while not left.wait(0.01):
                yield audio(pcm[:6400])

        call = stub(endless())
        until(lambda: replica.server.streams.running == 1)
        assert replica.finals(pcm) == expected
        call.cancel() if how == "cancel" else channel.close()
        left.set()
        until(lambda: not replica.server.streams.running)
        assert replica.finals(pcm) == expected
        channel.close()
