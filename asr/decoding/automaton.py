"""The automaton of a phrase list over tokens, built with numpy a letter of all phrases at a time.

Letters first. The phrases' trie is a state for each beginning of a phrase. Where a text leaves a phrase, the failure
link says what of it stands: the weight of the longest phrase that was complete, and the state of the text behind it
(of the text from the second word on, where none was). A second copy of each phrase, its echo, is entered where that
phrase has just been matched: it ends without a grant and begins again, so a run of one phrase is granted once.

Then tokens: what a token does in a state is what it does in the state's failure link, but for the tokens that lead on
within the phrases. So all spellings of a phrase are followed, whatever the tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.text.tokenizer import WORD_START, Tokenizer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LETTERS = " abcdefghijklmnopqrstuvwxyz'"
"""The space begins each word."""
_SPACE = 0
UNIT = 1 / 64
"""Nats; grants are whole numbers of it, so that they add up exactly."""


class Pieces:
    """The tokens of a tokenizer as a trie over letters; `PhraseCompiler` builds it once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocab_size, self.blank = tokenizer.vocab_size, tokenizer.blank
        code = {letter: i for i, letter in enumerate(LETTERS)}
        steps, token, word = [[-1] * len(LETTERS)], [-1], []
        self.longest = 1
        for number, piece in enumerate(tokenizer.pieces):
            spelled = piece.replace(WORD_START, " ")
            word.append(spelled.startswith(" "))
            if not spelled or any(letter not in code for letter in spelled):
                continue
            self.longest = max(self.longest, len(spelled))
            node = 0
            for letter in spelled:
                if steps[node][code[letter]] < 0:
                    steps[node][code[letter]] = len(steps)
                    steps.append([-1] * len(LETTERS))
                    token.append(-1)
                node = steps[node][code[letter]]
            token[node] = number
        dead = len(steps)  # where no token goes on
        self.steps = np.array([*steps, [-1] * len(LETTERS)])
        self.steps[self.steps < 0] = dead
        self.token = np.array([*token, -1])
        self.begins_word = np.array(word)


def encode(texts: list[str]) -> tuple[Ints, Ints]:
    """Letters (P, L) of P texts of LETTERS, each behind a space and padded with spaces, and lengths (P,)."""
    table = np.zeros(128, np.int64)
    table[[ord(letter) for letter in LETTERS]] = np.arange(len(LETTERS))
    length = np.array([len(t) + 1 for t in texts], dtype=np.int64)
    letters = np.zeros((len(texts), int(length.max(initial=1))), np.int64)
    inside = np.arange(letters.shape[1]) < length[:, None]
    letters[inside] = table[np.frombuffer("".join(" " + t for t in texts).encode("ascii"), np.uint8)]
    return letters, length


@dataclass(frozen=True)
class Automaton:
    """S states, 0 the beginning; V tokens; P phrases. Nats are in UNIT."""

    next: NDArray[np.integer[Any]]
    """(S, V) the state behind each token, int16 or, where there are more states, int32."""
    gain: NDArray[np.int16]
    """(S, V) what a token grants or takes back."""
    final: NDArray[np.int32]
    """(S,) what the end of the text grants or takes back."""
    weight: Ints
    """(P,) what each phrase grants."""
    tokens: Ints
    """(P,) tokens of each phrase's shortest spelling, 0 where none spells it."""


@dataclass(frozen=True)
class _Edges:
    """Where a token spells a part of a phrase, in order of the first letter."""

    phrase: Ints
    begin: Ints
    """The part's first letter."""
    size: Ints
    """Letters of the part."""
    token: Ints

    def pick(self, rows: NDArray[np.bool_] | slice) -> _Edges:
        return _Edges(self.phrase[rows], self.begin[rows], self.size[rows], self.token[rows])


class _Trie:
    """M states for the beginnings of phrases, by length, 0 the empty one; then the echoes, by length.

    The phrases are in order of their length, longest first.
    """

    def __init__(self, letters: Ints, length: Ints) -> None:
        self.letters, self.length = letters, length
        self.path = np.zeros_like(letters)  # (P, L): the state behind each letter
        parents, arrived, self.first = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)], [0]
        here, number = np.zeros(len(letters), np.int64), 1
        for depth in range(letters.shape[1]):
            rows = np.flatnonzero(length > depth)
            key, which = np.unique(here[rows] * len(LETTERS) + letters[rows, depth], return_inverse=True)
            here[rows] = self.path[rows, depth] = number + which
            parents.append(key // len(LETTERS))
            arrived.append(key % len(LETTERS))
            self.first.append(number)
            number += len(key)
        self.first.append(number)
        self.parent, self.arrived = np.concatenate(parents), np.concatenate(arrived)
        self.end = here
        self.longer = (length[:, None] >= np.arange(letters.shape[1] + 1)).sum(0)  # phrases with so many letters
        self._echoes = number + np.cumsum(self.longer) - self.longer - self.longer[0]
        self.states = number + int(length.sum())

    def level(self, depth: int) -> slice:
        """The trie's states that are so many letters long."""
        return slice(self.first[depth], self.first[depth + 1])

    def state(self, phrase: Ints, letters: Ints) -> Ints:
        """The states behind so many letters of phrases."""
        return np.where(letters > 0, self.path[phrase, letters - 1], 0)

    def echo(self, phrase: Ints, letters: Ints | int) -> Ints:
        """The echoes behind so many letters of phrases."""
        return self._echoes[letters] + phrase

    def echoes(self, depth: int) -> tuple[slice, Ints]:
        """The echoes that are so many letters long, in the phrases' order, and the states that they are echoes of."""
        first, number = int(self._echoes[depth]), int(self.longer[depth])
        return slice(first, first + number), self.path[:number, depth - 1]


def _edges(trie: _Trie, pieces: Pieces) -> _Edges:
    begin, phrase = np.nonzero(np.arange(trie.letters.shape[1])[:, None] < trie.length)
    node, found = np.zeros_like(begin), []
    for size in range(1, pieces.longest + 1):
        node = pieces.steps[node, trie.letters[phrase, begin + size - 1]]
        token = pieces.token[node]
        hit = token >= 0
        found.append((phrase[hit], begin[hit], np.full(int(hit.sum()), size), token[hit]))
        on = (node < len(pieces.steps) - 1) & (begin + size < trie.length[phrase])
        node, phrase, begin = node[on], phrase[on], begin[on]
    edges = _Edges(*(np.concatenate(column) for column in zip(*found, strict=True)))
    return edges.pick(np.argsort(edges.begin, kind="stable"))  # type: ignore[arg-type]


def _fewest_tokens(trie: _Trie, edges: _Edges) -> Ints:
    """Tokens of each phrase's shortest spelling, 0 where none spells it."""
    never = 1 << 30
    fewest = np.full(len(trie.parent), never)
    fewest[0] = 0
    source, target = trie.state(edges.phrase, edges.begin), trie.state(edges.phrase, edges.begin + edges.size)
    starts = np.searchsorted(edges.begin, np.arange(trie.letters.shape[1] + 1))
    for first, last in zip(starts[:-1], starts[1:], strict=True):
        np.minimum.at(fewest, target[first:last], fewest[source[first:last]] + 1)
    return np.where(fewest[trie.end] < never, fewest[trie.end], 0)


class _Links:
    """Where texts that leave the phrases go, and what stands.

    failed, kept (S,): the state without what was begun first, and what stands of that. ending (S,): what stands where
    the text ends. granted (S,): what a search has added by then, the unfinished phrases' parts included.
    """

    def __init__(self, trie: _Trie, weight: Ints, complete: NDArray[np.bool_]) -> None:
        self.trie = trie
        self.phrase = np.full(trie.states, -1)  # that is complete in the state
        self.phrase[trie.end[complete]] = np.flatnonzero(complete)
        self.weight = weight
        self.failed, self.kept, self.ending = (np.zeros(trie.states, np.int64) for _ in range(3))
        self._next = np.zeros((trie.states, len(LETTERS)), np.int32)
        self._stands = np.zeros((trie.states, len(LETTERS)), np.int32)
        self.complete = complete
        self.granted = self._gradual(complete)
        self._shared = np.bincount(trie.path[trie.path > 0], minlength=trie.states) > 1
        for depth in range(trie.letters.shape[1] + 1):
            if depth:
                self._fail(trie.level(depth), depth)
            if depth < trie.letters.shape[1]:
                on = trie.level(depth + 1)
                self._next[trie.parent[on], trie.arrived[on]] = np.arange(on.start, on.stop)
                self._stands[trie.parent[on], trie.arrived[on]] = 0
            if depth:
                self._echo(depth)

    def _gradual(self, complete: NDArray[np.bool_]) -> Ints:
        """What the phrases that go through a state grant there: their weight by the share of their letters."""
        granted = np.full(self.trie.states, -(1 << 30))
        inside = np.arange(self.trie.letters.shape[1]) < (self.trie.length * (complete & (self.weight > 0)))[:, None]
        phrase, at = np.nonzero(inside)
        share = self.weight[phrase] * (at + 1) // self.trie.length[phrase]
        np.maximum.at(granted, self.trie.path[phrase, at], share)
        granted[0] = 0
        return granted

    def _fail(self, level: slice, depth: int) -> None:
        trie, parent, letter = self.trie, self.trie.parent[level], self.trie.arrived[level]
        if depth > 1:
            behind = self.failed[parent]
            whole = (self.phrase[parent] >= 0) & (letter == _SPACE)
            owner = np.where(whole, self.phrase[parent], 0)
            self.failed[level] = np.where(whole, trie.echo(owner, 1), self._next[behind, letter])
            self.kept[level] = np.where(whole, self.weight[owner], self.kept[parent] + self._stands[behind, letter])
        failed, kept = self.failed[level], self.kept[level]
        self._next[level] = self._next[failed]
        self._stands[level] = self._stands[failed] + kept[:, None]
        owner = self.phrase[level]
        whole = owner >= 0
        rows = np.flatnonzero(whole) + level.start
        self._next[rows, _SPACE], self._stands[rows, _SPACE] = trie.echo(owner[whole], 1), self.weight[owner[whole]]
        self.ending[level] = np.where(whole, self.weight[owner], kept + self.ending[failed])
        other = np.where(whole, self.ending[level], kept + self.granted[failed])
        self.granted[level] = np.maximum(self.granted[level], np.maximum(other, self.ending[level]))

    def _echo(self, depth: int) -> None:
        trie = self.trie
        echo, state = trie.echoes(depth)
        self._next[echo], self._stands[echo] = self._next[state], self._stands[state]
        going = int(trie.longer[depth + 1]) if depth < trie.letters.shape[1] else 0
        inner, phrase = np.arange(echo.start, echo.start + going), np.arange(going, echo.stop - echo.start)
        if going:
            letter = trie.letters[:going, depth]
            self._next[inner, letter], self._stands[inner, letter] = trie.echo(np.arange(going), depth + 1), 0
        last = echo.start + phrase
        self._next[last, _SPACE], self._stands[last, _SPACE] = trie.echo(phrase, 1), 0
        self.failed[echo], self.kept[echo] = self.failed[state], self.kept[state]
        self.ending[echo] = self.ending[state]
        self.ending[last] = 0
        self.granted[echo] = np.where(self._shared[state], self.granted[state], self.ending[echo])
        self.granted[last] = 0


def _over_tokens(links: _Links, pieces: Pieces, edges: _Edges) -> tuple[NDArray[np.integer[Any]], NDArray[np.int16]]:
    """The next state (S, V) and what has been granted there together with what stands of the phrases left behind."""
    trie, word = links.trie, pieces.begins_word
    after = np.empty((trie.states, pieces.vocab_size), np.int16 if trie.states < 1 << 15 else np.int32)
    worth = np.empty((trie.states, pieces.vocab_size), np.int16)
    after[0], worth[0] = 0, 0
    source, target = trie.state(edges.phrase, edges.begin), trie.state(edges.phrase, edges.begin + edges.size)
    echoed, reached = trie.echo(edges.phrase, edges.begin), trie.echo(edges.phrase, edges.begin + edges.size)
    starts = np.searchsorted(edges.begin, np.arange(trie.letters.shape[1] + 2))
    opening = edges.phrase[: starts[1]]

    def lead(state: Ints, token: Ints, to: Ints, stands: Ints | int = 0) -> None:
        after[state, token], worth[state, token] = to, links.granted[to] + stands

    def copy(states: slice, like: Ints) -> None:
        np.take(after, like, 0, out=after[states], mode="clip")
        np.take(worth, like, 0, out=worth[states], mode="clip")

    def open_again(state: Ints, phrase: Ints, stands: NDArray[np.int16]) -> None:
        """In states behind a phrase: words begin as at the beginning, but that phrase's own lead into its echo."""
        after[state] = np.where(word, after[0], after[state])
        worth[state] = np.where(word, worth[0] + stands[:, None], worth[state])
        place = np.full(len(trie.length), -1)
        place[phrase] = np.arange(len(phrase))
        again = np.flatnonzero(place[opening] >= 0)
        which = place[opening[again]]
        lead(state[which], edges.token[again], reached[again], stands[which])

    for depth in range(trie.letters.shape[1] + 1):
        own = slice(starts[depth], starts[depth + 1])
        if depth:
            level = trie.level(depth)
            copy(level, links.failed[level])
            worth[level] += links.kept[level, None].astype(np.int16)
            done = np.flatnonzero(links.complete & (trie.length == depth))
            open_again(trie.end[done], done, links.weight[done].astype(np.int16))
        lead(source[own], edges.token[own], target[own])
        if depth:
            copy(*trie.echoes(depth))
            lead(echoed[own], edges.token[own], reached[own])
            open_again(trie.echo(done, depth), done, np.zeros(len(done), np.int16))
    return after, worth


def build(letters: Ints, length: Ints, weight: Floats, per_token: float, pieces: Pieces) -> Automaton:
    """Build the automaton of P different phrases.

    Args:
        letters: (P, L) of `encode`.
        length: (P,) of `encode`.
        weight: (P,) nats.
        per_token: the most nats for each token of the shortest spelling.
    """
    order = np.argsort(-length, kind="stable")
    trie = _Trie(letters[order], length[order])
    edges = _edges(trie, pieces)
    tokens = _fewest_tokens(trie, edges)
    granted = np.round(np.minimum(weight[order], per_token * tokens) / UNIT).astype(np.int64)
    links = _Links(trie, granted, tokens > 0)
    after, gain = _over_tokens(links, pieces, edges)
    gain -= links.granted[:, None].astype(np.int16)
    gain[:, pieces.blank] = 0
    back = np.argsort(order)
    return Automaton(after, gain, (links.ending - links.granted).astype(np.int32), granted[back], tokens[back])
