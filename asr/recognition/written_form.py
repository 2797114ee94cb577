"""Results as people write them: cased, punctuated, numbers as digits, phrases spelled as their source writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from asr.recognition.results import Hypothesis, Word
from asr.second_pass.attention_decoder import DecodedUtterance
from asr.second_pass.written_candidates import written_forms
from asr.text.written_alignment import Fitted, Spelling, WrittenWord, fit, sentence, with_capitals, with_phrases

_MOST_DIFFERING = 0.7
"""Of a text's words, in which a text that the attention decoder wrote may differ and still show how it is written."""


def written_nbest(
    nbest: Iterable[Hypothesis],
    decoded: DecodedUtterance | None = None,
    spelling: Spelling | None = None,
    max_count: int | None = None,
) -> tuple[Hypothesis, ...]:
    """Hypotheses in written form, in their order; of those that are written alike ("wifi", "wi fi") the first.

    Args:
        decoded, spelling: see `written_hypothesis`.
        max_count: how many are wanted; None: all.
    """
    found: dict[str, Hypothesis] = {}
    for hypothesis in nbest:
        if max_count is not None and len(found) >= max_count:
            break
        written = written_hypothesis(hypothesis, decoded, spelling)
        found.setdefault(written.text, written)
    return tuple(found.values())


def written_hypothesis(
    hypothesis: Hypothesis, decoded: DecodedUtterance | None = None, spelling: Spelling | None = None
) -> Hypothesis:
    """A hypothesis with text and words in written form; scores and confidence stay.

    Its words are what stands between spaces, punctuation included, each with the time of the spoken words that it
    stands for and the least of their confidences. A word that stands for none ("&") has no duration.

    Args:
        decoded: of the attention decoder; None: only capitals and a full stop are added.
        spelling: how phrases are written.
    """
    if not hypothesis.text:
        return hypothesis
    words = _written_words(hypothesis, [w.text for w in decoded.written] if decoded else [])
    if spelling is not None:
        words = with_phrases(words, hypothesis.text, spelling)
    text = " ".join(word.text for word in words)
    return replace(hypothesis, text=text, written=text, words=_timed(words, hypothesis))


def _written_words(hypothesis: Hypothesis, decoded: Iterable[str]) -> Sequence[WrittenWord]:
    """decoded: what the attention decoder wrote, the likeliest first."""
    text, likeliest = hypothesis.text, hypothesis.written
    made = likeliest in written_forms(text)
    if likeliest and not made:
        fitted = fit(likeliest, text)
        if not fitted.differing:
            return fitted.words
    nearest: Fitted | None = None
    for written in decoded:
        fitted = fit(written, text)
        if nearest is None or fitted.differing < nearest.differing:
            nearest = fitted
        if not nearest.differing:
            break
    if nearest is not None and _shows(nearest, text) and not (made and not nearest.differing):
        return nearest.words
    one_each = with_capitals(likeliest) if made else sentence(text)
    return [WrittenWord(word, float(i), float(i + 1)) for i, word in enumerate(one_each.split())]


def _shows(fitted: Fitted, text: str) -> bool:
    return fitted.differing <= _MOST_DIFFERING * len(text.split())


def _timed(written: Iterable[WrittenWord], hypothesis: Hypothesis) -> tuple[Word, ...]:
    """Written words with the times of the hypothesis's words."""
    words = hypothesis.words
    if len(words) != len(hypothesis.text.split()):
        return ()
    return tuple(_word(one, words) for one in written)


def _word(written: WrittenWord, words: Sequence[Word]) -> Word:
    first = min(int(written.start), len(words) - 1)
    last = max(math.ceil(written.end) - 1, 0)
    if written.start == written.end:
        at_s = words[last].end_s if written.end else words[0].start_s
        return Word(written.text, at_s, at_s, words[last].confidence)
    return Word(
        written.text,
        _within(words[first], written.start - first),
        _within(words[last], written.end - last),
        min(word.confidence for word in words[first : last + 1]),
    )


def _within(word: Word, share: float) -> float:
    """Seconds at a share of a word, exactly its start and end at 0 and 1."""
    return word.end_s if share == 1 else word.start_s + share * (word.end_s - word.start_s)
