"""Callers who mean harm: refused before anything of theirs is worked on, bounded in what they may hold, alone in it."""

from __future__ import annotations

import gzip
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from carryover.v1 import context_pb2, recognizer_pb2
from carryover.v1 import recognizer_pb2 as pb
from server.access import make_key
from server.codec import wire
from server.codec.wire import SMALL_BYTES
from tests.support.raw_http2 import DATA, GOAWAY, HEADERS, PING, RST_STREAM, Connection, call, frame, message, reset
from tests.support.waiting import until

INVALID, TOO_MUCH = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
DEADLINE_S = 60.0
HUGE = 8 << 20
METHODS = [
    method
    for file, service in ((recognizer_pb2, "Recognizer"), (context_pb2, "Context"))
    for method in file.DESCRIPTOR.services_by_name[service].methods
]
CONFIG = pb.StreamingRecognizeRequest(
    config=pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
)  # fmt: skip
RECOGNIZE = "/carryover.v1.Recognizer/Recognize"
STREAM = "/carryover.v1.Recognizer/StreamingRecognize"
HEALTH = "/grpc.health.v1.Health"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, str]:
    """A file of keys with one tenant, and its key."""
    key, line = make_key("acme")
    (tmp_path / "keys").write_text(line)
    return tmp_path / "keys", key


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, threading.Thread]]:
    """Bytes of the messages that were read, and the threads that read them."""
    found: list[tuple[int, threading.Thread]] = []
    whole = wire.Reader.read

    def noted(self: wire.Reader, data: bytes) -> Any:
        found.append((len(data), threading.current_thread()))
        return whole(self, data)

    monkeypatch.setattr(wire.Reader, "read", noted)
    return found


def send(replica: Any, path: str, *requests: bytes, zipped: bool = True) -> list[bytes]:
    """The answers to messages, sent as they are. Raises grpc.RpcError."""
    compression = grpc.Compression.Gzip if zipped else None
    rpc = replica.channel.stream_stream(path)
    return list(rpc(iter(requests), timeout=DEADLINE_S, compression=compression))


def refusal(replica: Any, path: str, *requests: bytes) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        send(replica, path, *requests)
    return caught.value.code(), caught.value.details() or ""


def path_of(method: Any) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def test_nothing_of_a_strangers_is_read(workshop: Any, keys: Any, read: list[Any]) -> None:
    replica = workshop.start(access__keys_file=str(keys[0]))
    for method in METHODS:
        code, _ = refusal(replica, path_of(method), b"\x0a\x00" * (HUGE // 2) + b"\xff")
        assert code == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as caught:  # as a stub calls it
            replica.channel.unary_unary(path_of(method))(bytes(HUGE), timeout=DEADLINE_S)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert not read and replica.server.recordings.taken == 0


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_huge_message_is_refused_off_the_event_loop(shared: Any, read: list[Any], pcm: bytes, method: Any) -> None:
    floods = [b"\x0a\x00" * (HUGE // 2), b"\xff" * HUGE, b"\x7a\x00" * (HUGE // 2)]
    for flood in floods:
        assert refusal(shared, path_of(method), flood)[0] in (INVALID, TOO_MUCH)
    assert [size < SMALL_BYTES * 4 for size, _ in read] == [True] * len(floods)  # as they came, compressed
    assert shared.thread not in [thread for _, thread in read]
    assert shared.finals(pcm[:32_000])


def test_a_streams_later_messages_are_bounded_too(shared: Any, read: list[Any]) -> None:
    config = CONFIG.SerializeToString()
    long = pb.StreamingRecognizeRequest(audio=bytes(HUGE)).SerializeToString()
    for flood in (bytes(HUGE), b"\x12\x00" * (HUGE // 2), long):
        code, details = refusal(shared, STREAM, config, flood)
        assert code == TOO_MUCH and "limits.request_bytes" in details
    until(lambda: not shared.server.streams.running)


def test_a_huge_id_is_refused(shared: Any) -> None:
    request = context_pb2.DeleteDialogueRequest(dialogue_id="d" * 1_000_000)
    for name in ("DeleteDialogue", "GetContextStatus", "GetContextEmbedding"):
        code, details = refusal(shared, f"/carryover.v1.Context/{name}", request.SerializeToString())
        assert code == INVALID and "dialogue_id: is longer than 256 bytes" in details


def test_compressed_requests_are_served(shared: Any, pcm: bytes, dialogue: str) -> None:
    config = pb.RecognitionConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
    request = pb.RecognizeRequest(config=config, audio=pcm)
    expected = shared.recognizer.Recognize(request, timeout=DEADLINE_S)
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert shared.recognizer.Recognize(request, timeout=DEADLINE_S, compression=compression) == expected
    events = [context_pb2.Event(event_id="e", speak=context_pb2.Speak())] * 33
    many = context_pb2.RecordEventsRequest(dialogue_id=dialogue, turn_id="1", events=events)
    code, details = refusal(shared, "/carryover.v1.Context/RecordEvents", many.SerializeToString())
    assert code == TOO_MUCH and "more than 32 in one call" in details


def test_health_and_reflection_take_small_messages_only(shared: Any, read: list[Any]) -> None:
    big = b"\x0a\x80\x80\x01" + b"x" * 16_384
    for path in (f"{HEALTH}/Check", f"{HEALTH}/Watch", REFLECTION):
        for data in (big, b"\x0a\x00" * (HUGE // 2)):
            code, details = refusal(shared, path, data)
            assert code == INVALID and "larger than 4096 bytes" in details
    assert send(shared, f"{HEALTH}/Check", b"")
    services = send(shared, REFLECTION, b"\x3a\x00", b"\x3a\x00")  # list_services
    assert len(services) == 2 and b"carryover.v1.Recognizer" in services[0]


def test_watchers_without_end_leave_the_rest_alone(workshop: Any, pcm: bytes) -> None:
    replica = workshop.start(limits__public_calls=2)
    watch = replica.channel.unary_stream(f"{HEALTH}/Watch")
    watchers = [watch(b"", timeout=DEADLINE_S) for _ in range(2)]
    assert all(next(watcher) for watcher in watchers)
    code, details = refusal(replica, f"{HEALTH}/Check", b"")
    assert code == TOO_MUCH and "limits.public_calls" in details
    assert replica.finals(pcm[:32_000])
    for watcher in watchers:
        watcher.cancel()
    until(lambda: not replica.server.guard.public_calls)
    assert send(replica, f"{HEALTH}/Check", b"")


@pytest.mark.parametrize("path", ["x", "/x", "/a/b/c", "//", f"{RECOGNIZE}/", "/carryover.v1.Recognizer"])
def test_a_path_that_is_no_method(shared: Any, path: str) -> None:
    with Raw(shared.port) as raw:
        raw.connection.send(call(1, path), message(1, b"", last=True))
        assert raw.status(1) == grpc.StatusCode.UNIMPLEMENTED.value[0]


class Raw:
    """A client by hand, that keeps to flow control and answers pings."""

    def __init__(self, port: int) -> None:
        self.connection = Connection(port)
        self.room = {0: 65_535, 1: 65_535}
        self.goaway: bytes | None = None

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def next(self) -> tuple[int, int, int, bytes]:
        """The next frame that is not about the connection itself."""
        while True:
            kind, flags, stream, payload = self.connection.receive()
            if kind == 8:
                self.room[stream] = self.room.get(stream, 65_535) + struct.unpack(">I", payload)[0]
            if kind == PING and not flags:
                self.connection.send(frame(PING, 1, 0, payload))
            if kind == GOAWAY:
                self.goaway = payload
            if kind in (DATA, HEADERS, RST_STREAM, GOAWAY) or (kind == PING and flags) or kind == 8:
                return kind, flags, stream, payload

    def status(self, stream: int) -> int:
        """The status that ends a call."""
        while True:
            kind, flags, of, payload = self.next()
            if of == stream and kind == HEADERS and flags & 1:
                return int(payload.split(b"grpc-status")[1][1:].split(b"\x00")[0].split(b"\x40")[0].decode()[:2])
            assert kind != RST_STREAM or of != stream, payload

    def flood(self, data: bytes) -> Iterator[None]:
        """Sends messages of call 1 as fast as flow control lets it, until its status is there."""
        piece = message(1, data)
        while True:
            while min(self.room[0], self.room[1]) > 64 * len(piece):
                self.connection.send(*[piece] * 64)
                for stream in (0, 1):
                    self.room[stream] -= 64 * (len(piece) - 9)
                yield
            kind, flags, stream, payload = self.next()
            if stream == 1 and kind == HEADERS and flags & 1:
                self.ended = payload
                return


@pytest.mark.parametrize("audio", [b"", bytes(2)])
def test_a_flood_of_tiny_messages_ends_at_the_deadline(shared: Any, audio: bytes) -> None:
    """The client does not watch its own deadline: the server does."""
    with Raw(shared.port) as raw:
        raw.connection.send(call(1, STREAM, grpc_timeout="800m"), message(1, CONFIG.SerializeToString()))
        raw.room = {0: 65_000, 1: 65_000}
        for _ in raw.flood(pb.StreamingRecognizeRequest(audio=audio).SerializeToString()):
            pass
        assert b"Deadline" in raw.ended
    until(lambda: not shared.server.streams.running)


@pytest.mark.parametrize("audio", [b"", bytes(320)])
def test_a_stream_ends_when_its_key_is_taken_back(workshop: Any, keys: Any, audio: bytes) -> None:
    file, key = keys
    replica = workshop.start(access__keys_file=str(file))
    running, done = threading.Event(), threading.Event()

    def messages() -> Iterator[pb.StreamingRecognizeRequest]:
        yield CONFIG
        running.set()
        while not done.wait(0.001):
            yield pb.StreamingRecognizeRequest(audio=audio)

    stream = replica.with_key(key).recognizer.StreamingRecognize(messages(), timeout=DEADLINE_S)
    assert running.wait(DEADLINE_S)
    until(lambda: replica.server.streams.running == 1)
    _, other = make_key("umbra")
    file.write_text(other)
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    done.set()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    until(lambda: not replica.server.streams.running)


def test_calls_that_are_left_at_once_cancel_nobody_elses(shared: Any) -> None:
    """Thousands of calls opened and reset on one connection: no other call is lost, and none of them stays."""
    with Raw(shared.port) as raw:
        opened = 0
        for _ in range(8):
            raw.connection.send(*[call(i, STREAM) + reset(i) for i in range(2 * opened + 1, 2 * opened + 401, 2)])
            opened += 200
            info = shared.recognizer.GetServerInfo(pb.GetServerInfoRequest(), timeout=DEADLINE_S)
            assert info.version
    until(lambda: not shared.server.streams.running)


def test_calls_of_one_connection_are_bounded(workshop: Any) -> None:
    """The bound is told in the connection's settings; who goes beyond it is refused, and others are not."""
    replica = workshop.start(limits__connection_calls=4)
    with Raw(replica.port) as raw:
        raw.connection.send(*[call(i, STREAM) for i in range(1, 2 * 64, 2)])
        refused = [raw.next() for _ in range(3)]
        assert any(kind in (RST_STREAM, GOAWAY) for kind, *_ in refused)
        assert replica.recognizer.GetServerInfo(pb.GetServerInfoRequest(), timeout=DEADLINE_S).version
        assert replica.server.streams.running <= 4


def test_an_idle_connection_may_be_asked_whether_it_lives(shared: Any) -> None:
    """Pings without a call are no reason for GOAWAY, as long as they come no faster than the server says it allows."""
    options = dict(shared.server.options)
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert options["grpc.http2.min_ping_interval_without_data_ms"] <= 10_000
    with Raw(shared.port) as raw:
        for number in range(2):  # two early ones are forgiven, without the permission as with it
            raw.connection.send(frame(PING, 0, 0, bytes(7) + bytes([number])))
            while (answer := raw.next())[0] != PING:
                assert answer[0] != GOAWAY
            assert answer[3][-1] == number


def test_recordings_wait_for_room(workshop: Any, pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than fit are not taken off the wire; all are answered in the end."""
    replica = workshop.start(limits__recording_megabytes=1)  # one at a time then
    config = pb.RecognitionConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
    request = pb.RecognizeRequest(config=config, audio=pcm[:64_000])
    go_on, advance = threading.Event(), replica.server.scheduler.recognizer.advance

    def held_up(streams: Any) -> Any:
        assert go_on.wait(DEADLINE_S)
        return advance(streams)

    monkeypatch.setattr(replica.server.scheduler.recognizer, "advance", held_up)
    calls = [replica.recognizer.Recognize.future(request, timeout=DEADLINE_S) for _ in range(4)]
    until(lambda: replica.server.recordings.waiting == 3)
    go_on.set()
    results = [call.result().results for call in calls]
    assert all(result == results[0] for result in results)
    assert replica.server.recordings.taken == 0


def test_a_call_without_its_message_ends(workshop: Any) -> None:
    replica = workshop.start(limits__idle_seconds=0.5)
    with Raw(replica.port) as raw:
        raw.connection.send(call(1, RECOGNIZE))
        assert raw.status(1) == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        raw.connection.send(call(3, RECOGNIZE), frame(DATA, 1, 3))
        assert raw.status(3) == INVALID.value[0]
    until(lambda: not replica.server.streams.running)
    assert replica.server.recordings.taken == 0


def test_calls_of_everybody_are_bounded(workshop: Any, keys: Any) -> None:
    replica = workshop.start(access__keys_file=str(keys[0]), limits__calls=3)
    watch = replica.channel.unary_stream(f"{HEALTH}/Watch")
    watchers = [watch(b"", timeout=DEADLINE_S) for _ in range(3)]
    assert all(next(watcher) for watcher in watchers)
    assert refusal(replica, RECOGNIZE, gzip.compress(b""))[0] == TOO_MUCH
    for watcher in watchers:
        watcher.cancel()
