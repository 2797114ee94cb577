"""Numbers as English words: each function gives one way to say a number, `integer` and its kin all usual ways."""

from __future__ import annotations

from collections.abc import Iterator

_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ("", "thousand", "million", "billion", "trillion", "quadrillion")
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
             "twelve": "twelfth"}  # fmt: skip
NUMBER_WORDS = frozenset({*_ONES, *_TENS[2:], "hundred", *_SCALES[1:]})
MAX_DIGITS = 15
"""A longer number is read digit by digit."""


def cardinal(number: int, conjunction: str = " and ") -> str:
    """A whole number below 10^18. conjunction: what stands before the tens, " " for American.

    >>> cardinal(1250)
    'one thousand two hundred and fifty'
    """
    if number < 100:
        tens, ones = divmod(number, 10)
        return _ONES[number] if number < 20 else _TENS[tens] + (f" {_ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_ONES[hundreds]} hundred" + (conjunction + cardinal(rest) if rest else "")
    parts, rest = [], number
    for power in range(len(_SCALES) - 1, 0, -1):
        count, rest = divmod(rest, 1000**power)
        if count:
            parts.append(f"{cardinal(count, conjunction)} {_SCALES[power]}")
    said = " ".join(parts)
    if not rest:
        return said
    return said + (conjunction if rest < 100 else " ") + cardinal(rest, conjunction)


def ordinal(number: int, conjunction: str = " and ") -> str:
    """'second', 'twenty first', 'one hundred and third'."""
    *before, last = cardinal(number, conjunction).split()
    return " ".join((*before, ordinal_word(last)))


def ordinal_word(word: str) -> str:
    """The ordinal of a number's last word: twentieth of twenty."""
    return _ORDINALS.get(word) or (word[:-1] + "ieth" if word.endswith("y") else word + "th")


def plural(said: str) -> str:
    """Of a number's words: 'nineteen nineties', 'nineteen hundreds'."""
    return said[:-1] + "ies" if said.endswith("y") else said + ("es" if said.endswith("x") else "s")


def digits(figures: str, zero: str = "zero") -> str:
    """One by one. zero: 'zero' or 'oh'."""
    return " ".join(zero if f == "0" else _ONES[int(f)] for f in figures)


def doubled(figures: str, zero: str = "oh") -> str:
    """One by one, equal neighbours together: 'double oh seven', 'triple two'."""
    said, at = [], 0
    while at < len(figures):
        run = len(figures[at:]) - len(figures[at:].lstrip(figures[at])) if at + 1 < len(figures) else 1
        run = min(run, 3)
        word = digits(figures[at], zero)
        said.append(f"{('', 'double ', 'triple ')[run - 1]}{word}")
        at += run
    return " ".join(said)


def pairs(figures: str) -> str:
    """Three or four figures in pairs: 'seven forty seven', 'twelve oh five', 'nineteen hundred'."""
    first, last = int(figures[:-2]), int(figures[-2:])
    if last == 0:
        return f"{cardinal(first)} hundred"
    return f"{cardinal(first)} {'oh ' if last < 10 else ''}{cardinal(last)}"


def year(figures: str) -> str:
    """Four figures as a year: 'nineteen eighty four', 'two thousand and five', 'twenty ten'."""
    number = int(figures)
    return cardinal(number) if number % 1000 < 10 else pairs(figures)


def is_year(figures: str) -> bool:
    """Whether four figures may be a year."""
    return len(figures) == 4 and 1010 <= int(figures) <= 2099


def integer(figures: str) -> Iterator[str]:
    """All usual ways to say a number that is written without commas, the most usual first."""
    number = int(figures) if len(figures) <= MAX_DIGITS else -1
    as_code = digits(figures)
    if number < 0 or (len(figures) > 1 and figures[0] == "0"):
        yield from _code(figures)
        return
    if (len(figures) >= 5 and not figures.endswith("000")) or figures in ("411", "911"):
        yield as_code
    if is_year(figures):
        yield year(figures)
    yield cardinal(number)
    if len(figures) in (3, 4):
        yield pairs(figures)
    yield as_code
    yield cardinal(number, " ")
    if len(figures) > 2 and set(figures[1:]) == {"0"} and figures[0] == "1":
        yield cardinal(number).replace("one", "a", 1)
    if len(figures) == 4 and number % 100 and int(figures[1]):
        yield f"{cardinal(number // 100)} hundred and {cardinal(number % 100)}"
    yield from _code(figures)


def _code(figures: str) -> Iterator[str]:
    """Digit by digit."""
    yield digits(figures)
    yield digits(figures, "oh")
    if len(figures) > 2:
        yield doubled(figures)
        yield doubled(figures, "zero")


def grouped(number: int) -> Iterator[str]:
    """Ways to say a number that is written with commas, or that counts something."""
    yield cardinal(number)
    yield cardinal(number, " ")
    figures = str(number)
    if len(figures) > 2 and figures[0] == "1" and set(figures[1:]) == {"0"}:
        yield cardinal(number).replace("one", "a", 1)
    if len(figures) == 4 and figures[1] != "0":
        yield pairs(figures)


def decimal(whole: str, places: str) -> Iterator[str]:
    """'three point one zero'. whole: figures, empty for ".5"."""
    before = cardinal(int(whole)) if whole and len(whole) <= MAX_DIGITS else digits(whole)
    point = f"{before} point".strip()
    yield f"{point} {digits(places)}"
    if whole == "":
        yield f"zero point {digits(places)}"
    if whole == "0":
        yield f"point {digits(places)}"
        yield f"oh point {digits(places)}"
    yield f"{point} {digits(places, 'oh')}"
    if len(places) == 2 and places[0] != "0":
        yield f"{point} {cardinal(int(places))}"
        if before:
            yield f"{before} {cardinal(int(places))}"


_PARTS = {2: "half", 3: "third", 4: "quarter", 5: "fifth", 6: "sixth", 7: "seventh", 8: "eighth", 9: "ninth",
          10: "tenth", 12: "twelfth", 16: "sixteenth", 32: "thirty second"}  # fmt: skip


def fraction(top: int, bottom: int, whole: int | None = None) -> Iterator[str]:
    """'one half', 'three quarters', 'two and a half'."""
    name = _PARTS.get(bottom) or ordinal(bottom)
    many = "halves" if bottom == 2 else f"{name}s"
    names = [name, many][top != 1]
    count = cardinal(top)
    with_article = f"an {name}" if bottom in (8, 11, 18) else f"a {name}"
    if whole is not None:
        before = cardinal(whole)
        if top == 1:
            yield f"{before} and {with_article}"
        yield f"{before} and {count} {names}"
        return
    yield f"{count} {names}"
    if top == 1:
        yield with_article
        if bottom == 2:
            yield "half"
    if bottom == 4:
        yield f"{count} fourth" + "s" * (top != 1)
    yield f"{count} over {cardinal(bottom)}"
    yield f"{count} {cardinal(bottom)}"


_ROMAN = {"I": 1, "V": 5, "X": 10}


def roman(text: str) -> int:
    """The value of a numeral of I, V and X as they are written today, else 0: 'VIII' → 8, 'IIX' → 0."""
    if not 0 < len(text) <= 7 or set(text) - set(_ROMAN):
        return 0
    values = [_ROMAN[letter] for letter in text]
    number = sum(-v if v < following else v for v, following in zip(values, [*values[1:], 0], strict=True))
    return number if to_roman(number) == text else 0


def to_roman(number: int) -> str:
    """The Roman numeral of a number below 40."""
    said = ""
    for value, letters in ((10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        said += letters * (number // value)
        number %= value
    return said
