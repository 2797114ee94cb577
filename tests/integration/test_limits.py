"""Limits of a server and of each tenant: a status that names the setting, and when to come back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from server.access import make_key
from server.errors import RETRY_KEY
from server.settings import Limits
from tests.support.moto_server import fresh_tables
from tests.support.waiting import until

DEADLINE_S = 60.0
TOO_MUCH = grpc.StatusCode.RESOURCE_EXHAUSTED


class Held:
    """Streams that stay open until told to end."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def open(self, replica: Any, streams: int) -> list[Any]:
        """So many open streams."""
        before = replica.server.streams.running
        calls = [replica.recognizer.StreamingRecognize(self._slowly(), timeout=60) for _ in range(streams)]
        until(lambda: replica.server.streams.running == before + streams)
        return calls

    def _slowly(self) -> Iterator[pb.StreamingRecognizeRequest]:
        config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
        yield pb.StreamingRecognizeRequest(config=config)
        yield pb.StreamingRecognizeRequest(audio=bytes(640))
        while not self.go_on.wait(0.02):
            yield pb.StreamingRecognizeRequest(audio=bytes(640))


@pytest.fixture
def tenants(tmp_path: Path) -> tuple[str, list[str]]:
    """A file of keys of two tenants, and the keys."""
    made = [make_key("acme"), make_key("umbra")]
    (tmp_path / "keys").write_text("\n".join(line for _, line in made))
    return str(tmp_path / "keys"), [key for key, _ in made]


def refusal(call: Any) -> tuple[str, Any]:
    """Message and retry hint of a call that is over a limit."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == TOO_MUCH
    error: Any = caught.value
    return error.details(), dict(error.trailing_metadata()).get(RETRY_KEY)


def test_one_tenants_streams_leave_room_for_the_others(workshop: Any, pcm: bytes, tenants: Any) -> None:
    file, keys = tenants
    replica = workshop.start(access__keys_file=file, limits__streams=3, limits__tenant_streams=2)
    acme, umbra = (replica.with_key(key) for key in keys)
    held = Held()
    running = held.open(acme, 2)
    message, retry = refusal(lambda: acme.finals(pcm))
    assert "limits.tenant_streams" in message and retry == "1000"
    assert umbra.finals(pcm)
    running += held.open(umbra, 1)
    message, retry = refusal(lambda: umbra.finals(pcm))
    assert "limits.streams" in message and retry == "1000"
    held.go_on.set()
    for stream in running:
        assert list(stream)[-1].results[0].is_final
    assert acme.finals(pcm)


def too_much(replica: Any, dialogue: str) -> Iterator[tuple[str, Any]]:
    """Calls, each over one limit of `test_what_is_too_big_will_not_do_later_either`, with the limit's name."""
    raw: dict[str, Any] = {"encoding": pb.LINEAR16, "sample_rate_hertz": 16_000}
    recognize, rescore = replica.recognizer.Recognize, replica.context.Rescore
    event, entities, entry = context_pb2.Event, context_pb2.Entities, context_pb2.NBestEntry

    def recorded(**body: Any) -> Any:
        return lambda: replica.record(dialogue, "1", event(**body))

    def rescored(*texts: str, **inline: Any) -> Any:
        context, nbest = context_pb2.InlineContext(**inline), [entry(text=text) for text in texts]
        return lambda: rescore(context_pb2.RescoreRequest(nbest=nbest, context=context), timeout=60)

    def phrases(*texts: str) -> Any:
        return lambda: replica.stream(bytes(640), speech_contexts=[pb.SpeechContext(phrases=texts)])

    hour = pb.RecognizeRequest(config=pb.RecognitionConfig(**raw), audio=bytes(34_000))
    yield "recording_seconds", lambda: recognize(hour, timeout=60)
    yield "stream_seconds", lambda: replica.stream(bytes(34_000), chunk=1000)
    yield "audio_bytes", lambda: replica.stream(bytes(1026))
    yield "message_bytes", lambda: recognize(pb.RecognizeRequest(audio=bytes(70_000)), timeout=60)
    zipped = grpc.Compression.Gzip
    yield "message_bytes", lambda: recognize(pb.RecognizeRequest(audio=bytes(70_000)), timeout=60, compression=zipped)
    yield "request_bytes", recorded(utterance=context_pb2.Utterance(text="a" * 5000))
    yield "turns", rescored("a", turns=[context_pb2.ContextTurn(speaker=context_pb2.ContextTurn.USER, text="a")] * 3)
    yield "entries", rescored("a", entities=[entities(signal="x")] * 3)
    yield "phrases", phrases(*"abc")
    yield "phrase_characters", phrases("a" * 11)
    yield "phrase_characters", recorded(entities=entities(signal="contacts", entries=["a" * 11]))
    yield "phrase_characters", rescored("a", entities=[entities(signal="contacts", entries=["a" * 11])])
    yield "entries", recorded(entities=entities(signal="contacts", entries="abc"))
    yield "entries", rescored("a", entities=[entities(signal="x", entries="ab"), entities(signal="y", entries="c")])
    yield "text_characters", recorded(utterance=context_pb2.Utterance(text="a" * 21))
    yield "text_characters", recorded(reply=context_pb2.Reply(text="a" * 21))
    yield "text_characters", rescored("a", "a" * 21)
    yield (
        "text_characters",
        rescored("a", turns=[context_pb2.ContextTurn(speaker=context_pb2.ContextTurn.USER, text="a" * 21)]),
    )
    yield "nbest", rescored(*"abc")


def test_what_is_too_big_will_not_do_later_either(workshop: Any, dialogue: str) -> None:
    small = {"audio_bytes": 1024, "message_bytes": 65_536, "phrases": 2, "phrase_characters": 10, "entries": 2}
    small |= {"text_characters": 20, "nbest": 2, "stream_seconds": 1, "recording_seconds": 1}
    small |= {"request_bytes": 4096, "turns": 2}
    replica = workshop.start(**{f"limits__{name}": value for name, value in small.items()})
    tried = set()
    for name, call in too_much(replica, dialogue):
        message, retry = refusal(call)
        if name == "message_bytes" and "larger than max" in message:  # on the wire; gRPC's own words
            assert "larger than max (70" in message and retry is None
        else:
            assert message.endswith(f"(the server's setting is limits.{name})") and retry == "-1"
        tried.add(name)
    elsewhere = {"streams", "tenant_streams", "tenant_calls", "events", "rescores", "tenant_rescores"}  # in this file
    hostile = {"recording_megabytes", "public_calls", "calls", "connection_calls"}  # in test_hostile
    assert tried | elsewhere | hostile | {"idle_seconds", "muted_seconds"} == set(Limits.model_fields)


def event(number: int) -> context_pb2.Event:
    return context_pb2.Event(event_id=f"e{number}", reply=context_pb2.Reply(text=f"reply {number}"))


def test_events_of_a_turn(workshop: Any, dialogue: str) -> None:
    with fresh_tables(workshop.config.endpoint_url, max_events=3) as config:
        replica = workshop.start(config=config)
        replica.record(dialogue, "1", event(0), event(1))
        replica.record(dialogue, "1", event(2), event(3))  # the last that the turn takes
        message, retry = refusal(lambda: replica.record(dialogue, "1", event(4)))
        assert "4 events" not in message and "start a new turn" in message and retry == "-1"
        replica.record(dialogue, "1", event(1), event(3))  # a repetition still changes nothing
        with pytest.raises(grpc.RpcError) as caught:
            replica.record(dialogue, "1", context_pb2.Event(event_id="e1", speak=context_pb2.Speak()))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        replica.record(dialogue, "2", event(4))
        replica.clock.now += config.ttl_s + 1
        replica.record(dialogue, "1", event(4))  # an expired turn starts anew


def test_one_tenants_contexts_leave_room_for_the_others(workshop: Any, dialogue: str, tenants: Any) -> None:
    file, keys = tenants
    replica = workshop.start(access__keys_file=file, context__queue=8, context__tenant_queue=1)
    acme, umbra = (replica.with_key(key) for key in keys)
    replica.encoder.go_on.clear()
    for number in range(3):  # two are taken at once, one waits
        acme.ask(f"{dialogue}-{number}", "1")
        acme.wait_for("ENCODING" if number < 2 else "TRIGGERED", f"{dialogue}-{number}")
    acme.ask(f"{dialogue}-3", "1")
    assert acme.status(f"{dialogue}-3").reason == "dropped: 1 of your contexts were waiting already"
    umbra.ask(dialogue, "1")
    assert not umbra.status(dialogue).reason
    replica.encoder.go_on.set()
    umbra.wait_for("READY", dialogue)


def test_context_makes_room_for_audio(
    workshop: Any, dialogue: str, pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While audio is late no context is made and none leads a search; recognition itself is untouched."""
    replica = workshop.start(context__shed_ms=500)
    plain = replica.finals(pcm)
    known = f"{dialogue}-known"
    replica.ask(known, "1", "meg bauer")
    replica.wait_for("READY", known)
    go_on, held = threading.Event(), threading.Event()
    advance = replica.server.scheduler.recognizer.advance

    def hold_first(streams: Any) -> Any:
        """The first batch is held up, in one of the two workers; the other worker goes on."""
        if not held.is_set():
            held.set()
            assert go_on.wait(DEADLINE_S)
        return advance(streams)

    monkeypatch.setattr(replica.server.scheduler.recognizer, "advance", hold_first)
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(replica.finals, pcm)
        assert held.wait(DEADLINE_S)
        until(lambda: replica.call(lambda: replica.server.scheduler.late))
        try:
            check_shed(replica, dialogue, known, pcm, plain)
        finally:
            go_on.set()
        assert late.result() == plain
    assert not replica.call(lambda: replica.server.scheduler.late)
    replica.ask(dialogue, "2")
    replica.wait_for("READY", dialogue)


def check_shed(replica: Any, dialogue: str, known: str, pcm: bytes, plain: Any) -> None:
    """Of a replica where audio is late. known: a dialogue whose context was ready before."""
    replica.ask(dialogue, "1")
    assert replica.status(dialogue).reason == "dropped: the server is busy with audio"
    answer = replica.finals(pcm, dialogue_id=dialogue, turn_id="2")
    assert [f.alternatives[0] for f in answer] == [f.alternatives[0] for f in plain]
    assert answer[-1].context.status == pb.ContextInfo.NOT_READY
    led = replica.finals(pcm, dialogue_id=known, turn_id="2")
    assert {f.context.status for f in led} == {pb.ContextInfo.APPLIED}
    phrases = pb.StreamingRecognitionResult.CONTEXT_PHRASES
    assert all(list(f.passes) == list(plain[0].passes) and list(f.skipped_passes) == [phrases] for f in led)


def test_one_tenants_calls_leave_room_for_the_others(
    workshop: Any, dialogue: str, pcm: bytes, tenants: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store takes its time over all that one tenant records: another's calls are answered, and so is audio."""
    file, keys = tenants
    replica = workshop.start(
        access__keys_file=file, limits__tenant_calls=4, store__threads=2, store__deadline_s=DEADLINE_S
    )
    acme, umbra = (replica.with_key(key) for key in keys)
    store, go_on = replica.server.store.store, threading.Event()
    at_once = store.record

    def record(of: Any, turn: str, events: Any) -> Any:
        assert of.tenant != "acme" or go_on.wait(DEADLINE_S)
        return at_once(of, turn, events)

    monkeypatch.setattr(store, "record", record)
    request = context_pb2.RecordEventsRequest(dialogue_id=dialogue, turn_id="1", events=[event(0)])
    flood = [acme.context.RecordEvents.future(request, timeout=DEADLINE_S) for _ in range(4)]
    try:
        until(lambda: replica.server.calls.running == 4)
        message, retry = refusal(lambda: acme.record(dialogue, "2", event(0)))
        assert "limits.tenant_calls" in message and retry == "1000"
        umbra.record(dialogue, "1", event(0), event(1))
        assert umbra.status(dialogue).turn_id == "1"
        raw = pb.RecognitionConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
        assert acme.finals(pcm)  # audio has places of its own
        assert acme.recognizer.Recognize(pb.RecognizeRequest(config=raw, audio=pcm), timeout=DEADLINE_S).results
        assert replica.server.calls.running == 4
    finally:
        go_on.set()
    assert not any(call.result().triggered for call in flood)
    acme.record(dialogue, "2", event(0))


def test_lists_that_are_rescored_at_once(workshop: Any, tenants: Any) -> None:
    file, keys = tenants
    replica = workshop.start(access__keys_file=file, limits__rescores=3, limits__tenant_rescores=2)
    acme, umbra = (replica.with_key(key) for key in keys)
    inline = context_pb2.InlineContext(entities=[context_pb2.Entities(signal="contacts", entries=["bauer"])])
    request = context_pb2.RescoreRequest(nbest=[context_pb2.NBestEntry(text="power")], context=inline)
    replica.encoder.go_on.clear()
    running = [acme.context.Rescore.future(request, timeout=60) for _ in range(2)]
    until(lambda: replica.server.rescores.running == 2)
    message, retry = refusal(lambda: acme.context.Rescore(request, timeout=60))
    assert "limits.tenant_rescores" in message and retry == "1000"
    running.append(umbra.context.Rescore.future(request, timeout=60))
    until(lambda: replica.server.rescores.running == 3)
    message, retry = refusal(lambda: umbra.context.Rescore(request, timeout=60))
    assert "limits.rescores" in message and retry == "1000"
    replica.encoder.go_on.set()
    assert all(call.result().nbest[0].text == "bauer" for call in running)
    assert acme.context.Rescore(request, timeout=60).nbest
