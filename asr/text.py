"""One normal form for references, hypotheses and context entries: lower-case words, numbers spelled out."""

from __future__ import annotations

import re
import unicodedata

from num2words import num2words

_MONEY = re.compile(r"([$£€])\s?(\d[\d,]*(?:\.\d+)?)")
_MONEY_NAMES = {"$": "dollars", "£": "pounds", "€": "euros"}
_CLOCK = re.compile(r"\b(\d{1,2}):(\d{2})\b")
_ORDINAL = re.compile(r"\b(\d{1,6})(?:st|nd|rd|th)\b")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ŧ": "t", "ı": "i"}
)
"""Letters that Unicode does not take apart."""
_SYMBOLS = {"&": " and ", "%": " percent ", "@": " at ", "+": " plus ", "’": "'", "‘": "'", "`": "'"}


def _say_clock(match: re.Match[str]) -> str:
    hour, minute = match.groups()
    spoken = {"00": " o'clock"}.get(minute, f" {'oh ' if minute[0] == '0' else ''}{num2words(int(minute))}")
    return f" {num2words(int(hour))}{spoken} "


def _say_number(match: re.Match[str]) -> str:
    digits = match.group().replace(",", "").rstrip(".")
    if (digits.startswith("0") and digits.isdigit()) or len(digits) > 15:  # codes are read digit by digit
        return " " + " ".join(num2words(int(d)) for d in digits if d.isdigit()) + " "
    spoken = num2words(float(digits)) if "." in digits else num2words(int(digits))
    return f" {spoken} "


def plain_letters(text: str) -> str:
    """Lower case, accents taken off, ligatures and crossed letters as their plain ones; other scripts as they are."""
    decomposed = unicodedata.normalize("NFKD", text.lower().translate(_LETTERS))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def normalize(text: str) -> str:
    """Lower case, numbers as words, only letters a-z, apostrophes inside words and single spaces.

    >>> normalize("Play “Good Times” at 7:05, it's the 2nd!")
    "play good times at seven oh five it's the second"
    """
    text = text.lower()
    for symbol, spoken in _SYMBOLS.items():
        text = text.replace(symbol, spoken)
    text = plain_letters(text)
    if any(c.isdigit() for c in text):
        text = "".join(c if c.isascii() or not c.isdigit() else " " for c in text)
        text = _MONEY.sub(lambda m: f"{m.group(2)} {_MONEY_NAMES[m.group(1)]}", text)
        text = _CLOCK.sub(_say_clock, text)
        text = _ORDINAL.sub(lambda m: " " + num2words(int(m.group(1)), to="ordinal") + " ", text)
        text = _NUMBER.sub(_say_number, text)
    text = re.sub(r"[^a-z']+", " ", text)
    return " ".join(w for w in (w.strip("'") for w in text.split()) if w)
