"""Texts for the language model, by source, with nothing of dev and test in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from asr.evaluation.jsonl import read_objects, text_lines
from asr.text import normalize
from recipes.acoustic.speech import corpus_of, find_manifests
from recipes.synthesis.corpus import held_out_names, of_train, prose, spoken_commands

Progress = Callable[[str], None]
OVERLAP = 6
"""A text that shares so many words in a row with a dev or test transcript is left out."""
_WORDS = 20_000
"""A family name among so many most frequent words is a word."""
_AROUND = 40
"""Sentences of a book left out before and after such a one."""
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
_NAME_CARRIERS = ("{}",) * 8 + (
    "call {}", "text {}", "phone {}", "ring {}", "message {}", "email {}", "{} please", "to {}", "no {}", "i mean {}",
    "no i mean {}", "i meant {}", "actually {}", "send a message to {}", "call {} please", "neither call {}",
    "add {} to the meeting", "my name is {}", "it's {}", "this is {}", "ask {}", "tell {}",
)  # fmt: skip
_THING_CARRIERS = {
    "places": ("{}",) * 5 + ("take me to {}", "navigate to {}", "let's go to {}", "directions to {}", "{} please",
                             "how far is {}", "in {}", "find {}"),
    "media": ("{}",) * 5 + ("play {}", "put on {}", "{} please", "play {} please", "watch {}"),
    "devices": ("{}",) * 2 + ("the {}", "the {} please", "turn on the {}", "turn off the {}", "dim the {}",
                              "check the {}", "{} please", "is the {} on"),
}  # fmt: skip
_MEDIA = {"film", "song", "music_artist", "album", "creative_work", "song_or_artist", "tv_show", "book", "playlist",
          "podcast", "audiobook", "game", "radio_station", "genre", "live_event"}  # fmt: skip
_DEVICES = {"device_name", "smart_home_names", "appliance", "room"}
_ANSWERS = (
    "yes", "no", "yeah", "yep", "nope", "okay", "ok", "sure", "cancel", "stop", "correct", "go ahead", "never mind",
    "not now", "yes please", "no thanks", "no thank you", "that's right", "that's fine", "sounds good", "neither",
    "none of these", "none of them", "something else", "the first one", "the second one", "the third one",
    "the last one", "the other one", "both", "repeat", "start", "go", "help", "up", "down", "left", "right", "on",
    "off", "start over", "go back", "i don't know", "say that again", "the one on the left", "the fourth one",
)  # fmt: skip


SHARES = {
    "books": 0.2, "prompts": 0.12, "assistant": 0.25, "names": 0.12, "things": 0.1, "codes": 0.15, "answers": 0.06,
}  # fmt: skip
"""Of the texts that a user says: chosen on dev's perplexity, between prose, answers and codes (README.md here)."""


@dataclass(frozen=True)
class HeldOut:
    """Transcripts of dev and test, and their runs of `OVERLAP` words."""

    runs: frozenset[str]

    @classmethod
    def read(cls, data: Path) -> HeldOut:
        runs: set[str] = set()
        for split in ("dev", "test"):
            for texts in transcripts(data, split).values():
                runs.update(run for text in texts for run in _runs(text))
        return cls(frozenset(runs))

    def shares(self, text: str) -> bool:
        return any(run in self.runs for run in _runs(text))


def transcripts(data: Path, split: str) -> dict[str, list[str]]:
    """Normalised transcripts of each speech corpus and of the follow-ups."""
    out: dict[str, list[str]] = {}
    for manifest in find_manifests(data, split):
        texts = [normalize(str(v["text"])) for v in read_objects(manifest) if v.get("text")]
        out[corpus_of(manifest)] = [t for t in texts if t]
    return out


def _runs(text: str) -> Iterator[str]:
    words = text.split()
    return (" ".join(words[i : i + OVERLAP]) for i in range(len(words) - OVERLAP + 1))


def _held_out_names(data: Path) -> set[str]:
    """Names of dev and test; family names that are better known as words ("noon", "lamp") are none."""
    given = {line.split("\t")[0].lower() for line in text_lines(data / "text/names/given_names.tsv.gz")}
    words = {line.split("\t")[0] for line in islice(text_lines(data / "text/wordfreq.tsv.gz"), 1, _WORDS)}
    return held_out_names(data) - (words - given)


def _book(lines: Iterable[str], held_out: HeldOut) -> list[str]:
    """Lines in a book's order: what is near to a held-out sentence goes with it."""
    texts = list(lines)
    near = np.zeros(len(texts), np.bool_)
    for i, text in enumerate(texts):
        if held_out.shares(text):
            near[max(0, i - _AROUND) : i + _AROUND + 1] = True
    return [t for t, out in zip(texts, near, strict=True) if not out]


def _user_turns(data: Path) -> Iterator[str]:
    for path in sorted((data / "text/dialogues").glob("*.train.jsonl.gz")):
        for dialogue in read_objects(path):
            yield from (t["text"] for t in dialogue["turns"] if t["speaker"] == "user")


def _weighted(path: Path, power: float) -> tuple[list[str], np.ndarray]:
    """Names of train and how often to draw each."""
    rows = [line.split("\t")[:2] for line in islice(text_lines(path), 1, None)]
    kept = [(name, float(count)) for name, count in rows if of_train(name)]
    share = np.array([count for _, count in kept]) ** power
    return [name for name, _ in kept], share / share.sum()


def _names(data: Path, count: int, rng: np.random.Generator) -> Iterator[str]:
    """People's names, alone and in short commands; frequent names oftener, rare ones not never."""
    given, given_share = _weighted(data / "text/names/given_names.tsv.gz", 0.6)
    family, family_share = _weighted(data / "text/names/surnames.tsv.gz", 0.6)
    firsts = rng.choice(len(given), count, p=given_share)
    lasts = rng.choice(len(family), count, p=family_share)
    for i, j in zip(firsts, lasts, strict=True):
        first, last = given[i], family[j]
        name = (first, last, f"{first} {last}", f"{first} {last}")[rng.integers(4)]
        if of_train(name):
            yield _NAME_CARRIERS[rng.integers(len(_NAME_CARRIERS))].format(name)


def _things(data: Path, rng: np.random.Generator) -> Iterator[str]:
    """Places, brands, films, songs, devices and the like of train, alone and in short commands."""
    for path in sorted((data / "text/entities").glob("*.tsv.gz")):
        kind = path.name.split(".")[0]
        carriers = _THING_CARRIERS["media" if kind in _MEDIA else "devices" if kind in _DEVICES else "places"]
        header, *rows = [line.split("\t") for line in text_lines(path)]
        split = header.index("splits") if "splits" in header else None
        column = 1 if kind == "media_catalog" else 0
        for row in rows:
            if of_train(row[column]) and (split is None or "train" in row[split].split(",")):
                yield from _said(row[column], carriers, rng, 2)
    for name, column in (("cities", 0), ("brands", 1), ("misc_places", 1), ("street_names", 0), ("local_search", 0)):
        for row in (line.split("\t") for line in islice(text_lines(data / f"text/places/{name}.tsv.gz"), 1, None)):
            if of_train(row[column]) and (name != "local_search" or "train" in row[5].split(",")):
                yield from _said(row[column], _THING_CARRIERS["places"], rng, 2)


def _said(value: str, carriers: Sequence[str], rng: np.random.Generator, times: int) -> Iterator[str]:
    for _ in range(times):
        yield carriers[int(rng.integers(len(carriers)))].format(value)


def _codes(data: Path, count: int, rng: np.random.Generator) -> Iterator[str]:
    """Digit strings, numbers, spelled names, dates, letters with numbers: what forms and telephone menus ask for."""
    names, share = _weighted(data / "text/names/surnames.tsv.gz", 0.6)
    for i in rng.choice(len(names), count, p=share):
        kind = rng.integers(8)
        number = str(10 ** rng.uniform(0, 4)).split(".")[0]
        digits = " ".join(_DIGITS[d] for d in rng.integers(0, 10, rng.integers(1, 11)))
        letters = " ".join(_LETTERS[c] for c in rng.integers(0, 26, rng.integers(1, 7)))
        if kind == 0:
            yield " ".join(names[i].lower())
        elif kind <= 2:
            yield digits if rng.random() < 0.8 else digits.replace("zero", "oh")
        elif kind == 3:
            yield f"{rng.choice(['enter', 'erase', 'rubout'])} {letters} {digits if rng.random() < 0.3 else number}"
        elif kind == 4:
            pair = f"{rng.integers(10, 100)} {rng.integers(10, 100)}"
            yield f"{rng.choice(['', 'enter'])} {pair if rng.random() < 0.5 else number}"
        elif kind == 5:
            year = f"{rng.choice([19, 19, 20])} {rng.integers(10, 100)}"
            yield f"{rng.choice(_MONTHS)} {_ordinal(int(rng.integers(1, 32)))} {year if rng.random() < 0.7 else ''}"
        elif kind == 6:
            yield letters
        else:
            yield f"{rng.integers(1, 13)}:{rng.integers(0, 60):02d} {rng.choice(['', 'am', 'pm'])}"


def _ordinal(day: int) -> str:
    return f"{day}{'th' if day in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"


def read_texts(
    data: Path, generated: int = 60_000, seed: int = 0, progress: Progress = lambda _: None
) -> dict[str, list[str]]:
    """Normalised texts of each source; a source is what the mixture weighs as one.

    books and prompts: prose. assistant: commands and users' turns of dialogues. names, things, codes and answers: what
    a user says when asked back; of names and codes `generated` are drawn. No text shares `OVERLAP` words in a row with
    a transcript of dev or test, or has a name of theirs.
    """
    held_out, rng = HeldOut.read(data), np.random.default_rng(seed)
    books, unseen = data / "text/prose", _held_out_names(data)
    readers: dict[str, Callable[[], Iterable[str]]] = {
        "books": lambda: _book(
            [*text_lines(books / "gutenberg.txt.gz"), *text_lines(books / "ljspeech_text.txt.gz")], held_out
        ),
        "prompts": lambda: prose(data),
        "assistant": lambda: [*chain.from_iterable(spoken_commands(data)), *_user_turns(data)],
        "names": lambda: _names(data, generated, rng),
        "things": lambda: _things(data, rng),
        "codes": lambda: _codes(data, generated, rng),
        "answers": lambda: _ANSWERS,
    }
    out: dict[str, list[str]] = {}
    for name, read in readers.items():
        progress(name)
        texts = (normalize(text) for text in read())
        out[name] = [t for t in texts if t and not held_out.shares(t) and unseen.isdisjoint(t.split())]
    return out
