"""Contexts to train on: dialogues and follow-up manifests, with names exchanged, and the conditions of evaluation."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from asr.context import phonetics
from asr.context.types import Context, Entry, Turn
from asr.evaluation.jsonl import text_lines
from asr.text import normalize
from recipes.synthesis.corpus import first_column, of_train

_SLOT_SIGNALS = (
    (("date", "time", "type", "number", "price", "rating", "duration", "seating", "car_name", "attribute"), "dialogue"),
    (("movie", "song", "album", "artist", "track", "show_name", "event_name", "title", "directed"), "screen"),
    (
        (
            "restaurant",
            "hotel",
            "place",
            "city",
            "location",
            "address",
            "venue",
            "theater",
            "attraction",
            "destination",
            "origin",
            "airport",
            "station",
            "property",
            "where_to",
        ),
        "places",
    ),
    (("device", "appliance"), "devices"),
    (("name", "contact", "person", "doctor", "stylist", "therapist"), "contacts"),
)


@dataclass(frozen=True)
class Sample:
    """What was said after a context; target: the entry meant, by place in context.entries, or None."""

    context: Context
    answer: str
    target: int | None


@dataclass(frozen=True)
class FollowUp:
    """One line of a follow-up manifest. member: of the shard; "": it is a recording. noise_db: signal-to-noise ratio
    that noise is added for before anyone listens; None: none."""

    id: str
    set: str
    text: str
    target: str | None
    context: Context
    shard: str
    member: str
    seconds: float
    noise_db: float | None = None


def read_followups(data: Path, split: str) -> list[FollowUp]:
    rows = []
    for line in text_lines(data / "followups" / f"followups-{split}.jsonl.gz"):
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
    names = first_column(data / "text" / "names" / f"{kind}.tsv.gz")
    return [n.title() for n in names if of_train(n)][:limit]


@dataclass(frozen=True)
class Stock:
    """What training contexts are filled with: given names, surnames, and entries by signal."""

    given: list[str]
    surnames: list[str]
    entries: dict[str, list[str]]


def read_stock(data: Path, rows: Sequence[FollowUp]) -> Stock:
    """Frequent names, and the entries of the rows; the train split's by their hash."""
    entries: dict[str, set[str]] = {}
    for row in rows:
        for entry in row.context.entries:
            if of_train(entry.text):
                entries.setdefault(entry.signal, set()).add(entry.text)
    names = read_names(data, "given_names", 4000), read_names(data, "surnames", 20_000)
    return Stock(*names, {signal: sorted(texts) for signal, texts in entries.items()})


def dialogue_samples(data: Path, stock: Stock, rng: random.Random, limit: int) -> list[Sample]:
    """User turns of the train dialogues, with the entities before them and some of what they name as entries.

    Names, places, songs, films and devices that are dev's or test's by their hash, and some of the others, are
    exchanged for the train split's, throughout the dialogue: for those of other dialogues and of the stock.
    """
    dialogues = [
        json.loads(line)["turns"]
        for path in sorted((data / "text" / "dialogues").glob("*.train.jsonl.gz"))
        for line in text_lines(path)
    ]
    pools = {signal: set(texts) for signal, texts in stock.entries.items()}
    for turns in dialogues:
        for kind, value in _entities(turns):
            if of_train(value):
                pools.setdefault(_signal(kind), set()).add(value)
    ordered = {signal: sorted(values) for signal, values in pools.items()}
    samples = []
    for turns in dialogues:
        turns = _exchanged(turns, ordered, rng)
        for i, turn in enumerate(turns):
            if turn["speaker"] == "user" and i and (turn.get("followup") or rng.random() < 0.2):
                samples.append(_dialogue_sample(turns, i, rng))
    rng.shuffle(samples)
    return samples[:limit]


def _entities(turns: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for turn in turns:
        for e in turn.get("entities", ()):
            yield e["type"], e["value"]


def _exchanged(turns: list[dict[str, Any]], pools: dict[str, list[str]], rng: random.Random) -> list[dict[str, Any]]:
    swap: dict[str, str] = {}
    for kind, value in _entities(turns):
        if _signal(kind) != "dialogue" and (not of_train(value) or rng.random() < 0.5):
            swap.setdefault(value.lower(), rng.choice(pools[_signal(kind)]))
    if not swap:
        return turns
    longest_first = sorted(swap, key=len, reverse=True)
    named = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(map(re.escape, longest_first))})(?![A-Za-z])", re.I)

    def other(text: str) -> str:
        return named.sub(lambda m: swap[m.group().lower()], text)

    return [
        turn
        | {"text": other(turn["text"])}
        | {"entities": [e | {"value": other(e["value"])} for e in turn.get("entities", ())]}
        for turn in turns
    ]


def _dialogue_sample(turns: list[dict[str, Any]], i: int, rng: random.Random) -> Sample:
    answer = normalize(turns[i]["text"])
    before = [Turn(t["speaker"], t["text"]) for t in turns[max(0, i - rng.choice((2, 4, 8))) : i]]
    found = list(_entities(turns[:i]))[-12:]
    if rng.random() < 0.5:
        found += _entities(turns[i : i + 1])
    entries = list(dict.fromkeys(Entry(_signal(kind), value) for kind, value in found))
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


def rename(sample: Sample, stock: Stock, rng: random.Random) -> Sample:
    """The same dialogue about other people and things: each name of its contacts, and each other entry that the answer
    does not name in part, is exchanged everywhere alike."""
    swap: dict[str, str] = {}
    answer = f" {sample.answer} "
    for entry in sample.context.entries:
        if entry.signal == "contacts":
            words = entry.text.split()
            for place, word in enumerate(words):
                swap.setdefault(
                    word.lower(), rng.choice(stock.given if place == 0 < len(words) - 1 else stock.surnames)
                )
        elif entry.signal in stock.entries and entry.signal != "dialogue":
            text = normalize(entry.text)
            part = any(f" {w} " in answer for w in text.split())
            if (not part or f" {text} " in answer) and entry.text.isascii():
                swap.setdefault(entry.text.lower(), rng.choice(stock.entries[entry.signal]))
                swap.setdefault(text, swap[entry.text.lower()])
    named = "|".join(map(re.escape, sorted(filter(None, swap), key=len, reverse=True)))
    pattern = re.compile(rf"(?<![A-Za-z'])(?:{named})(?![A-Za-z'])" if named else r"(?!)", re.I)

    def other(text: str) -> str:
        return pattern.sub(lambda m: swap[m.group().lower()], text)

    turns = tuple(Turn(t.speaker, other(t.text)) for t in sample.context.turns)
    entries = [Entry(e.signal, other(e.text)) for e in sample.context.entries]
    order = _some(len(entries), sample.target, rng)
    target = order.index(sample.target) if sample.target is not None else None
    return Sample(Context(turns, tuple(entries[i] for i in order)), normalize(other(sample.answer)), target)


def _some(count: int, target: int | None, rng: random.Random) -> list[int]:
    """Places of a shorter, shuffled list that keeps the target: long lists teach nothing more and cost time."""
    order = rng.sample(range(count), min(count, rng.choice((4, 8, 16, 24, 48))))
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
        return next(iter(self.nearest(text, avoid, 1)), None)

    def nearest(self, text: str, avoid: set[str], most: int) -> list[str]:
        """The closest such texts, at most so many."""
        sound = phonetics.encode([phonetics.phones(normalize(text))])
        distances = phonetics.distances(self._ids, self._lengths, *sound)
        close = (i for i in np.argsort(distances, kind="stable")[:50].tolist() if distances[i] > 0.3)
        found = (self.texts[i] for i in close if not set(normalize(self.texts[i]).split()) & avoid)
        return list(islice(found, most))


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


def confusable(row: FollowUp, pools: dict[str, SoundAlikes], rng: random.Random) -> Context | None:
    """The context with another entry, one that was offered where some were, exchanged for one that sounds like what was
    meant; None where nothing is meant or nothing sounds like it."""
    target = normalize(row.target or "")
    meant = next((e for e in row.context.entries if normalize(e.text) == target), None)
    others = [e for e in row.context.entries if normalize(e.text) != target]
    if meant is None or not others:
        return None
    alike = _alike(meant, set(target.split()[-1:]) if meant.signal == "contacts" else set(target.split()), pools)
    if alike is None or normalize(alike) == target:
        return None
    said = row.context.turns[-1].text if row.context.turns else ""
    offered = [e for e in others if e.signal == meant.signal and e.text in said]
    victim = rng.choice(offered or others)
    turns = tuple(Turn(t.speaker, t.text.replace(victim.text, alike)) for t in row.context.turns)
    entries = tuple(Entry(e.signal, alike if e.text == victim.text else e.text) for e in row.context.entries)
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
