"""What services know and what was said, as requests have it: entries of a signal, and whole contexts."""

from __future__ import annotations

from asr.context.types import MAX_ALIASES, WEIGHTS, Context, Entry, Turn
from carryover.v1 import inline_context_pb2 as pb
from server.codec.fields import check_phrase, check_text, has_control
from server.errors import InvalidRequestError, LimitError
from server.settings import Limits

MAX_SIGNAL_CHARACTERS = 64
MAX_ENTRY_ID_CHARACTERS = 256
_SPEAKERS = {pb.ContextTurn.USER: "user", pb.ContextTurn.SYSTEM: "system"}


def inline_context_of(inline: pb.InlineContext, limits: Limits, field: str = "context") -> Context:
    """The context that comes with a request, in its field of this name. Raises InvalidRequestError, LimitError."""
    _check_count(field, "turns", len(inline.turns), limits.turns)
    entries_or_lists = max(len(inline.entities), sum(map(count_entries, inline.entities)))
    _check_count(field, "entries", entries_or_lists, limits.entries)
    turns = []
    for i, turn in enumerate(inline.turns):
        if turn.speaker not in _SPEAKERS:
            raise InvalidRequestError(f"{field}.turns[{i}].speaker", "set USER or SYSTEM")
        text = check_text(f"{field}.turns[{i}].text", turn.text, limits)
        turns.append(Turn("user" if turn.speaker == pb.ContextTurn.USER else "system", text))
    entries = [
        entry
        for i, entities in enumerate(inline.entities)
        for entry in entries_of(entities, f"{field}.entities[{i}]", limits)
    ]
    return Context(tuple(turns), tuple(entries))


def _check_count(field: str, limit: str, count: int, most: int) -> None:
    if count > most:
        raise LimitError(limit, f"{field}: {count} {limit}; send at most {most}")


def count_entries(entities: pb.Entities) -> int:
    """A signal's entries and their aliases."""
    return len(entities.entries) + len(entities.items) + sum(len(item.aliases) for item in entities.items)


def entries_of(entities: pb.Entities, field: str, limits: Limits) -> list[Entry]:
    """A signal's entries. Raises InvalidRequestError, LimitError."""
    signal = entities.signal
    if not signal.strip() or len(signal) > MAX_SIGNAL_CHARACTERS or has_control(signal):
        advice = f"name it in at most {MAX_SIGNAL_CHARACTERS} characters without control characters"
        raise InvalidRequestError(f"{field}.signal", f"{advice}: contacts, devices, ...")
    return [
        *(
            Entry(signal, check_phrase(f"{field}.entries[{i}]", text, limits))
            for i, text in enumerate(entities.entries)
        ),
        *(_entry(signal, item, f"{field}.items[{i}]", limits) for i, item in enumerate(entities.items)),
    ]


def _entry(signal: str, item: pb.Entry, field: str, limits: Limits) -> Entry:
    if len(item.id) > MAX_ENTRY_ID_CHARACTERS:
        advice = f"is longer than {MAX_ENTRY_ID_CHARACTERS} characters; send a shorter one"
        raise InvalidRequestError(f"{field}.id", advice)
    if len(item.aliases) > MAX_ALIASES:
        raise InvalidRequestError(f"{field}.aliases", f"{len(item.aliases)} of them; send at most {MAX_ALIASES}")
    least, most = WEIGHTS
    if item.HasField("weight") and not least <= round(item.weight, 6) <= most:
        raise InvalidRequestError(f"{field}.weight", f"send a factor from {least:g} to {most:g}, or leave it unset")
    aliases = tuple(check_phrase(f"{field}.aliases[{i}]", alias, limits) for i, alias in enumerate(item.aliases))
    text = check_phrase(f"{field}.text", item.text, limits)
    return Entry(signal, text, item.id, aliases, item.weight if item.HasField("weight") else 1.0)
