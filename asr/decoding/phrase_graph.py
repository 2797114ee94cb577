"""Phrases to expect, as an automaton of arrays that a beam search advances beside the transducer.

Rules (the table in tests/support/phrase_rules.py says them by example):

1. A phrase matches whole words: from a word's start to a word's end, in whatever way the tokens spell it.
2. Text is read from left to right. At each word the longest phrase that begins there is taken and the text behind it
   is read on; where none begins, the next word is tried. So no word is in two matches.
3. Directly behind a match, neither the same phrase nor a longer one that begins with its words is taken: the phrase
   said again belongs to the match, whatever is behind that too. So a run of one phrase is granted once.
4. A match grants its phrase's weight, but at most PER_TOKEN for each token of its shortest spelling. While a phrase is
   being spelled it is granted in parts, letter by letter; what an unfinished phrase was granted is taken back when it
   is left and at the end of the text.
5. A phrase matches where any of its usual spoken forms is said: "Dr. Brown" by "doctor brown" and "dr brown".

The automaton is that of Aho and Corasick (1975), its failure links changed to give leftmost-longest matches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.decoding.automaton import UNIT, Pieces, build, encode
from asr.text import spoken_forms
from asr.text.tokenizer import Tokenizer

MAX_WEIGHT = 60.0
"""Nats that a phrase may be raised or lowered by; more counts as this much."""
PER_TOKEN = 4.0
"""Nats for each token of a phrase's shortest spelling, at most: less than a token costs where it was not said."""
MAX_LETTERS = 100
MAX_CELLS = 100_000_000
"""States times tokens of a graph, 4 bytes each, 6 above 32,767 states; 10,000 names over 256 tokens take 33 million."""

MAX_FORMS = 8
"""Spoken forms of a phrase that are matched."""
FORMS_SHARE = 4
"""The forms past each phrase's first take at most so large a part of MAX_CELLS, the most usual first."""
FORMS_GROWTH, FEW_STATES = 2, 2_000
"""Nor do they take more than so many times the room of the first forms, where that is more than some megabytes."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class BoostedPhrase:
    """A phrase to expect."""

    text: str
    """As a user writes it; it is normalised."""
    weight: float = 5.0
    """Nats that a hypothesis with it gains, -MAX_WEIGHT to MAX_WEIGHT."""
    signal: str = ""
    """Where it is from, for reports."""


@dataclass(frozen=True, eq=False)
class PhraseGraph:
    """Phrases of one stream, compiled; a value that any number of streams share. S: states, V: vocabulary.

    State 0 is the beginning of a text. Without accepted phrases a graph is false.
    """

    accepted: tuple[BoostedPhrase, ...]
    """The phrases taken, as normalised texts with the weights that count."""
    dropped: tuple[tuple[BoostedPhrase, str], ...]
    """Those that were not taken, each with the reason."""
    spoken: Mapping[str, BoostedPhrase]
    """Each spoken form that is matched, the normal ones among them, with its phrase as it was given."""
    _next: Array = field(repr=False)
    _gain: Array = field(repr=False)
    _final: Array = field(repr=False)
    _max_gain: Array = field(repr=False)

    def __len__(self) -> int:
        return len(self.accepted)

    @property
    def bytes(self) -> int:
        """Memory of its tables."""
        return int(self._next.nbytes + self._gain.nbytes)

    def gains(self, state: Array) -> Array:
        """(N,) int64 states → (N, V) float32 nats that each token gains, refunds included; the blank column is 0."""
        return self._gain.take(state, 0) * np.float32(UNIT)

    def max_gain(self, state: Array) -> Array:
        """(N,) states → (N,) float32 nats, the largest of `gains`."""
        return self._max_gain.take(state)

    def advance(self, state: Array, token: Array) -> tuple[Array, Array]:
        """(N,) states and the (N,) tokens that they read → (N,) float32 nats gained, (N,) int64 states."""
        return self._gain[state, token] * np.float32(UNIT), self._next[state, token].astype(np.int64)

    def final(self, state: Array) -> Array:
        """(N,) states → (N,) float32 nats to add where the text ends: the refund of an unfinished phrase."""
        return self._final[state]

    def bonus(self, tokens: Sequence[int]) -> float:
        """Nats that a whole text gains, without those of an unfinished phrase."""
        state, total = 0, 0.0
        for token in tokens:
            total += float(self._gain[state, token]) * UNIT
            state = int(self._next[state, token])
        return total + float(self._final[state])


class PhraseCompiler:
    """Compiles phrases for one tokenizer. Threads may share one; nothing of a phrase is kept in it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._pieces = Pieces(tokenizer)

    def compile(self, phrases: Sequence[BoostedPhrase]) -> PhraseGraph:
        """Compile phrases to a graph.

        A phrase that cannot be taken is dropped with the reason; of one that is there twice the larger weight counts.
        """
        taken: dict[str, _Taken] = {}
        dropped: list[tuple[BoostedPhrase, str]] = []
        most = MAX_CELLS // self._pieces.vocab_size
        room = most
        for phrase in phrases:
            forms, reason = _read(phrase)
            text = forms[0]
            if not reason and _states(text) > room and text not in taken:
                reason = "the list is too long: drop what is less likely"
            if reason:
                dropped.append((phrase, reason))
                continue
            weight = max(-MAX_WEIGHT, min(MAX_WEIGHT, phrase.weight))
            known = taken.get(text)
            if known is None:
                room -= _states(text)
                taken[text] = _Taken(phrase, forms, weight)
            else:
                dropped.append((phrase, "listed before: the larger weight counts"))
                if weight > known.weight:
                    taken[text] = _Taken(phrase, forms, weight)
        for_forms = min(room, most // FORMS_SHARE, max(FEW_STATES, FORMS_GROWTH * (most - room)))
        return self._build(taken, _other_forms(taken, for_forms), dropped)

    def _build(
        self, taken: dict[str, _Taken], others: dict[str, _Taken], dropped: list[tuple[BoostedPhrase, str]]
    ) -> PhraseGraph:
        matched = {**taken, **others}
        letters, length = encode(list(matched))
        weight = np.array([one.weight for one in matched.values()], np.float64)
        made = build(letters, length, weight, PER_TOKEN, self._pieces)
        accepted, spoken = [], {}
        for (text, one), granted, tokens in zip(
            matched.items(), made.weight.tolist(), made.tokens.tolist(), strict=True
        ):
            if tokens:
                spoken[text] = one.phrase
                if text in taken:
                    accepted.append(BoostedPhrase(text, granted * UNIT, one.phrase.signal))
            elif text in taken:
                dropped.append((one.phrase, "no tokens spell it"))
        max_gain = made.gain.max(1).astype(np.float32) * np.float32(UNIT)
        final = made.final.astype(np.float32) * np.float32(UNIT)
        return PhraseGraph(tuple(accepted), tuple(dropped), spoken, made.next, made.gain, final, max_gain)


@dataclass(frozen=True)
class _Taken:
    """A phrase that is taken, as it was given, its spoken forms, the normal one first, and the weight that counts."""

    phrase: BoostedPhrase
    forms: tuple[str, ...]
    weight: float


def _states(text: str) -> int:
    """At most so many states for a text and its echo."""
    return 2 * (len(text) + 1)


def _other_forms(taken: dict[str, _Taken], room: int) -> dict[str, _Taken]:
    """The forms that are no phrase's normal one: the second of all phrases, then the third, while there is room."""
    others: dict[str, _Taken] = {}
    for place in range(1, MAX_FORMS):
        for one in taken.values():
            form = one.forms[place] if place < len(one.forms) else ""
            if form and form not in taken and form not in others and _states(form) <= room:
                room -= _states(form)
                others[form] = one
    return others


def _read(phrase: BoostedPhrase) -> tuple[tuple[str, ...], str]:
    """The spoken forms, the normal one first, and why the phrase cannot be taken, "" where it can."""
    forms = spoken_forms(phrase.text[: 4 * MAX_LETTERS], MAX_FORMS)
    text = forms[0]
    if not text:
        return forms, "no words in it"
    if len(text) > MAX_LETTERS or len(phrase.text) > 4 * MAX_LETTERS:
        return forms, f"longer than {MAX_LETTERS} letters: give the part that is said"
    if not math.isfinite(phrase.weight) or phrase.weight == 0:
        return forms, "its weight must be finite and not 0"
    return tuple(f for f in forms if len(f) <= MAX_LETTERS), ""


def compile_phrases(phrases: Sequence[BoostedPhrase], tokenizer: Tokenizer) -> PhraseGraph:
    """Compile phrases to a graph, as `PhraseCompiler.compile`."""
    return PhraseCompiler(tokenizer).compile(phrases)
