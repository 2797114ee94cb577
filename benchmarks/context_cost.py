"""What context costs: `python -m benchmarks.context_cost` prints one JSON object, times in milliseconds; `cpu`: of the
processor's work for it, which other programs lengthen less."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import typer

from asr.context.checkpoint import ContextModels
from asr.context.phrase_index import PhraseIndex
from asr.context.types import Context, Entry, Turn
from asr.recognition.results import Hypothesis

_SYLLABLES = [
    "ba",
    "ker",
    "jo",
    "nes",
    "mil",
    "ler",
    "da",
    "vis",
    "gar",
    "cia",
    "tan",
    "to",
    "pel",
    "li",
    "son",
    "ray",
    "mo",
    "ni",
    "ka",
]


def _name(rng: random.Random) -> str:
    return " ".join("".join(rng.choices(_SYLLABLES, k=2)).title() for _ in range(2))


def _context(rng: random.Random, turns: int, entries: int) -> Context:
    said = [
        Turn("user" if i % 2 == 0 else "system", f"please find {_name(rng)} and tell me where") for i in range(turns)
    ]
    return Context(
        (*said[:-1], Turn("system", f"Do you mean {_name(rng)} or {_name(rng)}?")),
        tuple(Entry("contacts", _name(rng)) for _ in range(entries)),
    )


class _Watch:
    """Milliseconds while it runs, and those of the processor's work for this thread: the first are more where other
    programs run."""

    def __init__(self) -> None:
        self.spent = np.zeros(2)

    def __enter__(self) -> _Watch:
        self.spent -= self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.spent += self._now()

    @staticmethod
    def _now() -> np.ndarray:
        return np.array([1000 * time.perf_counter(), 1000 * time.thread_time()])


def _percentiles(name: str, run: Callable[[], np.ndarray], times: int) -> dict[str, dict[str, float]]:
    values = np.array([run() for _ in range(times + 3)][3:])
    shares = {f"p{p}": np.percentile(values, p, axis=0).round(2).tolist() for p in (50, 95, 99)}
    return {f"{name}{kind}_ms": {p: x[i] for p, x in shares.items()} for i, kind in enumerate(("", "_cpu"))}


def main(times: int = 100, threads: int = 1, weights: Path | None = None) -> None:
    """Encodes 8 turns and 100 entries; rescores 16 hypotheses against them, forced scoring not counted."""
    torch.set_num_threads(threads)
    rng = random.Random(1)
    models = ContextModels.load(weights)

    def encode() -> np.ndarray:
        context = _context(rng, 8, 100)
        with _Watch() as watch:
            _ = PhraseIndex(models.encoder.encode(context).phrases)
        return watch.spent

    def rescore() -> np.ndarray:
        embedding = models.encoder.encode(_context(rng, 8, 100))
        index = PhraseIndex(embedding.phrases)
        heard = [Hypothesis(f"call {_name(rng).lower()}"[: 18 - i], -10.0 - i) for i in range(16)]
        scoring = _Watch()

        def force_score(texts: Sequence[str]) -> list[Hypothesis]:
            with scoring:
                return [Hypothesis(t, -20.0 + 10 * rng.random()) for t in texts]

        with _Watch() as watch:
            models.rescorer.rescore(heard, embedding, force_score, index)
        return watch.spent - scoring.spent

    figures = _percentiles("encode", encode, times) | _percentiles("rescore", rescore, times)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    typer.run(main)
