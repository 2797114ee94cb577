"""Floods: what clients send that mean harm, or are broken. For servers of one's own, on this machine.

A flood is made of rounds, each bounded in count; `flooding` repeats them in a process of its own, for some seconds.
"""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import soundfile

from carryover.v1 import context_pb2 as ctx
from carryover.v1 import recognizer_pb2 as pb

DECODED_BYTES = 31 << 20
"""Of a message before compression: just below what a server takes unless it is told otherwise."""

_DEADLINE_S = 60.0
_LEAVE_S = 30.0
_MOST_ROUNDS = 1000
_RECOGNIZER, _CONTEXT = "/carryover.v1.Recognizer", "/carryover.v1.Context"
_REFUSED = frozenset({"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNAVAILABLE"})
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Target:
    """A server on this machine. key: of a tenant that floods; empty: the server takes no keys."""

    port: int
    key: str = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Flood:
    """One kind. make: what it sends, from the bytes that a large message has. once: sends it, bounded in count; returns
    how many calls ended with which status. statuses: those that a server in order ends them with."""

    name: str
    what: str
    make: Callable[[int], Any]
    once: Callable[[Target, Any], Coroutine[Any, Any, Counter[str]]]
    statuses: frozenset[str]


# What is sent


def _many(piece: bytes, size: int) -> bytes:
    return piece * (size // len(piece))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a message."""
    length, digits = len(content), bytearray()
    while length > 0x7F:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *digits, length]) + content


def _malformed(size: int) -> bytes:
    return _many(b"\x10\x00", size) + b"\x0f"  # numbers that no field takes, then a wire type that there is not


def _unknown_fields(size: int) -> bytes:
    return _many(b"\xa0\x06\x00", size)


def _empty_events(size: int) -> bytes:
    head = ctx.RecordEventsRequest(dialogue_id="flood", turn_id="1").SerializeToString()
    return head + _many(_field(3, b""), size)


def _inline_turns(size: int) -> bytes:
    head = ctx.RescoreRequest(nbest=[ctx.NBestEntry(text="bauer")]).SerializeToString()
    return head + _field(3, _many(_field(1, b""), size))


def _empty_phrases(size: int) -> bytes:
    head = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000).SerializeToString()
    return _field(1, head + _field(7, _many(_field(1, b""), size)))


def _digit_phrases(size: int) -> list[bytes]:
    """Eight requests, each with 5,000 phrases of its own."""
    rng = random.Random(1)
    return [
        pb.RecognizeRequest(
            config=pb.RecognitionConfig(
                encoding=pb.LINEAR16,
                sample_rate_hertz=16_000,
                speech_contexts=[pb.SpeechContext(phrases=[" ".join(rng.choices(_DIGITS, k=12)) for _ in range(5000)])],
            ),
            audio=bytes(3200),
        ).SerializeToString()
        for _ in range(8)
    ]


def _long_flac(size: int) -> bytes:
    """Silence in eight channels; an hour of it, in 1.4 MB, where a large message is large."""
    file, block = io.BytesIO(), np.zeros((1 << 20, 8), np.int16)
    with soundfile.SoundFile(file, "w", 16_000, 8, format="FLAC", subtype="PCM_16") as sound:
        for _ in range(max(1, 55 * size // DECODED_BYTES)):
            sound.write(block)
    return pb.RecognizeRequest(audio=file.getvalue()).SerializeToString()


# How it is sent


async def _calls(target: Target, method: str, messages: Sequence[bytes], *, key: bool = True) -> Counter[str]:
    """A unary call for each message, all at once, compressed."""
    metadata = _metadata(target) if key else ()
    async with grpc.aio.insecure_channel(target.address) as channel:
        call: Any = channel.unary_unary(method)
        compression = grpc.Compression.Gzip
        sent = [call(m, metadata=metadata, compression=compression, timeout=_DEADLINE_S) for m in messages]
        return Counter([await _status(one) for one in sent])


async def _streams(target: Target, messages: Sequence[bytes], *, count: int, at_once: int = 1) -> Counter[str]:
    """Streams that send the messages in turn, the last of them so often that it is `count` in all."""

    async def one(channel: grpc.aio.Channel) -> str:
        call: Any = channel.stream_stream(f"{_RECOGNIZER}/StreamingRecognize")(
            metadata=_metadata(target), compression=grpc.Compression.Gzip, timeout=_DEADLINE_S
        )
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it was refused meanwhile
            for number in range(count):
                await call.write(messages[min(number, len(messages) - 1)])
            await call.done_writing()
        return await _status(call)

    async with grpc.aio.insecure_channel(target.address) as channel:
        return Counter(await asyncio.gather(*(one(channel) for _ in range(at_once))))


async def _status(call: Any) -> str:
    return str((await call.code()).name)


def _metadata(target: Target) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {target.key}"),) if target.key else ()


async def _resets(target: Target, streams: int) -> Counter[str]:
    """Streams that are opened and reset at once, on one connection, without a key; no status comes back."""
    headers = b"\x83\x86" + b"".join(
        name + bytes([len(value)]) + value
        for name, value in (
            (b"\x04", f"{_RECOGNIZER}/StreamingRecognize".encode()),
            (b"\x01", b"localhost"),
            (b"\x00\x0ccontent-type", b"application/grpc"),
            (b"\x00\x02te", b"trailers"),
        )
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    reading = asyncio.create_task(reader.read(-1))  # what the server says is taken, and not listened to
    try:
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
        for number in range(streams):
            writer.write(_frame(1, 4, 2 * number + 1, headers) + _frame(3, 0, 2 * number + 1, b"\x00\x00\x00\x08"))
            await writer.drain()
        return Counter({"RESET": streams})
    except ConnectionError:
        return Counter({"CLOSED": 1})
    finally:
        writer.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content


async def _idle_connections(target: Target, connections: int) -> Counter[str]:
    """Connections that say nothing, half of them after HTTP/2's first words."""
    opened = []
    try:
        for number in range(connections):
            _, writer = await asyncio.open_connection("127.0.0.1", target.port)
            opened.append(writer)
            if number % 2:
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
        await asyncio.sleep(2.0)
        return Counter({"OPENED": connections})
    except ConnectionError:
        return Counter({"OPENED": len(opened), "CLOSED": 1})
    finally:
        for writer in opened:
            writer.close()


_CONFIG = pb.StreamingRecognizeRequest(
    config=pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000)
).SerializeToString()
_EMPTY_AUDIO = pb.StreamingRecognizeRequest(audio=b"").SerializeToString()

FLOODS = (
    Flood(
        "malformed", "a message that does not parse, without a key", _malformed,
        lambda target, sent: _calls(target, f"{_RECOGNIZER}/Recognize", [sent], key=False), _REFUSED,
    ),
    Flood(
        "malformed-4", "four of them at once", _malformed,
        lambda target, sent: _calls(target, f"{_RECOGNIZER}/Recognize", [sent] * 4, key=False), _REFUSED,
    ),
    Flood(
        "unknown-fields", "millions of fields that no message has", _unknown_fields,
        lambda target, sent: _calls(target, f"{_RECOGNIZER}/Recognize", [sent]), _REFUSED,
    ),
    Flood(
        "events", "RecordEvents with millions of empty events", _empty_events,
        lambda target, sent: _calls(target, f"{_CONTEXT}/RecordEvents", [sent]), _REFUSED,
    ),
    Flood(
        "events-4", "four of them at once, without a key", _empty_events,
        lambda target, sent: _calls(target, f"{_CONTEXT}/RecordEvents", [sent] * 4, key=False), _REFUSED,
    ),
    Flood(
        "turns", "Rescore with millions of inline turns", _inline_turns,
        lambda target, sent: _calls(target, f"{_CONTEXT}/Rescore", [sent]), _REFUSED,
    ),
    Flood(
        "turns-4", "four of them at once, without a key", _inline_turns,
        lambda target, sent: _calls(target, f"{_CONTEXT}/Rescore", [sent] * 4, key=False), _REFUSED,
    ),
    Flood(
        "empty-phrases", "a stream with millions of empty phrases", _empty_phrases,
        lambda target, sent: _streams(target, [sent], count=1), _REFUSED,
    ),
    Flood(
        "digit-phrases", "5,000 phrases of digits in each of eight calls at once", _digit_phrases,
        lambda target, sent: _calls(target, f"{_RECOGNIZER}/Recognize", sent), _REFUSED | {"OK"},
    ),
    Flood(
        "long-flac", "FLAC files of eight hours of sound, four at once", _long_flac,
        lambda target, sent: _calls(target, f"{_RECOGNIZER}/Recognize", [sent] * 4), _REFUSED,
    ),
    Flood(
        "empty-messages", "four streams of 1,000 messages without audio", lambda _: [_CONFIG, _EMPTY_AUDIO],
        lambda target, sent: _streams(target, sent, count=1_000, at_once=4), _REFUSED | {"OK"},
    ),
    Flood(
        "resets", "5,000 streams opened and reset at once on one connection, without a key", lambda _: 5_000,
        _resets, frozenset({"RESET", "CLOSED"}),
    ),
    Flood(
        "idle-connections", "500 connections that say nothing", lambda _: 500,
        _idle_connections, frozenset({"OPENED", "CLOSED"}),
    ),
)  # fmt: skip


# In a process of its own


@dataclass(frozen=True)
class Flooding:
    """A flood that has been prepared, in a process of its own, and waits for `run`."""

    process: Any
    pipe: Any

    async def run(self, seconds: float) -> Counter[str]:
        """Round after round for some seconds; what has begun is finished. "HUNG": it did not end."""
        self.pipe.send(seconds)
        ended = await asyncio.to_thread(self.pipe.poll, seconds + _DEADLINE_S + _LEAVE_S)
        return Counter(self.pipe.recv()) if ended else Counter({"HUNG": 1})


@contextmanager
def flooding(flood: Flood, target: Target) -> Iterator[Flooding]:
    """A process that floods, while inside: in this one it would be in the way of what is measured."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_flood, args=(FLOODS.index(flood), target, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield Flooding(process, ours)
    finally:
        process.kill()
        process.join()
        ours.close()


def _flood(number: int, target: Target, pipe: Any) -> None:
    with suppress(OSError):
        os.nice(10)  # an attacker has a machine of its own
    flood, ended = FLOODS[number], Counter[str]()
    sent = flood.make(DECODED_BYTES)
    pipe.send(None)
    ends_s = time.monotonic() + pipe.recv()
    for _ in range(_MOST_ROUNDS):
        ended += asyncio.run(flood.once(target, sent))
        if time.monotonic() >= ends_s:
            break
    pipe.send(dict(ended))
