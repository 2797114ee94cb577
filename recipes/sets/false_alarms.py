"""Counts the words that a recogniser writes where nobody says anything, in ten minutes of each kind of sound.

    python -m recipes.sets.false_alarms runs/sounds/non-speech.jsonl [--each 2] [--model DIR] [--json FILE]

Every recording is a live stream with endpointing; words of final results count. Each is heard with no phrases, with
["yes", "no"], with ["up", "down"] and with a hundred contacts, all at the default boost, with the second pass and
without it. The manifest's `make` names the kind.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from asr.audio import SAMPLE_RATE, Samples, read_at_16k
from asr.decoding import BoostedPhrase, PhraseGraph
from asr.evaluation.jsonl import read_objects
from asr.evaluation.recordings import AudioReader, parse_audio
from asr.recognition.recognizer import Recognizer, StreamOptions

PER_S = 600
CHUNK_S = 0.1
GIVEN = ("Sam", "Meg", "Anna", "John", "Maria", "David", "Lee", "Omar", "Chloe", "Ben")
SURNAMES = ("Miller", "Taylor", "Bauer", "Jones", "Price", "Young", "Day", "Ngo", "Hill", "O'Neill")
PHRASES: dict[str, tuple[str, ...]] = {
    "none": (),
    "yes, no": ("yes", "no"),
    "up, down": ("up", "down"),
    "100": tuple(f"{given} {surname}" for given in GIVEN for surname in SURNAMES),
}


@dataclass(frozen=True)
class Alarms:
    """words, finals (those with words) in ten minutes, and the texts that came most often."""

    words: float
    finals: float
    texts: tuple[str, ...]


def texts_in(recognizer: Recognizer, samples: Samples, graphs: list[PhraseGraph]) -> list[list[str]]:
    """The texts of the final results that are not empty, with each of the graphs, as live streams."""
    streams = [recognizer.open(StreamOptions(graph=graph)) for graph in graphs]
    texts: list[list[str]] = [[] for _ in graphs]
    step = round(CHUNK_S * SAMPLE_RATE)
    for start in range(0, len(samples) + step, step):
        for stream in streams:
            if start < len(samples):
                stream.take(samples[start : start + step])
            else:
                stream.end()
        while ready := [i for i, stream in enumerate(streams) if stream.ready]:
            for i, results in zip(ready, recognizer.advance([streams[i] for i in ready]), strict=True):
                texts[i] += [r.nbest[0].text for r in results if r.is_final and r.nbest[0].text]
    return texts


def count(recognizer: Recognizer, manifest: Path, each: int) -> dict[str, dict[str, Alarms]]:
    """By kind, then by phrases. each: recordings of a kind at most."""
    graphs = [recognizer.compile(map(BoostedPhrase, phrases)) for phrases in PHRASES.values()]
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: {name: [] for name in PHRASES})
    seconds: dict[str, float] = defaultdict(float)
    number: dict[str, int] = defaultdict(int)
    with AudioReader() as audio:
        for line in track(list(read_objects(manifest)), "listening"):
            kind = line["make"]
            number[kind] += 1
            if number[kind] > each:
                continue
            samples = read_at_16k(audio.read(parse_audio(line, manifest.parent)))
            seconds[kind] += len(samples) / SAMPLE_RATE
            for name, texts in zip(PHRASES, texts_in(recognizer, samples, graphs), strict=True):
                found[kind][name] += texts
    return {
        kind: {name: alarms(texts, seconds[kind]) for name, texts in by_phrases.items()}
        for kind, by_phrases in found.items()
    }


def alarms(texts: list[str], seconds: float) -> Alarms:
    """What so many seconds brought, as in ten minutes."""
    most = sorted(dict.fromkeys(texts), key=texts.count, reverse=True)[:4]
    return Alarms(
        round(sum(len(t.split()) for t in texts) * PER_S / seconds, 1),
        round(len(texts) * PER_S / seconds, 1),
        tuple(most),
    )


def table(by_passes: dict[str, dict[str, dict[str, Alarms]]]) -> Table:
    """A row for each kind, a column for each phrases and passes, and what was written."""
    out = Table(caption="words in ten minutes, by phrases at the default boost", pad_edge=False)
    out.add_column("kind")
    for passes in by_passes:
        for phrases in PHRASES:
            out.add_column(f"{passes}: {phrases}", justify="right")
    out.add_column("for example")
    for kind in next(iter(by_passes.values())):
        cells = [by_kind[kind][phrases] for by_kind in by_passes.values() for phrases in PHRASES]
        texts = list(dict.fromkeys(text for cell in cells for text in cell.texts))[:5]
        out.add_row(kind, *(f"{cell.words:g}" for cell in cells), "; ".join(texts))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--each", type=int, default=10, help="recordings of each kind at most")
    parser.add_argument("--model", type=Path, help="folder of the acoustic model; none: the shipped one")
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    found = {}
    for passes, second_pass in (("one pass", False), ("both", True)):
        found[passes] = count(Recognizer.load(args.model, second_pass=second_pass), args.manifest, args.each)
    Console(width=240, highlight=False).print(table(found))
    if args.json:
        plain = {p: {k: {n: asdict(a) for n, a in v.items()} for k, v in by.items()} for p, by in found.items()}
        args.json.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    main()
