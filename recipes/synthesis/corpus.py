"""Synthesised training speech: names, commands and prose in many voices (`voices.py`)."""

from __future__ import annotations

import hashlib
import io
import math
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.audio import SAMPLE_RATE, Samples
from asr.evaluation.jsonl import read_objects, text_lines, write_objects
from asr.text import normalize
from recipes.progress import Progress
from recipes.synthesis.voices import Engine

CARRIERS = ["{}"] * 6 + ["call {}", "{} please", "text {}", "i meant {}", "message {} please", "no {}", "phone {}"]
CARRIERS_OF_THINGS = ["{}"] * 3 + ["play {}", "the {}", "turn on the {}", "directions to {}", "{} please"]
THINGS = (
    "entities/song", "entities/film", "entities/music_artist", "entities/smart_home_names", "entities/restaurant",
    "entities/grocery", "entities/city_spoken", "places/cities", "places/street_names", "places/brands",
)  # fmt: skip
COMMON_WORDS = 5000
_DIGITS = ["oh", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "tenth", "twelfth", "twenty first"]
_MONTHS = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december"]  # fmt: skip
_SHORT = ["yes", "no", "yes please", "no thanks", "none of these", "cancel that", "never mind", "sure", "okay"]


def of_train(name: str) -> bool:
    """Names are apart by hash: 8 is dev, 9 is test, the rest is for training."""
    return hashlib.md5(name.lower().encode()).digest()[0] % 10 < 8


def first_column(path: Path, most: int | None = None) -> list[str]:
    """The first column below the header, at most so many rows."""
    return [line.split("\t")[0].strip() for line in islice(text_lines(path), 1, most and most + 1)]


def spoken_commands(data: Path) -> Iterator[list[str]]:
    """The train commands of each file of DATA/text/commands, as they are written."""
    for path in sorted((data / "text/commands").glob("*.txt.gz")):
        yield [text for text, part, *_ in (line.split("\t") for line in text_lines(path)) if part == "train"]


def prose(data: Path) -> list[str]:
    """The prompts of DATA/text/prose, as they are written."""
    return [line.split("\t")[0] for line in text_lines(data / "text/prose/prompts.tsv.gz")]


def held_out_names(data: Path) -> set[str]:
    """Names of dev and test, in lower case, without those that are common words too ("will", "rose")."""
    folder = data / "text/names"
    names = {n.lower() for kind in ("given_names", "surnames") for n in first_column(folder / f"{kind}.tsv.gz")}
    return {n for n in names if not of_train(n)} - set(first_column(data / "text/wordfreq.tsv.gz", COMMON_WORDS))


def prompts(data: Path, count: int, rng: np.random.Generator) -> list[str]:
    """Different texts to say, train parts only: names alone and in short commands, things and places likewise, answers
    with numbers, letters and dates, commands and prose."""
    given = [n for n in first_column(data / "text/names/given_names.tsv.gz", 4000) if of_train(n)]
    family = [n for n in first_column(data / "text/names/surnames.tsv.gz", 8000) if of_train(n)]
    things = [path for kind in THINGS for path in sorted((data / "text").glob(f"{kind}.tsv.gz"))]
    named = [text for path in things for text in first_column(path) if of_train(text)]
    commands = [text for of_file in spoken_commands(data) for text in of_file]
    told = prose(data)
    held_out = held_out_names(data)

    def one(texts: Sequence[str]) -> str:
        return texts[int(rng.integers(len(texts)))]

    def name() -> str:
        first, last = one(given), one(family)
        text = [first, last, last, f"{first} {last}"][rng.integers(4)]
        return one(CARRIERS).format(text) if of_train(f"{first} {last}") else ""

    kinds = [name, name, name, lambda: one(commands), lambda: one(commands), lambda: one(told), lambda: one(told)]
    kinds += [lambda: answer(rng)]
    kinds += [lambda: one(CARRIERS_OF_THINGS).format(one(named))] * 2 if named else []
    out: dict[str, None] = {}
    while len(out) < count:
        text = normalize(kinds[rng.integers(len(kinds))]())
        if text and len(text) < 90 and held_out.isdisjoint(text.split()):
            out[text] = None
    return list(out)


def answer(rng: np.random.Generator) -> str:
    """Digits, spelled letters (no a, which voices read as an article), a date, a time, a choice, yes or no."""

    def some(words: Sequence[str], least: int = 1, most: int = 1) -> str:
        return " ".join(rng.choice(words, rng.integers(least, most + 1)))

    number, day = f"{some(_TENS)} {some(_DIGITS[2:])}", f"{some(_MONTHS)} {some(_ORDINALS)}"
    forms = [some(_DIGITS, 2, 10), some(list("bcdefghijklmnopqrstuvwxyz"), 2, 8), day, f"{day} nineteen {number}"]
    forms += [f"at {some(_DIGITS[2:])} {some(_TENS[:4])} {some(['', 'tomorrow', 'in the morning', 'on friday'])}"]
    forms += [f"the {some(_ORDINALS)} one {some(['', 'please', 'i think'])}", f"number {number}", number, some(_SHORT)]
    return str(rng.choice(forms))


def synthesize(
    data: Path,
    out: Path,
    count: int,
    seed: int,
    engines: Sequence[Engine],
    *,
    per_shard: int = 1000,
    limit_s: float = math.inf,
    progress: Progress = lambda *_: None,
) -> list[str]:
    """Writes OUT/synthesis-train.jsonl.gz and its shards; returns what this run could not say.

    Every utterance's voice, speed and pitch follow from the seed and its number. A shard is whole or not there; run
    again, it goes on behind the last one. The manifest names the shards that are there.

    Args:
        engines: which voices; their shares say how often. per_shard: utterances of a shard.
        limit_s: after so many seconds the last shard is closed where it is, and what it lacks is left out for good.
    """
    out.mkdir(parents=True, exist_ok=True)
    texts = prompts(data, count, np.random.default_rng(seed))
    failed: list[str] = []
    started = time.monotonic()
    for first in range(0, count, per_shard):
        shard = out / f"synthesis-train-{first // per_shard:02d}.tar"
        if shard.with_suffix(".jsonl").exists():
            continue
        if time.monotonic() - started > limit_s:
            break
        lines = []
        with tarfile.open(shard.with_suffix(".part"), "w") as tar:
            for number in range(first, min(count, first + per_shard)):
                if time.monotonic() - started > limit_s:
                    break
                progress("speaking", number + 1, count)
                rng = np.random.default_rng([seed, number])
                engine = _draw(engines, rng)
                voice = str(rng.choice(engine.voices))
                try:
                    samples = engine.say(texts[number], voice, rng)
                except (subprocess.CalledProcessError, ValueError) as error:
                    failed.append(f"{engine.name}/{voice}: {error}")
                    continue
                lines.append(_add(tar, shard.name, f"synthesis-{number:05d}", texts[number], engine, voice, samples))
        shard.with_suffix(".part").replace(shard)
        write_objects(shard.with_suffix(".jsonl"), lines)
    parts = sorted(out.glob("synthesis-train-*.jsonl"))
    write_objects(out / "synthesis-train.jsonl.gz", (line for part in parts for line in read_objects(part)))
    return failed


def _draw(engines: Sequence[Engine], rng: np.random.Generator) -> Engine:
    shares = np.array([engine.share for engine in engines])
    return engines[int(rng.choice(len(engines), p=shares / shares.sum()))]


def _add(
    tar: tarfile.TarFile, shard: str, name: str, text: str, engine: Engine, voice: str, samples: Samples
) -> dict[str, Any]:
    """Adds a recording to its shard and returns its line of the manifest."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="OGG", subtype="OPUS")
    member = tarfile.TarInfo(f"{name}.opus")
    member.size = len(file.getvalue())
    file.seek(0)
    tar.addfile(member, file)
    return {"id": f"{name}-{engine.name}", "audio": {"shard": shard, "member": member.name}, "text": text,
            "speaker": f"{engine.name}/{voice}", "duration_s": len(samples) / SAMPLE_RATE,
            "source": engine.name}  # fmt: skip
