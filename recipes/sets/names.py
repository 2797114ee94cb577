"""What turns are made of: names of a split, what sounds like them, nicknames, things."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import extract

from asr.evaluation.jsonl import text_lines

SPLITS = {"train": range(8), "dev": (8,), "test": (9,)}
THINGS = ("entities/smart_home_names", "entities/song", "entities/restaurant", "places/cities", "places/street_names")
_FREQUENT = 200
"""Surnames of which every other one is."""


def of_split(text: str, split: str) -> bool:
    """Names and things are apart by the first byte of their MD5 digest modulo ten: 8 is dev, 9 test, the rest train."""
    return hashlib.md5(text.lower().encode()).digest()[0] % 10 in SPLITS[split]


class Sounds:
    """How words sound, by CMUdict: not by the letter rules that the recogniser's own scorers use."""

    def __init__(self, data: Path) -> None:
        self._phones: dict[str, str] = {}
        letters: dict[str, str] = {}
        for line in text_lines(data / "text/pronunciations/cmudict.dict.gz"):
            word, *phones = line.partition("#")[0].split()
            if "(" not in word:
                plain = [phone.rstrip("012") for phone in phones]
                self._phones[word] = "".join(letters.setdefault(p, chr(65 + len(letters))) for p in plain)

    def near(self, word: str, pool: Iterable[str], most: int) -> list[str]:
        """Words of the pool that sound most like this one and not just like it, nearest first; none where it or they
        are not in the dictionary."""
        sound = self._phones.get(word.lower())
        if sound is None:
            return []
        known = {other: self._phones[other.lower()] for other in pool if other.lower() in self._phones}
        found = extract(sound, known, scorer=Levenshtein.normalized_distance, limit=most + 8)
        return [other for _, distance, other in found if distance > 0][:most]


class Names:
    """given, surnames: of the split, frequent ones first. all_given, all_surnames: of every split, for entries that
    nobody means. nicknames: by given name of the split. things: of the split, by kind."""

    def __init__(self, data: Path, split: str) -> None:
        folder = data / "text/names"
        self.sounds = Sounds(data)
        self.all_given, self.all_surnames = _column(folder / "given_names.tsv.gz"), _column(folder / "surnames.tsv.gz")
        self.given = [n for n in self.all_given if of_split(n, split)][:150]
        self.surnames = [n for n in self.all_surnames if of_split(n, split)][:1500]
        frequent = set(self.all_given[:1000])
        rows = [line.split("\t") for line in list(text_lines(folder / "nicknames.tsv.gz"))[1:]]
        usual = {given: [n for n in of_one.split(",") if n in frequent] for given, of_one in rows if given in frequent}
        self.nicknames = {given: own for given, own in usual.items() if own and of_split(given, split)}
        self.things = [
            [text for text in _things(data / "text" / f"{kind}.tsv.gz") if of_split(text, split)] for kind in THINGS
        ]

    def given_names(self, rng: random.Random, count: int) -> list[str]:
        return rng.sample(self.given, count)

    def surname(self, rng: random.Random, count: int) -> list[str]:
        return rng.sample(self.surnames[:_FREQUENT] if rng.random() < 0.5 else self.surnames, count)

    def full(self, rng: random.Random) -> str:
        return f"{self.given_names(rng, 1)[0]} {self.surname(rng, 1)[0]}"

    def others(self, rng: random.Random, make: str, name: str, count: int) -> list[str]:
        """Different full names, none of them `name`, that a list could hold beside it.

        make: "random"; "near": both names sound most like those of `name`; "family": of its surname; "mixed": of each.
        """
        given, surname = name.split()
        if make == "mixed":
            half = count // 2 + 1  # some are of two makes
            found = [n for of_one in ("near", "family", "random") for n in self.others(rng, of_one, name, half)]
            return rng.sample(list(dict.fromkeys(found)), count)
        if make == "near":
            wide = 2 + int((1.5 * count) ** 0.5)
            givens = [given, *self.sounds.near(given, self.all_given[:2000], wide)]
            surnames = [surname, *self.sounds.near(surname, self.all_surnames, wide)]
            pairs = [(g, s) for g in givens for s in surnames if (g, s) != (given, surname)]
            if len(pairs) < count:
                return self.others(rng, "random", name, count)
            return [f"{g} {s}" for g, s in rng.sample(pairs, count)]
        givens = rng.sample([n for n in self.all_given if n != given], count)
        if make == "family":
            return [f"{g} {surname}" for g in givens]
        return [f"{g} {s}" for g, s in zip(givens, rng.choices(self.all_surnames[:8000], k=count), strict=True)]


def _column(path: Path) -> list[str]:
    names = [line.split("\t")[0] for line in list(text_lines(path))[1:]]
    return [name.capitalize() for name in names if name.isalpha()]


def _things(path: Path) -> Sequence[str]:
    """Texts of one to three words, letters only."""
    texts = [line.split("\t")[0].strip() for line in list(text_lines(path))[1:]]
    return [text for text in texts if text.replace(" ", "").isalpha() and text.count(" ") < 3]
