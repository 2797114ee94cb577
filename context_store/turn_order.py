"""Where the turns of a dialogue stand: their places come from a counter in the dialogue's own item, and from no clock.

    next              the place that the next turn gets
    t#TURN#EXPIRES    the place of the turn of that id which expires then
    turns             of an earlier version: a set of "TIME TURN" with the time of the turn's earliest event

A turn gets its place with its first text, or when it expects speech without one, and keeps it. The places also find the
newest turns of a long dialogue, of which a turn's id says nothing. Turns that an earlier version has recorded come
first, by their times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from context_store.errors import TamperedError

KEPT = 64
"""Newest turns that the item names; as many as the server ever reads."""
_MOST = 96
"""Turns past this many are reduced to KEPT."""
NEXT = "next"
"""Name of the attribute that counts."""
_PREFIX = "t#"


def place_name(turn: str, expires_at: int) -> str:
    """Name of the attribute that holds a turn's place. A turn id that is used again expires at another time."""
    return f"{_PREFIX}{turn}#{expires_at}"


@dataclass(frozen=True)
class TurnOrder:
    """What a dialogue's item says of the order of its turns."""

    places: Mapping[str, int] = field(default_factory=dict)
    """By the name of the attribute."""
    times: Mapping[str, float] = field(default_factory=dict)
    """By turn, of those recorded by an earlier version."""
    entries: tuple[str, ...] = ()
    """Those of the earlier version, as they stand there."""
    counts: bool = False
    """Whether turns get places; not in an item that an earlier version has made, until it is written again."""

    def place(self, turn: str, expires_at: int) -> int:
        """A turn's place, from 1; 0 without one."""
        return self.places.get(place_name(turn, expires_at), 0)

    def newest(self) -> list[str]:
        """All the turns that are named, newest first, each once."""
        return list(dict.fromkeys(turn for _, turn in self._sorted()))

    def surplus(self) -> tuple[list[str], list[str]]:
        """What is to be taken away if there is too much: names of attributes, and entries of the earlier version."""
        if len(self.places) + len(self.entries) <= _MOST:
            return [], []
        by_place = sorted(self.places, key=lambda name: self.places[name], reverse=True)
        room = max(0, KEPT - len(by_place))
        return by_place[KEPT:], sorted(self.entries, reverse=True)[room:]

    def _sorted(self) -> Iterator[tuple[float, str]]:
        placed = ((place, name.removeprefix(_PREFIX).rpartition("#")[0]) for name, place in self.places.items())
        yield from sorted(placed, reverse=True)
        yield from sorted(((time_s, turn) for turn, time_s in self.times.items()), reverse=True)


def order_in(item: Mapping[str, Any] | None) -> TurnOrder:
    """What a dialogue's item says of its turns. Raises TamperedError."""
    item = item or {}
    try:
        places = {name: int(value["N"]) for name, value in item.items() if name.startswith(_PREFIX)}
        entries = tuple(item["turns"]["SS"]) if "turns" in item else ()
        times: dict[str, float] = {}
        for time, _, turn in sorted(entry.partition(" ") for entry in entries):
            times.setdefault(turn, float(time))
    except (KeyError, TypeError, ValueError):
        raise TamperedError("a dialogue's item is malformed; this package did not write it") from None
    return TurnOrder(places, times, entries, NEXT in item)
