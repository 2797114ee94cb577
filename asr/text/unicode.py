"""Unicode as plain letters, figures and the few signs that are said."""

from __future__ import annotations

import re
import unicodedata

_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h", "ŧ": "t", "ı": "i",
     "ẞ": "SS", "Æ": "AE", "Œ": "OE", "Ø": "O", "Ł": "L", "Đ": "D", "Ð": "D", "Þ": "TH", "Ħ": "H", "Ŧ": "T"}
)  # fmt: skip
"""Letters that Unicode does not take apart."""
_SIGNS = str.maketrans(
    {**dict.fromkeys("’‘`´ʼ′‛＇ʹʻʽˈꞌ՚‵´", "'"), **dict.fromkeys("“”„‟«»″‶＂", '"'),
     **dict.fromkeys("‐‑‒–−﹣－˗⁃", "-"), **dict.fromkeys("—―…⸺", " , "), "⁄": "/", "∕": "/", "∙": " ", "·": " ",
     "™": "", "®": "", "©": "", "℠": "", "№": "No. ", "㎡": "m²", "㎢": "km²", "㎥": "m³", "º": "°", "ª": ""}
)  # fmt: skip
"""Before letters are taken apart: their compatibility forms would be others, or lose what they mean."""
_FRACTION = re.compile("([0-9]?)([¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_SQUARE = {"²": "²", "³": "³"}


def plain_letters(text: str) -> str:
    """Lower case, accents taken off, ligatures and crossed letters as their plain ones; other scripts as they are."""
    return clean(text).lower()


def clean(text: str) -> str:
    """Plain letters of either case, one kind of apostrophe, quotation mark and hyphen; invisible characters taken out.

    Fractions of one character become 'n/m', a space before them where a number stands there; raised figures but ² and
    ³ become '^n'. Characters of other scripts stay.
    """
    if text.isascii():
        return text.replace("`", "'")
    text = "".join(c for c in text.translate(_SIGNS) if unicodedata.category(c) != "Cf")
    text = _FRACTION.sub(_spell_fraction, text)
    text = _RAISED.sub(lambda m: _SQUARE.get(m.group()) or "^" + unicodedata.normalize("NFKC", m.group()), text)
    return "".join(c if c in "²³" else _without_accents(c) for c in text.translate(_LETTERS))


def _spell_fraction(match: re.Match[str]) -> str:
    return f"{match[1]}{' ' if match[1] else ''}{unicodedata.normalize('NFKC', match[2]).replace('⁄', '/')}"


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c))
