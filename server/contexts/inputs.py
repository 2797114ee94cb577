"""From stored turns to what the context encoder reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asr.context.types import Context, Entry, Turn
from context_store import Entities, Reply, StoredTurn, Utterance


def context_of(turns: Sequence[StoredTurn], last: str, max_entries: int) -> Context:
    """The context up to and with one turn.

    Args:
        turns: oldest first; those without texts contribute nothing.
        last: the id of the last turn to use.
        max_entries: entities at most, the newest turn's first; each (signal, text, id) counts once.
    """
    ids = [turn.turn for turn in turns]
    used = turns[: ids.index(last) + 1] if last in ids else turns
    said = tuple(spoken for turn in used for spoken in _spoken(turn))
    entries = dict.fromkeys(entry for turn in reversed(used) for entry in _entries(turn))
    return Context(turns=said, entries=tuple(entries)[:max_entries])


def _spoken(turn: StoredTurn) -> Iterable[Turn]:
    """Utterances and replies by their time; with equal times (one call, none given) the reply follows."""
    for event in sorted(turn.events, key=lambda event: (event.time_s, isinstance(event.body, Reply))):
        if isinstance(event.body, Utterance):
            yield Turn("user", event.body.text)
        elif isinstance(event.body, Reply):
            yield Turn("system", event.body.text)


def _entries(turn: StoredTurn) -> Iterable[Entry]:
    for event in turn.events:
        if isinstance(event.body, Entities):
            ids = event.body.ids or ("",) * len(event.body.entries)
            for text, entry_id in zip(event.body.entries, ids, strict=True):
                yield Entry(event.body.signal, text, entry_id)
