"""Messages are bounded in bytes and in fields before they are parsed, and one that does not parse names the field."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any, cast

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from carryover.v1 import context_pb2, recognizer_pb2
from carryover.v1.recognizer_pb2 import RecognizeRequest
from context_store import TooLargeError
from server.codec.bounds import bounds
from server.codec.wire import SMALL_BYTES, Bounds, Reader, invalid_utf8_field, is_compressed
from server.errors import InvalidRequestError, LimitError
from server.settings import Limits

REQUEST = context_pb2.RecordEventsRequest
DESCRIPTOR = cast(Descriptor, REQUEST.DESCRIPTOR)
STREAM = recognizer_pb2.StreamingRecognizeRequest
MANY = 1 << 19

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def reader(kind: type[Message] = REQUEST, method: str = "RecordEvents", **limits: int) -> Reader:
    return Reader(cast(Descriptor, kind.DESCRIPTOR), bounds(method, Limits(**limits)))


class Unparsed(Reader):
    """Fails where protobuf would be given the message."""

    def __init__(self, kind: type[Message], method: str) -> None:
        super().__init__(cast(Descriptor, kind.DESCRIPTOR), bounds(method, Limits()))
        self._class: Any = None


def inside(*numbers: int, body: bytes) -> bytes:
    """A message's bytes inside fields of these numbers, the outermost first."""
    for number in reversed(numbers):
        length, size = b"", len(body)
        while size >= 128:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        body = bytes([number << 3 | 2]) + length + bytes([size]) + body
    return body


compressions = st.sampled_from([bytes, gzip.compress, zlib.compress])


@given(texts, texts, st.lists(st.tuples(texts, texts), max_size=3), compressions)
def test_a_message_that_parses_is_itself(
    dialogue: str, turn: str, events: list[tuple[str, str]], compress: Any
) -> None:
    message = REQUEST(
        dialogue_id=dialogue, turn_id=turn,
        events=[context_pb2.Event(event_id=i, reply=context_pb2.Reply(text=text)) for i, text in events],
    )  # fmt: skip
    data = message.SerializeToString()
    assert not is_compressed(data)
    assert reader().read(compress(data)) == message
    assert invalid_utf8_field(DESCRIPTOR, data) is None


@pytest.mark.parametrize("padding", [0, 2 * SMALL_BYTES])
def test_the_field_that_is_not_utf8_is_named(padding: int) -> None:
    event = context_pb2.Event(event_id="e", entities=context_pb2.Entities(signal="places", entries=["a", "BAD"]))
    event.time.seconds = 10**9
    message = REQUEST(dialogue_id="d", turn_id="t" * padding, events=[event])
    data = message.SerializeToString().replace(b"BAD", b"\xff\xfe\xfd")
    with pytest.raises(InvalidRequestError, match="^events.entities.entries: is not valid UTF-8"):
        reader().read(data)


@given(st.binary(max_size=60), st.booleans())
def test_bytes_are_a_message_or_an_error_of_the_request(data: bytes, long: bool) -> None:
    for kind, method in ((REQUEST, "RecordEvents"), (STREAM, "StreamingRecognize")):
        with suppress(InvalidRequestError, LimitError, TooLargeError):
            assert isinstance(reader(kind, method).read(data + data[:1] * (2 * SMALL_BYTES * long)), kind)


@pytest.mark.parametrize(
    ("method", "kind", "data", "error", "named"),
    [
        ("RecordEvents", REQUEST, b"\x1a\x00" * MANY, TooLargeError, "more than 32 in one call"),
        ("RecordEvents", REQUEST, inside(3, 5, body=b"\x12\x00" * MANY), LimitError, "limits.entries"),
        ("RecordEvents", REQUEST, inside(3, 5, body=b"\x1a\x00" * MANY), LimitError, "limits.entries"),
        ("RecordEvents", REQUEST, b"\x0a\x00" * MANY, InvalidRequestError, "more than 1000 fields"),
        ("RecordEvents", REQUEST, inside(3, body=b"\x0a\x00" * MANY), InvalidRequestError, "more than 1000 fields"),
        ("RecordEvents", REQUEST, inside(3, 2, body=b"\x08\x00" * MANY), InvalidRequestError, "more than 1000 fields"),
        ("RecordEvents", REQUEST, b"\x58\x01" * MANY, InvalidRequestError, "more than 1000 fields"),
        ("RecordEvents", REQUEST, inside(3, body=b"\x5a\x00" * MANY), InvalidRequestError, "more than 1000 fields"),
        ("RecordEvents", REQUEST, b"\x5b" * MANY + b"\x5c" * MANY, InvalidRequestError, "does not parse"),
        ("RecordEvents", REQUEST, b"\x0a\x00" * 500 + b"\xff" * MANY, InvalidRequestError, "does not parse"),
        ("Rescore", context_pb2.RescoreRequest, b"\x0a\x00" * MANY, LimitError, "limits.nbest"),
        ("Rescore", context_pb2.RescoreRequest, inside(3, body=b"\x0a\x00" * MANY), LimitError, "limits.turns"),
        ("Rescore", context_pb2.RescoreRequest, inside(3, body=b"\x12\x00" * MANY), LimitError, "limits.entries"),
        ("Rescore", context_pb2.RescoreRequest, inside(3, 2, body=b"\x12\x00" * MANY), LimitError, "limits.entries"),
        ("Rescore", context_pb2.RescoreRequest, inside(3, 2, body=b"\x1a\x00" * MANY), LimitError, "limits.entries"),
        ("StreamingRecognize", STREAM, inside(1, body=b"\x3a\x00" * MANY), LimitError, "limits.phrases"),
        ("StreamingRecognize", STREAM, inside(1, 7, body=b"\x0a\x00" * MANY), LimitError, "limits.phrases"),
        ("StreamingRecognize", STREAM, b"\x0a\x00" * MANY, InvalidRequestError, "more than 1000 fields"),
        ("StreamingRecognize", STREAM, b"\x12\x00" * MANY, InvalidRequestError, "more than 1000 fields"),
        ("Recognize", RecognizeRequest, inside(1, body=b"\x2a\x00" * MANY), LimitError, "limits.phrases"),
        ("Recognize", RecognizeRequest, inside(1, 5, body=b"\x0a\x00" * MANY), LimitError, "limits.phrases"),
        ("GetContextStatus", context_pb2.GetContextStatusRequest, b"\x12\x00" * MANY, InvalidRequestError, "1000"),
    ],
)  # fmt: skip
def test_what_holds_too_much_is_never_parsed(
    method: str, kind: type[Message], data: bytes, error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        Unparsed(kind, method).read(data)


def test_nothing_is_inflated_beyond_its_bound() -> None:
    few = Reader(DESCRIPTOR, Bounds("request_bytes", 1 << 16))
    for compress in (gzip.compress, zlib.compress):
        data = compress(bytes(32 << 20))
        tracemalloc.start()
        with pytest.raises(LimitError, match=r"larger than 65536 bytes .* limits.request_bytes"):
            few.read(data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 20


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:12] + b"\xff\xff" + d[14:], lambda d: d[:2]])
def test_damaged_compression_is_the_requests_error(damage: Any) -> None:
    data = gzip.compress(REQUEST(dialogue_id="d" * 100, turn_id="t").SerializeToString())
    with pytest.raises(InvalidRequestError, match="does not parse"):
        reader().read(damage(data))


def test_the_largest_requests_that_the_limits_allow_are_read() -> None:
    limits = Limits()
    entities = context_pb2.Entities(signal="contacts", entries=["a" * limits.phrase_characters] * limits.entries)
    events = [context_pb2.Event(event_id=f"e{i}", entities=entities) for i in range(32)]
    assert len(reader().read(REQUEST(events=events).SerializeToString()).events) == 32
    contexts = [recognizer_pb2.SpeechContext(phrases=["a" * limits.phrase_characters], boost=1)] * limits.phrases
    stream = STREAM(config=recognizer_pb2.StreamingConfig(speech_contexts=contexts))
    assert reader(STREAM, "StreamingRecognize").read(stream.SerializeToString()) == stream
    audio = STREAM(audio=bytes(limits.audio_bytes))
    assert reader(STREAM, "StreamingRecognize").read(audio.SerializeToString()) == audio
