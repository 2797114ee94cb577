"""Makes sets of answers to a question that offers names, as plain as real life, spoken by several synthesisers.

    python -m recipes.names.makes DATA VOICES OUT [--split dev] [--each 12] [--seed 0]

DATA has text/names; VOICES the files of Kokoro; flite and espeak-ng are programs on the PATH. OUT gets a manifest for
each synthesiser, `names-SYNTHESISER-SPLIT.jsonl`, and the recordings. Names of the splits are apart (the first byte of
the MD5 digest of a name, modulo ten: 8 is dev, 9 is test), and so are the voices.

Nothing but the question and the names that it is about is known: no further contacts and no planted sound-alikes,
unless the kind of turn has them. Trained models never see these sets: they tell what a scorer has learned of its lists.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from rich.progress import track

from asr.audio import SAMPLE_RATE, Samples
from asr.jsonl import text_lines, write_objects
from asr.text import normalize
from asr.training.kokoro import Kokoro

Say = Callable[[str, str, np.random.Generator], Samples]
SPLITS = {"dev": 8, "test": 9}
VOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "dev": {
        "kokoro": ("af_kore", "am_liam", "bf_alice", "bm_fable"),
        "espeak": ("en-us", "en-gb", "en-us+f3"),
        "flite": ("slt", "kal16"),
    },
    "test": {
        "kokoro": ("af_sarah", "am_eric", "bf_emma", "bm_george"),
        "espeak": ("en-gb-x-rp", "en-us+m3", "en-gb-scotland"),
        "flite": ("rms", "awb"),
    },
}
ASK = (
    "Do you mean {0} or {1}?", "Did you mean {0} or {1}?", "{0} or {1}?", "I found {0} and {1}. Which one?",
    "There are two: {0} and {1}. Who would you like?", "Which one, {0} or {1}?",
)  # fmt: skip
CARRIERS = ("{}", "{}", "{}", "{} please", "I mean {}", "no, {}", "call {}", "the answer is {}")
BESIDE = (
    "cancel", "never mind", "stop", "what time is it", "turn the lights off", "yes", "no", "play some music",
    "set a timer for ten minutes", "how is the weather tomorrow", "neither of them", "what did you say", "go back",
)  # fmt: skip
ORDINALS = (("the first one", 0), ("the second one", 1), ("the second", 1), ("the first", 0), ("the last one", 1))
TITLES = (("Dr.", "doctor"), ("Mr.", "mister"), ("Mrs.", "missus"), ("Prof.", "professor"))


@dataclass(frozen=True)
class Turn:
    """question: "" where none is known. entries: what is listed. spoken: as it is given to the synthesiser; text: its
    words. target: the entry that is meant, None where none is."""

    kind: str
    question: str
    entries: tuple[str, ...]
    spoken: str
    text: str
    target: str | None


class Names:
    """given, surnames: of the split, frequent ones first."""

    def __init__(self, data: Path, split: str, rng: random.Random) -> None:
        self.rng = rng

        def column(file: str, most: int) -> list[str]:
            names = [line.split("\t")[0] for line in list(text_lines(data / "text" / "names" / file))[1:]]
            own = [n for n in names if hashlib.md5(n.lower().encode()).digest()[0] % 10 == SPLITS[split]]
            return [n.capitalize() for n in own if n.isalpha()][:most]

        self.given, self.surnames = column("given_names.tsv.gz", 150), column("surnames.tsv.gz", 1500)

    def given_names(self, count: int) -> list[str]:
        return self.rng.sample(self.given, count)

    def surname(self, count: int) -> list[str]:
        common = self.rng.random() < 0.5
        return self.rng.sample(self.surnames[:200] if common else self.surnames, count)


def turns(names: Names, rng: random.Random) -> dict[str, Callable[[], Turn]]:
    """A maker of turns for each kind of them."""

    def ask(entries: list[str]) -> str:
        return rng.choice(ASK).format(*entries)

    def said(text: str) -> str:
        return rng.choice(CARRIERS).format(text)

    def plain(kind: str, question: str, entries: list[str], spoken: str, target: str | None) -> Turn:
        return Turn(kind, question, tuple(entries), spoken, normalize(spoken), target)

    def one_given_name(question: bool = True, listed: bool = True) -> Turn:
        (given,), surnames = names.given_names(1), names.surname(2)
        entries, at = [f"{given} {surname}" for surname in surnames], rng.randrange(2)
        kind = "two full names" if question and listed else "question alone" if question else "entries alone"
        return plain(kind, ask(entries) if question else "", entries if listed else [], said(surnames[at]), entries[at])

    def two_persons() -> Turn:
        given, surnames = names.given_names(2), names.surname(2)
        entries, at = [f"{g} {s}" for g, s in zip(given, surnames, strict=True)], rng.randrange(2)
        answer = rng.choice((given[at], surnames[at], entries[at]))
        return plain("two persons", ask(entries), entries, said(answer), entries[at])

    def titles() -> Turn:
        (surname,), pair, at = names.surname(1), rng.sample(TITLES, 2), rng.randrange(2)
        entries = [f"{title} {surname}" for title, _ in pair]
        spoken = "misses" if pair[at][1] == "missus" else pair[at][1]
        text = normalize(entries[at])
        return Turn("titles", ask(entries), tuple(entries), f"{spoken} {surname}", text, entries[at])

    def surnames_alone() -> Turn:
        entries, at = names.surname(2), rng.randrange(2)
        return plain("two surnames", ask(entries), entries, said(entries[at]), entries[at])

    def listed(count: int) -> Turn:
        entries = [f"{names.given_names(1)[0]} {names.surname(1)[0]}" for _ in range(count)]
        target = rng.choice(entries)
        carrier = rng.choice(("{}", "call {}", "{} please"))
        return plain(f"list of {count}", "Who do you want to call?", entries, carrier.format(target), target)

    def not_listed(count: int) -> Turn:
        entries = [f"{names.given_names(1)[0]} {names.surname(1)[0]}" for _ in range(count)]
        other = f"{names.given_names(1)[0]} {names.surname(1)[0]}"
        return plain("not listed", "Who do you want to call?", entries, other, None)

    def beside() -> Turn:
        (given,), surnames = names.given_names(1), names.surname(2)
        entries = [f"{given} {surname}" for surname in surnames]
        return plain("beside the point", ask(entries), entries, rng.choice(BESIDE), None)

    def ordinals() -> Turn:
        (given,), surnames = names.given_names(1), names.surname(2)
        entries = [f"{given} {surname}" for surname in surnames]
        spoken, at = rng.choice(ORDINALS)
        return plain("ordinals", ask(entries), entries, spoken, entries[at])

    return {
        "two full names": one_given_name,
        "two persons": two_persons,
        "two surnames": surnames_alone,
        "titles": titles,
        "question alone": lambda: one_given_name(listed=False),
        "entries alone": lambda: one_given_name(question=False),
        "list of 20": lambda: listed(20),
        "list of 200": lambda: listed(200),
        "not listed": lambda: not_listed(rng.choice((5, 30, 100))),
        "beside the point": beside,
        "ordinals": ordinals,
    }


def program(command: Callable[[str, str], list[str]]) -> Say:
    """A synthesiser that is a program; it writes a WAV file to the last argument."""

    def say(text: str, voice: str, rng: np.random.Generator) -> Samples:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            subprocess.run([*command(text, voice), file.name], check=True, capture_output=True)
            samples, rate = soundfile.read(file.name, dtype="float32")
        return soxr.resample(samples, rate, SAMPLE_RATE).astype(np.float32)

    return say


def recorded(samples: Samples, rng: np.random.Generator) -> Samples:
    """As of a quiet room: a little silence around it, a level of −6 to −26 dBFS, noise 45 to 60 dB below."""
    samples = samples / (np.abs(samples).max() + 1e-9) * 10 ** (-rng.uniform(6, 26) / 20)
    samples = np.pad(samples, (int(rng.uniform(0.1, 0.5) * SAMPLE_RATE), int(rng.uniform(0.2, 0.5) * SAMPLE_RATE)))
    noise = rng.standard_normal(len(samples)) * np.abs(samples).max() * 10 ** (-rng.uniform(45, 60) / 20)
    return (samples + noise).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("voices", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", choices=SPLITS, default="dev")
    parser.add_argument("--each", type=int, default=12, help="Turns of each kind and synthesiser.")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, noise = random.Random(args.seed), np.random.default_rng(args.seed)
    makers = turns(Names(args.data, args.split, rng), rng)
    voices = VOICES[args.split]
    speak: dict[str, Say] = {
        "kokoro": Kokoro(args.voices, voices["kokoro"]).say,
        "espeak": program(lambda text, voice: ["espeak-ng", "-v", voice, "-s", "150", text, "-w"]),
        "flite": program(lambda text, voice: ["flite", "-voice", voice, "-t", text, "-o"]),
    }
    (args.out / "audio").mkdir(parents=True, exist_ok=True)
    for make, say in speak.items():
        lines: list[dict[str, Any]] = []
        planned = [(kind, voices[make][i % len(voices[make])]) for kind in makers for i in range(args.each)]
        for number, (kind, voice) in enumerate(track(planned, make)):
            turn, name = makers[kind](), f"names-{make}-{args.split}-{number:04}"
            path = args.out / "audio" / f"{name}.flac"
            soundfile.write(path, recorded(say(turn.spoken, voice, noise), noise), SAMPLE_RATE)
            context = {
                "turns": [{"speaker": "user", "text": "call someone"}, {"speaker": "system", "text": turn.question}]
                if turn.question
                else [{"speaker": "user", "text": "call someone"}],
                "entities": [{"signal": "contacts", "text": entry} for entry in turn.entries],
            }
            lines.append({
                "id": name, "path": f"audio/{path.name}", "text": turn.text, "speaker": f"{make}/{voice}",
                "set": kind, "target": turn.target, "context": context,
            })  # fmt: skip
        write_objects(args.out / f"names-{make}-{args.split}.jsonl", lines)


if __name__ == "__main__":
    main()
