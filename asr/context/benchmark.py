"""What context costs: `python -m asr.context.benchmark` prints one JSON object, times in milliseconds."""

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

from asr.context.encoder import ContextEncoder
from asr.context.rescorer import Rescorer
from asr.context.types import Context, Entry, Turn
from asr.hypothesis import Hypothesis

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


def _percentiles(run: Callable[[], float], times: int) -> dict[str, float]:
    values = [run() for _ in range(times + 3)][3:]
    return {f"p{p}": round(float(np.percentile(values, p)), 2) for p in (50, 95, 99)}


def main(times: int = 100, threads: int = 1, weights: Path | None = None) -> None:
    """Encodes 8 turns and 100 entries; rescores 16 readings against them, forced scoring not counted."""
    torch.set_num_threads(threads)
    rng = random.Random(1)
    encoder, rescorer = ContextEncoder.load(weights), Rescorer.load(weights)

    def encode() -> float:
        context = _context(rng, 8, 100)
        start = time.perf_counter()
        embedding = encoder.encode(context)
        _ = embedding.index
        return 1000 * (time.perf_counter() - start)

    def rescore() -> float:
        embedding = encoder.encode(_context(rng, 8, 100))
        _ = embedding.index
        heard = [Hypothesis(f"call {_name(rng).lower()}"[: 18 - i], -10.0 - i) for i in range(16)]
        spent = 0.0

        def force_score(texts: Sequence[str]) -> list[Hypothesis]:
            nonlocal spent
            start = time.perf_counter()
            scored = [Hypothesis(t, -20.0 + 10 * rng.random()) for t in texts]
            spent += time.perf_counter() - start
            return scored

        start = time.perf_counter()
        rescorer.rescore(heard, embedding, force_score)
        return 1000 * (time.perf_counter() - start - spent)

    sys.stdout.write(
        json.dumps({"encode_ms": _percentiles(encode, times), "rescore_ms": _percentiles(rescore, times)}) + "\n"
    )


if __name__ == "__main__":
    typer.run(main)
