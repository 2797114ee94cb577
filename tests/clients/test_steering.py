"""Streams of both clients that are steered, against real servers: what is sent when, what comes back, how they end."""

from __future__ import annotations

import asyncio
import gc
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest

from asr.context.types import Rescored
from carryover import (
    Audio,
    ChangeRequestError,
    Client,
    Endpointing,
    Entry,
    Final,
    InlineContext,
    LikelyFinal,
    RetryLaterError,
    SpeechBegin,
    SpeechEnd,
    Turn,
    aio,
)
from carryover.connect import OPTIONS
from carryover.v1 import recognizer_pb2 as pb
from tests.clients.both import DEADLINE_S, Clients, pieces
from tests.support.replicas import Workshop
from tests.support.waiting import until

UNENDING: Any = {
    f"endpoint__{name}": 60 for name in ("trailing_silence_s", "likely_silence_s", "no_token_s", "leading_silence_s")
}
SILENCE = bytes(96_000)


@pytest.fixture(scope="module")
def patient(tiny_recognizer: Any, tables: Any, key: Any) -> Iterator[Any]:
    """A replica whose utterances end only when they are finalized."""
    shop = Workshop(tiny_recognizer, tables, key)
    yield shop.start(**UNENDING)
    shop.close()


def said(stream: Any, audio: bytes) -> Final:
    """What audio says, as soon as it has been said."""
    for piece in pieces(audio):
        stream.send(piece)
    stream.finalize()
    return answer(stream)


def answer(stream: Any) -> Final:
    """The result that answers a finalize."""
    return next(result for result in stream if isinstance(result, Final) and result.finalized)


def test_audio_that_is_pushed(clients: Clients, patient: Any, pcm: bytes) -> None:
    stream = clients(patient.port).stream()
    first = said(stream, pcm)
    second = said(stream, pcm[:64_000])
    assert (first.start_s, second.start_s) == (0.0, pytest.approx(3.0)) and first.transcript and second.transcript
    stream.send(b"")
    stream.finalize()
    nothing = answer(stream)
    assert nothing.start_s == nothing.end_s == pytest.approx(5.0)
    for piece in pieces(pcm):
        stream.send(piece)
    stream.end()
    stream.end()
    (last,) = [result for result in stream if isinstance(result, Final)]
    assert (last.start_s, last.finalized) == (pytest.approx(5.0), False) and list(stream) == []


def test_the_same_from_a_source_and_pushed(clients: Clients, patient: Any, pcm: bytes) -> None:
    client = clients(patient.port)
    pushed = client.stream()
    for piece in pieces(pcm):
        pushed.send(piece)
    pushed.end()
    assert list(pushed) == list(client.stream(pieces(pcm)))


def test_a_source_that_waits_keeps_no_finalize_back(clients: Clients, patient: Any, pcm: bytes) -> None:
    sent: queue.Queue[bytes] = queue.Queue()
    taken = threading.Semaphore(0)

    def audio() -> Iterator[bytes]:
        while True:
            piece = sent.get()
            yield piece
            taken.release()  # the next one is asked for, so this one stands in line

    stream = clients(patient.port).stream(audio())
    for _ in range(2):
        for piece in pieces(pcm):
            sent.put(piece)
            assert taken.acquire(timeout=DEADLINE_S)
        stream.finalize()  # while the source waits
        assert answer(stream).transcript
    stream.end()
    sent.put(bytes(320))
    assert [type(result) for result in stream if isinstance(result, Final)] == [Final]


def test_turn_phrases_context_and_endpointing_change(clients: Clients, patient: Any, pcm: bytes, dialogue: str) -> None:
    client = clients(patient.port)
    stream = client.stream(dialogue=dialogue, turn="1", phrases=["meg"])
    assert said(stream, pcm).context.status == "NOT_FOUND" and stream.phrase_report.accepted == 1
    client.record(dialogue, "1", user="call meg", contacts=[Entry("meg bauer", "7")], expect_speech=True)
    client.wait_until_ready(dialogue, timeout=DEADLINE_S)
    stream.update(turn="2", phrases={"lamp": 3.0, "☃": 2.0})
    stream.send(pcm)
    patient.run(patient.store_answered())
    stream.finalize()
    known = answer(stream)
    assert (known.transcript, known.context.status, known.context.context_turn) == ("meg bauer", "APPLIED", "1")
    report = stream.phrase_report
    assert report.accepted == 2 and [rejected.phrase for rejected in report.rejected] == ["☃"]
    stream.update(replace_phrases=True, context=InlineContext())
    assert said(stream, pcm).context.status == "NOT_REQUESTED" and stream.phrase_report.accepted == 0
    stream.update(endpointing=Endpointing(0.1, 0.1))
    stream.send(pcm + SILENCE)
    assert not next(result for result in stream if isinstance(result, Final)).finalized
    stream.close()


def test_a_context_and_endpointing_that_come_with_the_stream(clients: Clients, patient: Any, pcm: bytes) -> None:
    context = InlineContext((Turn("system", "which meg"),), {"contacts": [Entry("meg bauer", "17", weight=2.0)]})
    seen = len(patient.encoder.seen)
    stream = clients(patient.port).stream(context=context, endpointing=Endpointing(0.1, 10.0))
    until(lambda: len(patient.encoder.seen) > seen and not patient.server.scheduler._encoding.locked())
    final = said(stream, pcm)
    assert final.context.changed and [(m.entry, m.entry_id) for m in final.context.meant] == [("meg bauer", "17")]
    assert [entry.weight for entry in patient.encoder.seen[-1].entries] == [2.0]
    stream.send(pcm + SILENCE)
    assert next(result for result in stream if isinstance(result, LikelyFinal) and not isinstance(result, Final))
    stream.close()


def test_a_context_and_endpointing_that_come_with_a_recording(clients: Clients, patient: Any, pcm: bytes) -> None:
    client, audio = clients(patient.port), Audio(pcm + SILENCE + pcm + SILENCE)
    context = InlineContext((Turn("system", "which meg"),), {"contacts": [Entry("meg bauer", "17")]})
    (whole,) = client.recognize(audio, context=context).results
    assert whole.context.changed and [m.entry_id for m in whole.context.meant] == ["17"]
    assert len(client.recognize(audio, endpointing=Endpointing(0.1, 0.2)).results) > 1


def test_an_alias_heard_names_its_entry(clients: Clients, workshop: Any, dialogue: str) -> None:
    class Unmoved:
        def rescore(self, nbest: Any, *_: Any) -> Rescored:
            return Rescored(tuple(nbest))

    replica = workshop.start(rescorer=Unmoved())
    client = clients(replica.port)
    contacts: list[str | Entry] = [Entry("margaret smith", "17", aliases=["mum", "maggie"], weight=2.0), "meg jones"]
    client.record(dialogue, "1", contacts=contacts, expect_speech=True, time=1_699_999_999.5)
    status = client.wait_until_ready(dialogue, timeout=DEADLINE_S)
    assert status.outcome == "MADE"
    (seen,) = replica.encoder.seen
    assert {(e.text, e.aliases, e.weight) for e in seen.entries} == {
        ("margaret smith", ("mum", "maggie"), 2.0), ("meg jones", (), 1.0)
    }  # fmt: skip
    for source in ({"dialogue": dialogue}, {"context": InlineContext(entities={"contacts": contacts})}):
        rescored = client.rescore(["call mum"], **source)
        assert [(m.entry, m.entry_id) for m in rescored.context.meant] == [("margaret smith", "17")]


def test_speech_events_stand_among_the_results(client: Any, shared: Any, pcm: bytes) -> None:
    audio = pcm + bytes(64_000) + pcm
    told = shared.stream(audio, interim_results=True, voice_activity_events=True)
    expected = [
        (response.speech_event.type == pb.SpeechEvent.BEGIN, response.speech_event.time)
        if response.HasField("speech_event")
        else response.results[0].alternatives[0].transcript
        for response in told
    ]
    found = [
        (isinstance(item, SpeechBegin), item.time_s) if isinstance(item, SpeechBegin | SpeechEnd) else item.transcript
        for item in client.stream(pieces(audio), voice_activity_events=True)
    ]
    assert found == expected and len({type(item) for item in found}) == 2
    assert not [item for item in client.stream(pieces(audio)) if isinstance(item, SpeechBegin | SpeechEnd)]


def test_what_cannot_be_done_with_a_stream(client: Any, shared: Any, pcm: bytes) -> None:
    stream = client.stream()
    stream.send(pcm)
    with pytest.raises(ChangeRequestError, match="update: give at least one of turn, phrases"):
        stream.update()
    stream.end()
    for refused in (lambda: stream.send(pcm), stream.finalize, lambda: stream.update(turn="2")):
        with pytest.raises(ChangeRequestError, match="the stream has ended.*open another one"):
            refused()
    assert [result for result in stream if isinstance(result, Final)]
    own = client.stream(pieces(pcm))
    with pytest.raises(ChangeRequestError, match="opened with audio of its own"):
        own.send(pcm)
    assert list(own)
    with pytest.raises(ChangeRequestError, match="the stream has ended"):
        own.finalize()
    left = client.stream()
    left.close()
    with pytest.raises(ChangeRequestError, match="the stream has ended"):
        left.send(pcm)
    assert list(left) == []
    until(lambda: not shared.server.streams.running)


def test_what_the_server_refuses_is_raised_by_whatever_is_called_next(client: Any, pcm: bytes) -> None:
    stream = client.stream(rate=1)

    def refused() -> bool:
        try:
            stream.send(pcm)
        except ChangeRequestError as error:
            return error.field == "config.sample_rate_hertz"
        return False

    until(refused)
    for call in (stream.finalize, lambda: next(stream), lambda: stream.update(turn="2")):
        with pytest.raises(ChangeRequestError, match="sample_rate_hertz"):
            call()


def test_audio_behind_a_single_utterance_has_no_effect(client: Any, pcm: bytes) -> None:
    stream = client.stream(single_utterance=True)
    stream.send(pcm + bytes(96_000))
    assert isinstance(list(stream)[-1], Final)
    stream.send(pcm)
    stream.finalize()
    assert list(stream) == []


@contextmanager
def deaf(go_on: threading.Event, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> Iterator[int]:
    """The port of a server that accepts a stream and then reads nothing, until it ends it."""

    def end(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        next(requests)
        context.send_initial_metadata((("x-request-id", "abc"),))
        assert go_on.wait(DEADLINE_S)
        context.abort(code, "the server is shutting down")
        yield

    method: Any = grpc.stream_stream_rpc_method_handler(end, pb.StreamingRecognizeRequest.FromString, lambda _: b"")
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("carryover.v1.Recognizer", {"StreamingRecognize": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait(DEADLINE_S)


def test_sending_waits_for_a_server_that_does_not_read(clients: Clients) -> None:
    """Not for ever: when the server ends the stream, `send` raises why."""
    go_on, sent, raised = threading.Event(), [time.monotonic()], queue.Queue[Exception]()
    with deaf(go_on) as port:
        stream = clients(port).stream()

        def push() -> None:
            try:
                for _ in range(3000):
                    stream.send(bytes(64 << 10))
                    sent.append(time.monotonic())
            except Exception as error:
                raised.put(error)

        thread = threading.Thread(target=push)
        thread.start()
        until(lambda: len(sent) > 1 and time.monotonic() - sent[-1] > 1.0)
        assert len(sent) < 300 and thread.is_alive()
        go_on.set()
        error = raised.get(timeout=DEADLINE_S)
        assert isinstance(error, RetryLaterError) and (error.code, error.request_id) == ("UNAVAILABLE", None)
        thread.join(DEADLINE_S)
        with pytest.raises(RetryLaterError, match="the server is shutting down"):
            next(stream)


def test_closing_frees_who_waits(clients: Clients) -> None:
    go_on, raised = threading.Event(), queue.Queue[Exception]()
    with deaf(go_on) as port:
        client = clients(port)
        stream, sent = client.stream(), [time.monotonic()]

        def push() -> None:
            try:
                while True:
                    stream.send(bytes(64 << 10))
                    sent.append(time.monotonic())
            except Exception as error:
                raised.put(error)

        thread = threading.Thread(target=push)
        thread.start()
        until(lambda: len(sent) > 1 and time.monotonic() - sent[-1] > 0.5)
        stream.close()
        assert isinstance(raised.get(timeout=DEADLINE_S), ChangeRequestError)
        thread.join(DEADLINE_S)
        go_on.set()


def test_a_replica_that_drains_and_goes(clients: Clients, workshop: Any, pcm: bytes, dialogue: str) -> None:
    """A stream under way goes on while its replica drains; then another replica goes on with its dialogue."""
    one = workshop.start(drain_s=0.2, **UNENDING)
    client = clients(one.port)
    client.record(dialogue, "1", contacts=["meg bauer"], expect_speech=True)
    client.wait_until_ready(dialogue, timeout=DEADLINE_S)
    stream = client.stream(dialogue=dialogue, turn="2")
    stream.send(pcm)
    one.run(one.store_answered())
    assert not one.run(one.server.drain())
    stream.finalize()
    assert answer(stream).context.status == "APPLIED"
    one.run(one.server.close())
    with pytest.raises(RetryLaterError) as caught:
        list(stream)
    for call in (lambda: stream.send(pcm), stream.finalize):
        with pytest.raises(RetryLaterError) as again:
            call()
        assert again.value.code == caught.value.code

    other = workshop.start(**UNENDING)
    stream = clients(other.port).stream(dialogue=dialogue, turn="2")
    stream.send(pcm)
    other.run(other.store_answered())
    stream.finalize()
    assert answer(stream).context.status == "APPLIED"
    stream.close()


class Line:
    """A connection's way to a server that can be cut, or fall silent; one connection, in threads of its own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._silent = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with self._listening:
            self._ends = [self._listening.accept()[0], socket.create_connection(("127.0.0.1", self._port))]
        self._threads += [threading.Thread(target=self._carry, args=ends) for ends in (self._ends, self._ends[::-1])]
        for thread in self._threads[1:]:
            thread.start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                if not self._silent.is_set():
                    other.sendall(data)

    def fall_silent(self) -> None:
        self._silent.set()

    def cut(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        for end in self._ends:
            end.close()


@pytest.mark.parametrize("how", ["cut", "fall_silent"])
def test_a_server_that_vanishes(
    clients: Clients, patient: Any, pcm: bytes, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends, waits for a result, or does so afterwards is told, also where the connection only falls silent."""
    quick = {"grpc.keepalive_time_ms": 1000, "grpc.http2.ping_timeout_ms": 1000}
    assert quick.keys() <= dict(OPTIONS).keys()
    options = tuple((name, quick.get(name, value)) for name, value in OPTIONS)
    for module in ("client", "aio"):
        monkeypatch.setattr(f"carryover.{module}.OPTIONS", options)
    line = Line(patient.port)
    stream = clients(line.port).stream(interim_results=False)
    assert said(stream, pcm).transcript
    told = queue.Queue[Exception]()

    def until_told(call: Callable[[], Any]) -> None:
        try:
            while True:
                call()
        except Exception as error:
            told.put(error)

    calls = (lambda: stream.send(pcm), lambda: next(stream))
    threads = [threading.Thread(target=until_told, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    getattr(line, how)()
    for _ in threads:
        error = told.get(timeout=DEADLINE_S)
        assert isinstance(error, RetryLaterError) and (error.code, error.request_id) == ("UNAVAILABLE", None)
    for call in (stream.finalize, lambda: stream.send(pcm), lambda: next(stream)):
        with pytest.raises(RetryLaterError):
            call()
    for thread in threads:
        thread.join(DEADLINE_S)
    line.close()


def test_a_client_that_is_closed_ends_its_streams(clients: Clients, patient: Any, pcm: bytes) -> None:
    client = clients(patient.port)
    stream = client.stream()
    assert said(stream, pcm).transcript
    client.close()
    with pytest.raises(RetryLaterError) as caught:
        list(stream)
    assert caught.value.code == "CANCELLED"
    with pytest.raises(RetryLaterError):
        stream.send(pcm)
    until(lambda: not patient.server.streams.running)


def test_a_stream_that_is_forgotten_ends_and_leaves_no_thread(shared: Any, pcm: bytes) -> None:
    with Client(f"127.0.0.1:{shared.port}") as client:
        client.server_info()
        before = set(threading.enumerate())

        def endless() -> Iterator[bytes]:
            while True:
                yield pcm[:3200]

        for audio in (None, endless()):
            stream = client.stream(audio)
            if audio is None:
                stream.send(pcm)
            until(lambda: shared.server.streams.running)
            del stream
            gc.collect()
            until(lambda: not shared.server.streams.running)
        until(lambda: not {t for t in threading.enumerate() if t not in before and "carryover" in t.name})
        until(lambda: not [t for t in set(threading.enumerate()) - before if "consume_request" in str(t)])


async def next_final(stream: aio.Stream[Any]) -> Final:
    return await anext(result async for result in stream if isinstance(result, Final))


def test_a_stream_of_asyncio_that_is_forgotten_ends(patient: Any, pcm: bytes) -> None:
    async def run() -> None:
        async with aio.Client(f"127.0.0.1:{patient.port}") as client:
            stream = client.stream()
            await stream.send(pcm)
            assert (await anext(stream)).transcript
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(next_final(stream), 0.2)  # which leaves a read under way
            del stream
            gc.collect()
            await asyncio.to_thread(until, lambda: not patient.server.streams.running)

    asyncio.run(run())


def test_a_wait_that_is_given_up_loses_nothing(patient: Any, pcm: bytes) -> None:
    """Neither a wait for a result nor one for room ends the stream, or loses what it waited for."""

    async def run() -> None:
        async with aio.Client(f"127.0.0.1:{patient.port}") as client, client.stream(interim_results=False) as stream:
            await stream.send(pcm)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.05)
            sending = asyncio.create_task(stream.send(pcm[:64_000]))
            await asyncio.sleep(0)
            sending.cancel()
            assert isinstance((await asyncio.gather(sending, return_exceptions=True))[0], asyncio.CancelledError)
            await stream.finalize()
            whole = await anext(stream)
            assert isinstance(whole, Final) and whole.finalized and whole.end_s == pytest.approx(5.0)
            await stream.end()
            assert not [result async for result in stream if result.end_s != pytest.approx(5.0)]

    asyncio.run(run())


def test_messages_of_several_tasks_keep_their_order(patient: Any, pcm: bytes) -> None:
    async def run() -> None:
        async with aio.Client(f"127.0.0.1:{patient.port}") as client, client.stream(interim_results=False) as stream:
            calls = []
            for _ in range(4):
                calls += [stream.send(pcm[:32_000]), stream.finalize()]
            await asyncio.gather(*calls)
            await stream.end()
            ends = [result.end_s async for result in stream if isinstance(result, Final) and result.finalized]
            assert ends == pytest.approx([1.0, 2.0, 3.0, 4.0])

    asyncio.run(run())
