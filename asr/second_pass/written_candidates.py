"""Written forms of texts in normal form: what the attention decoder, which writes, would write for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_NAME_WORDS = 4
"""Texts of up to so many words may be a name or a title, in which each word has a capital."""
_TITLES = {
    "doctor": "Dr.", "dr": "Dr.", "mister": "Mr.", "mr": "Mr.", "missus": "Mrs.", "misses": "Mrs.", "mrs": "Mrs.",
    "ms": "Ms.", "miss": "Miss", "prof": "Professor", "professor": "Professor", "saint": "St.", "st": "St.",
}  # fmt: skip
_PARTED = re.compile(r"(mc|o'|d')(?=[a-z]{2})")
"""What a name begins with before another capital."""
DIGITS = {"oh": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
          "seven": "7", "eight": "8", "nine": "9"}  # fmt: skip


def written_forms(text: str) -> tuple[str, ...]:
    """Likely written forms of words in lower case, at least one, each with and without a full stop.

    As a sentence, as a name where it is short, with titles abbreviated, and with letters and digits that follow each
    other as signs.

    >>> written_forms("meg bauer")
    ('Meg bauer.', 'Meg bauer', 'Meg Bauer.', 'Meg Bauer')
    >>> written_forms("call doctor o'brien")
    ("Call Dr. O'Brien.", "Call Dr. O'Brien")
    """
    words = text.split()
    if not words:
        return ("",)
    return tuple(dict.fromkeys(form + end for form in _forms(words) for end in (".", "")))


def _forms(words: list[str]) -> Iterator[str]:
    written = _with_titles(words)
    yield _sentence(written)
    if len(words) <= _NAME_WORDS:
        yield " ".join(map(_capital, written))
    if (spelled := _spelled(words)) != words:
        yield _sentence(spelled)


def _sentence(words: list[str]) -> str:
    return " ".join([_capital(words[0]), *words[1:]])


def _with_titles(words: list[str]) -> list[str]:
    """Titles before a name abbreviated, and the name with a capital."""
    out = list(words)
    for i, word in enumerate(words[:-1]):
        if word in _TITLES:
            out[i], out[i + 1] = _TITLES[word], _capital(words[i + 1])
    return out


def _spelled(words: list[str]) -> list[str]:
    """Runs of letters and digits as Whisper writes them: "L-O-3-9", "359"."""
    out: list[str] = []
    run: list[str] = []
    for word in [*words, ""]:
        if word in DIGITS or len(word) == 1:
            run.append(word)
            continue
        out += [as_signs(run)] if len(run) > 1 else run
        run = []
        out += [word] if word else []
    return out


def as_signs(words: Sequence[str]) -> str:
    """Letters and digits one after the other, as Whisper writes them: "L-O-3-9", "359"."""
    signs = [DIGITS.get(word, word.upper()) for word in words]
    return ("" if all(map(str.isdigit, signs)) else "-").join(signs)


def _capital(word: str) -> str:
    if parted := _PARTED.match(word):
        return _capital(parted[0]) + _capital(word[parted.end() :]) if parted[0] != "mc" else f"Mc{_capital(word[2:])}"
    return word[:1].upper() + word[1:]
