"""Batches of augmented speech, and of sounds that nobody speaks, made ahead of the training on worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from asr.audio import Samples
from recipes.acoustic.augment import augment, recorded
from recipes.acoustic.sounds import draw_sound
from recipes.acoustic.speech import SpeechCache, Utterance


@dataclass(frozen=True)
class Planned:
    """A batch before its audio is made; epoch, step: where in the training it comes."""

    epoch: int
    step: int
    utterances: list[Utterance]


@dataclass(frozen=True)
class Rendered:
    """waves: one augmented recording for each utterance, of different lengths, 16 kHz. texts: what is said in each, ""
    where a sound took the utterance's place."""

    planned: Planned
    waves: list[Samples]
    texts: list[str]


class _Renderings(Dataset[Rendered]):
    def __init__(self, cache: SpeechCache, seed: int, sounds: float) -> None:
        self._cache, self._seed, self._sounds = cache, seed, sounds

    def __getitem__(self, planned: Planned) -> Rendered:
        rng = np.random.default_rng([self._seed, planned.step])
        cache, everyone = self._cache, self._cache.utterances

        def draw() -> Samples:
            return cache.samples(everyone[rng.integers(len(everyone))])

        waves, texts = [], []
        for utterance in planned.utterances:
            spoken = not self._sounds or rng.random() >= self._sounds
            samples = cache.samples(utterance)
            waves.append(augment(samples, draw, rng) if spoken else recorded(draw_sound(len(samples), draw, rng), rng))
            texts.append(utterance.text if spoken else "")
        return Rendered(planned, waves, texts)


def render(
    cache: SpeechCache, plan: Iterable[Planned], seed: int, workers: int = 0, sounds: float = 0.0
) -> Iterator[Rendered]:
    """The batches of a plan, in its order; seed and step decide how each sounds, whatever the number of workers.

    workers: processes; 0 renders in this one, when the batch is asked for. sounds: share of the utterances in whose
    place a sound that nobody speaks is heard.
    """
    loader = DataLoader(
        _Renderings(cache, seed, sounds), batch_size=None, sampler=plan, num_workers=workers, collate_fn=_as_it_is
    )
    yield from loader


def _as_it_is(rendered: Any) -> Any:
    return rendered
