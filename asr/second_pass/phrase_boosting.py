"""Phrases to boost in the attention decoder's beam search: matched over letters, however tokens spell a text.

Whisper writes one name in many ways ("Meg Bauer", " meg", " Ba" "uer") and numbers in figures. So phrases are matched
by letters and figures without case: what else is written ends a word ("Dr. Brown", "St-John"), but an apostrophe is
read over ("O'Brien"). A phrase is matched where any of its forms, spoken or as it was given, is written.

What a text gains is what `asr.decoding.phrase_graph` grants it (rules 1 to 4 there): whole words, leftmost-longest, a
run of one phrase once, and a phrase that is being spelled granted in parts by its letters, taken back when it is left:
shallow fusion with refunds (Zhao et al. 2019, "Shallow-fusion end-to-end contextual biasing"; the automaton is that of
Aho and Corasick 1975). Here the automaton is made as texts reach it: its states are beginnings of phrases in a sorted
list, so phrases cost next to nothing before they are searched with.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.decoding import BoostedPhrase
from asr.text.unicode import clean

SHARE = 2.0
"""Nats of the attention decoder for each nat of a phrase's boost."""
PER_LETTER = 0.7
"""Nats for each letter of a phrase, at most. On 116 follow-ups of dev with the names on the screen as phrases of 5
nats, what was said is among the decoder's own texts in 91, without phrases in 69, and of 82 word errors in results 68
are left; with another dialogue's names 84 become 85. At 1.5 phrases are written that nobody said."""
UNIT = 1 / 64
"""Nats; grants are whole numbers of it, so that what a text gains does not depend on the tokens that spell it."""

_NO_LETTER = re.compile("[^a-z0-9]+")
_AS_SPOKEN = re.compile("[A-Za-z0-9 .,'&:/$-]*")
"""What is written so has its letters and figures said; "C#" and "5%" are not said by theirs alone."""
_AFTER = "\x7f"
"""Sorts behind all letters."""
_MOST_KEPT = 20_000
"""States of which what tokens do is kept."""


def letters_of(text: str) -> str:
    """The letters and figures of a text, without case; one space for whatever ends words, none for apostrophes.

    >>> letters_of(" O'Brien-Smith, 7:05")
    ' obrien smith 7 05'
    """
    return _NO_LETTER.sub(" ", text.lower().replace("'", ""))


class State(NamedTuple):
    """Where a text is."""

    tail: str
    """Its end, from where a phrase may have begun; "" inside a word of none."""
    echo: str
    """The phrase that ended just before that; "" for none."""
    parted: bool
    """Whether a word has ended, and none begun since."""


START = State("", "", True)
"""The beginning of a text."""
_Place = tuple[str, str]
_NOWHERE: _Place = ("", "")


class TokenLetters:
    """The letters of a vocabulary's tokens, found by how they begin. Shared by all phrases.

    Args:
        texts: of each token; None: it is never put out.

    Attributes:
        kind: (V,) int64: 0 tokens without letters, 1 those that begin a word, 2 those that go on where a text stands.
    """

    def __init__(self, texts: Sequence[str | None]) -> None:
        self.letters = [letters_of(text or "") for text in texts]
        words = [(text.lstrip(" "), i) for i, text in enumerate(self.letters) if text.strip()]
        self.uneven = [i for word, i in words if " " in word]  # a word's end within: none of Whisper's
        self.spelled = sorted({word for word, _ in words if " " not in word})
        place = {word: i for i, word in enumerate(self.spelled)}
        self.tokens: list[tuple[list[int], list[int]]] = [([], []) for _ in place]
        kind = np.zeros(len(texts), np.int64)
        for word, token in words:
            opens = self.letters[token][0] == " "
            kind[token] = 1 if opens else 2
            if " " not in word:
                self.tokens[place[word]][0 if opens else 1].append(token)
        self.kind = torch.from_numpy(kind)


@dataclass(frozen=True)
class Gains:
    """What the tokens after a state gain."""

    base: Tensor
    """(3,) nats of a token by its kind (`TokenLetters.kind`)."""
    tokens: Tensor
    """(N,) tokens that lead into a phrase."""
    extra: Tensor
    """(N,) nats that these gain more."""
    end: float
    """Nats of the end of the text."""

    def add_to(self, log_p: Tensor, kind: Tensor, end: int) -> None:
        """Add them to the (V,) scores of the next token, in place; `end` is the token that ends a text."""
        before = log_p[end].clone()
        if bool(self.base.any()):
            log_p += self.base.to(log_p.device)[kind]
        log_p.index_add_(0, self.tokens.to(log_p.device), self.extra.to(log_p.device))
        log_p[end] = before + self.end


class WrittenPhrases:
    """Phrases with what each grants, for one vocabulary. Without phrases it is false.

    Threads may share one: what it keeps are results that are the same whoever finds them.

    Args:
        weights: nats that each phrase grants, in any writing; of equal ones the larger counts.
    """

    def __init__(self, weights: Mapping[str, float], vocabulary: TokenLetters) -> None:
        self.vocabulary = vocabulary
        self._weight: dict[str, int] = {}
        for text, nats in weights.items():
            words, units = letters_of(f" {clean(text)}").rstrip(" "), round(nats / UNIT)
            if words and units:
                self._weight[words] = max(units, self._weight.get(words, units))
        self._texts = sorted(self._weight)
        whole = [(self._weight[text], len(text) - 1) for text in self._texts]
        self._weights, self._lengths = np.array(whole, np.int64).reshape(-1, 2).T
        self._next: dict[tuple[str, str, str], tuple[_Place, int]] = {}
        self._grants: dict[_Place, int] = {_NOWHERE: 0}
        self._gains: dict[State, Gains] = {}
        self._led: dict[_Place, tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]] = {}
        if self._texts:
            self.gains(START)

    @classmethod
    def of(
        cls,
        spoken: Mapping[str, BoostedPhrase],
        vocabulary: TokenLetters,
        share: float = SHARE,
        per_letter: float = PER_LETTER,
    ) -> WrittenPhrases:
        """Those of a phrase graph (`PhraseGraph.spoken`): each form that it follows, and each phrase as it was given.

        share: of a phrase's nats that count here. per_letter: nats for each letter of a form, at most.
        """
        weights: dict[str, float] = {}
        for form, phrase in spoken.items():
            written = clean(phrase.text)
            as_given = letters_of(written if _AS_SPOKEN.fullmatch(written) else form)
            for text in {letters_of(form), as_given}:
                nats = min(share * phrase.weight, per_letter * (len(text) - text.count(" ")))
                weights[text] = max(nats, weights.get(text, nats))
        return cls(weights, vocabulary)

    def __len__(self) -> int:
        return len(self._texts)

    def step(self, state: State, token: int) -> tuple[State, float]:
        """The state behind a token, and the nats that it gains, refunds included."""
        after, stands = self._read(state, self.vocabulary.letters[token])
        return after, (stands + self._granted(after[:2]) - self._granted(state[:2])) * UNIT

    def end(self, state: State) -> float:
        """Nats to add where the text ends: the refund of an unfinished phrase."""
        return (self._ending(state[:2]) - self._granted(state[:2])) * UNIT

    def bonus(self, text: str) -> float:
        """Nats that a whole text gains."""
        after, stands = self._read(START, letters_of(text))
        return (stands + self._ending(after[:2])) * UNIT

    def gains(self, state: State) -> Gains:
        """What each token gains after a state."""
        known = self._gains.get(state)
        if known is None:
            if len(self._gains) >= _MOST_KEPT:
                self._gains.clear()
            known = self._gains[state] = self._find_gains(state)
        return known

    def _find_gains(self, state: State) -> Gains:
        """Tokens whose letters lead into no phrase differ by their kind only: so those are looked for that do."""
        here = state[:2]
        begun, stood = self._letter(here, " ")
        on, stands = (begun, stood) if state.parted else (here, 0)
        granted = self._granted(here)
        base = [0, stood + self._falling(begun) - granted, stands + self._falling(on) - granted]
        found = [self._leading(begun)[0], self._leading(on)[1]]
        tokens, extra = (torch.cat(parts) for parts in zip(*found, strict=True))
        for token in self.vocabulary.uneven:
            after, stands = self._read(state, self.vocabulary.letters[token])
            more = stands + self._granted(after[:2]) - granted - base[int(self.vocabulary.kind[token])]
            tokens, extra = torch.cat([tokens, torch.tensor([token])]), torch.cat([extra, torch.tensor([more])])
        return Gains(torch.tensor(base) * UNIT, tokens, extra * UNIT, self.end(state))

    def _leading(self, root: _Place) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The tokens whose letters lead from a state into a phrase, each with what it gains more than others.

        Those that begin words come first, then those that do not.
        """
        known = self._led.get(root)
        if known is None:
            if len(self._led) >= _MOST_KEPT:
                self._led.clear()
            fallen = self._falling(root)
            pairs: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
            for word, worth in self._within(root):
                for side, tokens in zip(pairs, self.vocabulary.tokens[word], strict=True):
                    side += [(token, worth - fallen) for token in tokens]
            begin, go_on = (torch.tensor(side, dtype=torch.int64).view(-1, 2).unbind(1) for side in pairs)
            known = self._led[root] = ((begin[0], begin[1]), (go_on[0], go_on[1]))
        return known

    def _within(self, root: _Place) -> Iterator[tuple[int, int]]:
        """The vocabulary's words that lead from a place into a phrase, each with what it is worth there."""
        words = self.vocabulary.spelled
        paths = [(root, 0, "", 0, len(words))]
        while paths:
            place, stands, prefix, first, last = paths.pop()
            if prefix and words[first] == prefix:
                yield first, stands + self._granted(place)
                first += 1
            for letter in self._leading_on(place):
                begins = prefix + letter
                low = bisect_left(words, begins, first, last)
                high = bisect_left(words, begins + _AFTER, low, last)
                if low < high:
                    after, more = self._letter(place, letter)
                    paths.append((after, stands + more, begins, low, high))

    def _leading_on(self, place: _Place) -> set[str]:
        """The letters within a word that lead from a place into a phrase."""
        found: set[str] = set()
        while place[0]:
            tail, _ = place
            at, last = self._span(tail)
            while at < last:
                letter = self._texts[at][len(tail) : len(tail) + 1]
                if letter.strip():
                    found.add(letter)
                at = bisect_left(self._texts, tail + letter + (_AFTER if letter else " "), at, last)
            place, _ = self._left(place)
        return found

    def _span(self, tail: str) -> tuple[int, int]:
        """The phrases that begin so."""
        first = bisect_left(self._texts, tail)
        return first, bisect_left(self._texts, tail + _AFTER, first)

    def _read(self, state: State, letters: Iterable[str]) -> tuple[State, int]:
        """The state behind letters, and what has come to stand of phrases left behind."""
        place, parted, total = state[:2], state.parted, 0
        for letter in letters:
            if letter == " ":
                parted = True
                continue
            for one in (" ", letter) if parted else (letter,):
                place, stands = self._letter(place, one)
                total += stands
            parted = False
        return State(*place, parted), total

    def _letter(self, place: _Place, letter: str) -> tuple[_Place, int]:
        """The place behind a letter, or behind a space before a word, and what has come to stand."""
        key = (*place, letter)
        known = self._next.get(key)
        if known is None:
            if len(self._next) >= 8 * _MOST_KEPT:
                self._next.clear()
            known = self._next[key] = self._find_letter(place, letter)
        return known

    def _find_letter(self, place: _Place, letter: str) -> tuple[_Place, int]:
        tail, echo = place
        longer = tail + letter
        if not tail and letter != " ":
            return _NOWHERE, 0
        first, last = self._span(longer)
        if first < last and not (echo and longer.startswith(f"{echo} ")):
            return (longer, echo if echo.startswith(longer) else ""), 0
        if not tail:
            return _NOWHERE, 0
        if letter == " " and tail in self._weight:
            return self._letter(("", tail), " ")[0], self._standing(tail, echo)
        left, stands = self._left(place)
        after, more = self._letter(left, letter)
        return after, stands + more

    def _standing(self, phrase: str, echo: str) -> int:
        """What a phrase that has been matched grants: nothing directly behind itself."""
        return 0 if phrase == echo else self._weight[phrase]

    def _left(self, place: _Place) -> tuple[_Place, int]:
        """The place without what was begun first, and what stands of that: the failure link."""
        tail, echo = place
        at = tail.rfind(" ")
        while at > 0:
            if tail[:at] in self._weight:
                after, stands = self._from(("", tail[:at]), tail[at:])
                return after, stands + self._standing(tail[:at], echo)
            at = tail.rfind(" ", 0, at)
        second = tail.find(" ", 1)
        return self._from(_NOWHERE, tail[second:]) if second > 0 else (_NOWHERE, 0)

    def _from(self, place: _Place, letters: str) -> tuple[_Place, int]:
        total = 0
        for letter in letters:
            place, stands = self._letter(place, letter)
            total += stands
        return place, total

    def _falling(self, place: _Place) -> int:
        """What stands where a text leaves all phrases within a word."""
        total = 0
        while place[0]:
            place, stands = self._left(place)
            total += stands
        return total

    def _ending(self, place: _Place) -> int:
        """What stands where a text ends."""
        total = 0
        while place[0]:
            if place[0] in self._weight:
                return total + self._standing(*place)
            place, stands = self._left(place)
            total += stands
        return total

    def _granted(self, place: _Place) -> int:
        """What a search has added for the phrases that a place is in: the largest share, or what stands if it ends."""
        known = self._grants.get(place)
        if known is None:
            if len(self._grants) >= 8 * _MOST_KEPT:
                self._grants = {_NOWHERE: 0}
            left, stands = self._left(place)
            known = max(self._share(place), self._ending(place), stands + self._granted(left))
            self._grants[place] = known
        return known

    def _share(self, place: _Place) -> int:
        """The largest part of a phrase that goes through a place: its weight by the share of its letters."""
        tail, echo = place
        first, last = self._span(tail)
        parts = np.maximum(self._weights[first:last], 0) * (len(tail) - 1) // self._lengths[first:last]
        if echo:  # neither that phrase nor a longer one that begins with its words is taken
            low = bisect_left(self._texts, echo)
            high = bisect_left(self._texts, f"{echo} {_AFTER}", low)
            parts = np.delete(parts, slice(low - first, high - first))
        return int(parts.max(initial=0))
