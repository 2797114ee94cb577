"""Messages that do not parse become values that name the field."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carryover.v1 import context_pb2, recognizer_pb2
from server.wire import Malformed, invalid_utf8_field, reader

REQUEST = context_pb2.RecordEventsRequest
read = reader(REQUEST.FromString, REQUEST.DESCRIPTOR)

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(texts, texts, st.lists(st.tuples(texts, texts), max_size=3))
def test_a_message_that_parses_is_itself(dialogue: str, turn: str, events: list[tuple[str, str]]) -> None:
    message = REQUEST(
        dialogue_id=dialogue, turn_id=turn,
        events=[context_pb2.Event(event_id=i, reply=context_pb2.Reply(text=text)) for i, text in events],
    )  # fmt: skip
    data = message.SerializeToString()
    assert read(data) == message
    assert invalid_utf8_field(REQUEST.DESCRIPTOR, data) is None


def test_the_field_that_is_not_utf8_is_named() -> None:
    event = context_pb2.Event(event_id="e", entities=context_pb2.Entities(signal="places", entries=["a", "BAD"]))
    event.time.seconds = 10**9
    data = REQUEST(dialogue_id="d", turn_id="t", events=[event]).SerializeToString().replace(b"BAD", b"\xff\xfe\xfd")
    answer = read(data)
    assert isinstance(answer, Malformed)
    assert answer.field == "events.entities.entries"


@given(st.binary(max_size=60))
def test_no_bytes_raise(data: bytes) -> None:
    for kind in (REQUEST, recognizer_pb2.StreamingRecognizeRequest):
        answer = reader(kind.FromString, kind.DESCRIPTOR)(data)
        assert isinstance(answer, kind | Malformed)
