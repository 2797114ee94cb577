"""What breaks around the server breaks nothing in it: recognition goes on, plain where it must; no event is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import boto3
import grpc
import pytest

from benchmarks.server.fault_proxy import Fault, FaultProxy, fault_proxy, no_faults, random_faults
from carryover import Audio, aio
from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from carryover.v1.recognizer_pb2_grpc import RecognizerStub
from context_store import ContextStore, DialogueId, kms_wrapping_key, local_wrapping_key
from context_store.aws import client_options
from server import stream_messages
from server.errors import RETRY_KEY
from tests.support.payload_table import delete_payloads
from tests.support.waiting import until

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@pytest.fixture
def proxy(tables: Any) -> Iterator[FaultProxy]:
    """Between a replica and the tables."""
    with fault_proxy(tables.endpoint_url) as running:
        yield running


@pytest.fixture
def replica(workshop: Any, proxy: FaultProxy) -> Any:
    """A replica whose store is behind the proxy."""
    return workshop.start(config=through(workshop, proxy))


def through(workshop: Any, proxy: FaultProxy) -> Any:
    return replace(workshop.config, endpoint_url=proxy.url)


def always(fault: Fault, *operations: str) -> Callable[[str], Fault | None]:
    """A fault of every call, or of every one of some operations."""
    return lambda operation: fault if not operations or operation in operations else None


def said(finals: list[pb.StreamingRecognitionResult]) -> list[pb.SpeechRecognitionAlternative]:
    return [final.alternatives[0] for final in finals]


def failed_context(
    replica: Any, plain: list[pb.SpeechRecognitionAlternative], pcm: bytes, dialogue: str
) -> pb.ContextInfo:
    """Of an answer that is plain because its context FAILED; one that is over before the store gave up is NOT_READY."""
    contexts: list[pb.ContextInfo] = []

    def failed() -> bool:
        answer = replica.finals(pcm, dialogue_id=dialogue, turn_id="2")
        assert said(answer) == plain
        contexts.append(answer[-1].context)
        return bool(contexts[-1].status == pb.ContextInfo.FAILED)

    until(failed)
    return contexts[-1]


def check_each(finals: list[pb.StreamingRecognitionResult], plain: list[pb.SpeechRecognitionAlternative]) -> None:
    """Each utterance has the context's phrase, or is the plain one: a context may come between two of a stream."""
    for final, without in zip(finals, plain, strict=True):
        if final.context.status == pb.ContextInfo.APPLIED:
            assert final.alternatives[0].transcript == "meg bauer"
        else:
            assert final.alternatives[0] == without


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.ERROR, Fault.UNREACHABLE, Fault.LOST])
def test_a_store_that_fails(replica: Any, proxy: FaultProxy, dialogue: str, pcm: bytes, fault: Fault) -> None:
    plain = said(replica.finals(pcm))
    proxy.plan = always(fault)
    with pytest.raises(grpc.RpcError) as caught:
        replica.ask(dialogue, "1")
    assert caught.value.code() == UNAVAILABLE
    error: Any = caught.value
    assert dict(error.trailing_metadata())[RETRY_KEY] == "1000"
    failed_context(replica, plain, pcm, dialogue)
    proxy.plan = no_faults
    replica.ask(dialogue, "1")  # the same events again, whatever arrived of the first attempt
    replica.wait_for("READY", dialogue)
    assert replica.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1].context.status == pb.ContextInfo.APPLIED


def test_recognition_never_waits_for_the_store(replica: Any, proxy: FaultProxy, dialogue: str, pcm: bytes) -> None:
    plain, go_on = said(replica.finals(pcm)), threading.Event()

    def held(operation: str) -> Fault | None:
        assert go_on.wait(60)
        return None

    proxy.plan = held

    def messages() -> Iterator[pb.StreamingRecognizeRequest]:
        config: dict[str, Any] = {
            "encoding": pb.LINEAR16,
            "sample_rate_hertz": 16_000,
            "dialogue_id": dialogue,
            "turn_id": "2",
        }
        yield pb.StreamingRecognizeRequest(config=pb.StreamingConfig(**config))
        for start in range(0, len(pcm), 6400):
            yield pb.StreamingRecognizeRequest(audio=pcm[start : start + 6400])

    responses = list(replica.recognizer.StreamingRecognize(messages(), timeout=60))
    assert not go_on.is_set()
    finals = [result for response in responses for result in response.results if result.is_final]
    assert said(finals) == plain
    assert finals[-1].context.status in (pb.ContextInfo.NOT_READY, pb.ContextInfo.FAILED)  # or botocore gave up
    go_on.set()


def test_a_store_that_answers_nobody_gathers_no_queue(workshop: Any, proxy: FaultProxy, dialogue: str) -> None:
    """Calls end in time, and those that no thread had begun by then are never made."""
    replica = workshop.start(
        config=through(workshop, proxy), store__threads=4, store__deadline_s=2
    )  # two of them for one tenant
    go_on = threading.Event()

    def held(operation: str) -> Fault | None:
        assert go_on.wait(60)
        return None

    proxy.plan = held
    request = context_pb2.GetContextStatusRequest(dialogue_id=dialogue)
    for call in [replica.context.GetContextStatus.future(request, timeout=60) for _ in range(8)]:
        assert call.exception().code() == UNAVAILABLE and "did not answer within 2 s" in call.exception().details()
    go_on.set()
    with pytest.raises(grpc.RpcError) as caught:
        replica.status(dialogue)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    until(lambda: proxy.counts.total() >= 3)
    assert proxy.counts.total() == 3


def test_a_store_that_restarts_in_the_middle_of_a_turn(
    replica: Any, proxy: FaultProxy, dialogue: str, pcm: bytes
) -> None:
    plain = said(replica.finals(pcm))
    replica.encoder.go_on.clear()
    replica.ask(dialogue, "1", "meg bauer")
    replica.wait_for("ENCODING", dialogue)
    proxy.plan = always(Fault.UNREACHABLE)
    replica.encoder.go_on.set()
    answer = replica.finals(pcm, dialogue_id=dialogue, turn_id="2")
    proxy.plan = no_faults
    check_each(answer, plain)  # applied or not: it was read before, and encoding needs no store
    replica.wait_for("READY", dialogue)
    assert said(replica.finals(pcm, dialogue_id=dialogue, turn_id="2"))[0].transcript == "meg bauer"


def test_random_faults_lose_no_event_and_make_no_result_wrong(
    replica: Any, proxy: FaultProxy, workshop: Any, dialogue: str, pcm: bytes
) -> None:
    plain = said(replica.finals(pcm))
    proxy.slow_s, proxy.plan = 0.02, random_faults(0.3, seed=1)
    recorded: list[str] = []
    refusals: list[grpc.StatusCode] = []
    for number in range(12):
        name = f"{dialogue}-{number}"
        try:
            replica.ask(name, "1", "meg bauer")
            recorded.append(name)
        except grpc.RpcError as error:
            refusals.append(error.code())
        answer = replica.finals(pcm, dialogue_id=name, turn_id="2")
        check_each(answer, plain)
    assert len(recorded) > 2 and len(proxy.counts) == len(Fault) + 1
    assert set(refusals) <= {UNAVAILABLE}
    store = ContextStore(workshop.config, workshop.key, clock=replica.clock)
    for name in recorded:
        (turn,) = store.read_turns(DialogueId("default", name))
        assert [event.kind for event in turn.events] == ["utterance", "reply", "entities", "expect_speech"]
    store.close()


def test_texts_that_are_deleted_between_two_reads(
    workshop: Any, replica: Any, proxy: FaultProxy, dialogue: str, pcm: bytes
) -> None:
    """The events are read, then their payloads vanish: a context of nothing, and the plain result."""
    plain = said(replica.finals(pcm))

    def vanish(operation: str) -> Fault | None:
        if operation == "BatchGetItem":
            proxy.plan = no_faults
            delete_payloads(workshop.config, dialogue)
        return None

    proxy.plan = vanish
    replica.ask(dialogue, "1", "meg bauer")
    replica.wait_for("READY", dialogue)
    assert said(replica.finals(pcm, dialogue_id=dialogue, turn_id="2")) == plain
    assert not replica.encoder.seen[-1].entries


def test_a_wrong_wrapping_key(workshop: Any, dialogue: str, pcm: bytes) -> None:
    """A replica with another key, or a rotated one, reads nothing of what was stored, and recognises; a dialogue that
    was begun under the old key is begun anew by erasing it."""
    right = workshop.start()
    plain = said(right.finals(pcm))
    right.ask(dialogue, "1")
    right.wait_for("READY", dialogue)
    right.run(right.server.drain())
    key, workshop.key = workshop.key, local_wrapping_key()
    wrong = workshop.start(clock=right.clock)
    workshop.key = key
    assert "TamperedError" in failed_context(wrong, plain, pcm, dialogue).reason
    with pytest.raises(grpc.RpcError) as caught:
        wrong.ask(dialogue, "2")
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS and "wrapping" in (caught.value.details() or "")
    wrong.ask(f"{dialogue}-new", "1")  # new dialogues are the new key's
    wrong.wait_for("READY", f"{dialogue}-new")
    wrong.context.DeleteDialogue(context_pb2.DeleteDialogueRequest(dialogue_id=dialogue), timeout=30)
    wrong.ask(dialogue, "2")
    wrong.wait_for("READY", dialogue)


def test_kms_down(workshop: Any, proxy: FaultProxy, dialogue: str, pcm: bytes, monkeypatch: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    kms = boto3.client("kms", **client_options(workshop.config))
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    kms.close()
    own, workshop.key = workshop.key, kms_wrapping_key(arn, region="us-east-1", endpoint_url=proxy.url)
    replica = workshop.start()
    workshop.key = own
    plain = said(replica.finals(pcm))
    known = f"{dialogue}-known"
    replica.ask(known, "1")
    proxy.plan = always(Fault.UNREACHABLE)  # only KMS is behind it here
    replica.ask(known, "2")  # its key is in memory
    replica.wait_for("READY", known, "2")
    with pytest.raises(grpc.RpcError) as caught:
        replica.ask(dialogue, "1")
    assert caught.value.code() == UNAVAILABLE and "KMS" in (caught.value.details() or "")
    assert said(replica.finals(pcm, dialogue_id=dialogue, turn_id="2")) == plain
    proxy.plan = no_faults
    replica.ask(dialogue, "1")
    replica.wait_for("READY", dialogue)
    assert replica.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1].context.status == pb.ContextInfo.APPLIED


def test_an_encoder_that_hangs(workshop: Any, dialogue: str, pcm: bytes) -> None:
    """Jobs are given up at their deadline, streams go on, the server drains; when it comes back, so do contexts."""
    replica = workshop.start(context__deadline_s=0.5)
    plain = said(replica.finals(pcm))
    replica.encoder.go_on.clear()
    for number in range(5):
        replica.ask(f"{dialogue}-{number}", "1")
    for number in range(5):
        replica.wait_for("FAILED", f"{dialogue}-{number}")
        assert said(replica.finals(pcm, dialogue_id=f"{dialogue}-{number}", turn_id="2")) == plain
    until(lambda: not replica.server.contexts.busy)  # each stream has had its own attempt at what had failed
    replica.encoder.go_on.set()
    for attempt in range(50):  # the thread first works off what nobody waits for any more
        replica.ask(dialogue, f"{attempt}")
        until(lambda turn=attempt: bool(replica.status(dialogue, f"{turn}").state >= 5))  # type: ignore[misc]
        if replica.status(dialogue, f"{attempt}").state == 5:
            return
    raise AssertionError("no context after the encoder came back")


def test_a_replica_killed_while_it_encodes(workshop: Any, dialogue: str, pcm: bytes) -> None:
    """The follow-up on another replica: plain at once, then with the context that this one makes itself."""
    first = workshop.start()
    second = workshop.start(clock=first.clock)
    plain = said(second.finals(pcm))
    first.encoder.go_on.clear()
    first.ask(dialogue, "1", "meg bauer")
    first.wait_for("ENCODING", dialogue)
    second.encoder.go_on.clear()
    answer = second.finals(pcm, dialogue_id=dialogue, turn_id="2")
    assert said(answer) == plain and answer[-1].context.status == pb.ContextInfo.NOT_READY
    second.encoder.go_on.set()
    second.wait_for("READY", dialogue)
    assert said(second.finals(pcm, dialogue_id=dialogue, turn_id="2"))[0].transcript == "meg bauer"


@pytest.mark.parametrize("jump_s", [-86_400.0, -1.0, 600.0, 10_000_000.0])
def test_a_clock_that_jumps(workshop: Any, dialogue: str, pcm: bytes, jump_s: float) -> None:
    replica = workshop.start()
    plain = said(replica.finals(pcm))
    replica.ask(dialogue, "1", "meg bauer")
    replica.wait_for("READY", dialogue)
    replica.clock.now += jump_s
    answer = replica.finals(pcm, dialogue_id=dialogue, turn_id="2")
    if jump_s > replica.server.settings.context.ttl_s:
        assert answer[-1].context.status == pb.ContextInfo.EXPIRED and said(answer) == plain
    else:
        assert answer[-1].context.status == pb.ContextInfo.APPLIED
    replica.ask(f"{dialogue}-after", "1")
    replica.wait_for("READY", f"{dialogue}-after")


# Clients


def test_a_client_that_stops_reading(workshop: Any, pcm: bytes) -> None:
    """Its stream stands still, nobody else's does, and it ends with its client."""
    replica = workshop.start(limits__stream_seconds=3600)
    before = replica.finals(pcm)

    def messages() -> Iterator[pb.StreamingRecognizeRequest]:
        config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000, interim_results=True)
        yield pb.StreamingRecognizeRequest(config=config)
        while True:
            yield pb.StreamingRecognizeRequest(audio=pcm)

    with grpc.insecure_channel(f"127.0.0.1:{replica.port}") as channel:
        method: Any = channel.stream_stream(
            "/carryover.v1.Recognizer/StreamingRecognize",
            request_serializer=pb.StreamingRecognizeRequest.SerializeToString,
        )
        deaf = method(messages(), timeout=60)
        next(deaf)
        assert replica.finals(pcm) == before
        deaf.cancel()
    until(lambda: not replica.server.streams.running)
    assert replica.finals(pcm) == before


def test_a_client_that_leaves_at_any_moment(workshop: Any, pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is accepted, in its audio, at the end: nothing stays, and nothing is the server's fault."""
    monkeypatch.setattr(stream_messages, "LEAVING_S", 30.0)  # however busy the machine is
    replica = workshop.start()
    before = replica.finals(pcm)

    async def leave() -> None:
        async with aio.Client(f"127.0.0.1:{replica.port}") as client:

            async def hear() -> None:
                async with client.stream(Audio(pcm), phrases=["meg bauer"]) as results:
                    async for _ in results:
                        pass

            await client.server_info()  # connected
            for number in range(40):
                call = asyncio.create_task(hear())
                await asyncio.sleep(0.003 * number)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)

    asyncio.run(leave())
    until(lambda: not replica.server.streams.running)
    assert replica.finals(pcm) == before
    families = replica.server.metrics.calls.collect()
    codes = {sample.labels["code"] for family in families for sample in family.samples}
    assert "CANCELLED" in codes and codes <= {"CANCELLED", "OK"}


def test_a_client_that_leaves_before_it_speaks_made_no_mistake(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC tells of some that leave first as of streams that end without audio."""
    monkeypatch.setattr(stream_messages, "LEAVING_S", 30.0)  # however busy the machine is
    replica = workshop.start()
    config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)

    async def one(stub: Any) -> None:
        call = stub.StreamingRecognize(timeout=60)
        await call.write(pb.StreamingRecognizeRequest(config=config))
        await call.initial_metadata()
        call.cancel()

    async def leave() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.port}") as channel:
            stub = RecognizerStub(channel)
            for _ in range(30):
                await asyncio.gather(*(one(stub) for _ in range(10)))

    def ended() -> dict[str, float]:
        (family,) = replica.server.metrics.calls.collect()
        return {sample.labels["code"]: sample.value for sample in family.samples if sample.name.endswith("_total")}

    asyncio.run(leave())
    until(lambda: sum(ended().values()) == 300)
    assert ended() == {"CANCELLED": 300}


def test_a_client_that_reads_nothing_does_not_keep_its_place(workshop: Any, pcm: bytes) -> None:
    """Its connection lives and takes nothing more: the stream ends by itself, with a status for when it reads on."""
    replica = workshop.start(limits__idle_seconds=2)
    before = replica.finals(pcm)
    unspellable = [f"{'é' * 90} {number}" for number in range(2000)]  # each comes back: more than is sent unread
    config = pb.StreamingConfig(
        encoding=pb.LINEAR16, sample_rate_hertz=16_000, speech_contexts=[pb.SpeechContext(phrases=unspellable)]
    )
    sent = [pb.StreamingRecognizeRequest(config=config), pb.StreamingRecognizeRequest(audio=pcm)]
    with grpc.insecure_channel(f"127.0.0.1:{replica.port}", [("grpc.http2.bdp_probe", 0)]) as channel:
        deaf = RecognizerStub(channel).StreamingRecognize(iter(sent), timeout=60)
        until(lambda: replica.server.streams.running == 1)
        assert replica.finals(pcm) == before
        until(lambda: not replica.server.streams.running)
        labels = {"method": "StreamingRecognize", "code": "DEADLINE_EXCEEDED"}
        registry = replica.server.metrics.registry
        until(lambda: registry.get_sample_value("carryover_calls_total", labels) == 1)
        with pytest.raises(grpc.RpcError) as caught:
            list(deaf)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "no result was read for 2 s" in (caught.value.details() or "")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 10_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(256)) * 40,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 1000,
    ],
)
def test_garbage_on_the_socket(shared: Any, pcm: bytes, data: bytes) -> None:
    before = shared.finals(pcm)
    for _ in range(5):
        with (
            socket.create_connection(("127.0.0.1", shared.port), timeout=10) as raw,
            contextlib.suppress(OSError),  # it may hang up before all is said
        ):
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
    assert shared.finals(pcm) == before


def test_a_reset_connection(workshop: Any, pcm: bytes) -> None:
    """Half a stream, then a connection that is gone without a word of HTTP/2."""
    replica = workshop.start(limits__idle_seconds=600)
    before = replica.finals(pcm)
    with Pipe(replica.port) as pipe:
        go_on = threading.Event()

        def messages() -> Iterator[pb.StreamingRecognizeRequest]:
            yield pb.StreamingRecognizeRequest(
                config=pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
            )
            yield pb.StreamingRecognizeRequest(audio=pcm[:6400])
            go_on.wait(60)

        channel = grpc.insecure_channel(f"127.0.0.1:{pipe.port}")
        method: Any = channel.stream_stream(
            "/carryover.v1.Recognizer/StreamingRecognize",
            request_serializer=pb.StreamingRecognizeRequest.SerializeToString,
        )
        call = method(messages(), timeout=60)
        until(lambda: replica.server.streams.running == 1)
        pipe.reset()
        until(lambda: not replica.server.streams.running)
        go_on.set()
        call.cancel()
        channel.close()
    assert replica.finals(pcm) == before


class Pipe:
    """Carries one TCP connection to a port until it is reset."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []

    def __enter__(self) -> Pipe:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.reset()

    def reset(self) -> None:
        """Close both ends with RST."""
        while self._ends:
            end = self._ends.pop()
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # wakes who reads it
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            end.close()
        self._listener.close()

    def _serve(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        far = socket.create_connection(("127.0.0.1", self._target))
        self._ends = [near, far]
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                sink.sendall(data)
        except OSError:
            pass


def test_sigterm_under_load(workshop: Any, pcm: bytes, dialogue: str) -> None:
    """Streams that run end with their results, a context under way is finished, new calls are sent elsewhere."""
    replica = workshop.start()
    expected = replica.finals(pcm)
    go_on = threading.Event()

    def messages() -> Iterator[pb.StreamingRecognizeRequest]:
        yield pb.StreamingRecognizeRequest(config=pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000))
        assert go_on.wait(60)
        for start in range(0, len(pcm), 6400):
            yield pb.StreamingRecognizeRequest(audio=pcm[start : start + 6400])

    running = [replica.recognizer.StreamingRecognize(messages(), timeout=60) for _ in range(6)]
    until(lambda: replica.server.streams.running == 6)
    replica.encoder.go_on.clear()
    replica.ask(dialogue, "1")
    drained = threading.Thread(target=lambda: replica.run(replica.server.drain()))
    drained.start()
    until(lambda: replica.server.draining)
    for call in (lambda: replica.finals(pcm), lambda: replica.ask(dialogue, "2"), lambda: replica.status(dialogue)):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() == UNAVAILABLE
    go_on.set()
    for call in running:
        finals = [result for response in call for result in response.results if result.is_final]
        assert [f.alternatives[0].transcript for f in finals] == [f.alternatives[0].transcript for f in expected]
    assert drained.is_alive()
    replica.encoder.go_on.set()
    drained.join(60)
    store = ContextStore(workshop.config, workshop.key, clock=replica.clock)
    assert store.get_embedding(DialogueId("default", dialogue), "1", "echo-1") is not None
    store.close()
