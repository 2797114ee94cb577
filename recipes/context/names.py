"""Callers who say their names: n-best lists of a real recogniser, and contact lists for them to be found in."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from asr.context import phonetics
from asr.context.types import Context, Entry, Turn
from asr.evaluation.jsonl import text_lines
from asr.text import normalize
from recipes.context.data import FollowUp
from recipes.context.lists import ContextList, Decoded, Tools, ranked_list

HALVES = ("dev", "report")
PARTS = 4
_SIZES = (10, 30, 100, 300, 1000)
MAKES = ("random", "alike", "near", "surname", "given name", "mixed", "repeated")
"""Makes of contact lists: drawn at random; three that sound most like the caller's name, a third of the list at most,
among such; all of that kind; the caller's surname with any given name, or the given name with any surname; a third of
sound-alikes, a third of both families, a third at random; as "alike", with every entry written in three ways."""
_ALIKE = 3
_WRITTEN = (str.title, str.upper, str.lower)


@dataclass(frozen=True)
class Call:
    """One attempt to say one's name. nbest: best first, as it came; name: as the profile has it, normalised."""

    id: str
    speaker: str
    name: str
    turns: tuple[Turn, ...]
    nbest: tuple[str, ...]

    @property
    def half(self) -> str:
        """ "dev" to choose and to learn from, "report" for figures; apart by speaker."""
        return HALVES[self._hash % 2]

    @property
    def part(self) -> int:
        """Of PARTS, apart by speaker: what is learned from the others is judged on each."""
        return self._hash // len(HALVES) % PARTS

    @property
    def _hash(self) -> int:
        return hashlib.md5(self.speaker.encode()).digest()[0]


def read_calls(path: Path) -> list[Call]:
    """Lines {id, speaker, reference, context: [{speaker, text}], nbest: [{text}]}, those with a reference; gzipped."""
    calls = []
    for row in map(json.loads, text_lines(path)):
        nbest = tuple(n["text"] for n in row["nbest"])
        if row["reference"] and nbest:
            turns = tuple(Turn(t["speaker"], t["text"]) for t in row["context"])
            calls.append(Call(row["id"], row["speaker"], normalize(row["reference"]), turns, nbest))
    return calls


def read_contacts(path: Path) -> list[str]:
    """Full names of a gzipped table, a header and first and last name a line."""
    return [" ".join(line.split("\t")[:2]) for line in text_lines(path)][1:]


class ContactLists:
    """Contact lists of any size and make for any name, out of a pool of names; the same seed gives the same lists."""

    def __init__(self, pool: Sequence[str]) -> None:
        self._names = list(dict.fromkeys(map(normalize, pool)))
        self._sounds = phonetics.encode(phonetics.phones_of(self._names))
        self._given = sorted({n.split()[0] for n in self._names})
        self._surnames = sorted({n.split()[-1] for n in self._names})
        self._order: dict[str, list[int]] = {}
        """Of the name that was last asked for: the pool by sound, likest first."""

    def draw(self, name: str, size: int, present: bool, rng: random.Random, make: str) -> list[str]:
        """So many entries, the normalised name among them or not; make: one of MAKES.

        What a make has too few names for is filled up at random, as far as the pool goes.
        """
        if make == "repeated":
            some = self.draw(name, -(-size // len(_WRITTEN)), present, rng, "alike")
            return [write(n) for n in some for write in _WRITTEN][:size]
        special = (n for n in self._special(name, size, rng, make) if n != name)
        others = (n for n in rng.sample(self._names, min(size + 1, len(self._names))) if n != name)
        chosen = list(islice(dict.fromkeys(chain(special, others)), size - present)) + [name] * present
        rng.shuffle(chosen)
        return [n.title() for n in chosen]

    def _special(self, name: str, size: int, rng: random.Random, make: str) -> list[str]:
        """The names that a make is about, those that have to be in the list first."""
        given, surname = name.split()[0], name.split()[-1]
        if make == "random":
            return []
        if make == "surname":
            return [f"{g} {surname}" for g in rng.sample(self._given, len(self._given))]
        if make == "given name":
            return [f"{given} {s}" for s in rng.sample(self._surnames, len(self._surnames))]
        if make == "near":
            return self._likest(name, size)
        likest = self._likest(name, min(_ALIKE, size // 3) if make == "alike" else size // 3)
        if make == "alike":
            return likest
        families = self.families(name)
        return likest + rng.sample(families, min(size // 3, len(families)))

    def names(self) -> list[str]:
        """The pool's, normalised."""
        return list(self._names)

    def families(self, name: str) -> list[str]:
        """The name's surname with every given name of the pool, and its given name with every surname."""
        given, surname = name.split()[0], name.split()[-1]
        return [f"{g} {surname}" for g in self._given] + [f"{given} {s}" for s in self._surnames]

    def _likest(self, name: str, count: int) -> list[str]:
        """Those of the pool that sound most like a name, other than itself."""
        if name not in self._order:
            distance = phonetics.distances(*self._sounds, *phonetics.encode([phonetics.phones(name)]))
            self._order = {name: np.argsort(distance, kind="stable").tolist()}
        return list(islice((n for i in self._order[name] if (n := self._names[i]) != name), count))

    def context(self, call: Call, size: int, present: bool, rng: random.Random, make: str) -> Context:
        return Context(call.turns, tuple(Entry("contacts", n) for n in self.draw(call.name, size, present, rng, make)))


def name_lists(call: Call, contacts: ContactLists, tools: Tools, draws: int = 1) -> Iterator[ContextList]:
    """A call with lists that hold the caller's name ("relevant") and such that do not ("anti"), of any size.

    There is no audio: the scores are left at zero, and only a scorer of ranks may learn from these lists.
    """
    texts = tuple(dict.fromkeys(map(normalize, call.nbest)))
    rng = random.Random(call.id)
    for condition in ("relevant", "anti") * draws:
        context = contacts.context(call, rng.choice(_SIZES), condition == "relevant", rng, rng.choice(MAKES))
        row = FollowUp(call.id, "names", call.name, call.name, context, "", "", 0.0)
        embedding = tools.encoder.encode(context)
        yield ranked_list(Decoded(row, texts, ()), condition, embedding, tools.tables)
