"""Names that may be said: of things in a house and of a request, as phrases and entries for the server."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from carryover import Entry

USUAL_BOOST, RARE_BOOST = 5.0, 2.5
"""What a phrase adds to a hypothesis, nats; the first is the server's default."""

REQUESTED = "names"
"""Signal of the names that a request brings along."""

MOST_ENTRIES = 200
"""Entries of a context, the first tier first. Further names are phrases only."""

_MOST_ALIASES = 16
_RARE_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class Thing:
    """Something with names."""

    id: str
    """Of the entity, area or floor."""
    signal: str
    """devices, areas, floors, or REQUESTED."""
    names: tuple[str, ...]
    """The name, then its aliases; at least one."""
    usual: bool = True
    """The first tier: what commands usually name. False: the second."""


class Names:
    """All that may be named, those of the first tier first.

    Args:
        things: in any order; names without a letter or digit are left out, and things without names.
        most_characters: longer names are left out, as the server would refuse them.
    """

    def __init__(self, things: Iterable[Thing] = (), most_characters: int = 100) -> None:
        cleaned = (
            Thing(thing.id, thing.signal, tuple(_clean(thing.names, most_characters)), thing.usual) for thing in things
        )
        self.things = tuple(sorted((thing for thing in cleaned if thing.names), key=lambda thing: not thing.usual))

    def __len__(self) -> int:
        return sum(len(thing.names) for thing in self.things)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Names) and self.things == other.things

    def __hash__(self) -> int:
        return hash(self.things)

    def phrases(self, most: int) -> dict[str, float]:
        """Each name with its boost, nats. most: names at most."""
        phrases: dict[str, float] = {}
        for thing in self.things:
            for name in thing.names:
                phrases.setdefault(name, USUAL_BOOST if thing.usual else RARE_BOOST)
        return dict(list(phrases.items())[:most])

    def entities(self) -> dict[str, list[Entry]]:
        """Entries by signal, at most MOST_ENTRIES with their aliases."""
        entities: dict[str, list[Entry]] = {}
        left = MOST_ENTRIES
        for thing in self.things:
            name, *aliases = thing.names[: _MOST_ALIASES + 1]
            left -= 1 + len(aliases)
            if left < 0:
                break
            weight = 1.0 if thing.usual else _RARE_WEIGHT
            entities.setdefault(thing.signal, []).append(Entry(name, thing.id, aliases, weight))
        return entities


def request_names(names: object, terms: object) -> Iterator[Thing]:
    """Things of a request's `transcript_names` and `transcript_terms`, which come as lists of strings."""
    for texts, usual in ((names, True), (terms, False)):
        for text in texts if isinstance(texts, list) else ():
            if isinstance(text, str):
                yield Thing("", REQUESTED, (text,), usual)


def merged(*parts: Names) -> Names:
    """The names of all parts; a name that is in several counts as of the earliest. A request's stand before others."""
    known: set[str] = set()
    kept = []
    for thing in chain.from_iterable(part.things for part in parts):
        if thing.names[0].casefold() not in known:
            kept.append(thing)
            known.update(name.casefold() for name in thing.names)
    return Names(sorted(kept, key=lambda thing: thing.signal != REQUESTED), most_characters=1 << 30)


def _clean(names: Iterable[object], most_characters: int) -> Iterator[str]:
    """Names with single spaces, without control characters, each once."""
    known = set()
    for name in names:
        if not isinstance(name, str):
            continue
        visible = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in name)
        text = " ".join(visible.split())
        if any(c.isalnum() for c in text) and len(text) <= most_characters and text.casefold() not in known:
            known.add(text.casefold())
            yield text
