"""Streams that are steered while they run: finalized, updated, with a context of their own, muted."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from asr.audio import decode_pcm
from asr.context.types import Rescored
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Recognizer, StreamOptions
from carryover.v1 import context_pb2 as ctx
from carryover.v1 import recognizer_pb2 as pb
from tests.support.replicas import Workshop
from tests.support.waiting import until

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNENDING: Any = {
    f"endpoint__{name}": 60 for name in ("trailing_silence_s", "likely_silence_s", "no_token_s", "leading_silence_s")
}
RULE = EndpointRule(trailing_silence_s=60, likely_silence_s=60, no_token_s=60, leading_silence_s=60)


class Talk:
    """A stream under way: what is sent, and what comes back, one after the other."""

    def __init__(self, replica: Any, **config: Any) -> None:
        self._sent: queue.Queue[pb.StreamingRecognizeRequest | None] = queue.Queue()
        settings = {"encoding": pb.LINEAR16, "sample_rate_hertz": 16_000, "max_alternatives": 4, **config}
        self._sent.put(pb.StreamingRecognizeRequest(config=pb.StreamingConfig(**settings)))
        self.call = replica.recognizer.StreamingRecognize(iter(self._sent.get, None), timeout=60)
        self._replica = replica

    def send(self, **request: Any) -> Talk:
        self._sent.put(pb.StreamingRecognizeRequest(**request))
        return self

    def audio(self, data: bytes, size: int = 6400) -> Talk:
        for start in range(0, len(data), size):
            self.send(audio=data[start : start + size])
        return self

    def update(self, **fields: Any) -> Talk:
        return self.send(update=pb.StreamUpdate(**fields))

    def update_now(self, **fields: Any) -> None:
        """An update that the server has read: it answers what changes phrases."""
        self.update(replace_speech_contexts=True, **fields)
        while not next(self.call).HasField("speech_context_report"):
            pass

    def finalize(self) -> pb.StreamingRecognitionResult:
        """The result that answers a Finalize."""
        self.send(finalize=pb.Finalize())
        while not (response := next(self.call)).results or not response.results[0].finalized:
            pass
        return response.results[0]

    def rest(self) -> list[pb.StreamingRecognizeResponse]:
        self._sent.put(None)
        return list(self.call)

    def answered(self) -> None:
        """Waits until the store has answered, and inline contexts are there."""
        self._replica.run(self._replica.store_answered())

    def close(self) -> None:
        self._sent.put(None)
        self.call.cancel()


@contextmanager
def talking(replica: Any, **config: Any) -> Iterator[Talk]:
    talk = Talk(replica, **config)
    try:
        yield talk
    finally:
        talk.close()


@pytest.fixture(scope="module")
def patient(tiny_recognizer: Recognizer, tables: Any, key: Any) -> Iterator[Any]:
    """A replica whose utterances end only when they are finalized."""
    shop = Workshop(tiny_recognizer, tables, key)
    yield shop.start(**UNENDING)
    shop.close()


def expected(recognizer: Recognizer, pcm: bytes, **options: Any) -> list[tuple[str, float]]:
    """The n-best of audio that is all of a stream."""
    stream = recognizer.open(StreamOptions(endpoint=RULE, **options))
    samples = decode_pcm(pcm, "LINEAR16")
    (result,) = [*stream.accept(samples), *stream.finish()]
    return [(h.text, h.score) for h in result.nbest[:4]]


def said(result: pb.StreamingRecognitionResult) -> list[tuple[str, float]]:
    return [(a.transcript, a.score) for a in result.alternatives]


def test_finalize_ends_the_utterance_and_not_the_stream(patient: Any, tiny_recognizer: Recognizer, pcm: bytes) -> None:
    with talking(patient, interim_results=True) as talk:
        first = talk.audio(pcm).finalize()
        assert said(first) == expected(tiny_recognizer, pcm) and first.is_final
        second = talk.audio(pcm[:64_000]).finalize()
        assert second.start == pytest.approx(3.0) and second.alternatives[0].transcript
        nothing = talk.finalize()
        assert nothing.start == nothing.end == pytest.approx(5.0) and nothing.context.status
        (last,) = [r for response in talk.audio(pcm).rest() for r in response.results if r.is_final]
        assert not last.finalized and last.start == pytest.approx(5.0)


def test_finalize_does_not_depend_on_the_messages(patient: Any, pcm: bytes) -> None:
    found = []
    for size in (640, 2222, 48_000):
        with talking(patient) as talk:
            found.append([said(talk.audio(pcm[:70_000], size).finalize()), said(talk.audio(pcm, size).finalize())])
    assert found[0] == found[1] == found[2]


def test_a_stream_of_one_utterance_ends_with_its_finalized_one(patient: Any, pcm: bytes) -> None:
    with talking(patient, single_utterance=True) as talk:
        assert talk.audio(pcm).finalize().is_final
        assert list(talk.call) == []


def test_phrases_change_between_utterances(patient: Any, tiny_recognizer: Recognizer, pcm: bytes) -> None:
    plain = expected(tiny_recognizer, pcm)
    boosted = [pb.SpeechContext(phrases=["zoe vexed"], boost=20)]
    with talking(patient, speech_contexts=[pb.SpeechContext(phrases=["kitchen", "Ж"])]) as talk:
        assert next(talk.call).speech_context_report.accepted == 1
        talk.update(replace_speech_contexts=True)
        report = next(talk.call)
        assert report.HasField("speech_context_report") and not report.speech_context_report.accepted
        assert said(talk.audio(pcm).finalize()) == plain  # without words the utterance was the next one
        talk.audio(pcm).update(speech_contexts=boosted)
        assert next(talk.call).speech_context_report.accepted == 1
        under_way = talk.finalize()
        talk.update(speech_contexts=[pb.SpeechContext(phrases=["kitchen", "jack quick"])])
        assert next(talk.call).speech_context_report.accepted == 3
        talk.audio(pcm)
        after = talk.finalize()
    with talking(patient) as talk:
        talk.audio(pcm).finalize()
        assert said(talk.audio(pcm).finalize()) == said(under_way)  # an update changed no bit of it
        assert said(talk.audio(pcm).finalize()) != said(after)


def test_a_long_stream_has_the_context_of_the_right_other_turn(patient: Any, dialogue: str, pcm: bytes) -> None:
    with talking(patient, dialogue_id=dialogue, turn_id="1") as talk:
        talk.answered()
        first = talk.audio(pcm).finalize()
        assert first.context.status == pb.ContextInfo.NOT_FOUND
        patient.ask(dialogue, "1", "meg bauer")
        patient.wait_for("READY", dialogue, "1")
        talk.update_now(turn_id="2")
        patient.ask(dialogue, "2", "jack quick")  # of the turn itself: it never counts for it
        patient.wait_for("READY", dialogue, "2")
        talk.answered()
        second = talk.audio(pcm).finalize()
        assert (second.context.status, second.context.context_turn_id) == (pb.ContextInfo.APPLIED, "1")
        assert second.alternatives[0].transcript == "meg bauer"
        talk.audio(pcm).update_now(turn_id="3")
        talk.answered()
        under_way = talk.finalize()
        assert under_way.context.context_turn_id == "1"  # it had words when the update came
        third = talk.audio(pcm).finalize()
        assert (third.context.context_turn_id, third.alternatives[0].transcript) == ("2", "jack quick")


def test_a_context_that_comes_with_the_stream(patient: Any, pcm: bytes, dialogue: str) -> None:
    inline = ctx.InlineContext(
        turns=[ctx.ContextTurn(speaker=ctx.ContextTurn.SYSTEM, text="which meg?")],
        entities=[ctx.Entities(signal="contacts", items=[ctx.Entry(text="Meg Bauer", id="17")])],
    )
    seen = len(patient.encoder.seen)
    with talking(patient, context=inline) as talk:
        until(lambda: len(patient.encoder.seen) > seen and not patient.server.scheduler._encoding.locked())
        result = talk.audio(pcm).finalize()
        assert result.context.status == pb.ContextInfo.APPLIED
        assert result.alternatives[0].transcript == "meg bauer" and result.context.changed
        assert [(m.entry, m.entry_id) for m in result.context.meant] == [("meg bauer", "17")]
        plain = talk.update(context=ctx.InlineContext()).audio(pcm).finalize()
        assert plain.context.status == pb.ContextInfo.NOT_REQUESTED and not plain.context.changed


def test_an_inline_context_is_never_waited_for(workshop: Any, pcm: bytes, tiny_recognizer: Recognizer) -> None:
    replica = workshop.start(**UNENDING)
    replica.encoder.go_on.clear()
    inline = ctx.InlineContext(entities=[ctx.Entities(signal="contacts", entries=["meg bauer"])])
    with talking(replica, context=inline) as talk:
        early = talk.audio(pcm).finalize()
        assert early.context.status == pb.ContextInfo.NOT_READY and said(early) == expected(tiny_recognizer, pcm)
        replica.encoder.error = RuntimeError("broken")
        replica.encoder.go_on.set()
        until(lambda: replica.encoder.seen and not replica.server.scheduler._encoding.locked())
        failed = talk.audio(pcm).finalize()
        assert failed.context.status == pb.ContextInfo.FAILED and not failed.context.changed


def test_endpointing_of_a_stream(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start()
    silence = np.zeros(16_000 * 3, "<i2").tobytes()

    def ends(**endpointing: float) -> list[float]:
        finals = replica.finals(pcm + silence, endpointing=pb.Endpointing(**endpointing), interim_results=True)
        return [final.end for final in finals]

    assert ends() == [final.end for final in replica.finals(pcm + silence, interim_results=True)]
    assert len(ends(likely_silence_s=0.1, trailing_silence_s=0.1)) > len(ends(trailing_silence_s=10.0))


@pytest.mark.parametrize(
    ("field", "config"),
    [
        ("config.context: set it or dialogue_id", {"dialogue_id": "d", "context": ctx.InlineContext()}),
        ("config.context.turns[0].speaker", {"context": ctx.InlineContext(turns=[ctx.ContextTurn(text="a")])}),
        ("config.context.entities[0].signal", {"context": ctx.InlineContext(entities=[ctx.Entities(entries=["a"])])}),
        ("config.endpointing.likely_silence_s", {"endpointing": pb.Endpointing(likely_silence_s=float("nan"))}),
        ("config.endpointing.likely_silence_s: is more", {"endpointing": pb.Endpointing(likely_silence_s=5)}),
        ("config.endpointing.start_timeout_s", {"endpointing": pb.Endpointing(start_timeout_s=0.5)}),
        ("config.endpointing.trailing_silence_s", {"endpointing": pb.Endpointing(trailing_silence_s=0.05)}),
    ],
)
def test_configurations_that_cannot_be_used(shared: Any, field: str, config: Any) -> None:
    with talking(shared, **config) as talk, pytest.raises(grpc.RpcError) as caught:
        talk.audio(bytes(640)).rest()
    assert (caught.value.code(), field in (caught.value.details() or "")) == (INVALID, True), caught.value.details()


@pytest.mark.parametrize(
    ("field", "update"),
    [
        ("update.turn_id: needs a dialogue", {"turn_id": "2"}),
        ("update.context: set it or turn_id", {"turn_id": "2", "context": ctx.InlineContext()}),
        ("update.context.turns[0].speaker", {"context": ctx.InlineContext(turns=[ctx.ContextTurn(text="a")])}),
        ("update.endpointing.trailing_silence_s", {"endpointing": pb.Endpointing(trailing_silence_s=11)}),
        ("speech_contexts.boost", {"speech_contexts": [pb.SpeechContext(phrases=["a"], boost=-1)]}),
    ],
)
def test_updates_that_cannot_be_used(shared: Any, field: str, update: Any) -> None:
    with talking(shared) as talk, pytest.raises(grpc.RpcError) as caught:
        talk.audio(bytes(640)).update(**update).rest()
    assert (caught.value.code(), field in (caught.value.details() or "")) == (INVALID, True), caught.value.details()


@pytest.mark.parametrize(
    ("limit", "update"),
    [
        ("phrases", {"speech_contexts": [pb.SpeechContext(phrases=["a"] * 5001)]}),
        ("phrases", {"speech_contexts": [pb.SpeechContext(phrases=["a"] * 11_000)]}),  # counted before it is parsed
        ("turns", {"context": ctx.InlineContext(turns=[ctx.ContextTurn(speaker="USER", text="a")] * 65)}),
        ("entries", {"context": ctx.InlineContext(entities=[ctx.Entities(signal="x", entries=["a"] * 1001)])}),
        (
            "entries",
            {
                "context": ctx.InlineContext(
                    entities=[ctx.Entities(signal="x", items=[ctx.Entry(text="a", aliases=["b"] * 16)] * 200)]
                )
            },
        ),
    ],
)
def test_updates_that_are_too_big(shared: Any, limit: str, update: Any) -> None:
    with talking(shared) as talk, pytest.raises(grpc.RpcError) as caught:
        talk.audio(bytes(640)).update(**update).rest()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (caught.value.details() or "").endswith(f"(the server's setting is limits.{limit})")


def test_an_update_names_a_turn_as_the_store_takes_it(shared: Any, dialogue: str) -> None:
    with talking(shared, dialogue_id=dialogue) as talk, pytest.raises(grpc.RpcError) as caught:
        talk.audio(bytes(640)).update(turn_id="a#b").rest()
    assert caught.value.code() == INVALID and "turn_id" in (caught.value.details() or "")


def test_a_muted_stream_stays_open_and_keeps_nothing_back(workshop: Any, pcm: bytes) -> None:
    """What was said is final after `idle_seconds`; the stream goes on with the audio, or ends after `muted_seconds`."""
    replica = workshop.start(limits__idle_seconds=0.5, limits__muted_seconds=60, **UNENDING)
    with talking(replica) as talk:
        talk.audio(pcm)
        (muted,) = next(talk.call).results
        assert muted.is_final and not muted.finalized and muted.alternatives[0].transcript
        second = talk.audio(pcm).finalize()
        assert second.start == pytest.approx(3.0)
    short = workshop.start(limits__idle_seconds=0.3, limits__muted_seconds=1, **UNENDING)
    with talking(short) as talk, pytest.raises(grpc.RpcError) as caught:
        list(talk.audio(pcm).call)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "limits.muted_seconds" in (caught.value.details() or "")
    until(lambda: not short.server.streams.running)


def test_an_empty_message_keeps_a_stream_open(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start(limits__idle_seconds=1, limits__muted_seconds=1)
    with talking(replica) as talk:
        talk.audio(pcm)
        for _ in range(15):
            with pytest.raises(queue.Empty):
                queue.Queue[None]().get(timeout=0.1)
            talk.send(audio=b"")
        assert talk.finalize().is_final


def test_voice_activity_events(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start()
    silence = bytes(64_000)
    responses = replica.stream(pcm + silence + pcm, voice_activity_events=True)
    events = [response.speech_event for response in responses if response.HasField("speech_event")]
    assert [event.type for event in events] == [pb.SpeechEvent.BEGIN, pb.SpeechEvent.END] * (
        len(events) // 2
    ) and events
    times = [event.time for event in events]
    assert times == sorted(times)
    plain = replica.stream(pcm + silence + pcm)
    assert [r for r in responses if r.results] == plain  # nothing else differs
    first = next(i for i, response in enumerate(responses) if response.results)
    assert any(response.speech_event.type == pb.SpeechEvent.END for response in responses[:first])


# Aliases and weights


class Unmoved:
    """A rescorer that changes nothing."""

    def rescore(self, nbest: Any, *_: Any) -> Rescored:
        return Rescored(tuple(nbest))


def test_an_alias_heard_names_its_entry_from_the_store_and_from_a_context_of_the_request(
    workshop: Any, dialogue: str
) -> None:
    replica = workshop.start(rescorer=Unmoved())
    item = ctx.Entry(text="Margaret Smith", id="17", aliases=["Mum", "Maggie"], weight=2.0)
    contacts = ctx.Entities(signal="contacts", items=[item], entries=["Meg Jones"])
    replica.record(dialogue, "1", ctx.Event(entities=contacts), ctx.Event(expect_speech=ctx.ExpectSpeech()))
    replica.wait_for("READY", dialogue)
    (seen,) = replica.encoder.seen
    assert {(e.text, e.aliases, e.weight) for e in seen.entries} == {
        ("Margaret Smith", ("Mum", "Maggie"), 2.0), ("Meg Jones", (), 1.0)
    }  # fmt: skip
    other = workshop.start(rescorer=Unmoved())  # another replica reads what the first one has stored
    nbest = [ctx.NBestEntry(text="call mum")]
    for server in (replica, other):
        for source in ({"dialogue_id": dialogue}, {"context": ctx.InlineContext(entities=[contacts])}):
            rescored = server.context.Rescore(ctx.RescoreRequest(nbest=nbest, **source), timeout=30)
            assert [(m.entry, m.entry_id) for m in rescored.context.meant] == [("margaret smith", "17")]


@pytest.mark.parametrize(
    ("field", "entry"),
    [
        ("items[0].weight: send a factor from 0.01 to 100", {"weight": 0.0}),
        ("items[0].weight", {"weight": float("nan")}),
        ("items[0].weight", {"weight": 101.0}),
        ("items[0].aliases: 17 of them", {"aliases": ["a"] * 17}),
        ("items[0].id", {"id": "a" * 257}),
    ],
)
def test_entries_that_cannot_be_used(shared: Any, dialogue: str, field: str, entry: Any) -> None:
    entities = ctx.Entities(signal="contacts", items=[ctx.Entry(text="Meg", **entry)])
    inline, nbest = ctx.InlineContext(entities=[entities]), [ctx.NBestEntry(text="meg")]
    for call, prefix in (
        (lambda: shared.record(dialogue, "1", ctx.Event(entities=entities)), "events[0].entities."),
        (lambda: shared.context.Rescore(ctx.RescoreRequest(nbest=nbest, context=inline)), "context.entities[0]."),
        (lambda: shared.stream(bytes(640), context=inline), "config.context.entities[0]."),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        details = caught.value.details() or ""
        assert (caught.value.code(), details.startswith(prefix + field)) == (INVALID, True), details


def test_the_least_and_the_largest_weight_are_taken(shared: Any, dialogue: str) -> None:
    items = [ctx.Entry(text="Meg", weight=weight) for weight in (0.01, 100.0)]
    assert not shared.record(dialogue, "1", ctx.Event(entities=ctx.Entities(signal="contacts", items=items))).triggered
