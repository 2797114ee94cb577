"""Which of the context's entries a text names, so that an assistant need not match words itself.

A text names an entry by all of it, by a part of it ("bauer", "doctor brown"), or by its place in a list ("the second
one"). A part of several words may stand anywhere; one word counts where its neighbours are words that people say around
a name, so that "tom bauer" does not name Meg Bauer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asr.context.phrase_index import Part, PhraseIndex
from asr.context.question import TURN_SIGNAL
from asr.context.types import ContextEmbedding, Meant
from asr.text import normalize

_SPOKEN = re.compile("[a-z' ]*")
_MOST = 10
"""Entries that fit equally well, at most; more are no answer. And entries of a list that people count in."""
_MAX_WORDS = 100
_AROUND = frozenset({
    "a", "about", "actually", "again", "and", "ask", "at", "by", "call", "can", "check", "choice", "choose",
    "connect", "contact", "could", "dial", "email", "find", "for", "from", "get", "give", "go", "hello", "hey",
    "hi", "i", "i'd", "i'll", "i'm", "in", "into", "is", "it", "it's", "like", "look", "make", "me", "mean",
    "meant", "message", "my", "need", "no", "number", "of", "off", "ok", "okay", "on", "one", "open", "option",
    "or", "pick", "play", "please", "put", "rather", "ring", "said", "say", "search", "select", "send", "set",
    "show", "sorry", "speak", "start", "stop", "switch", "take", "talk", "text", "thank", "thanks", "that",
    "that's", "the", "then", "there", "this", "to", "try", "turn", "uh", "um", "using", "want", "was", "well",
    "with", "would", "yeah", "yep", "yes", "you",
})  # fmt: skip
"""Words that people say before and behind a name, and that are no names."""
_CORRECTIONS = frozenset({"no", "sorry", "mean", "meant", "actually", "rather"})
"""What is said behind one of them counts."""
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_CARDINALS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNTED = frozenset({"one", "option", "choice", "name", "entry", "person", "contact", "result"})
_NUMBERED = frozenset({"number", "option", "choice"})
_SCREEN = "screen"


@dataclass(frozen=True)
class _Span:
    start: int
    end: int
    parts: tuple[Part, ...]


def meant(text: str, embedding: ContextEmbedding, index: PhraseIndex | None = None) -> tuple[Meant, ...]:
    """The entries that a text names, likeliest first: several fit equally well, none is named.

    Args:
        text: a hypothesis in lower case, or another recogniser's, written in any way.
        index: of the embedding's phrases; None: it is made for this call.

    Of one text the answer is always the same, and nothing else of a result depends on it.
    """
    index = index or PhraseIndex(embedding.phrases)
    words = (text.split() if _SPOKEN.fullmatch(text) else normalize(text).split())[:_MAX_WORDS]
    for at in (i for i in range(len(words) - 1, -1, -1) if words[i] in _CORRECTIONS):
        found = _named_by(words[at + 1 :], index, embedding.asked)
        if found:
            return _reported(found, index)
    return _reported(_named_by(words, index, embedding.asked), index)


def _reported(places: Sequence[int], index: PhraseIndex) -> tuple[Meant, ...]:
    phrases = [index.phrases[place] for place in sorted(places, key=lambda p: -index.phrases[p].weight)]
    return tuple(Meant(p.name, p.signal, entry_id) for p in phrases for entry_id in p.ids or ("",))


def _named_by(words: Sequence[str], index: PhraseIndex, asked: str) -> list[int]:
    """Places of the phrases that the words name equally well."""
    whole = _longest(_spans(words, index, whole=True))
    if whole:
        return _fitting(whole, index, asked)
    place = _counted(words)
    if place is not None:
        listed = _listed(index, asked)
        return listed[place] if -len(listed) <= place < len(listed) else []
    bare = [word.removesuffix("'s") for word in words]
    return _fitting(_longest([*_spans(words, index)]) or _longest(_spans(bare, index)), index, asked)


def _spans(words: Sequence[str], index: PhraseIndex, whole: bool = False) -> Iterator[_Span]:
    """Where parts stand, alone among words that may be around them. whole: only what names all of an entry."""
    for start in range(len(words)):
        for end in range(start + 1, min(len(words), start + index.longest) + 1):
            named = index.named.get(" ".join(words[start:end]), ())
            parts = tuple(part for part in named if part.kind == "full" or not whole)
            if parts and _stands(words, start, end, anywhere=whole and end - start > 1):
                yield _Span(start, end, parts)


def _stands(words: Sequence[str], start: int, end: int, anywhere: bool) -> bool:
    before = [word for word in words[max(0, start - 2) : start] if word not in ("the", "a")]
    if before and before[-1] == "not":
        return False
    if anywhere or end - start == len(words):
        return True
    around = (*words[max(0, start - 1) : start], *words[end : end + 1])
    return _AROUND.issuperset(around) and not _AROUND.issuperset(words[start:end])


def _longest(spans: Iterator[_Span] | Sequence[_Span]) -> list[_Span]:
    found = list(spans)
    most = max((span.end - span.start for span in found), default=0)
    return [span for span in found if span.end - span.start == most]


def _fitting(spans: Sequence[_Span], index: PhraseIndex, asked: str) -> list[int]:
    """Places of the phrases that the spans name best: all of them before parts.

    What the question offers before the rest; what a service knows before what was only said. None where too many fit.
    """
    parts = [part for span in spans for part in span.parts]
    places = {p.phrase for p in parts if p.kind == "full"} or {p.phrase for p in parts}
    if len(places) > 1:
        offered = {p.phrase for s in _mentions(index, asked, whole=True) for p in s.parts}
        places = places & offered or places
        known = {p for p in places if index.phrases[p].signal != TURN_SIGNAL}
        places = known or places
    return sorted(places) if len(places) <= _MOST else []


def _counted(words: Sequence[str]) -> int | None:
    """The place that is said ("the second one please": 1, "the last": -1), None: none is."""
    for at, word in enumerate(words):
        before, behind = words[at - 1] if at else "", words[at + 1] if at + 1 < len(words) else ""
        others = [w for i, w in enumerate(words) if i != at and w not in _AROUND and w not in _COUNTED]
        if others:
            continue
        if (word in _ORDINALS or word in ("last", "former", "latter")) and (
            before == "the" or behind in _COUNTED or len(words) == 1
        ):
            return _ORDINALS.index(word) if word in _ORDINALS else 0 if word == "former" else -1
        if word in _CARDINALS and before in _NUMBERED:
            return _CARDINALS.index(word)
    return None


def _listed(index: PhraseIndex, asked: str) -> list[list[int]]:
    """Places of the phrases by their order: as the question names them.

    Where it names no two, as a short list of one service has them, the screen's first.
    """
    for whole in (True, False):
        named = list(dict.fromkeys(tuple(_fitting_only(span, index)) for span in _mentions(index, asked, whole)))
        if len(named) > 1:
            return [list(places) for places in named]
    signals = {p.signal for p in index.phrases if p.signal != TURN_SIGNAL}
    only = _SCREEN if _SCREEN in signals else next(iter(signals), "")
    listed = [i for i, p in enumerate(index.phrases) if p.signal == only]
    known = len(signals) == 1 or only == _SCREEN
    return [[i] for i in listed] if known and len(listed) <= _MOST else []


def _fitting_only(span: _Span, index: PhraseIndex) -> list[int]:
    whole = {p.phrase for p in span.parts if p.kind == "full"} or {p.phrase for p in span.parts}
    return sorted({p for p in whole if index.phrases[p].signal != TURN_SIGNAL} or whole)


def _mentions(index: PhraseIndex, asked: str, whole: bool) -> Iterator[_Span]:
    """What the question names, in its order, the longest part at each place."""
    words, at = asked.split(), 0
    while at < len(words):
        span = _mention(words, at, index, whole)
        if span:
            yield span
        at = span.end if span else at + 1


def _mention(words: Sequence[str], at: int, index: PhraseIndex, whole: bool) -> _Span | None:
    for end in range(min(len(words), at + index.longest), at, -1):
        parts = tuple(
            p
            for p in index.named.get(" ".join(words[at:end]), ())
            if (p.kind == "full" or not whole)
            and not (words[at] in _AROUND and (p.kind != "full" or index.phrases[p.phrase].signal == TURN_SIGNAL))
        )
        if parts:
            return _Span(at, end, parts)
    return None
