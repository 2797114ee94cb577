"""Which turns of a dialogue are the newest: named in the dialogue's own item, so that a long one costs no more to read.

A turn's id says nothing of its time, so the turns of a dialogue do not lie in their order. Whoever renews the
dialogue's key adds the turn's pointer, "time turn", to a set in the same item, in the same request. The pointers are
enough to find the newest turns; their order is that of their events.
"""

from __future__ import annotations

from collections.abc import Iterable

KEPT = 64
"""Turns that can be found by their pointers; as many as the server ever reads."""
_MOST = 96
"""Pointers past this many are reduced to KEPT."""


def pointer(start_s: float, turn: str) -> str:
    """start_s: time of the turn's earliest event; pointers sort by it."""
    return f"{start_s:018.6f} {turn}"


def newest(pointers: Iterable[str], most: int) -> list[str]:
    """At most so many turns, newest first, each once."""
    turns = (entry.partition(" ")[2] for entry in sorted(pointers, reverse=True))
    return list(dict.fromkeys(filter(None, turns)))[:most]


def surplus(pointers: Iterable[str]) -> list[str]:
    """The pointers to take away, if there are too many."""
    ordered = sorted(pointers, reverse=True)
    return ordered[KEPT:] if len(ordered) > _MOST else []
