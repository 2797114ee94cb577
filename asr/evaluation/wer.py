"""Word errors: alignment, words in and outside of the context's phrases, entity recall, oracle.

Texts may be written or spoken forms: of all usual spoken forms of either, those count in which they are nearest to each
other (`asr.evaluation.alternatives`), everywhere and for every recogniser.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import Levenshtein

from asr.evaluation.alternatives import closest

Kind = Literal["equal", "replace", "insert", "delete"]


@dataclass(frozen=True)
class Step:
    """One step of an alignment."""

    kind: Kind
    reference: str
    hypothesis: str
    """The words; "" for the side that has none."""


@dataclass(frozen=True)
class Errors:
    """Word errors of one or more utterances."""

    words: int = 0
    """Reference words."""
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0

    @property
    def total(self) -> int:
        """Substitutions, insertions and deletions."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Word error rate; NaN without reference words."""
        return self.total / self.words if self.words else float("nan")

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.words + other.words,
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
        )


def align(reference: str, hypothesis: str, *, any_spelling: bool = False) -> list[Step]:
    """A shortest alignment of the normalised words of two texts (Levenshtein, unit costs), left to right.

    any_spelling: British and American spelling of a word are the same; the steps have the American one.
    """
    return align_words(*closest(reference, hypothesis, any_spelling=any_spelling))


def align_words(ref: Sequence[str], hyp: Sequence[str]) -> list[Step]:
    """A shortest alignment of words, as they are."""
    steps: list[Step] = []
    for op in Levenshtein.opcodes(ref, hyp):
        sources, targets = ref[op.src_start : op.src_end], hyp[op.dest_start : op.dest_end]
        if op.tag == "equal":
            steps += [Step("equal", word, word) for word in sources]
        elif op.tag == "replace":
            steps += [Step("replace", r, h) for r, h in zip(sources, targets, strict=True)]
        elif op.tag == "delete":
            steps += [Step("delete", word, "") for word in sources]
        else:
            steps += [Step("insert", "", word) for word in targets]
    return steps


def count(steps: Iterable[Step]) -> Errors:
    """The errors of an alignment."""
    kinds = [step.kind for step in steps]
    substitutions, insertions, deletions = (kinds.count(k) for k in ("replace", "insert", "delete"))
    return Errors(len(kinds) - insertions, substitutions, insertions, deletions)


def split_by_phrases(steps: Sequence[Step], phrase_words: set[str]) -> tuple[Errors, Errors]:
    """Errors in words of the context's phrases (B-WER) and in all others (U-WER).

    A substitution or deletion counts where its reference word belongs, an insertion where the inserted word does
    (Le et al. 2021, "Contextualized Streaming End-to-End Speech Recognition with Trie-Based Deep Biasing").
    """
    biased = [s for s in steps if (s.reference or s.hypothesis) in phrase_words]
    others = [s for s in steps if (s.reference or s.hypothesis) not in phrase_words]
    return count(biased), count(others)


def oracle(reference: str, nbest: Sequence[str], *, any_spelling: bool = False) -> Errors:
    """The errors of the n-best list's best hypothesis; `nbest` is not empty."""
    each = (count(align(reference, text, any_spelling=any_spelling)) for text in nbest)
    return min(each, key=lambda errors: errors.total)


def contains(text: str, phrase: str) -> bool:
    """Whether the phrase's words stand in the text, in order and side by side."""
    return bool(phrase) and f" {phrase} " in f" {text} "


def shared_run(text: str, phrase: str) -> str:
    """The longest run of words that the text shares with the phrase; "" where they share none."""
    words = phrase.split()
    runs = (" ".join(words[i:j]) for i in range(len(words)) for j in range(len(words), i, -1))
    return max((run for run in runs if contains(text, run)), key=lambda run: len(run.split()), default="")


def spoken_entities(reference: str, target: str | None, entries: Sequence[str]) -> tuple[str, ...]:
    """What of the context's entities the reference says: the runs of words that a recogniser has to get right.

    target: what the answer means ("meg bauer", of which the answer may say "bauer" only), "" for nothing; None where
    that is not known: then every entry that the reference says whole counts.
    """
    if target is not None:
        run = shared_run(reference, target)
        return (run,) if run else ()
    return tuple(dict.fromkeys(entry for entry in entries if contains(reference, entry)))
