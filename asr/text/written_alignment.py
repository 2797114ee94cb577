"""Written text word by word: which spoken words each written one stands for, and the written form of other words.

A written word is what stands between spaces, its punctuation included: "$5.20," is one and stands for five spoken ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import accumulate

from asr.text.spoken import normalize, spoken_forms, tokens_of
from asr.text.unicode import clean

MAX_PHRASE_WORDS = 20
"""Spoken words of a phrase that is looked for."""
_CHOSEN = 1e-3
"""What a less usual spoken form costs against a differing word's 1, so that the usual one is taken where both fit."""

Spelling = Callable[[str], str]
"""How a phrase is written, by one of its spoken forms; "": no phrase is said so."""


@dataclass(frozen=True)
class WrittenWord:
    """A written word, and the spoken words that it stands for.

    start, end: places between the spoken words, 0 before the first; within one of them where several written words
    stand for it ("ice cream" for "icecream"). Equal: nothing is said for it ("&").
    """

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Fitted:
    """A written form of a text. differing: spoken words of the text that were not written so; 0: it is a form of it."""

    words: tuple[WrittenWord, ...]
    differing: int


@dataclass(frozen=True)
class _Step:
    """A token, None: there is none, and the spoken words that it stands for. same: in one of its spoken forms."""

    token: int | None
    start: int
    end: int
    same: bool


@dataclass(frozen=True)
class _Unit:
    """The fewest written words and spoken words that stand for each other."""

    first: int
    last: int
    start: int
    end: int
    same: bool


def fit(written: str, text: str) -> Fitted:
    """A written text, changed where a text in normal form differs from it.

    Words that differ take the capitals and the punctuation of those that they replace.

    >>> " ".join(w.text for w in fit("Call Mag, at 5:30.", "call meg at five thirty").words)
    'Call Meg, at 5:30.'
    """
    said, pieces = text.split(), written.split()
    if not said:
        return Fitted((), 0)
    cleaned = [clean(piece) for piece in pieces]
    tokens = tokens_of(" ".join(cleaned))
    owner = [i for i, piece in enumerate(cleaned) for _ in range(len(piece) + 1)]
    spans = [(owner[start], owner[end - 1] + 1) for start, end, _ in tokens]
    steps = _align([[form.split() for form in forms] for *_, forms in tokens], said)
    words: list[WrittenWord] = []
    ending = ""
    for unit in _units(steps, spans, len(pieces)):
        if unit.first == len(pieces) and words and not ending:  # words behind the last written one
            ending = _around(words[-1].text)[1]
            words[-1] = _ended(words[-1], "")
        words += _write(unit, pieces, said, begins=not words or _ends_sentence(words[-1].text))
        if unit.last == len(pieces) and unit.start == unit.end and not unit.same:  # the last written one is left out
            ending = _around(pieces[-1])[1]
    if ending:
        words[-1] = _ended(words[-1], ending)
    return Fitted(tuple(words), sum(max(1, s.end - s.start) for s in steps if not s.same))


def sentence(text: str) -> str:
    """A text in normal form as a sentence: a capital, "I", spelled letters in capitals, a full stop.

    >>> sentence("is i b m what i want")
    'Is I B M what I want.'
    """
    return f"{_capital(with_capitals(text))}." if text else ""


def with_capitals(text: str) -> str:
    """A written text with "I" and spelled letters in capitals, where it has them small."""
    words = text.split(" ")
    bare = [re.sub("[^a-z']", "", word) if word[:1].islower() else "" for word in words]
    letters = [len(b) == 1 for b in bare]
    for i, word in enumerate(bare):
        beside = any(letters[j] and bare[j] not in "ai" for j in (i - 1, i + 1) if 0 <= j < len(words))
        if word in _PRONOUNS or (letters[i] and (word not in "ai" or beside)):
            words[i] = _capital(words[i])
    return " ".join(words)


_PRONOUNS = frozenset({"i", "i'm", "i'll", "i've", "i'd"})


def with_phrases(words: Sequence[WrittenWord], text: str, spelling: Spelling) -> tuple[WrittenWord, ...]:
    """The written words of a text, phrases among them as they are written, the longest first from left to right.

    A phrase that is written in its normal form says nothing of its spelling. Punctuation around it stays.
    """
    said, out, at = text.split(), list[WrittenWord](), 0
    places = list(words)
    while at < len(places):
        phrase = _phrase(places, at, said, spelling, begins=not out or _ends_sentence(out[-1].text))
        if phrase is None:
            out.append(places[at])
            at += 1
        else:
            length, written = phrase
            out += written
            at += length
    return tuple(out)


def _phrase(
    words: Sequence[WrittenWord], at: int, said: Sequence[str], spelling: Spelling, *, begins: bool
) -> tuple[int, list[WrittenWord]] | None:
    """The longest phrase that begins with a written word: how many of them it replaces, and by which."""
    start = words[at].start
    if start != int(start):
        return None
    for size in range(len(words) - at, 0, -1):
        end = words[at + size - 1].end
        if not start < end <= start + MAX_PHRASE_WORDS or end != int(end):
            continue
        form = " ".join(said[int(start) : int(end)])
        written = spelling(form)
        if not written or written == normalize(written):
            continue
        new = [replace(w, start=w.start + start, end=w.end + start) for w in fit(written, form).words]
        if not new:
            continue
        before = _around(words[at].text)[0]
        behind = _behind(words[at + size - 1].text, last=at + size == len(words))
        if begins and new[0].text.islower():
            new[0] = replace(new[0], text=_capital(new[0].text))
        new[0] = replace(new[0], text=before + new[0].text)
        ending = new[-1].text
        behind = behind[1:] if behind[:1] == ending[-1:] == "." else behind
        new[-1] = replace(new[-1], text=ending + behind)
        return size, new
    return None


def _align(tokens: Sequence[Sequence[Sequence[str]]], said: Sequence[str]) -> list[_Step]:
    """The cheapest alignment of tokens, each with its spoken forms, with spoken words.

    By Dijkstra's algorithm, which looks at little else than the path itself where they agree.
    """
    goal, start = (len(tokens), len(said)), (0, 0)
    heap: list[tuple[float, tuple[int, int]]] = [(0.0, start)]
    cost, came = {start: 0.0}, dict[tuple[int, int], tuple[tuple[int, int], bool]]()
    while heap:
        spent, place = heappop(heap)
        if place == goal:
            break
        if spent > cost[place]:
            continue
        for following, more, same in _moves(tokens, said, *place):
            if spent + more < cost.get(following, float("inf")):
                cost[following], came[following] = spent + more, (place, same)
                heappush(heap, (spent + more, following))
    steps: list[_Step] = []
    place = goal
    while place != start:
        before, same = came[place]
        steps.append(_Step(before[0] if place[0] > before[0] else None, before[1], place[1], same))
        place = before
    return steps[::-1]


def _moves(
    tokens: Sequence[Sequence[Sequence[str]]], said: Sequence[str], i: int, j: int
) -> Iterator[tuple[tuple[int, int], float, bool]]:
    """Where an alignment goes on from i tokens and j words, what that costs, and whether a token was said so."""
    if j < len(said):
        yield (i, j + 1), 1.0, False
    if i == len(tokens):
        return
    for rank, form in enumerate(tokens[i]):
        words = said[j : j + len(form)]
        if words == form:
            yield (i + 1, j + len(form)), _CHOSEN * rank, True
        elif len(words) == len(form):
            yield (i + 1, j + len(form)), sum(a != b for a, b in zip(words, form, strict=True)) + _CHOSEN * rank, False
    shortest = min(map(len, tokens[i]))
    yield (i + 1, j), float(max(1, shortest)), False
    if shortest > 1 and j < len(said):
        yield (i + 1, j + 1), float(shortest), False


def _units(steps: Sequence[_Step], spans: Sequence[tuple[int, int]], pieces: int) -> Iterator[_Unit]:
    """Groups of steps that have no written word in common; written words without a token are units of their own."""
    firsts = [pieces if step.token is None else spans[step.token][0] for step in steps]
    later = [*accumulate(reversed(firsts), min)][::-1]
    done, group = 0, list[_Step]()
    for i, step in enumerate(steps):
        group.append(step)
        written = [spans[s.token] for s in group if s.token is not None]
        last = max((span[1] for span in written), default=done)
        if i + 1 < len(steps) and later[i + 1] < last:
            continue
        start, end = group[0].start, group[-1].end
        first = min((span[0] for span in written), default=done)
        yield from (_Unit(j, j + 1, start, start, True) for j in range(done, first))
        yield _Unit(first, last, start, end, all(s.same for s in group))
        done, group = last, []
    yield from (_Unit(j, j + 1, steps[-1].end, steps[-1].end, True) for j in range(done, pieces))


def _write(unit: _Unit, pieces: Sequence[str], said: Sequence[str], *, begins: bool) -> Iterator[WrittenWord]:
    """The written words of a unit. begins: they stand at the beginning of a sentence."""
    old = pieces[unit.first : unit.last]
    if unit.same:
        yield from _share(old, unit.start, said[unit.start : unit.end])
        return
    before, behind = (_around(old[0])[0], _around(old[-1])[1]) if old else ("", "")
    title = bool(old) and all(_around(piece)[2][:1].isupper() for piece in old) and not begins
    words = with_capitals(" ".join(said[unit.start : unit.end])).split()
    new = [_capital(word) if title or (begins and i == 0) else word for i, word in enumerate(words)]
    if new:
        new[0], new[-1] = before + new[0], (new[-1] if len(new) > 1 else before + new[0]) + behind
    for i, word in enumerate(new):
        yield WrittenWord(word, float(unit.start + i), float(unit.start + i + 1))


def _share(pieces: Sequence[str], start: int, said: Sequence[str]) -> Iterator[WrittenWord]:
    """Written words that stand for spoken ones together: each for what it would stand for alone, or by its letters."""
    if len(pieces) > 1:
        steps = _align([[form.split() for form in spoken_forms(piece)] for piece in pieces], said)
        if all(step.token is not None and step.end > step.start for step in steps):
            for piece, step in zip(pieces, steps, strict=True):
                yield WrittenWord(piece, float(start + step.start), float(start + step.end))
            return
    letters, at = sum(map(len, pieces)), 0
    for piece in pieces:
        before, at = at, at + len(piece)
        yield WrittenWord(piece, start + len(said) * before / letters, start + len(said) * at / letters)


_AROUND = re.compile(r"""(["'(\[]*)(.*?)([.,;:!?"')\]]*)""")


def _around(piece: str) -> tuple[str, str, str]:
    """The punctuation before and behind a written word, and the word."""
    match = _AROUND.fullmatch(piece)
    return (match[1], match[3], match[2]) if match else ("", "", piece)


def _behind(piece: str, *, last: bool) -> str:
    """The punctuation behind a written word, without the full stop of an abbreviation. last: nothing follows it."""
    _, behind, word = _around(piece)
    short = word.isalpha() and normalize(word) != word.lower()
    return behind.removeprefix(".") if short and not last else behind


def _ends_sentence(piece: str) -> bool:
    return bool(re.search("[.!?]", _around(piece)[1]))


def _ended(word: WrittenWord, ending: str) -> WrittenWord:
    """With other punctuation behind it."""
    return replace(word, text=word.text.removesuffix(_around(word.text)[1]) + ending)


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]
