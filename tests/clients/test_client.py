"""Both clients against a real server over a socket: what they return is what the server says, and so are errors."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
import wave
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from carryover import (
    Audio,
    AudioError,
    ChangeRequestError,
    CheckKeyError,
    Client,
    DeadlineError,
    Entry,
    Final,
    InlineContext,
    NotFoundError,
    NotReadyError,
    Partial,
    RetryLaterError,
    Turn,
    aio,
)
from carryover.v1 import recognizer_pb2 as pb
from server import context_service
from server.access import make_key
from server.errors import LimitError
from server.scheduler import Scheduler
from tests.clients.both import DEADLINE_S, Clients, pieces
from tests.integration.test_access import Authority, tls_settings
from tests.support.waiting import until


@pytest.fixture
def wav(tmp_path: Path, pcm: bytes) -> Path:
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(pcm)
    return tmp_path / "speech.wav"


def texts(results: Any) -> list[tuple[str, str]]:
    return [(type(result).__name__, result.transcript) for result in results]


def test_a_stream_yields_what_the_server_sends(client: Any, shared: Any, wav: Path, pcm: bytes) -> None:
    responses = shared.stream(
        pcm, chunk=3200, interim_results=True, max_alternatives=3, enable_word_time_offsets=True,
        speech_contexts=[pb.SpeechContext(phrases=["meg bauer", "☃"], boost=2.0)],
    )  # fmt: skip
    sent = [result for response in responses for result in response.results]
    stream = client.stream(wav, max_alternatives=3, word_times=True, phrases={"meg bauer": 2.0, "☃": 2.0})
    results = list(stream)
    assert len(results) == len(sent) and {type(result) for result in results} >= {Partial, Final}
    for result, message in zip(results, sent, strict=True):
        assert isinstance(result, Final) == message.is_final
        assert (result.stability, result.start_s, result.end_s) == (message.stability, message.start, message.end)
        for alternative, told in zip(result.alternatives, message.alternatives, strict=True):
            assert (alternative.transcript, alternative.score) == (told.transcript, told.score)
            assert (alternative.confidence, alternative.from_context) == (told.confidence, told.from_context)
            assert alternative.context_score == told.context_score
            words = [(w.word, w.start_s, w.end_s, w.confidence) for w in alternative.words]
            assert words == [(w.word, w.start, w.end, w.confidence) for w in told.words]
        if isinstance(result, Final):
            assert result.context.status == "NOT_REQUESTED" and result.context.plain_transcript
            assert result.passes == ("STREAMING", "WHOLE_UTTERANCE") and not result.skipped_passes
    report = stream.phrase_report
    assert report.accepted == 1 and [rejected.phrase for rejected in report.rejected] == ["☃"]


def test_any_kind_of_audio(client: Any, wav: Path, pcm: bytes) -> None:
    told = texts(client.stream(Audio(pcm)))
    assert told and told[-1][0] == "Final"
    for audio in (wav, str(wav), pieces(pcm), iter(pieces(pcm)), (piece for piece in pieces(pcm))):
        assert texts(client.stream(audio))[-1] == told[-1]
    finals = texts(client.stream(Audio(pcm), interim_results=False))
    assert {kind for kind, _ in finals} == {"Final"} and finals[-1] == told[-1]
    assert len(list(client.stream(Audio(pcm), interim_results=False, single_utterance=True))) == 1
    written = list(client.stream(Audio(pcm), automatic_punctuation=True))[-1].transcript
    assert written != told[-1][1] == written.rstrip(".").lower()


def test_audio_in_real_time_takes_as_long_as_it_is(client: Any, pcm: bytes) -> None:
    began = time.monotonic()
    assert list(client.stream(Audio(pcm[:16_000]), real_time=True))
    assert time.monotonic() - began >= 0.5


def test_what_the_audio_raises_is_raised_by_the_stream(client: Any, shared: Any, pcm: bytes) -> None:
    class BrokenError(Exception):
        pass

    def audio() -> Iterator[bytes]:
        yield pcm[:6400]
        raise BrokenError

    with pytest.raises(BrokenError):
        list(client.stream(audio()))
    with pytest.raises(AudioError, match="absent"):
        list(client.stream(Path("absent.wav")))
    until(lambda: not shared.server.streams.running)


def test_leaving_a_stream_ends_it_at_the_server(client: Any, shared: Any, pcm: bytes) -> None:
    more, ended = threading.Event(), threading.Event()

    def audio() -> Iterator[bytes]:
        try:
            yield from pieces(pcm)
            while not more.wait(0.01):
                yield bytes(320)
        finally:
            ended.set()

    stream = client.stream(audio())
    assert next(stream).transcript
    until(lambda: shared.server.streams.running)
    stream.close()
    until(lambda: not shared.server.streams.running)
    assert list(stream) == []
    stream.close()
    more.set()
    until(ended.is_set)


def test_one_recording(client: Any, shared: Any, wav: Path, pcm: bytes) -> None:
    whole = client.recognize(wav, word_times=True, max_alternatives=2)
    request = pb.RecognizeRequest(audio=wav.read_bytes(), config=pb.RecognitionConfig(max_alternatives=2))
    (told,) = shared.recognizer.Recognize(request, timeout=DEADLINE_S).results
    assert whole.transcript == told.alternatives[0].transcript and len(whole.results[0].alternatives) == 2
    assert whole.results[0].words and whole.phrase_report is None
    assert client.recognize(wav.read_bytes()).transcript == client.recognize(Audio(pcm)).transcript == whole.transcript
    assert client.recognize(wav, phrases=["meg"]).phrase_report.accepted == 1


def test_a_dialogue(client: Any, shared: Any, pcm: bytes, dialogue: str) -> None:
    assert not client.record(dialogue, "1", transcribe=True, user="call meg")
    with pytest.raises(NotReadyError, match="record expect_speech"):
        client.wait_until_ready(dialogue, "1")
    contacts = [Entry("meg bauer", "7"), "meg jones"]
    assert client.record(dialogue, "1", reply="which meg", contacts=contacts, speak=True, expect_speech=True)
    status = client.wait_until_ready(dialogue, "1", timeout=DEADLINE_S)
    assert (status.state, status.turn) == ("READY", "1") and status.expires_at is not None
    assert [state for state, _ in status.timeline][-1] == "READY"
    assert client.status(dialogue) == status
    turns = shared.encoder.seen[-1].turns
    assert [turn.text for turn in turns] == ["call meg", "which meg"]

    embedding = client.embedding(dialogue, "1")
    assert np.array(embedding.vectors).shape == (3, 4) and np.array(embedding.summary).shape == (4,)
    assert (embedding.phrases[0].phrase, embedding.phrases[0].signal) == ("meg bauer", "contacts")

    def audio() -> Iterator[bytes]:
        yield pcm[:3200]
        shared.run(shared.store_answered())
        yield pcm[3200:]

    final = list(client.stream(audio(), dialogue=dialogue, turn="2"))[-1]
    assert final.context.status == "APPLIED" and final.context.changed and final.context.context_turn == "1"
    assert final.transcript == "meg bauer" != final.context.plain_transcript
    assert [m.entry_id for m in final.context.meant] == ["7"]
    assert final.context.timings.rescore_ms is not None
    assert {word.nats for word in final.context.biased_words} == {2.5}

    rescored = client.rescore([("power", -1.0), ("bower", -2.0)], dialogue=dialogue, turn="2")
    assert [entry.text for entry in rescored.nbest] == ["meg bauer", "power", "bower"]
    assert rescored.nbest[0].from_context and rescored.context.status == "APPLIED"

    assert client.erase(dialogue) > 0 == client.erase(dialogue)
    with pytest.raises(NotFoundError):
        client.status(dialogue)
    with pytest.raises(NotFoundError):
        client.embedding(dialogue)


def test_a_wait_for_a_context_that_is_not_being_made(
    clients: Clients, workshop: Any, monkeypatch: pytest.MonkeyPatch, dialogue: str
) -> None:
    replica = workshop.start()
    client = clients(replica.port)
    monkeypatch.setattr(Scheduler, "late", property(lambda scheduler: True))
    assert not client.record(dialogue, "1", reply="which meg", expect_speech=True)
    with pytest.raises(NotReadyError, match=r"turn 1: it was dropped; .* \(dropped: the server is busy with audio\)"):
        client.wait_until_ready(dialogue, "1", timeout=DEADLINE_S)
    monkeypatch.undo()
    assert client.wait_until_ready(dialogue, timeout=DEADLINE_S).state == "READY"  # made again when it is asked for

    replica.encoder.go_on.clear()
    for turn in ("2", "3"):
        assert client.record(dialogue, turn, reply="which meg", expect_speech=True)
    with pytest.raises(NotReadyError, match="turn 2: a newer turn's is made in its place"):
        client.wait_until_ready(dialogue, "2", timeout=DEADLINE_S)
    replica.encoder.go_on.set()
    assert client.wait_until_ready(dialogue, "3", timeout=DEADLINE_S).state == "READY"


def test_a_context_that_is_given_inline(client: Any) -> None:
    context = InlineContext((Turn("system", "which meg"),), {"contacts": ["meg bauer"]})
    assert client.rescore(["power"], context=context).nbest[0].text == "meg bauer"
    plain = client.rescore(["power", "bower"], dialogue="nobody's")
    assert [entry.text for entry in plain.nbest] == ["power", "bower"] and plain.context.status == "NOT_FOUND"


def test_recording_again_changes_nothing(client: Any, shared: Any, dialogue: str) -> None:
    events = {"user": "call meg", "reply": "which meg", "contacts": ["meg bauer"], "expect_speech": True}
    counts = []
    for times in (1, 3):
        for _ in range(times):
            assert client.record(dialogue, "1", **events)
        client.wait_until_ready(dialogue, "1", timeout=DEADLINE_S)
        counts.append(client.erase(dialogue))
    assert counts[0] == counts[1] > 3


def test_what_the_server_refuses(client: Any, dialogue: str) -> None:
    with pytest.raises(ChangeRequestError, match="control characters") as caught:
        client.status("#")
    assert caught.value.field == "dialogue_id" and caught.value.code == "INVALID_ARGUMENT" and caught.value.request_id
    with pytest.raises(ChangeRequestError, match="sample_rate_hertz"):
        list(client.stream([b"\0\0"], rate=1))
    with pytest.raises(ChangeRequestError, match="audio"):
        client.recognize(b"nothing")
    with pytest.raises(NotFoundError):
        client.wait_until_ready(dialogue, timeout=1)
    with pytest.raises(DeadlineError):
        client.status(dialogue, timeout_s=0.0)


def test_keys(clients: Clients, workshop: Any, tmp_path: Path, pcm: bytes) -> None:
    key, line = make_key("acme")
    (tmp_path / "keys").write_text(line + "\n")
    replica = workshop.start(access__keys_file=str(tmp_path / "keys"))
    good = clients(replica.port, key=key)
    assert good.server_info().version and list(good.stream(Audio(pcm)))
    for bad in (clients(replica.port), clients(replica.port, key="co_wrong")):
        with pytest.raises(CheckKeyError, match="authorization: Bearer KEY"):
            bad.server_info()
        with pytest.raises(CheckKeyError, match="authorization: Bearer KEY"):
            list(bad.stream(Audio(pcm)))


def test_tls_with_a_key_and_with_a_certificate(clients: Clients, workshop: Any, tmp_path: Path, pcm: bytes) -> None:
    key, line = make_key("acme")
    (tmp_path / "keys").write_text(f"{line}\nkiosks cert:kiosk.example\n")
    authority = Authority(tmp_path, "ca")
    settings = tls_settings(authority.issue("server")) | {"access__keys_file": str(tmp_path / "keys")}
    replica, own = workshop.start(**settings), authority.issue("kiosk", "kiosk.example")
    strict = workshop.start(**settings, tls__client_ca=str(authority.ca))
    by_key = clients(f"localhost:{replica.port}", key=key, ca=authority.ca)
    certified = {"certificate": own["certificate"], "certificate_key": own["key"]}
    by_certificate = clients(f"localhost:{strict.port}", ca=str(authority.ca), **certified)
    for client in (by_key, by_certificate):
        assert client.server_info().version and isinstance(list(client.stream(Audio(pcm)))[-1], Final)
    with pytest.raises(RetryLaterError):  # gRPC's own authorities have not signed it
        clients(f"localhost:{replica.port}", key=key, tls=True, deadline_s=5).server_info()


def test_the_status_of_a_stream_that_ends_while_audio_is_sent(clients: Clients, workshop: Any, pcm: bytes) -> None:
    """GRPC's asyncio client would lose every second one."""
    replica = workshop.start(limits__stream_seconds=0.5)
    client = clients(replica.port)
    for _ in range(20):
        with pytest.raises(ChangeRequestError, match=r"limits\.stream_seconds") as caught:
            list(client.stream(pieces(pcm * 10)))
        assert caught.value.code == "RESOURCE_EXHAUSTED"


def test_nobody_answers(clients: Clients, pcm: bytes) -> None:
    with socket.socket() as taken:  # and not listened to
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        client = clients(port)
        with pytest.raises(
            RetryLaterError, match=rf"^127\.0\.0\.1:{port} does not answer \(.*refused\): see"
        ) as caught:
            client.server_info()
        assert (caught.value.code, caught.value.request_id) == ("UNAVAILABLE", None)
        with pytest.raises(RetryLaterError):
            list(client.stream(Audio(pcm)))


def test_a_client_that_is_closed(clients: Clients, shared: Any, pcm: bytes) -> None:
    used, unused = clients(shared.port), clients(shared.port)
    assert used.server_info()
    for client in (used, unused):
        client.close()
        for call in (client.server_info, lambda client=client: client.stream(Audio(pcm))):
            with pytest.raises(ChangeRequestError, match="the client is closed; make another one"):
                call()
        client.close()


def test_a_client_that_is_closed_during_a_call(clients: Clients) -> None:
    """It is no cancellation of the caller's own task."""
    with socket.create_server(("127.0.0.1", 0)) as mute, ThreadPoolExecutor(1) as pool:
        client = clients(mute.getsockname()[1])
        call = pool.submit(client.server_info)
        with mute.accept()[0] as line:
            line.recv(1)
            client.close()
            with pytest.raises(RetryLaterError) as caught:
                call.result(30)
        assert caught.value.code == "CANCELLED"


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The next calls of `GetContextStatus` that are refused, by their errors; answered ones are counted after them."""
    refusals: list[Any] = []
    original = context_service.ContextService.GetContextStatus

    async def refuse(*arguments: Any) -> Any:
        if refusals:
            raise refusals.pop(0)
        return await original(*arguments)

    monkeypatch.setattr(context_service.ContextService, "GetContextStatus", refuse)
    return refusals


def test_calls_are_repeated_when_the_server_says_so(
    clients: Clients, workshop: Any, busy: list[Any], dialogue: str
) -> None:
    replica = workshop.start()
    client = clients(replica.port)
    client.record(dialogue, "1", user="call meg")
    busy += [LimitError("calls", "too many", 50)] * 4
    assert client.status(dialogue).state == "RECORDED" and not busy
    busy += [LimitError("calls", "too many", 20)] * 6
    with pytest.raises(RetryLaterError, match="too many") as caught:
        client.status(dialogue)
    assert caught.value.retry_after_s == 0.02 and len(busy) == 1
    busy[:] = [LimitError("text", "too long")] * 2
    with pytest.raises(ChangeRequestError, match="too long"):
        client.status(dialogue)
    assert len(busy) == 1


def test_another_replica_takes_over(clients: Clients, workshop: Any, pcm: bytes, dialogue: str) -> None:
    """Calls go on while a replica drains, and when it is gone; a stream that is refused is opened elsewhere."""
    one, other = workshop.start(), workshop.start()
    client = clients(f"ipv4:127.0.0.1:{one.port},127.0.0.1:{other.port}")
    for number in range(4):
        client.record(dialogue, str(number), user="call meg")
    one.run(one.server.drain())
    for number in range(4):
        client.record(dialogue, str(number), user="call meg")
        assert list(client.stream(Audio(pcm)))
    one.run(one.server.close())
    for number in range(4):
        client.record(dialogue, str(number), user="call meg")
        assert list(client.stream(Audio(pcm)))


@pytest.mark.parametrize(("accepts", "calls"), [(False, 5), (True, 1)])
def test_a_stream_is_opened_again_only_while_no_server_has_accepted_it(
    clients: Clients, pcm: bytes, accepts: bool, calls: int
) -> None:
    heard: list[list[Any]] = []

    def end(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        heard.append([next(requests)])
        if accepts:
            context.send_initial_metadata((("x-request-id", "abc"),))
            heard[-1] += requests
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "20"), ("x-request-id", "abc")))
        context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        yield pb.StreamingRecognizeResponse()

    method = grpc.stream_stream_rpc_method_handler(
        end, pb.StreamingRecognizeRequest.FromString, pb.StreamingRecognizeResponse.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.method_handlers_generic_handler("carryover.v1.Recognizer", {"StreamingRecognize": method})
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with pytest.raises(RetryLaterError, match="the server is shutting down") as caught:
        list(clients(port).stream(pieces(pcm), dialogue="d"))
    assert (caught.value.retry_after_s, caught.value.request_id) == (0.02, "abc")
    assert len(heard) == calls and {messages[0].config.dialogue_id for messages in heard} == {"d"}
    if accepts:
        assert b"".join(message.audio for message in heard[0]) == pcm
    server.stop(None)


def test_a_stream_of_asyncio_needs_an_event_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        aio.Client().stream([])


def test_a_client_of_asyncio_may_be_made_before_its_event_loop(shared: Any, pcm: bytes, dialogue: str) -> None:
    client = aio.Client(f"127.0.0.1:{shared.port}")

    async def audio() -> AsyncIterator[bytes]:
        for piece in pieces(pcm):
            yield piece

    async def run() -> list[Any]:
        async with client, client.stream(audio()) as results:
            return [result async for result in results]

    assert texts(asyncio.run(run()))[-1] == texts(Client(f"127.0.0.1:{shared.port}").stream(pieces(pcm)))[-1]


def test_a_loop_that_is_left_ends_its_stream(shared: Any, pcm: bytes) -> None:
    """Also where nobody closes the stream."""

    def endless() -> Iterator[bytes]:
        while True:
            yield pcm[:3200]

    with Client(f"127.0.0.1:{shared.port}") as client:
        for _ in client.stream(endless()):
            break
        until(lambda: not shared.server.streams.running)

    async def run() -> None:
        async with aio.Client(f"127.0.0.1:{shared.port}") as client:
            async for _ in client.stream(endless()):
                break
            await asyncio.to_thread(until, lambda: not shared.server.streams.running)
            assert not [task for task in asyncio.all_tasks() if "_Sender" in str(task)]

    asyncio.run(run())


def test_a_task_that_is_cancelled_leaves_nothing(shared: Any, pcm: bytes) -> None:
    closed: list[bool] = []

    async def audio() -> AsyncIterator[bytes]:
        try:
            for piece in pieces(pcm):
                yield piece
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def run() -> None:
        async with aio.Client(f"127.0.0.1:{shared.port}") as client:
            heard = asyncio.Event()

            async def hear() -> None:
                async with client.stream(audio()) as results:
                    async for _ in results:
                        heard.set()

            task = asyncio.create_task(hear())
            await heard.wait()
            task.cancel()
            assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
            assert closed and not [task for task in asyncio.all_tasks() if "_Sender" in str(task)]

    asyncio.run(run())
    until(lambda: not shared.server.streams.running)


def test_the_signals_that_the_docs_name_are_taken(client: Any, shared: Any, dialogue: str) -> None:
    signals = ("contacts", "devices", "places", "screen", "preferences", "device_type", "appointments")
    assert client.record(dialogue, "1", entities={s: [f"one of {s}"] for s in signals}, expect_speech=True)
    client.wait_until_ready(dialogue, timeout=DEADLINE_S)
    assert {entry.signal for entry in shared.encoder.seen[-1].entries} == set(signals)
