"""From the interface's events to the store's."""

from __future__ import annotations

from carryover.v1 import context_pb2 as pb
from context_store import Body, Entities, Event, ExpectSpeech, Reply, Speak, Transcribe, Utterance
from server.errors import InvalidRequestError, LimitError
from server.requests import check_id, is_control
from server.settings import Limits

MAX_SIGNAL_CHARACTERS = 64
MAX_ENTRY_ID_CHARACTERS = 256
_TIMES = range(100_000_000_000)  # seconds since 1970; what is later was meant as milliseconds


def event_of(event: pb.Event, field: str, now_s: float, limits: Limits) -> Event:
    """A checked event. field: where it stands in the request. now_s: its time where it has none.

    Raises InvalidRequestError, LimitError.
    """
    check_id(f"{field}.event_id", event.event_id)
    if event.time.seconds not in _TIMES or event.time.nanos not in range(1_000_000_000):
        raise InvalidRequestError(
            f"{field}.time", "send seconds since 1970 and nanos from 0 to 999,999,999, or nothing"
        )
    time_s = event.time.seconds + event.time.nanos / 1e9 if event.HasField("time") else now_s
    return Event(event.event_id, time_s, _body(event, field, limits))


def check_signal(field: str, signal: str) -> str:
    """A signal's name. Raises InvalidRequestError."""
    if not signal.strip() or len(signal) > MAX_SIGNAL_CHARACTERS or any(map(is_control, signal)):
        advice = (
            f"name it in at most {MAX_SIGNAL_CHARACTERS} characters without control characters: contacts, devices, ..."
        )
        raise InvalidRequestError(field, advice)
    return signal


def check_entry_id(field: str, entry_id: str) -> str:
    """An entry's id, "": it has none. Raises InvalidRequestError."""
    if len(entry_id) > MAX_ENTRY_ID_CHARACTERS:
        raise InvalidRequestError(field, f"is longer than {MAX_ENTRY_ID_CHARACTERS} characters; send a shorter one")
    return entry_id


def _body(event: pb.Event, field: str, limits: Limits) -> Body:
    kind = event.WhichOneof("event")
    if kind == "utterance":
        return Utterance(_text(event.utterance.text, f"{field}.utterance.text", limits))
    if kind == "reply":
        return Reply(_text(event.reply.text, f"{field}.reply.text", limits))
    if kind == "entities":
        return _entities(event.entities, f"{field}.entities", limits)
    if kind == "transcribe":
        return Transcribe()
    if kind == "speak":
        return Speak()
    if kind == "expect_speech":
        return ExpectSpeech()
    kinds = "utterance, reply, entities, transcribe, speak, expect_speech"
    raise InvalidRequestError(f"{field}.event", f"set one of {kinds}")


def _text(text: str, field: str, limits: Limits) -> str:
    if not text.strip():
        raise InvalidRequestError(field, "is empty; send the text or leave the event out")
    if len(text) > limits.text_characters:
        raise LimitError("text_characters", f"{field}: {len(text)} characters; send at most {limits.text_characters}")
    return text


def _entities(entities: pb.Entities, field: str, limits: Limits) -> Entities:
    check_signal(f"{field}.signal", entities.signal)
    count = len(entities.entries) + len(entities.items)
    if not count:
        raise InvalidRequestError(f"{field}.entries", "is empty; send at least one entry or leave the event out")
    if count > limits.entries:
        raise LimitError("entries", f"{field}: {count} entries; send at most {limits.entries}")
    texts = [(f"{field}.entries[{i}]", entry) for i, entry in enumerate(entities.entries)]
    texts += [(f"{field}.items[{i}].text", item.text) for i, item in enumerate(entities.items)]
    for name, text in texts:
        if len(text) > limits.phrase_characters:
            advice = f"{len(text)} characters; send at most {limits.phrase_characters}"
            raise LimitError("phrase_characters", f"{name}: {advice}")
    for i, item in enumerate(entities.items):
        check_entry_id(f"{field}.items[{i}].id", item.id)
    ids = (*[""] * len(entities.entries), *(item.id for item in entities.items))
    return Entities(entities.signal, tuple(text for _, text in texts), ids if any(ids) else ())
