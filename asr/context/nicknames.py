"""What people with some given name are called: Bill for William. From carltonnorthern/nicknames (Apache-2.0), cut to
what is frequent."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def _table() -> dict[str, tuple[str, ...]]:
    lines = Path(__file__).with_suffix(".tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split("\t") for line in lines)
    return {given: tuple(nicknames.split()) for given, nicknames in rows}


def nicknames_of(given: str) -> tuple[str, ...]:
    """Normalised, the most frequent first; none for what is no given name.

    >>> nicknames_of("derek")
    ('ricky', 'rick')
    """
    return _table().get(given, ())
