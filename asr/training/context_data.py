"""Contexts to train on: dialogues and follow-up manifests, with names exchanged, and the conditions of evaluation."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np

from asr.context import phonetics
from asr.context.types import Context, Entry, Turn
from asr.text import normalize

_SIGNALS = ("contacts", "devices", "places", "screen")
_SLOT_SIGNALS = (
    (("name", "contact", "person", "doctor", "stylist", "therapist"), "contacts"),
    (("restaurant", "hotel", "place", "city", "location", "address", "venue", "theater", "attraction"), "places"),
    (("movie", "song", "album", "artist", "track", "show", "genre", "event"), "screen"),
)


@dataclass(frozen=True)
class Sample:
    """What was said after a context; target: the entry meant, by place in context.entries, or None."""

    context: Context
    answer: str
    target: int | None


@dataclass(frozen=True)
class FollowUp:
    """One line of a follow-up manifest."""

    id: str
    set: str
    text: str
    target: str | None
    context: Context
    shard: str
    member: str
    seconds: float


def read_lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from lines


def read_followups(data: Path, split: str) -> list[FollowUp]:
    rows = []
    for line in read_lines(data / "followups" / f"followups-{split}.jsonl.gz"):
        row = json.loads(line)
        turns = tuple(Turn(t["speaker"], t["text"]) for t in row["context"]["turns"])
        entries = tuple(Entry(e["signal"], e["text"]) for e in row["context"]["entities"])
        audio = row["audio"]
        rows.append(
            FollowUp(
                row["id"], row["set"], normalize(row["text"]), row.get("target"), Context(turns, entries),
                audio["shard"], audio["member"], float(row["duration_s"]),
            )
        )  # fmt: skip
    return rows


def read_names(data: Path, kind: str, limit: int) -> list[str]:
    """Frequent names of data/text/names; those that are dev's or test's by their hash are left out."""
    names = [line.split("\t")[0] for line in read_lines(data / "text" / "names" / f"{kind}.tsv.gz")][1:]
    return [n for n in names if is_train(n)][:limit]


def is_train(text: str) -> bool:
    return md5(text.lower().encode()).digest()[0] % 10 < 8


def dialogue_samples(data: Path, rng: random.Random, limit: int) -> list[Sample]:
    """User turns of the train dialogues, with the entities before them and some of what they name as entries."""
    samples = []
    for path in sorted((data / "text" / "dialogues").glob("*.train.jsonl.gz")):
        for line in read_lines(path):
            turns = json.loads(line)["turns"]
            for i, turn in enumerate(turns):
                if turn["speaker"] == "user" and i and (turn.get("followup") or rng.random() < 0.2):
                    samples.append(_dialogue_sample(turns, i, rng))
    rng.shuffle(samples)
    return samples[:limit]


def _dialogue_sample(turns: list[dict[str, Any]], i: int, rng: random.Random) -> Sample:
    answer = normalize(turns[i]["text"])
    before = [Turn(t["speaker"], t["text"]) for t in turns[max(0, i - rng.choice((2, 4, 8))) : i]]
    found = [e for t in turns[:i] for e in t.get("entities", ())][-12:]
    if rng.random() < 0.5:
        found += turns[i].get("entities", [])
    entries = list(dict.fromkeys(Entry(_signal(e["type"]), e["value"]) for e in found))
    rng.shuffle(entries)
    if rng.random() < 0.2:
        entries = []
    return Sample(Context(tuple(before), tuple(entries)), answer, _named(entries, answer))


def _signal(slot: str) -> str:
    for words, signal in _SLOT_SIGNALS:
        if any(w in slot.lower() for w in words):
            return signal
    return "dialogue"


def _named(entries: Sequence[Entry], answer: str) -> int | None:
    named = [i for i, e in enumerate(entries) if f" {normalize(e.text)} " in f" {answer} "]
    return max(named, key=lambda i: len(entries[i].text), default=None)


def followup_sample(row: FollowUp) -> Sample:
    texts = [normalize(e.text) for e in row.context.entries]
    target = normalize(row.target or "")
    return Sample(row.context, row.text, texts.index(target) if target in texts else None)


def rename(sample: Sample, given: Sequence[str], surnames: Sequence[str], rng: random.Random) -> Sample:
    """The same dialogue about other people: every name of its contacts is exchanged, everywhere alike."""
    swap: dict[str, str] = {}
    for entry in sample.context.entries:
        if entry.signal == "contacts":
            words = entry.text.split()
            for place, word in enumerate(words):
                pool = given if place == 0 and len(words) > 1 else surnames
                swap.setdefault(word.lower(), rng.choice(pool))

    def other(text: str) -> str:
        return re.sub(r"[A-Za-z']+", lambda m: swap.get(m.group().lower(), m.group()), text)

    turns = tuple(Turn(t.speaker, other(t.text)) for t in sample.context.turns)
    entries = [Entry(e.signal, other(e.text) if e.signal == "contacts" else e.text) for e in sample.context.entries]
    order = _some(len(entries), sample.target, rng)
    target = order.index(sample.target) if sample.target is not None else None
    return Sample(Context(turns, tuple(entries[i] for i in order)), normalize(other(sample.answer)), target)


def _some(count: int, target: int | None, rng: random.Random) -> list[int]:
    """Places of a shorter, shuffled list that keeps the target: long lists teach nothing more and cost time."""
    order = rng.sample(range(count), min(count, rng.choice((8, 16, 24, 32, 80))))
    if target is not None and target not in order:
        order[0] = target
        rng.shuffle(order)
    return order


def irrelevant(rows: Sequence[FollowUp], i: int, rng: random.Random) -> Context:
    """The context of another dialogue of the same split, one with turns."""
    while True:
        other = rng.choice(rows)
        if other is not rows[i] and other.context.turns:
            return other.context


class SoundAlikes:
    """Texts that sound like others but are not them, from the entries of a split.

    Args:
        texts: the pool, any casing.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = list(dict.fromkeys(texts))
        self._ids, self._lengths = phonetics.encode([phonetics.phones(normalize(t)) for t in self.texts])

    def near(self, text: str, avoid: set[str]) -> str | None:
        """The closest text that shares no word of `avoid` and does not sound the same."""
        sound = phonetics.encode([phonetics.phones(normalize(text))])
        distances = phonetics.distances(self._ids, self._lengths, *sound)
        for i in np.argsort(distances)[:50]:
            if distances[i] > 0.3 and not set(normalize(self.texts[i]).split()) & avoid:
                return self.texts[i]
        return None


def anti(row: FollowUp, pools: dict[str, SoundAlikes]) -> Context | None:
    """The context with everything that the user named exchanged for something that sounds alike; None without entries.

    pools: by signal; "given" and "surname" for the words of contacts.
    """
    said = set(row.text.split()) - {"the", "a", "of", "and", "to", "i", "no", "yes", "please", "play", "call"}
    target = normalize(row.target or "")
    swap: dict[str, str] = {}
    for entry in row.context.entries:
        text = normalize(entry.text)
        if text == target or said & set(text.split()):
            other = _alike(entry, said | set(target.split()), pools)
            if other:
                swap[entry.text] = other
    if not row.context.entries:
        return None

    def exchange(text: str) -> str:
        for old, new in sorted(swap.items(), key=lambda s: -len(s[0])):
            text = new.join(re.split(rf"(?<![A-Za-z]){re.escape(old)}(?![A-Za-z])", text, flags=re.I))
        return text

    turns = tuple(Turn(t.speaker, exchange(t.text)) for t in row.context.turns)
    entries = tuple(Entry(e.signal, swap.get(e.text, e.text)) for e in row.context.entries)
    return Context(turns, entries)


def _alike(entry: Entry, avoid: set[str], pools: dict[str, SoundAlikes]) -> str | None:
    if entry.signal == "contacts" and len(entry.text.split()) == 2:
        given, surname = entry.text.split()
        if normalize(given) in avoid:
            given = pools["given"].near(given, avoid) or given
        if normalize(surname) in avoid:
            surname = pools["surname"].near(surname, avoid) or surname
        return f"{given} {surname}".title()
    return pools[entry.signal].near(entry.text, avoid) if entry.signal in pools else None


def pools_of(rows: Sequence[FollowUp], data: Path) -> dict[str, SoundAlikes]:
    """Sound-alikes for each signal of the rows, and for given names and surnames."""
    by_signal: dict[str, list[str]] = {}
    for row in rows:
        for entry in row.context.entries:
            by_signal.setdefault(entry.signal, []).append(entry.text)
    contacts = [t.split() for t in by_signal.pop("contacts", [])]
    pools = {signal: SoundAlikes(texts) for signal, texts in by_signal.items()}
    pools["given"] = SoundAlikes([c[0] for c in contacts] + read_names(data, "given_names", 2000))
    pools["surname"] = SoundAlikes([c[-1] for c in contacts] + read_names(data, "surnames", 6000))
    return pools
