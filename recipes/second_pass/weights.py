"""Tries weights of the scores that a final result is ranked by, on dev.

    python -m recipes.second_pass.weights DEV-MANIFEST... [--sample 50]

Every recording is heard once. Its texts, the transducer's and the attention decoder's together, are then ranked by
transducer and CTC head + L × language model + A × attention decoder + B × words. Prints the word error rate of each
set, percent, for the combinations with the least mean, and the least that any ranking of these texts could have.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from asr.audio import read_container
from asr.commands.compare_recognizers import read_sets
from asr.evaluation.manifest import Utterance
from asr.evaluation.wer import align, count
from asr.recognizer import ATTENTION_WEIGHT, Recognizer
from asr.recordings import AudioReader

NBEST = 20
LANGUAGE, ATTENTION, WORDS = (0.6, 1.0, 1.3), (0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0), (-1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Candidate:
    """acoustic, language, attention: nats, unweighted but for what the recogniser itself adds. errors: of its words."""

    acoustic: float
    language: float
    attention: float
    words: int
    errors: int

    def score(self, language: float, attention: float, words: float) -> float:
        return self.acoustic + language * self.language + attention * self.attention + words * self.words


def candidates(recognizer: Recognizer, audio: AudioReader, utterance: Utterance) -> list[Candidate]:
    samples, rate = read_container(audio.read(utterance.audio))
    return [
        Candidate(
            h.acoustic,
            h.language,
            h.attention / ATTENTION_WEIGHT,
            len(h.text.split()),
            count(align(utterance.reference, h.text)).total,
        )
        for h in recognizer.recognize(samples, rate, NBEST).nbest
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+", metavar="DEV-MANIFEST")
    parser.add_argument("--sample", type=int, default=50, help="Recordings of each manifest.")
    args = parser.parse_args()
    utterances, _ = read_sets(args.manifests, None, args.sample, 0)
    recognizer = Recognizer.load()
    lists, words = defaultdict(list), defaultdict(int)
    with AudioReader() as audio:
        for utterance in track(utterances, "listening", console=Console(stderr=True)):
            lists[utterance.set].append(candidates(recognizer, audio, utterance))
            words[utterance.set] += count(align(utterance.reference, "")).words
    rows = []
    for weights in itertools.product(LANGUAGE, ATTENTION, WORDS):
        errors = {s: sum(max(c, key=lambda x: x.score(*weights)).errors for c in lists[s]) for s in lists}
        rows.append((weights, [100 * errors[s] / words[s] for s in lists]))
    rows.sort(key=lambda row: sum(row[1]))
    table = Table("L", "A", "B", *lists)
    shipped = [row for row in rows if row[0] == (1.0, ATTENTION_WEIGHT, 0.0)]
    without = [row for row in rows if row[0] == (1.0, 0.0, 0.0)]
    for weights, rates in [*rows[:8], *shipped, *without]:
        table.add_row(*(f"{w:g}" for w in weights), *(f"{rate:.1f}" for rate in rates))
    least = [100 * sum(min(x.errors for x in c) for c in lists[s]) / words[s] for s in lists]
    table.add_row("", "", "any", *(f"{rate:.1f}" for rate in least))
    Console().print(table)


if __name__ == "__main__":
    main()
