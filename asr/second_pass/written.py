"""Written forms of texts in normal form: what the attention decoder, which writes, would write for them."""

from __future__ import annotations

_NAME_WORDS = 4
"""Texts of up to so many words may be a name or a title, in which each word has a capital."""


def written_forms(text: str) -> tuple[str, ...]:
    """Likely written forms of words in lower case, at least one: as a sentence, and as a name where it is short.

    >>> written_forms("meg bauer")
    ('Meg bauer.', 'Meg Bauer.')
    """
    words = text.split()
    if not words:
        return ("",)
    sentence = f"{_capital(words[0])}{text[len(words[0]) :]}."
    if len(words) > _NAME_WORDS:
        return (sentence,)
    return tuple(dict.fromkeys((sentence, f"{' '.join(map(_capital, words))}.")))


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]
