"""How words sound, from their spelling alone: phones by letter rules and a weighted edit distance.

No dictionary is needed at run time. The phone set is coarse (vowels that accents merge are close, a vowel costs
less than a consonant), because the aim is to find what *might* have been said; the acoustic model decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

VOWELS = "aAeEiIoOuUYW@R"
CONSONANTS = "pbtdkgfvszSZCJTmnNlrwjh"
PHONES = VOWELS + CONSONANTS
_PAD = len(PHONES)

# Letter rules, tried in order at each position; the first that matches wins. Phones: A ah/aw, a cat, e bed, E day,
# i see, I bit, o go, O boy, u too, U put, Y my, W now, @ schwa, R er, S sh, Z zh, C ch, J judge, T th, N ng.
_RULES = """
^kn n|^gn n|^wr r|^ps s|^pn n|^x z|^wh w|^mc m@k|^mac(?=[bcdfgklmnpqrtvw]) m@k|^sch S|^tsch C|^cz C|^hu(?=[aei]) w
tsch C|tzsch C|schw Sw|sch(?=[^aeiou]) S|sch sk|tch C|dge?(?=$) J|dg(?=[ei]) J|
tion S@n|sion Z@n|cian S@n|tious S@s|cious S@s
tial S@l|cial S@l|ture C@R|sure Z@R|ough(?=t) A|augh(?=t) A|ought At|igh Y|leigh li|eigh E|aigh E|gh(?=$) |gh(?=t) |gh g
qu kw|que(?=$) k|ck k|cc(?=[ei]) ks|cq k|ch(?=[rl]) k|ch C|ph f|sh S|th T|ng(?=$) N|ng(?=[s]) N|nk Nk|ng(?=[aou]) Ng
ge(?=$) J|gue(?=$) g|gu(?=[ei]) g|g(?=[eiy]) J|gg g|g g
ce(?=$) s|sc(?=[eiy]) s|c(?=[eiy]) s|c k|ss s|se(?=$) z|s(?=$) z|s s|zz z|z z|x ks
mb(?=$) m|mn(?=$) m|kn(?=$) n|lk(?=$) k|lm(?=$) m|tt t|ted(?=$) t@d|ded(?=$) d@d|ed(?=$) d|pp p|bb b|dd d|ff f|ll l|
mm m|nn n|rr r
eau o|ieu u|iew u|oeu @|ower WR|owe(?=$) o|our WR|auer WR|ayer ER|oor Ar|oar Ar|
ore(?=$) Ar|ore Ar|ar(?=[^aeiouy]|$) Ar|air er|are(?=$) er
ear(?=[^aeiouyt]) R|ear ir|eer ir|ier ir|ere(?=$) ir|
ire(?=$) YR|ure(?=$) ur|er(?=[^aeiouyr]|$) R|ir(?=[^aeiouyr]|$) R|
ur(?=[^aeiouyr]|$) R|or(?=[^aeiouyr]|$) Ar|yr(?=[^aeiouy]|$) R
a(?=[bcdfgklmnpstvz]es?$) E|i(?=[bcdfgklmnpstvz]es?$) Y|
o(?=[bcdfgklmnpstvz]es?$) o|u(?=[bcdfgklmnpstvz]es?$) u|y(?=[bcdfgklmnpstvz]es?$) Y
ai E|ay E|au A|aw A|aa A|ae i|ah A|al(?=[kt]) A|al(?=l$) A
ee i|ea i|eil il|eid(?=$) id|eith iT|ei Y|ey(?=$) i|ey E|eu u|ew u|eo io|ie(?=$) i|ie i|oe(?=[bm]) i|
oa o|oo u|oi O|oy O|ou W|ow(?=$) o|ow W|oe o|oh o|ue(?=$) u|ui u|uy Y
ia(?=$) i@|io io|ia i@|ua w@|uo wo|a(?=$) @|e(?=$) |e(?=s$) |(?<=[bcdfgkpstz])le(?=$) @l
i(?=$) i|o(?=$) o|u(?=$) u|^y j|y(?=$) i|ye(?=$) Y|(?<=[hlmrw])y(?=[aeou]) Y|y(?=[aeou]) j|y I
a(?=[bcdfgklmnpqstvxz]{2}) a|a a|e e|i I|o(?=[lr]) o|o A|u @|b b|d d|f f
h(?=[^aeiouy]|$) |h h|j J|k k|l l|m m|n n|p p|q k|r r|t t|v v|w(?=[aeiouy]) w|w _
"""

# Frequent words of answers that no rule of English spelling gives.
_IRREGULAR = {
    "the": "T@", "a": "@", "one": "w@n", "two": "tu", "four": "fAr", "eight": "Et", "to": "tu", "of": "@v", "is": "Iz",
    "was": "w@z", "are": "Ar", "you": "ju", "your": "jAr", "do": "du", "does": "d@z", "who": "hu", "what": "w@t",
    "some": "s@m", "come": "k@m", "none": "n@n", "please": "pliz", "i": "Y", "my": "mY", "ok": "okE", "hugh": "hju",
    "shaun": "SAn", "sean": "SAn", "thomas": "tAm@s", "stephen": "stiv@n", "chloe": "kloi", "zoe": "zoi",
    "phoebe": "fibi", "heart": "hArt", "grey": "grE", "they": "TE", "hey": "hE", "now": "nW", "how": "hW", "howe": "hW",
    "cow": "kW", "own": "on", "known": "non", "bowl": "bol", "owen": "o@n", "owens": "o@nz", "sky": "skY", "fry": "frY",
    "by": "bY", "people": "pip@l", "michael": "mYk@l", "nicholas": "nIk@l@s", "nichols": "nIk@lz", "rachel": "rEC@l",
    "rachael": "rEC@l", "brian": "brY@n", "bryan": "brY@n", "ryan": "rY@n", "joel": "Jo@l", "hughes": "hjuz",
    "george": "JArJ", "jose": "hozE", "jesse": "Jesi", "isaac": "Yz@k", "young": "j@N", "noah": "no@",
}  # fmt: skip
_LETTERS = {
    "b": "bi", "c": "si", "d": "di", "e": "i", "f": "ef", "g": "Ji", "h": "EC", "j": "JE", "k": "kE", "l": "el",
    "m": "em", "n": "en", "o": "o", "p": "pi", "q": "kju", "r": "Ar", "s": "es", "t": "ti", "u": "ju", "v": "vi",
    "w": "d@bju", "x": "eks", "y": "wY", "z": "zi",
}  # fmt: skip
_BY_HEART = _IRREGULAR | _LETTERS


def _compile_rules() -> dict[str, list[tuple[re.Pattern[str], str]]]:
    by_letter: dict[str, list[tuple[re.Pattern[str], str]]] = {}
    for rule in re.split(r"\n|\|(?![^()]*\))", _RULES.strip()):
        if not rule:
            continue
        pattern, _, phones = rule.partition(" ")
        anchored = pattern.startswith("^")
        body = pattern.lstrip("^")
        compiled = re.compile((r"(?<![a-z'])" if anchored else "") + body)
        first = re.sub(r"^\(\?<[^)]*\)", "", body)[0]
        by_letter.setdefault(first, []).append((compiled, phones.strip().strip("_")))
    return by_letter


_RULES_BY_LETTER = _compile_rules()


def word_phones(word: str) -> str:
    """Phones of one normalised word, one character each.

    >>> word_phones("bauer"), word_phones("power")
    ('bWR', 'pWR')
    """
    if word in _BY_HEART:
        return _BY_HEART[word]
    out: list[str] = []
    i = 0
    while i < len(word):
        for pattern, phones in _RULES_BY_LETTER.get(word[i], ()):
            match = pattern.match(word, i)
            if match:
                out.append(phones)
                i = match.end()
                break
        else:
            i += 1
    squeezed = re.sub(r"(.)\1+", r"\1", "".join(out))
    return squeezed or word[:1].translate(str.maketrans("aeiou'", "aeIAu@"))


class WordSounds(dict[str, str]):
    """Phones by word, each worked out once. For one call: words are users', so none is kept past it."""

    def __missing__(self, word: str) -> str:
        self[word] = found = word_phones(word)
        return found


def phones_of(texts: Iterable[str]) -> list[str]:
    """Phones of normalised texts, words joined: speech has no spaces."""
    known = WordSounds()
    return ["".join([known[word] for word in text.split()]) for text in texts]


def phones(text: str) -> str:
    """Phones of one normalised text, as of `phones_of`."""
    return phones_of([text])[0]


def _substitution_costs() -> NDArray[np.float32]:
    costs = np.ones((len(PHONES) + 1, len(PHONES) + 1), np.float32)
    index = {p: i for i, p in enumerate(PHONES)}
    for group, cost in (
        (VOWELS, 0.4), ("aAeE", 0.25), ("eEiI", 0.25), ("AoOU@", 0.25), ("uUo", 0.25), ("aAW", 0.25), ("Ii", 0.1),
        ("@IeaAU", 0.2), ("R@", 0.25), ("YaiI", 0.3), ("Rr", 0.3), ("pb", 0.35), ("td", 0.35), ("kg", 0.35),
        ("fv", 0.35), ("sz", 0.15), ("SZ", 0.2), ("CJ", 0.3), ("SC", 0.4), ("ZJ", 0.3), ("Tfsdt", 0.5), ("Tv", 0.5),
        ("mn", 0.4), ("nN", 0.3), ("lr", 0.6), ("wr", 0.6), ("wv", 0.5), ("ji", 0.4), ("jI", 0.4), ("wu", 0.4),
        ("ptk", 0.6), ("bdg", 0.6), ("sS", 0.4), ("zZ", 0.4), ("lw", 0.6), ("bv", 0.5), ("pf", 0.6), ("hf", 0.7),
    ):  # fmt: skip
        for a in group:
            for b in group:
                costs[index[a], index[b]] = min(costs[index[a], index[b]], cost)
    np.fill_diagonal(costs, 0.0)
    return costs


def _gap_costs() -> NDArray[np.float32]:
    costs = np.full(len(PHONES) + 1, 0.8, np.float32)
    for i, p in enumerate(PHONES):
        if p in VOWELS:
            costs[i] = 0.5
        if p in "@hwjr":
            costs[i] = 0.35
    costs[_PAD] = 0.0
    return costs


_SUBSTITUTION = _substitution_costs()
_GAP = _gap_costs()
_LONG = 200
"""Texts from which on their running minima are taken together."""
_OF_BYTE = np.full(128, _PAD, np.int64)
_OF_BYTE[[ord(p) for p in PHONES]] = np.arange(len(PHONES))


def encode(sounds: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Phone strings as a padded array.

    Returns:
        ids (N, L) int64, padded with a value past the last phone; lengths (N,) int64. L is at least 1.
    """
    lengths = np.array([len(s) for s in sounds], np.int64)
    ids = np.full((len(sounds), max(1, int(lengths.max(initial=1)))), _PAD, np.int64)
    inside = np.arange(ids.shape[1]) < lengths[:, None]
    ids[inside] = _OF_BYTE[np.frombuffer("".join(sounds).encode("ascii"), np.uint8)]
    return ids, lengths


def distances(
    a: NDArray[np.int64],
    a_lengths: NDArray[np.int64],
    b: NDArray[np.int64],
    b_lengths: NDArray[np.int64],
    deletion_share: float = 1.0,
    to: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Weighted edit distance of each row of a (N, A) to a row of b (K, B). → (N,).

    deletion_share: of the usual cost at which a phone of a may be missing in b: recognisers drop more than they add.
    to: (N,) which row of b; None: the same row of both, or the only one of b.
    """
    if to is None:
        to = np.arange(len(a)) if len(b) > 1 else np.zeros(len(a), np.int64)
    ends = b_lengths[to]
    return (
        _last_rows(a, a_lengths, b, to, np.float32(0.0), deletion_share)[ends, np.arange(len(a))] + _gaps(b)[to, ends]
    )


def least_distances(
    forms: Sequence[Sequence[str]], texts: Sequence[str], deletion_share: float = 1.0
) -> NDArray[np.float32]:
    """Of the spoken forms of each of N things the least `distance` to each of T texts, all normalised. → (T, N)."""
    sounds = encode(phones_of(form for of_one in forms for form in of_one))
    begins = np.cumsum([0, *map(len, forms)])[:-1]
    each = [
        np.minimum.reduceat(distances(*sounds, *encode([text]), deletion_share), begins) for text in phones_of(texts)
    ]
    return np.stack(each)


def spans_and_whole(
    a: NDArray[np.int64],
    a_lengths: NDArray[np.int64],
    b: NDArray[np.int64],
    b_lengths: NDArray[np.int64],
    word_starts: Sequence[Sequence[int]],
    deletion_share: float = 1.0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least distance of each row of a (N, A) to any run of whole words of each text of b (K, B), and to all of it.

    word_starts: places in each text at which its words begin. → two of (K, N).
    """
    n, k, gaps = len(a), len(b), _gaps(b)
    begun, ended = np.full_like(gaps, np.inf), np.full_like(gaps, np.inf)
    for text, (starts, length) in enumerate(zip(word_starts, b_lengths.tolist(), strict=True)):
        begun[text, [0, *starts]] = -gaps[text, [0, *starts]]
        ended[text, [0, *starts, length]] = gaps[text, [0, *starts, length]]
    anywhere = np.minimum.accumulate(begun, axis=1)
    first = np.repeat(np.concatenate([anywhere, np.zeros_like(gaps)]), n, axis=0).T
    to = np.repeat(np.tile(np.arange(k), 2), n)
    rows = _last_rows(np.tile(a, (2 * k, 1)), np.tile(a_lengths, 2 * k), b, to, first, deletion_share)
    spans, wholes = rows.reshape(len(rows), 2, k, n).swapaxes(0, 1)
    inside = (spans + ended.T[:, :, None]).min(axis=0)
    return inside, wholes[b_lengths, np.arange(k)] + gaps[np.arange(k), b_lengths][:, None]


def _gaps(b: NDArray[np.int64]) -> NDArray[np.float32]:
    """(K, B + 1): cost of adding the first 0, 1, ..., B phones of b (K, B)."""
    return np.pad(np.cumsum(_GAP[b], axis=1, dtype=np.float32), ((0, 0), (1, 0)))


def _last_rows(
    a: NDArray[np.int64],
    a_lengths: NDArray[np.int64],
    b: NDArray[np.int64],
    to: NDArray[np.int64],
    first: NDArray[np.float32] | np.float32,
    deletion_share: float,
) -> NDArray[np.float32]:
    """The dynamic programme, a phone of every row of a at a time; (B + 1, N).

    It gives the cost at which all of a becomes the first 0..B phones of its row of b, less that of adding these, so
    that additions are a running minimum.

    Args:
        first: (B + 1, N) the cost at which nothing becomes these, less the same.
    """
    instead = (_SUBSTITUTION[b] - _GAP[b][:, :, None]).transpose(1, 0, 2).reshape(b.shape[1], -1)
    order = np.argsort(a_lengths, kind="stable")
    ends = np.searchsorted(a_lengths[order], np.arange(a.shape[1] + 2))
    row, other = (np.empty((b.shape[1] + 1, len(a)), np.float32) for _ in range(2))
    row[:] = first
    last = row.copy()
    for phone, start, end in zip(a.T, ends[1:], ends[2:], strict=False):
        np.add(row, deletion_share * _GAP[phone], out=other)
        cost = instead.take(phone + len(_GAP) * to, axis=1)
        cost += row[:-1]
        np.minimum(other[1:], cost, out=other[1:])
        _running_minimum(other)
        done = order[start:end]
        last[:, done] = other[:, done]
        row, other = other, row
    return last


def _running_minimum(table: NDArray[np.float32]) -> None:
    """Along the first axis, in place: where rows are long by rows, since NumPy's own goes a number at a time."""
    if table.shape[1] < _LONG:
        np.minimum.accumulate(table, axis=0, out=table)
        return
    for above, row in zip(table, table[1:], strict=False):
        np.minimum(above, row, out=row)


def distance(a: str, b: str) -> float:
    """Distance of two phone strings, in units of one clearly wrong consonant."""
    return float(distances(*encode([a]), *encode([b]))[0])
