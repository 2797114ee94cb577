"""Makes sets of what people recorded as answers: words, numbers, dates and spelled names of whole recordings.

    python -m recipes.sets.people DATA OUT [--split dev] [--each 10] [--seed 0]

A corpus is a make: OUT gets `people-CORPUS-SPLIT.jsonl` and the recordings. What was said is offered beside something
else, which sounds alike or not, in a question or in a list of ten; or only other things are offered, and none of them
is meant. Recordings are those of the corpus' own split, so speakers of dev and test are apart.
"""

from __future__ import annotations

import argparse
import random
import string
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from string import capwords
from typing import Any

from rich.progress import track

from asr.evaluation.jsonl import read_objects, text_lines, write_objects
from asr.evaluation.recordings import AudioReader, parse_audio
from recipes.sets.names import SPLITS, Sounds
from recipes.sets.turns import OFFERS_OF_THINGS

CORPORA = ("an4", "speech_commands", "librispeech", "fsdd_strings")
LONGEST = 8
"""Words of an answer at most; of letters, twice as many."""
ASKED = ("Which one?", "What would you like?", "Please choose.", "Which of these is it?", "Say the one you want.")
_FREQUENT = 4000
"""Words that may stand in for one that was said."""
NUMBERS = (
    "eight", "eighteen", "eighty", "eleven", "fifteen", "fifty", "five", "forty", "four", "fourteen", "hundred", "nine",
    "nineteen", "ninety", "oh", "one", "seven", "seventeen", "seventy", "six", "sixteen", "sixty", "ten", "thirteen",
    "thirty", "three", "twelve", "twenty", "two", "zero",
)  # fmt: skip
KINDS = (
    "one of two", "one of two that sound alike", "one of ten", "one of ten that sound alike",
    "none of two", "none of two that sound alike", "none of ten", "none of ten that sound alike",
)  # fmt: skip


class Alternatives:
    """What could have been said instead. texts: what others said in the corpus."""

    def __init__(self, texts: Sequence[str], sounds: Sounds, words: Sequence[str]) -> None:
        self._sounds = sounds
        self._texts = sorted(set(texts))
        self._words = sorted({word for word in (*words, *" ".join(texts).split()) if len(word) > 1})

    def others(self, rng: random.Random, text: str, count: int) -> list[str]:
        """Different texts that are not this one, of its kind first: all letters, or as many words."""
        pool = [t for t in self._texts if t != text]
        rng.shuffle(pool)
        return sorted(pool, key=lambda t: (_spelled(t) != _spelled(text), abs(len(t.split()) - len(text.split()))))[
            :count
        ]

    def alike(self, rng: random.Random, text: str, count: int) -> list[str]:
        """Texts with one word exchanged for one that sounds nearly like it; others where there are too few."""
        words, found = text.split(), dict[str, None]()
        for place in rng.sample(range(len(words)), len(words)):
            for near in self._sounds.near(words[place], self._pool(words[place], alone=len(words) == 1), 4):
                found[" ".join((*words[:place], near, *words[place + 1 :]))] = None
        some = rng.sample(sorted(found), min(count, len(found)))
        return [*some, *(t for t in self.others(rng, text, count) if t not in found)][:count]

    def _pool(self, word: str, alone: bool) -> Iterable[str]:
        """What may stand in for a word: letters for letters, in a code numbers for numbers."""
        if len(word) == 1:
            return string.ascii_lowercase
        return NUMBERS if word in NUMBERS and not alone else self._words


def _spelled(text: str) -> bool:
    return all(len(word) == 1 for word in text.split())


def written(text: str) -> str:
    """As a list would show it: letters as a code, words with capitals."""
    return text.upper() if _spelled(text) else capwords(text)


def line_of(kind: str, text: str, alternatives: Alternatives, rng: random.Random) -> dict[str, Any]:
    """{set, target, context} in the manifest's form."""
    meant, count = kind.startswith("one"), 10 if "ten" in kind else 2
    draw: Callable[..., list[str]] = alternatives.alike if "alike" in kind else alternatives.others
    entries = [written(t) for t in ([text] if meant else []) + draw(rng, text, count - meant)]
    rng.shuffle(entries)
    question = rng.choice(OFFERS_OF_THINGS).format(*entries) if len(entries) == 2 else rng.choice(ASKED)
    return {
        "set": kind,
        "target": written(text) if meant else None,
        "context": {
            "turns": [{"speaker": "user", "text": "show me the list"}, {"speaker": "system", "text": question}],
            "entities": [{"signal": "screen", "text": entry} for entry in dict.fromkeys(entries)],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of docs/data.md")
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=SPLITS, default="dev")
    parser.add_argument("--each", type=int, default=10, help="recordings of each kind and corpus")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    frequency = text_lines(args.data / "text/wordfreq.tsv.gz")
    words = [line.split("\t")[0] for line, _ in zip(frequency, range(_FREQUENT), strict=False)][1:]
    sounds = Sounds(args.data)
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    for corpus in CORPORA:
        folder = args.data / "speech" / corpus
        rows = [
            row
            for row in read_objects(folder / f"{corpus}-{args.split}.jsonl.gz")
            if len(row["text"].split()) <= (2 * LONGEST if _spelled(row["text"]) else LONGEST)
        ]
        alternatives = Alternatives([row["text"] for row in rows], sounds, words)
        rng = random.Random(f"{args.seed} {args.split} {corpus}")
        rng.shuffle(rows)
        lines = []
        with AudioReader() as audio:
            for number in track(range(len(KINDS) * args.each), corpus):
                kind, row = KINDS[number % len(KINDS)], rows[number % len(rows)]
                name = f"people-{corpus}-{args.split}-{number:04}"
                (args.out / "audio" / f"{name}.opus").write_bytes(audio.read(parse_audio(row, folder)))
                lines.append({
                    "id": name, "path": f"audio/{name}.opus", "text": row["text"], "speaker": row["speaker"],
                    "make": corpus, **line_of(kind, row["text"], alternatives, rng),
                })  # fmt: skip
        write_objects(args.out / f"people-{corpus}-{args.split}.jsonl", lines)


if __name__ == "__main__":
    main()
