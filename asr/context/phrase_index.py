"""The context's phrases and their parts, findable by words and by sound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.context import phonetics
from asr.context.copying import PhrasePrefixes
from asr.context.types import Phrase

PART_KINDS = ("full", "last", "first", "other")
MAX_WORDS = 10
"""Words of a phrase that are matched; the rest of a longer one is ignored."""
_SHARES = {"full": 0.5, "last": 0.25, "first": 0.15, "other": 0.1}
"""How often a phrase is named by such a part, for the pointer; what people really do is the scorer's to learn."""
_ARTICLES = {"the", "a", "an"}
_TITLES = {
    "doctor", "dr", "mr", "mister", "mrs", "missus", "misses", "ms", "miss", "miz", "prof", "professor", "sgt",
    "sergeant", "capt", "captain", "sir", "madam", "father", "sister", "brother", "uncle", "aunt", "auntie", "rev",
    "reverend", "senator", "colonel", "lieutenant",
}  # fmt: skip
"""What stands before a name and names nobody alone."""
_SMALL = {
    "the", "a", "an", "of", "and", "in", "on", "to", "for", "at", "i", "is", "it", "you", "me", "my", "with", "will",
}  # fmt: skip


@cache
def _nicknames() -> dict[str, tuple[str, ...]]:
    """From carltonnorthern/nicknames (Apache-2.0), cut to what is frequent."""
    lines = (Path(__file__).parent / "nicknames.tsv").read_text(encoding="utf-8").splitlines()[1:]
    rows = (line.split("\t") for line in lines)
    return {given: tuple(nicknames.split()) for given, nicknames in rows}


def nicknames_of(given: str) -> tuple[str, ...]:
    """What people with a given name are called, normalised, the most frequent first; none for what is no given name.

    >>> nicknames_of("derek")
    ('ricky', 'rick')
    """
    return _nicknames().get(given, ())


@dataclass(frozen=True)
class Part:
    """Words by which a phrase may be named."""

    text: str
    kind: str
    """One of PART_KINDS."""
    phrase: int
    """Place of the phrase in the context's list."""


def parts_of(text: str) -> list[tuple[str, str]]:
    """Find what people name something by: (words, kind) each.

    All of it, without its article, its first or its last word, with a nickname in the place of a given name.

    >>> parts_of("meg bauer")
    [('meg bauer', 'full'), ('bauer', 'last'), ('meg', 'first')]
    >>> parts_of("doctor meg brown")
    [('doctor meg brown', 'full'), ('meg brown', 'full'), ('doctor brown', 'full'), ('brown', 'last'), ('meg', 'first')]
    >>> parts_of("derek shaw")[3:]
    [('ricky', 'first'), ('ricky shaw', 'full'), ('rick', 'first'), ('rick shaw', 'full')]
    """
    words = text.split()[:MAX_WORDS]
    if not words:
        return []
    parts = {" ".join(words): "full"}
    if len(words) > 1 and words[0] in _ARTICLES | _TITLES:
        title, *words = words
        parts.setdefault(" ".join(words), "full")
        if len(words) > 1 and title in _TITLES:
            parts.setdefault(f"{title} {words[-1]}", "full")
    if len(words) > 1:
        if words[-1] not in _SMALL and len(words) <= 4:
            parts.setdefault(words[-1], "last")
        if words[0] not in _SMALL:
            parts.setdefault(words[0], "first")
        for nickname in nicknames_of(words[0]):
            parts.setdefault(nickname, "first")
            parts.setdefault(" ".join((nickname, *words[1:])), "full")
    if len(words) > 2:
        parts.setdefault(" ".join(words[:2]), "other")
        parts.setdefault(" ".join(words[-2:]), "other")
    if len(words) > 3:
        parts.setdefault(" ".join(words[:3]), "other")
    return [(t, kind) for t, kind in parts.items() if t not in _SMALL]


def parts_of_forms(forms: Sequence[str]) -> list[tuple[str, str]]:
    """The parts of the first of an entry's spoken forms, and of each other form what names the whole entry.

    >>> parts_of_forms(["doctor brown", "dr brown"])
    [('doctor brown', 'full'), ('brown', 'full'), ('dr brown', 'full')]
    """
    first, *others = forms
    parts = parts_of(first)
    known = {text for text, _ in parts}
    for form in others:
        fresh = [(text, kind) for text, kind in parts_of(form) if kind == "full" and text not in known]
        known.update(text for text, _ in fresh)
        parts += fresh
    return parts


def ways_to_name(phrases: Iterable[tuple[Sequence[str], float]]) -> Iterator[tuple[str, float]]:
    """(words, probability) of each part of phrases given as (spoken forms, log probability of being meant)."""
    for forms, weight in phrases:
        parts = parts_of_forms(forms)
        total = sum(_SHARES[kind] for _, kind in parts)
        for part, kind in parts:
            yield part, math.exp(weight) * _SHARES[kind] / total


class PhraseIndex:
    """Parts of phrases, with the strongest phrase kept where two have a part in common.

    Args:
        phrases: any number; equal texts may repeat.
    """

    def __init__(self, phrases: Sequence[Phrase]) -> None:
        self.phrases = tuple(phrases)
        self.forms: tuple[tuple[str, ...], ...] = tuple(phrase.forms for phrase in self.phrases)
        """The spoken forms of each phrase."""
        best: dict[str, Part] = {}
        self.named: dict[str, list[Part]] = {}
        """The parts of all phrases by their words, also those that several have in common."""
        for place, forms in enumerate(self.forms):
            for text, kind in parts_of_forms(forms):
                part = Part(text, kind, place)
                self.named.setdefault(text, []).append(part)
                other = best.get(text)
                if other is None or self._rank(part) > self._rank(other):
                    best[text] = part
        self.parts: tuple[Part, ...] = tuple(best.values())
        self.phones: tuple[str, ...] = tuple(phonetics.phones_of(p.text for p in self.parts))
        self.phone_ids, self.phone_lengths = phonetics.encode(self.phones)
        self.weights: NDArray[np.float32] = np.array([self.phrases[p.phrase].weight for p in self.parts], np.float32)
        self._by_text = {p.text: i for i, p in enumerate(self.parts)}
        self.longest = max((p.text.count(" ") + 1 for p in self.parts), default=0)
        self.prefixes = PhrasePrefixes(
            ways_to_name((forms, p.weight) for forms, p in zip(self.forms, self.phrases, strict=True))
        )

    def _rank(self, part: Part) -> tuple[float, float]:
        return (self.phrases[part.phrase].weight, 1.0 if part.kind == "full" else 0.0)

    def ids(self, part: Part) -> tuple[str, ...]:
        """The ids of all phrases of one name that a part names alike."""
        name = self.phrases[part.phrase].text
        alike = {other.phrase for other in self.named[part.text] if self.phrases[other.phrase].text == name}
        return tuple(dict.fromkeys(one for place in sorted(alike) for one in self.phrases[place].ids))

    def weight(self, part: Part) -> float:
        """Weight of the phrase that a part names."""
        return self.phrases[part.phrase].weight

    def phones_of(self, part: Part) -> str:
        """Phones of one of `parts`."""
        return self.phones[self._by_text[part.text]]

    def part(self, text: str) -> Part | None:
        """The one of `parts` with so normalised words."""
        place = self._by_text.get(text)
        return None if place is None else self.parts[place]

    def find(self, words: Sequence[str]) -> tuple[Part, int, int] | None:
        """The longest part among the words, the strongest of equally long ones: (part, first word, past the last)."""
        for size in range(min(self.longest, len(words)), 0, -1):
            found = [
                (self.parts[i], start, start + size)
                for start in range(len(words) - size + 1)
                if (i := self._by_text.get(" ".join(words[start : start + size]))) is not None
            ]
            if found:
                return max(found, key=lambda f: (self.weight(f[0]), -f[1]))
        return None
