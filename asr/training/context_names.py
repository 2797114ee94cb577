"""Callers who say their names: n-best lists of a real recogniser, and contact lists for them to be found in."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.context import phonetics
from asr.context.types import Context, Entry, Turn
from asr.jsonl import text_lines
from asr.text import normalize
from asr.training.context_data import FollowUp
from asr.training.context_lists import ContextList, Decoded, Tools, ranked_list

HALVES = ("dev", "report")
PARTS = 4
_SIZES = (10, 30, 100, 300, 1000)


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
    """Contact lists of any size for any name, out of a pool of names; the same seed gives the same lists.

    alike: so many of a list, a third of it at most, are those of the pool that sound most like the name, spelled-alike
    ones among them.
    """

    def __init__(self, pool: Sequence[str], alike: int = 3) -> None:
        self.pool = list(pool)
        self._alike = alike
        self._names = [normalize(n) for n in self.pool]
        self._sounds = phonetics.encode([phonetics.phones(n) for n in self._names])

    def draw(self, name: str, size: int, present: bool, rng: random.Random) -> list[str]:
        """size names with the name among them, or without it."""
        distance = phonetics.distances(*self._sounds, *phonetics.encode([phonetics.phones(name)]))
        order = [i for i in np.argsort(distance, kind="stable").tolist() if self._names[i] != name]
        near = order[: min(self._alike, size // 3)]
        rest = rng.sample(order[len(near) :], size - len(near) - present)
        chosen = [self.pool[i] for i in (*near, *rest)] + ([name.title()] if present else [])
        rng.shuffle(chosen)
        return chosen

    def context(self, call: Call, size: int, present: bool, rng: random.Random) -> Context:
        return Context(call.turns, tuple(Entry("contacts", n) for n in self.draw(call.name, size, present, rng)))


def name_lists(call: Call, contacts: ContactLists, tools: Tools, draws: int = 1) -> Iterator[ContextList]:
    """A call with lists that hold the caller's name ("relevant") and such that do not ("anti"), of any size.

    There is no audio: the scores are left at zero, and only a scorer of ranks may learn from these lists.
    """
    texts = tuple(dict.fromkeys(map(normalize, call.nbest)))
    rng = random.Random(call.id)
    for condition in ("relevant", "anti") * draws:
        context = contacts.context(call, rng.choice(_SIZES), condition == "relevant", rng)
        row = FollowUp(call.id, "names", call.name, call.name, context, "", "", 0.0)
        embedding = tools.encoder.encode(context)
        yield ranked_list(Decoded(row, texts, ()), condition, embedding, tools.tables)
