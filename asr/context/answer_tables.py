"""What training texts say about how people answer: words around names, common answers, frequent names."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asr.context import phonetics


@dataclass(frozen=True)
class Carrier:
    """Words around an entity, with their sounds."""

    before: str
    after: str
    sound_before: str
    sound_after: str
    logp: float


@dataclass(frozen=True)
class AnswerTables:
    """What training texts say about how people answer."""

    carriers: dict[tuple[str, str], float] = field(default_factory=lambda: {("", ""): 0.0})
    """(before, after) the entity → log probability, ("", "") among them."""
    answers: dict[str, dict[str, float]] = field(default_factory=dict)
    """By kind of question, whole answers that name no entity → log probability."""
    given: frozenset[str] = frozenset()
    surnames: frozenset[str] = frozenset()
    """Frequent names, normalised."""

    by_sound: tuple[Carrier, ...] = field(init=False, repr=False)
    """The carriers, most frequent first."""
    logps: NDArray[np.float32] = field(init=False, repr=False, compare=False)
    """Of `by_sound`."""
    spoken: dict[str, list[tuple[str, str, float]]] = field(init=False, repr=False)
    """By kind of question: whole answers, their phones, their log probabilities."""

    def __post_init__(self) -> None:
        phones, put = phonetics.phones, object.__setattr__
        ranked = sorted(self.carriers.items(), key=lambda c: -c[1])
        put(self, "by_sound", tuple(Carrier(b, a, phones(b), phones(a), p) for (b, a), p in ranked))
        put(self, "logps", np.array([p for _, p in ranked], np.float32))
        spoken = {q: [(t, phones(t), p) for t, p in known.items()] for q, known in self.answers.items()}
        put(self, "spoken", spoken)

    def is_name(self, word: str) -> bool:
        """Whether it is a frequent given name or surname."""
        return word in self.given or word in self.surnames
