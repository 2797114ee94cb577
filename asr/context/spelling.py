"""How the phrases that a client or a context expects are written, by their spoken forms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from asr.context.phrase_index import PhraseIndex
from asr.context.types import BiasedWord
from asr.decoding import BoostedPhrase
from asr.text import spoken_forms
from asr.text.written_alignment import Spelling, fit


def phrase_spelling(
    spoken: Mapping[str, BoostedPhrase] | None = None,
    index: PhraseIndex | None = None,
    biased: Iterable[BiasedWord] = (),
) -> Spelling:
    """Of a client's phrases first, then of a context's entries.

    Args:
        spoken: spoken forms of a client's phrases (`PhraseGraph.spoken`).
        index: of a context: its entries count whole, without a leading article, or by two words and more of them.
        biased: words that only the context brought: these count alone too, as "Bauer" of "Meg Bauer".
    """
    alone = {word.word: word.phrase for word in biased if word.phrase and not _is_alias(word.word, index)}

    def spelling(form: str) -> str:
        if spoken and form in spoken:
            return spoken[form].text
        if form in alone:
            return _part(alone[form], form, spoken_forms(alone[form]))
        part = index.part(form) if index is not None else None
        if index is None or part is None or (part.kind != "full" and " " not in form):
            return ""
        return _part(index.phrases[part.phrase].name_of(form), form, index.forms[part.phrase])

    return spelling


def _is_alias(form: str, index: PhraseIndex | None) -> bool:
    part = index.part(form) if index is not None else None
    if index is None or part is None:
        return False
    phrase = index.phrases[part.phrase]
    return bool(phrase.aliases) and part.kind == "full" and phrase.name_of(form) != phrase.written


def _part(written: str, form: str, forms: Sequence[str]) -> str:
    """The words of a written phrase that stand for a part of one of its spoken forms; "": not known."""
    if form in forms or not written:
        return written
    words = form.split()
    for whole in forms:
        spoken_words = whole.split()
        for start in range(len(spoken_words) - len(words) + 1):
            end = start + len(words)
            if spoken_words[start:end] != words:
                continue
            part = [w for w in fit(written, whole).words if start <= w.start and w.end <= end]
            if part and (part[0].start, part[-1].end) == (start, end):
                return " ".join(w.text for w in part).rstrip(",;")
    return ""
