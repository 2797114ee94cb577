"""Which names, texts and sizes can be stored.

DynamoDB limits a partition key to 2048 bytes, a sort key to 1024 and an item to 400 KB.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

from context_store.errors import InvalidEventError, TooLargeError
from context_store.types import Entities, Event, Reply, Utterance

MAX_NAME_BYTES = 256
MAX_MODEL_VERSION_BYTES = 128
MAX_EVENTS_PER_CALL = 32
MAX_PAYLOAD_BYTES = 380_000  # of 409,600 in an item: keys, attribute names and the seal take the rest
MAX_TIME_S = 1e11
MAX_VERSION = 999_999

_FORBIDDEN_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")


def check_turn(turn: str) -> str:
    """The turn's id. Raises InvalidEventError."""
    return check_name("turn_id", turn)


def check_name(field: str, name: str, limit: int = MAX_NAME_BYTES) -> str:
    """The name itself when it can be part of a key. Raises InvalidEventError."""
    if not isinstance(name, str) or not name:
        raise InvalidEventError(field, "is empty; give a non-empty string")
    for character in name:
        if character == "#" or unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            raise InvalidEventError(field, "remove '#', control characters, line separators and lone surrogates")
    if len(name.encode()) > limit:
        raise InvalidEventError(field, f"is longer than {limit} bytes of UTF-8; shorten it")
    return name


def check_events(events: Sequence[Event]) -> None:
    """Raises InvalidEventError or TooLargeError unless all events of one call can be stored."""
    if not events:
        raise InvalidEventError("events", "is empty; give at least one event")
    if len(events) > MAX_EVENTS_PER_CALL:
        raise TooLargeError("events", f"more than {MAX_EVENTS_PER_CALL} in one call; split them over several calls")
    for event in events:
        check_name("event_id", event.event_id)
        _check_time(event.time_s)
        _check_texts(event)


def _check_time(time_s: float) -> None:
    if isinstance(time_s, bool) or not isinstance(time_s, (int, float)) or not math.isfinite(time_s):
        raise InvalidEventError("time", "give a finite number of seconds since 1970")
    if not 0 <= time_s < MAX_TIME_S:
        raise InvalidEventError("time", "out of range; give seconds since 1970, not milliseconds")


def _check_texts(event: Event) -> None:
    body = event.body
    if isinstance(body, (Utterance, Reply)):
        _check_text("text", body.text)
    elif isinstance(body, Entities):
        _check_text("signal", body.signal)
        if not body.signal:
            raise InvalidEventError("signal", "is empty; name it: contacts, devices, places, or a name of your own")
        for entry in body.entries:
            _check_text("entries", entry)
        if body.ids and len(body.ids) != len(body.entries):
            raise InvalidEventError("ids", "give one for each entry, or none at all")
        for entry_id in body.ids:
            _check_text("ids", entry_id)
        if body.aliases and len(body.aliases) != len(body.entries):
            raise InvalidEventError("aliases", "give those of each entry, or none at all")
        for alias in (alias for aliases in body.aliases for alias in aliases):
            _check_text("aliases", alias)
        if body.weights and len(body.weights) != len(body.entries):
            raise InvalidEventError("weights", "give one for each entry, or none at all")
        if not all(isinstance(weight, float) and 0 < weight < math.inf for weight in body.weights):
            raise InvalidEventError("weights", "give positive finite numbers")


def _check_text(field: str, text: str) -> None:
    if not isinstance(text, str):
        raise InvalidEventError(field, "give a string")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidEventError(field, "is not valid Unicode (a lone surrogate); send valid UTF-8")
