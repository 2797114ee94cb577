"""Batches of augmented speech, made ahead of the training on worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from asr.audio import Samples
from asr.training.augment import augment
from asr.training.speech import SpeechCache, Utterance


@dataclass(frozen=True)
class Planned:
    """A batch before its audio is made; epoch, step: where in the training it comes."""

    epoch: int
    step: int
    utterances: list[Utterance]


@dataclass(frozen=True)
class Rendered:
    """waves: one augmented recording for each utterance, of different lengths, 16 kHz."""

    planned: Planned
    waves: list[Samples]


class _Renderings(Dataset[Rendered]):
    def __init__(self, cache: SpeechCache, seed: int) -> None:
        self._cache, self._seed = cache, seed

    def __getitem__(self, planned: Planned) -> Rendered:
        rng = np.random.default_rng([self._seed, planned.step])
        cache, everyone = self._cache, self._cache.utterances

        def draw() -> Samples:
            return cache.samples(everyone[rng.integers(len(everyone))])

        return Rendered(planned, [augment(cache.samples(u), draw, rng) for u in planned.utterances])


def render(cache: SpeechCache, plan: Iterable[Planned], seed: int, workers: int = 0) -> Iterator[Rendered]:
    """The batches of a plan, in its order; seed and step decide how each sounds, whatever the number of workers.

    workers: processes; 0 renders in this one, when the batch is asked for.
    """
    loader = DataLoader(
        _Renderings(cache, seed), batch_size=None, sampler=plan, num_workers=workers, collate_fn=_as_it_is
    )
    yield from loader


def _as_it_is(rendered: Any) -> Any:
    return rendered
