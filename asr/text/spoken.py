"""Written text as the words that are said: the one normal form, and the other usual spoken forms of a phrase.

A text is read from left to right, token by token. Each token, a word, a number with its unit, a time, a price, has its
usual spoken forms, the first of them the normal one; a spoken form of the text is one form of each token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import chain, islice

from asr.text import abbreviations as table
from asr.text import number_words as say
from asr.text.unicode import clean

MAX_FORMS = 16
_MAX_TOKEN_FORMS = 8
"""Spoken forms of one token."""
_MAX_VARIED = 64
"""Tokens of a text with more than one form that are varied; those after have their first."""

Forms = tuple[str, ...]
"""Usual spoken forms of a token, the normal one first."""

_NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,5}(?!,?\d)|\d{1,20}(?!\d))"
_ANY_CURRENCY = "[" + "".join(table.CURRENCIES) + "]"
_CURRENCY = f"(?:(?:US|AU|NZ|CA|HK|A|C|S)?\\$|{_ANY_CURRENCY})"
_SCALE = r"(?:\s(?:thousand|million|billion|trillion)|thousand|million|billion|trillion|mn|bn|tn|mm|[kKmMbBtT])"
_TOUCHING = ("in", "p", "W", "L", "pt")
"""Units that are words or initials where a space stands before them."""
_UNIT = "|".join(
    re.escape(u) for u in sorted(table.UNITS, key=lambda u: -len(u)) if u[0].isalpha() and u not in _TOUCHING
)
_NEXT = r"(?![A-Za-z0-9])"
_SIGN = r"(?:(?<![A-Za-z0-9.)\]])(?P<{}>[-+±]))?"
_TOKENS = {
    "digits": r"\d{21,}",
    "email": r"[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}",
    "url": r"(?:https?://|www\.)[^\s,;]{1,200}",
    "domain": r"[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,62}){0,3}\.(?:com|org|net|edu|gov|io|ai|tv|de|fr|eu"
    rf"|info|app|dev|co\.uk|co|uk|us){_NEXT}",
    "date": r"(?P<year>\d{4})[-/](?P<month>\d{1,2})[-/](?P<day>\d{1,2})(?![\d-])"
    r"|(?P<first>\d{1,2})/(?P<second>\d{1,2})/(?P<late>\d{4}|\d\d)(?!\d)",
    "clock": r"(?P<hour>[01]?\d|2[0-4])(?P<minutes>[:.](?P<minute>[0-5]\d)(?::(?P<seconds>[0-5]\d))?)?"
    rf"\s?(?P<half>[ap])\.?\s?m{_NEXT}\.?"
    r"|(?P<hours>[01]?\d|2[0-4]):(?P<past>[0-5]\d)(?::(?P<secs>[0-5]\d))?(?![\d:])",
    "phone": r"(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\d)|\d{3}[ -]\d{4}(?![\d-])"
    r"|\+\d{1,3}(?:[ .-]?\d{2,5}){2,5}(?!\d)",
    "money": rf"{_SIGN.format('money_sign')}(?P<currency>{_CURRENCY})\s?(?P<amount>{_NUMBER})?"
    rf"(?:\.(?P<cents>\d{{1,10}})|,(?P<cents_3>\d\d)(?!\d))?(?P<scale>{_SCALE}{_NEXT})?",
    "price": rf"(?P<amount_2>{_NUMBER})(?:[.,](?P<cents_2>\d\d))?(?P<scale_2>{_SCALE}(?![A-Za-z]))?\s?"
    rf"(?P<currency_2>{_ANY_CURRENCY}|(?:{'|'.join(table.CURRENCY_CODES)}){_NEXT})",
    "height": r"(?P<feet>\d{1,2})\s?'\s?(?P<inches>\d{1,2})\s?(?:\"|''|(?!\w))",
    "decade": r"'?(?P<tens>\d{0,2}\d0)'?s" + _NEXT,
    "short_year": r"(?<![\w'])'(?P<short>\d\d)(?![\w'])",
    "ordinal": r"(?P<nth>\d{1,3}(?:,\d{3}){1,5}|\d{1,15})(?:st|nd|rd|th|ST|ND|RD|TH)" + _NEXT,
    "mixed": r"(?P<whole_3>\d{1,6})[ -](?P<top_3>\d{1,3})/(?P<bottom_3>\d{1,3})(?![\d/])",
    "ratio": r"(?P<top>\d{1,4})\s?/\s?(?P<bottom>\d{1,4})(?![\d/])",
    "version": r"\d{1,6}(?:\.\d{1,6}){2,10}(?![\d])",
    "hyphens": r"\d{1,12}(?:-\d{1,12}){1,12}(?![\d-])" + _NEXT,
    "quantity": rf"{_SIGN.format('sign')}#?"
    rf"(?:(?P<number>{_NUMBER})(?:\.(?P<places>\d{{1,20}})(?!\.?\d))?|\.(?P<only>\d{{1,20}})(?!\d))"
    rf"(?:\s?(?P<unit>(?:{_UNIT}){_NEXT}|°\s?[CF]{_NEXT}|[°%])|(?P<scale_4>[kKMB]|bn|mn){_NEXT}"
    rf"|(?P<touching>(?:{'|'.join(_TOUCHING)}){_NEXT}|['\"](?!\w))|(?P<power>[²³]|\^\d{{1,3}}))?",
    "dotted": r"[A-Za-z](?:\.[A-Za-z]){1,12}(?![A-Za-z0-9])\.?|[A-Za-z]\.(?:\s[A-Za-z]\.){1,12}|P[Hh]\.?\s?D\b\.?",
    "spelled": r"[A-Za-z](?:-[A-Za-z]){1,60}(?![A-Za-z0-9'])",
    "sign_word": r"[A-Za-z]{1,12}[$!][A-Za-z]{1,12}" + _NEXT,
    "joined": r"[A-Za-z]{1,4}(?:&[A-Za-z]{1,4}){1,4}(?:'s)?" + _NEXT,
    "letter_sign": r"(?:C|c)\+\+|[CFcf]#(?!\w)|[A-Fa-f][+](?!\w)",
    "code": r"(?:[A-Za-z]{1,12}\d{1,12}|\d{1,12}[A-Za-z]{1,12})(?:[A-Za-z]{1,12}|\d{1,12}){0,20}(?:'s(?!\w))?",
    "compound": r"[A-Za-z]{1,30}(?:'[A-Za-z]{1,12})?(?:-[A-Za-z]{1,30}(?:'[A-Za-z]{1,12})?){1,8}" + _NEXT,
    "small_and": r"'[nN]'|[nN]'(?!\w)|(?<!\w)'[nN](?!\w)",
    "with": r"(?<!\w)[wW]/o?(?!\w)",
    "word": r"[A-Za-z]+(?:'+(?![nN]')[A-Za-z]+)*",
    "raised": r"(?<=[A-Za-z])(?:[²³]|\^\d{1,3})",
    "symbol": "[" + re.escape("".join(table.SYMBOLS)) + "]",
    "hash": r"#(?=[A-Za-z])",
}
_READER = re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in _TOKENS.items()), re.ASCII)
_PLAIN = re.compile(r"[a-z]+(?:'+[a-z]+)*(?: [a-z]+(?:'+[a-z]+)*)*")
_STOPS = frozenset(table.ALWAYS)
_SPELLED = re.compile(r"[B-DF-HJ-NP-TV-XZb-df-hj-np-tv-xz]{2,5}")
"""No vowel: said letter by letter."""
_NO_LETTERS = frozenset({
    "hmm", "hm", "mm", "mmm", "shh", "sh", "brr", "psst", "pst", "nth", "th", "nd", "rd", "ms", "ll",
})  # fmt: skip
_NAMED_LETTERS = frozenset({
    "usa", "uk", "eu", "usb", "fbi", "cia", "bbc", "abc", "cbs", "nba", "nfl", "ibm", "atm", "ceo", "cfo", "cto",
    "dj", "vip", "faq", "gps", "api", "ai", "id", "ac", "pc", "uv", "ufo", "iq", "hiv", "rna", "dna", "diy", "asap",
    "eta", "aaa", "bmw", "kfc", "hbo", "ucla", "nyu", "mit", "acdc", "er", "ipa", "suv", "uae", "iou", "aka",
})  # fmt: skip
"""Written small they are still known as initials."""


_SIMPLE = re.compile(r"[A-Z]?[a-z]+(?: [A-Z]?[a-z]+)*")
_CONSONANTS = re.compile(r"\b[B-DF-HJ-NP-TV-XZb-df-hj-np-tv-xz]{2,6}\b")
_SEVERAL_FORMS = _NAMED_LETTERS.union(table.ALWAYS, table.CAPITALISED, table.WITH_STOP, table.ALSO_WRITTEN)
"""Words without which a text of simple words has one form."""


def normalize(text: str) -> str:
    """The one normal form: lower case, numbers as words, only letters a-z, apostrophes inside words, single spaces.

    >>> normalize("Play “Good Times” at 7:05, it's the 2nd!")
    "play good times at seven oh five it's the second"
    """
    if _PLAIN.fullmatch(text) and "'n'" not in text and _STOPS.isdisjoint(text.split(" ")):
        return text
    return " ".join(said for forms in _read(text) if (said := next(forms)))


def spoken_forms(text: str, limit: int = MAX_FORMS) -> Forms:
    """The usual ways to say a written phrase, the normal form first, then the most usual; at most `limit`.

    >>> spoken_forms("Dr. Brown")
    ('doctor brown', 'dr brown')
    """
    if _SIMPLE.fullmatch(text) and not _CONSONANTS.search(text):
        words = text.lower().split(" ")
        if _SEVERAL_FORMS.isdisjoint(words):
            return (" ".join(words),)
    first, varied = list[str](), list[tuple[int, Forms]]()
    for forms in alternatives(text):
        if len(forms) > 1 and len(varied) < _MAX_VARIED:
            varied.append((len(first), forms))
        first.append(forms[0])
    found: dict[str, None] = {}
    for chosen in _likeliest_first([len(forms) for _, forms in varied]):
        words = list(first)
        for (place, forms), which in zip(varied, chosen, strict=True):
            words[place] = forms[which]
        found.setdefault(" ".join(w for w in words if w))
        if len(found) >= limit:
            break
    found.pop("", None)
    return tuple(found) or ("",)


def alternatives(text: str) -> list[Forms]:
    """The tokens of a text, each with its usual spoken forms, the normal one first; "" where nothing need be said."""
    return [tuple(dict.fromkeys(forms))[:_MAX_TOKEN_FORMS] for forms in _read(text)]


def tokens_of(text: str) -> list[tuple[int, int, Forms]]:
    """`alternatives`, each with the places in the text where its token begins and ends.

    text: of `clean`, so that the places are the text's own.
    """
    return [
        (match.start(), match.end(), tuple(dict.fromkeys(forms))[:_MAX_TOKEN_FORMS]) for match, forms in _matches(text)
    ]


def _likeliest_first(sizes: list[int]) -> Iterator[tuple[int, ...]]:
    """A choice from each of several lists: the first of all, then by the sum of the places."""
    start = (0,) * len(sizes)
    heap, seen, tried = [(0, start)], {start}, 0
    while heap and tried < 4 * MAX_FORMS:
        total, choice = heappop(heap)
        tried += 1
        yield choice
        for i, size in enumerate(sizes):
            following = (*choice[:i], choice[i] + 1, *choice[i + 1 :])
            if following[i] < size and following not in seen:
                seen.add(following)
                heappush(heap, (total + 1, following))


@dataclass(frozen=True)
class _Token:
    """A token where it stands. before: the token before it, as written."""

    match: re.Match[str]
    before: str

    @property
    def text(self) -> str:
        return self.match.group()

    @property
    def behind(self) -> str:
        """A few of the characters behind it."""
        return self.match.string[self.match.end() : self.match.end() + 40]

    def part(self, name: str) -> str:
        return self.match[name] or ""


def _read(text: str) -> Iterator[Iterator[str]]:
    """The spoken forms of each token, made as they are asked for."""
    return (forms for _, forms in _matches(clean(text)))


def _matches(text: str) -> Iterator[tuple[re.Match[str], Iterator[str]]]:
    """The tokens of a text of `clean`, with their spoken forms."""
    before = ""
    for match in _READER.finditer(text):
        yield match, _SAY[match.lastgroup or ""](_Token(match, before))
        before = match.group()


def _word(token: _Token) -> Iterator[str]:
    word = token.text.lower()
    yield from _abbreviation(token, word)
    if number := _regnal(token):
        yield from number
    if "'" not in word and word not in table.ALWAYS:
        yield word
        if word in table.ALSO_WRITTEN:
            yield table.ALSO_WRITTEN[word]
        if _is_initials(token.text, token.match.string):
            yield from _initials(token.text)
    elif "'" in word:
        yield word
        if (word.endswith("'s") and word not in _CONTRACTIONS) or (word[1] == "'" and word[0] != "i"):
            yield word.replace("'", "")


_CONTRACTIONS = frozenset({
    "it's", "that's", "what's", "who's", "he's", "she's", "there's", "here's", "let's", "where's", "how's", "when's",
    "everything's", "everyone's", "something's", "nothing's",
})  # fmt: skip


def _abbreviation(token: _Token, word: str) -> Iterator[str]:
    stop, capital = token.behind.startswith("."), token.text[0].isupper()
    if word in table.ALWAYS:
        said = table.ALWAYS[word]
        yield from _in_place(token, said) if word in ("st", "dr") else said
    elif word in table.BEFORE_NUMBERS and _NUMBER_FOLLOWS.match(token.behind):
        if stop or (capital and word in table.BARE_BEFORE_NUMBERS):
            yield from table.BEFORE_NUMBERS[word]
    elif word in table.CAPITALISED and capital and not (token.text.isupper() and len(word) == 2):
        yield from table.CAPITALISED[word]
    elif word in table.WITH_STOP:
        goes_on = bool(_GOES_ON.match(token.behind))
        if (stop and (goes_on or word in _AT_THE_END)) or (
            word in _PLACES and capital and token.before and not goes_on
        ):
            yield from table.WITH_STOP[word]


_NUMBER_FOLLOWS = re.compile(r"\.?\s{0,2}#?\d")
_GOES_ON = re.compile(r"\.?\s*[A-Za-z0-9]")
_AT_THE_END = ("co", "esq", "ct", "sq", "pl", "ave", "cir")
_PLACES = ("ave", "cir", "ct", "pl")
_STREET = re.compile(r"[A-Za-z']+|\d+(?:st|nd|rd|th)")
_HOUSE_NUMBER = re.compile(r"\d{1,6}[A-Za-z]?\s+(?:[A-Za-z'.]+\s+){1,4}$")


def _in_place(token: _Token, said: Forms) -> Iterator[str]:
    """The abbreviations "St" and "Dr": a street behind its name, else a title."""
    title, street = said[0], next(s for s in said if s in ("street", "drive"))
    named = bool(_STREET.fullmatch(token.before)) and token.before.lower() not in _NO_NAMES
    mixed = named and not token.before[0].islower() and not token.before.isupper()
    goes_on = bool(re.match(r"\.?\s+[A-Z]" if mixed else r"\.?\s+[A-Za-z]", token.behind))
    start = token.match.start()
    addressed = named and bool(_HOUSE_NUMBER.search(token.match.string[max(0, start - 60) : start]))
    if addressed or (named and not token.before[0].islower() and not goes_on):
        yield from (street, token.text.lower(), title)
    elif named or not goes_on:
        yield from (title, token.text.lower(), street)
    else:
        yield from (title, token.text.lower())


_NO_NAMES = frozenset({
    "the", "a", "an", "my", "your", "his", "her", "our", "their", "to", "and", "or", "is", "of", "in", "at", "on",
    "for", "with", "call", "text", "see", "dear", "hi", "hello", "hey", "thanks", "yes", "no", "ok", "okay", "sorry",
})  # fmt: skip


def _regnal(token: _Token) -> Iterator[str]:
    """The Roman numeral behind a name: "Henry VIII", "World War II"."""
    number, before = say.roman(token.text), token.before
    if not number or not before[:1].isupper() or not before.isalpha():
        return
    ordinal = f"the {say.ordinal(number)}"
    if before.lower() in table.MONARCHS:
        if len(token.text) > 1 or token.text in "VX":
            yield ordinal
            yield say.cardinal(number)
            yield token.text.lower()
    elif len(token.text) > 1:
        yield say.cardinal(number)
        yield ordinal
        yield token.text.lower()


def _is_initials(word: str, text: str) -> bool:
    """Whether a word may be said letter by letter."""
    small = word.lower()
    if small in _NO_LETTERS or not 2 <= len(word) <= 12:
        return False
    if _SPELLED.fullmatch(word.removesuffix("s")) or small in _NAMED_LETTERS:
        return True
    capitals = word.removesuffix("s")
    return len(capitals) > 1 and capitals.isupper() and (not text.isupper() or len(text) == len(word))


def _initials(word: str) -> Iterator[str]:
    several = len(word) > 2 and word.endswith("s") and word[-2].isupper()
    letters = " ".join((word[:-1] if several else word).lower())
    if several:
        yield f"{letters}'s"
        yield f"{letters} s"
    else:
        yield letters


def _plain(word: str) -> str:
    """A word that stands in an address or a code: small, and no abbreviation, so that it is in the normal form."""
    small = word.lower()
    return table.ALWAYS[small][0] if small in table.ALWAYS else small


def _compound(token: _Token) -> Iterator[str]:
    parts = token.text.lower().split("-")
    said = [_plain(part) for part in parts]
    yield " ".join(said)
    if say.NUMBER_WORDS.isdisjoint(parts) and said == parts:
        yield "".join(parts)


def _spelled(token: _Token) -> Iterator[str]:
    letters = re.findall("[a-z]", token.text.lower())
    yield " ".join(letters)
    yield _plain("".join(letters))


def _dotted(token: _Token) -> Iterator[str]:
    letters = re.findall("[a-z]", token.text.lower())
    word = "".join(letters)
    yield from table.DOTTED.get(word, ())
    yield " ".join(letters)
    if word not in table.ALWAYS:
        yield word


def _joined(token: _Token) -> Iterator[str]:
    """Letters with "&" between: "AT&T", "R&B", "M&M's"."""
    ending = "'s" if token.text.endswith("'s") else ""
    parts = token.text.removesuffix("'s").split("&")
    spelled = [" ".join(p.lower()) if len(p) < 3 or p.isupper() else _plain(p) for p in parts]
    for conjunction in (" and ", " n ", " "):
        yield conjunction.join(spelled) + ending
    yield " and ".join(_plain(p) for p in parts) + ending


def _sign_word(token: _Token) -> Iterator[str]:
    """A sign for a letter: "Ke$ha", "P!nk"."""
    word = token.text.lower()
    yield _plain(word.replace("$", "s").replace("!", "i"))
    yield " ".join(_plain(part) for part in re.split("[$!]", word))


def _letter_sign(token: _Token) -> Iterator[str]:
    letter, sign = token.text[0].lower(), token.text[1:]
    yield f"{letter} {'sharp' if sign == '#' else ' '.join('plus' for _ in sign)}"


def _address(token: _Token) -> Iterator[str]:
    """An e-mail or web address."""
    text = re.sub("^https?://", "", token.text.lower().rstrip("./!?)\"'"))
    said = []
    for part in re.findall(r"[a-z]+|[0-9]{1,12}|[.@/_+-]", text):
        said.append(_ADDRESS_SIGNS.get(part) or ("w w w" if part == "www" else "") or (
            next(say.integer(part)) if part.isdigit() else _plain(part)))  # fmt: skip
    yield " ".join(said)
    if "www" in text:
        yield " ".join(said).replace("w w w dot ", "", 1)
    if "-" in text:
        yield " ".join(said).replace(" dash ", " hyphen ")


_ADDRESS_SIGNS = {".": "dot", "@": "at", "/": "slash", "_": "underscore", "+": "plus", "-": "dash"}


def _code(token: _Token) -> Iterator[str]:
    """Letters and figures: "U2", "MP3", "H2O", "A320", "4x4"."""
    ending = "'s" if token.text.endswith("'s") else ""
    parts = re.findall(r"[A-Za-z]+|[0-9]+", token.text.removesuffix(ending) if ending else token.text)
    words = [next(say.integer(p)) if p.isdigit() else _plain(p) for p in parts]
    letters = [" ".join(p.lower()) if p.isalpha() and len(p) <= 4 else w for p, w in zip(parts, words, strict=True)]
    yield " ".join(words) + ending
    yield " ".join(letters) + ending
    for i, part in enumerate(parts):
        if part.isdigit():
            for other in islice(say.integer(part), 1, 4):
                yield " ".join((*letters[:i], other, *letters[i + 1 :])) + ending
    if parts[1:] == ["x"] or (len(parts) == 3 and parts[1] == "x"):
        yield " ".join(words).replace(" x", " by" if len(parts) == 3 else " times")


def _long_digits(token: _Token) -> Iterator[str]:
    yield say.digits(token.text)
    yield say.digits(token.text, "oh")


def _phone(token: _Token) -> Iterator[str]:
    groups = re.findall(r"\d+", token.text)
    plus = "plus " if token.text.startswith("+") else ""
    together = "".join(groups)
    if len(groups) == 1:
        yield from say.integer(together)
    yield plus + say.digits(together)
    yield plus + say.digits(together, "oh")
    hundreds = [next(say.grouped(int(g))) if len(g) == 3 and g.endswith("00") else say.digits(g) for g in groups]
    yield plus + " ".join(hundreds)
    yield plus + say.doubled(together)
    yield plus + say.doubled(together, "zero")
    if plus:
        yield say.digits(together)


def _hyphens(token: _Token) -> Iterator[str]:
    """A range, or figures in groups."""
    groups = token.text.split("-")
    if len(groups) == 2 and _is_range(*groups):
        for separator in (" to ", " ", " through "):
            yield separator.join(next(say.integer(g)) for g in groups)
        yield " to ".join(say.cardinal(int(g)) for g in groups)
        yield from _phone(token)
        return
    if {len(g) for g in groups} == {2} or (len(groups) == 2 and max(map(len, groups)) <= 2):
        yield " ".join(next(say.integer(g)) for g in groups)
    yield from islice(_phone(token), 2)
    if len(groups) == 2 and max(map(len, groups)) < 3:
        yield " to ".join(next(say.integer(g)) for g in groups)
    in_pairs = [say.pairs(g) if len(g) in (3, 4) else next(say.integer(g)) for g in groups]
    yield " ".join(in_pairs)
    yield " ".join(next(say.integer(g)) for g in groups)
    yield from _phone(token)


def _is_range(low: str, high: str) -> bool:
    if low.startswith("0") or high.startswith("0") or max(len(low), len(high)) > 4:
        return False
    if len(low) == 4 and len(high) == 2 and say.is_year(low):
        return int(low[2:]) < int(high)
    return int(low) < int(high) and len(high) - len(low) <= 1 and (len(high) < 4 or say.is_year(high))


def _quantity(token: _Token) -> Iterator[str]:
    number, places = token.part("number").replace(",", ""), token.part("places") or token.part("only")
    sign = _SIGNS.get(token.part("sign"), ("",))
    ending = tuple(_endings(token, number))
    if places:
        values = say.decimal(number, places)
    elif "," in token.part("number"):
        values = say.grouped(int(number))
    elif _month(token.before) and 1 <= int(number) <= 31 and not ending[0] and not token.behind.startswith(":"):
        values = _day(int(number))
    elif not ending[0] and (month := _MONTH_FOLLOWS.match(token.behind)) and _month(month[1]) and int(number) <= 31:
        values = chain(say.integer(number), _day_of(int(number)))
    elif ending[0] and len(number) <= say.MAX_DIGITS:
        values = say.grouped(int(number))
    else:
        values = say.integer(number)
    if token.text.startswith("#"):
        ending, sign = ("",), ("number ", "hashtag ", "pound ", "")
    said = list(islice(values, _MAX_TOKEN_FORMS))
    yield f"{sign[0]}{said[0]}{ending[0]}"
    yield from (f"{s}{said[0]}{ending[0]}" for s in sign[1:])
    yield from (f"{sign[0]}{said[0]}{e}" for e in ending[1:])
    yield from (f"{sign[0]}{value}{ending[0]}" for value in said[1:])


_SIGNS = {"-": ("minus ", "negative ", ""), "+": ("plus ", ""), "±": ("plus or minus ",)}
_POWERS = {"²": " squared", "³": " cubed"}


def _endings(token: _Token, number: str) -> Iterator[str]:
    """What is said behind a number: its unit, scale or power."""
    one = number == "1" and not token.part("places")
    unit = token.part("unit") or token.part("touching")
    if unit in ("'", '"') and token.match.string[token.match.start() - 1 : token.match.start()] == unit:
        unit = ""  # the number stands in quotation marks
    if unit:
        said = table.UNITS[re.sub(r"\s", "", unit)][0 if one else 1]
        yield f" {said}"
        yield from (f" {other}" for other in table.OTHER_UNITS.get(said, ()))
        if unit.isalpha() and len(unit) <= 3:
            yield " " + " ".join(unit.lower())
    elif scale := token.part("scale_4"):
        said = f" {table.SCALES[scale]}"
        yield from (f" {scale.lower()}", said) if scale in "kKB" else (said, " " + " ".join(scale.lower()))
    elif power := token.part("power"):
        yield from _power(power)
    else:
        yield ""


def _power(power: str) -> Iterator[str]:
    if power in _POWERS:
        yield _POWERS[power]
    else:
        number = int(power[1:])
        yield f" to the power of {say.cardinal(number)}"
        yield f" to the {say.ordinal(number)}"
        yield f" {say.cardinal(number)}"


def _month(word: str) -> str:
    """The month that a token names, or "": "Dec", "December"; "may" only with a capital."""
    small = word.lower().rstrip(".")
    if small in ("may", "march", "mar") and not word[0].isupper():
        return ""
    if small in table.MONTHS:
        return small
    long = table.BEFORE_NUMBERS.get(small, ("",))[0]
    return long if long in table.MONTHS else ""


_MONTH_FOLLOWS = re.compile(r" ([A-Z][a-z]{2,8})\b")


def _day_of(number: int) -> Iterator[str]:
    yield f"{say.ordinal(number)} of"
    yield f"the {say.ordinal(number)} of"


def _day(number: int) -> Iterator[str]:
    yield say.ordinal(number)
    yield say.cardinal(number)
    yield f"the {say.ordinal(number)}"


def _ordinal(token: _Token) -> Iterator[str]:
    number = int(token.part("nth").replace(",", ""))
    yield say.ordinal(number)
    yield say.ordinal(number, " ")


def _decade(token: _Token) -> Iterator[str]:
    figures = token.part("tens")
    if len(figures) == 3:  # "100s", "747s" do not end so, but "500s" may
        yield say.plural(say.cardinal(int(figures)))
        return
    if len(figures) == 4:
        yield say.plural(say.year(figures) if say.is_year(figures) else say.cardinal(int(figures)))
        if figures.endswith("000"):
            yield "thousands"
    if figures[-2:] != "00":
        yield say.plural(say.cardinal(int(figures[-2:])))
    if len(figures) == 2:
        yield f"nineteen {say.plural(say.cardinal(int(figures)))}"


def _short_year(token: _Token) -> Iterator[str]:
    yield from say.integer(token.part("short"))
    if token.part("short")[0] == "0":
        yield say.digits(token.part("short"), "oh")


def _clock(token: _Token) -> Iterator[str]:
    hour = int(token.part("hour") or token.part("hours"))
    minute, second = token.part("minute") or token.part("past"), token.part("seconds") or token.part("secs")
    half = token.part("half").lower()
    times = _time(hour, minute or "00", bool(half))
    if second:
        time = next(times)
        times = (f"{time}{joint}{say.cardinal(int(second))}{unit}" for joint, unit in _WITH_SECONDS)
    if not half:
        yield from times
        return
    said = list(dict.fromkeys(times))
    yield f"{said[0]} {half}m"
    yield f"{said[0]} {half} m"
    for other in said[1:]:
        yield f"{other} {half}m"
        yield f"{other} {half} m"


_WITH_SECONDS = ((" ", ""), (" and ", " seconds"))


def _time(hour: int, minute: str, half: bool) -> Iterator[str]:
    number, past = say.cardinal(hour), int(minute)
    twelve = say.cardinal((hour - 1) % 12 + 1)
    following = say.cardinal(hour % 12 + 1)
    if past == 0:
        yield number if half else f"{number} o'clock"
        yield f"{number} o'clock" if half else number
        if hour > 12 or hour == 0:
            yield f"{number} hundred"
            yield f"{twelve} o'clock"
        if hour == 12 and not half:
            yield "noon"
        return
    yield f"{number} {'oh ' if past < 10 else ''}{say.cardinal(past)}"
    if hour > 12 or hour == 0:
        yield f"{twelve} {'oh ' if past < 10 else ''}{say.cardinal(past)}"
    if past == 30:
        yield f"half past {twelve}"
    elif past == 15:
        yield f"quarter past {twelve}"
        yield f"a quarter past {twelve}"
    elif past == 45:
        yield f"quarter to {following}"
        yield f"a quarter to {following}"
    elif past < 30:
        yield f"{say.cardinal(past)} past {twelve}"
    else:
        yield f"{say.cardinal(60 - past)} to {following}"
    if past < 10:
        yield f"{number} zero {say.cardinal(past)}"


def _date(token: _Token) -> Iterator[str]:
    if token.part("year"):
        year, month, day = token.part("year"), int(token.part("month")), int(token.part("day"))
        orders = [(month, day)]
    else:
        year, month, day = token.part("late"), int(token.part("first")), int(token.part("second"))
        orders = [(month, day), (day, month)]  # America's first
    figures = re.findall(r"\d+", token.text)
    spoken_year = next(say.integer(year)) if len(year) == 4 else next(_two_figures(year))
    for m, d in orders:
        if 1 <= m <= 12 and 1 <= d <= 31:
            yield f"{table.MONTHS[m - 1]} {say.ordinal(d)} {spoken_year}"
            yield f"the {say.ordinal(d)} of {table.MONTHS[m - 1]} {spoken_year}"
            yield f"{say.ordinal(d)} of {table.MONTHS[m - 1]} {spoken_year}"
    yield " ".join(next(say.integer(f)) for f in figures)


def _two_figures(year: str) -> Iterator[str]:
    yield say.digits(year, "oh") if year[0] == "0" else say.cardinal(int(year))


def _money(token: _Token) -> Iterator[str]:
    suffix = "" if token.part("currency") else "_2"
    sign = _SIGNS.get(token.part("money_sign") if not suffix else "", ("",))
    amount = token.part("amount" + suffix).replace(",", "")
    cents = token.part("cents" + suffix) or token.part("cents_3")
    scale, currency = token.part("scale" + suffix).strip(), token.part("currency" + suffix)
    currency = table.CURRENCY_CODES.get(currency) or currency[-1]
    one, many, hundredth, hundredths = table.CURRENCIES[currency]
    if not amount and not cents:
        yield "" if currency == "$" else many
        return
    if scale or len(cents) not in (0, 2) or (cents and not hundredth):
        value = next(say.decimal(amount, cents)) if cents else next(say.grouped(int(amount)))
        word = f" {table.SCALES[scale]}" if scale else ""
        yield f"{sign[0]}{value}{word} {many}"
        yield f"{sign[0]}{value}{word}"
        return
    units, parts = int(amount or 0) if len(amount) <= 15 else -1, int(cents or 0)
    if units < 0:
        yield f"{say.digits(amount)} {many}"
        return
    whole = f"{say.cardinal(units)} {one if units == 1 else many}"
    if not parts:
        said = [whole, f"{say.cardinal(units, ' ')} {one if units == 1 else many}"]
        said += [f"{value} {many}" for value in islice(say.grouped(units), 2, 4)]
        said += [f"{say.cardinal(units)} bucks"] if currency == "$" and units != 1 else []
    else:
        small = f"{say.cardinal(parts)} {hundredth if parts == 1 else hundredths}"
        short = f"{'oh ' if parts < 10 else ''}{say.cardinal(parts)}"
        said = [f"{whole} and {small}", f"{whole} {short}", f"{say.cardinal(units)} {short}", f"{whole} {small}"]
        said += [f"{say.cardinal(units)} point {say.digits(cents)} {many}"]
        if units == 0:
            said = [small, *said]
    yield from (f"{s}{value}" for s in sign[:1] for value in said)
    yield from (f"{s}{said[0]}" for s in sign[1:])


def _height(token: _Token) -> Iterator[str]:
    feet, inches = int(token.part("feet")), int(token.part("inches"))
    yield f"{say.cardinal(feet)} {'foot' if feet == 1 else 'feet'} {say.cardinal(inches)}"
    yield f"{say.cardinal(feet)} foot {say.cardinal(inches)}"
    yield f"{say.cardinal(feet)} feet {say.cardinal(inches)} inches"
    yield f"{say.cardinal(feet)} {say.cardinal(inches)}"


def _mixed(token: _Token) -> Iterator[str]:
    whole, top, bottom = (int(token.part(name)) for name in ("whole_3", "top_3", "bottom_3"))
    if not 0 < top < bottom:
        yield " ".join(next(say.integer(f)) for f in re.findall(r"\d+", token.text))
        return
    yield from say.fraction(top, bottom, whole)


def _ratio(token: _Token) -> Iterator[str]:
    top, bottom = int(token.part("top")), int(token.part("bottom"))
    plain = f"{next(say.integer(token.part('top')))} {next(say.integer(token.part('bottom')))}"
    if (0 < top < bottom and bottom in _DENOMINATORS) or (bottom == 2 and top):
        yield from say.fraction(top, bottom)
        yield plain
    else:
        yield plain
    if 1 <= top <= 12 and 1 <= bottom <= 31:
        yield f"{table.MONTHS[top - 1]} {say.ordinal(bottom)}"
    yield f"{next(say.integer(token.part('top')))} slash {next(say.integer(token.part('bottom')))}"
    yield f"{next(say.integer(token.part('top')))} over {next(say.integer(token.part('bottom')))}"


_DENOMINATORS = frozenset({2, 3, 4, 5, 6, 8, 10, 16, 32})


def _version(token: _Token) -> Iterator[str]:
    groups = token.text.split(".")
    if [len(g) for g in groups] in ([3, 3, 4], [3, 4]):
        yield from _phone(token)
    said = [say.digits(g) if len(g) > 2 else next(say.integer(g)) for g in groups]
    for separator in (" point ", " dot ", " "):
        yield separator.join(said)


def _symbol(token: _Token) -> Iterator[str]:
    yield from table.SYMBOLS[token.text]


def _small_and(token: _Token) -> Iterator[str]:
    yield "n"
    yield "and"


def _with(token: _Token) -> Iterator[str]:
    yield "without" if "o" in token.text else "with"


def _raised(token: _Token) -> Iterator[str]:
    for said in _power(token.text):
        yield said.strip()


def _hash(token: _Token) -> Iterator[str]:
    yield ""
    yield "hashtag"


_SAY: dict[str, Callable[[_Token], Iterator[str]]] = {
    "digits": _long_digits, "email": _address, "url": _address, "domain": _address, "date": _date, "clock": _clock,
    "phone": _phone, "money": _money, "price": _money, "height": _height, "decade": _decade, "short_year": _short_year,
    "ordinal": _ordinal, "mixed": _mixed, "ratio": _ratio, "version": _version, "hyphens": _hyphens,
    "quantity": _quantity, "dotted": _dotted, "spelled": _spelled, "sign_word": _sign_word, "joined": _joined,
    "letter_sign": _letter_sign, "code": _code, "compound": _compound, "small_and": _small_and, "with": _with,
    "word": _word, "raised": _raised, "symbol": _symbol, "hash": _hash,
}  # fmt: skip
