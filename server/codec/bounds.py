"""What a request of each method may hold, before it is parsed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from asr.audio import MAX_RATE
from context_store import TooLargeError
from context_store.validation import MAX_EVENTS_PER_CALL
from server.codec.wire import Bound, Bounds
from server.errors import LimitError
from server.settings import Limits

_PHRASES = ("config.speech_contexts", "config.speech_contexts.phrases")
_UPDATED_PHRASES = ("update.speech_contexts", "update.speech_contexts.phrases")
_AROUND_AUDIO_BYTES = 1024
_ROUGHLY = 2
"""Before a request is parsed, nobody counts further than to so many times a limit; afterwards the error can say how
many there are."""


def bounds(method: str, limits: Limits) -> Bounds:
    """The bounds of a method of `carryover.v1`."""
    if method == "Recognize":
        return recording_bounds(limits, _PHRASES, _inline_bounds("config.context", limits))
    if method == "StreamingRecognize":
        inline = _inline_bounds("config.context", limits) | _inline_bounds("update.context", limits)
        return stream_bounds(limits, (*_PHRASES, *_UPDATED_PHRASES), inline)
    return Bounds("request_bytes", limits.request_bytes, _context_bounds(method, limits))


def recording_bounds(limits: Limits, phrases: Iterable[str], others: Mapping[str, Bound] | None = None) -> Bounds:
    """The bounds of a request with a recording. Args as those of `stream_bounds`."""
    return Bounds("message_bytes", limits.message_bytes, {**_phrase_bounds(limits, phrases), **(others or {})})


def stream_bounds(limits: Limits, phrases: Iterable[str], others: Mapping[str, Bound] | None = None) -> Bounds:
    """The bounds of a stream's message.

    Args:
        phrases: the fields that lists of phrases are in, and the phrases.
        others: the bounds of other lists.
    """
    most = max(limits.request_bytes, limits.audio_bytes + _AROUND_AUDIO_BYTES)
    return Bounds("request_bytes", most, {**_phrase_bounds(limits, phrases), **(others or {})})


def plain_bounds(limits: Limits) -> Bounds:
    """The bounds of a request without lists and without audio."""
    return Bounds("request_bytes", limits.request_bytes)


def recording_memory(limits: Limits, *, translated: bool = False) -> int:
    """Bytes that a call with a recording may need.

    They are for what came over the wire and the request made of it, then for the request, its audio and the samples.

    Args:
        translated: another request is made of the first, with two more copies of the audio.
    """
    samples = int(limits.recording_seconds * MAX_RATE * 4)
    return max(2 * limits.message_bytes + samples, 4 * limits.message_bytes if translated else 0)


def _phrase_bounds(limits: Limits, phrases: Iterable[str]) -> dict[str, Bound]:
    return dict.fromkeys(phrases, _most("phrases", limits.phrases, "speech_contexts: {} phrases or lists"))


def _inline_bounds(field: str, limits: Limits) -> dict[str, Bound]:
    entities = _most("entries", limits.entries, f"{field}.entities: {{}} entries or lists")
    return {
        f"{field}.turns": _most("turns", limits.turns, f"{field}: {{}} turns"),
        f"{field}.entities": entities,
        f"{field}.entities.entries": entities,
        f"{field}.entities.items": entities,
        f"{field}.entities.items.aliases": entities,
    }


def _context_bounds(method: str, limits: Limits) -> dict[str, Bound]:
    if method == "RecordEvents":
        entries = _most("entries", MAX_EVENTS_PER_CALL * limits.entries, "events: {} entries")
        return {
            "events": (_ROUGHLY * MAX_EVENTS_PER_CALL, _too_many_events),
            "events.entities.entries": entries,
            "events.entities.items": entries,
            "events.entities.items.aliases": entries,
        }
    if method == "Rescore":
        return {"nbest": _most("nbest", limits.nbest, "nbest: {} entries"), **_inline_bounds("context", limits)}
    return {}


def _most(limit: str, most: int, counted: str) -> Bound:
    advice = f"{counted.format(f'more than {_ROUGHLY * most}')}; send at most {most}"
    return _ROUGHLY * most, partial(LimitError, limit, advice)


def _too_many_events() -> TooLargeError:
    return TooLargeError("events", f"more than {MAX_EVENTS_PER_CALL} in one call; split them over several calls")
